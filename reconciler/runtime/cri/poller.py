"""One poll of the runtime after another: lists, the statuses that are wanted, the events between. On asyncio.

Not the event stream of CRI: on containerd 1.7 a second reader takes kubelet's events away, and on later ones
a slow reader holds up the runtime.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from reconciler import errors, events
from reconciler.runtime import conversion
from reconciler.runtime.cri import client as clients
from reconciler.runtime.cri import cri_pb2 as cri
from reconciler.runtime.cri import view

_ABREAST = 8
"""Calls that are under way at a time."""


class Poller:
    """Polls one runtime. `view` is what is known of it."""

    def __init__(self, client: clients.Client, complain: conversion.Complain, runtime: str = "") -> None:
        """`runtime` is the name that the runtime gives itself."""
        self.view = view.View(complain, runtime)
        self._client = client

    async def poll(self, hurried: Iterable[str] = ()) -> list[events.Event]:
        """The events since the last poll: two lists, and a status of what is new or may have been resized.

        Raises Retryable, Refused or Gone where the lists cannot be had, Retryable where a status is not
        answered; what was learned until then stays. A container that vanishes between list and status never
        was.
        """
        containers = await self._client.list_containers()
        sandboxes = await self._client.list_sandboxes()
        wanted = self.view.look(containers.containers, sandboxes.items, hurried)
        await self._ask(wanted.sandboxes, self._sandbox)
        await self._ask(wanted.containers, self._container)
        await self._ask(wanted.again, lambda id_: self._again(id_, plain=id_ in wanted.plain))
        return self.view.news()

    async def _ask(self, ids: Sequence[str], ask: Callable[[str], Awaitable[None]]) -> None:
        """Ask some at a time. Raises the first error, once nothing is under way any more."""
        for first in range(0, len(ids), _ABREAST):
            some = ids[first : first + _ABREAST]
            answers = await asyncio.gather(*(ask(id_) for id_ in some), return_exceptions=True)
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer

    async def _sandbox(self, id_: str) -> None:
        try:
            status = await self._client.sandbox_status(id_, verbose=True)
        except errors.Gone:
            return
        except errors.Refused:
            # Its pod is there, or its claims would end; its containers say the rest.
            status = cri.PodSandboxStatusResponse()
        self.view.pod(id_, status)

    async def _container(self, id_: str) -> None:
        try:
            self.view.container(id_, await self._client.container_status(id_, verbose=True))
        except errors.Gone:
            return
        except errors.Refused:
            self.view.refused(id_)

    async def _again(self, id_: str, *, plain: bool) -> None:
        try:
            self.view.container(id_, await self._client.container_status(id_, verbose=not plain))
        except (errors.Gone, errors.Refused):
            return
