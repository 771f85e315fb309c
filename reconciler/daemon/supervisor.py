"""Puts the agent together, and runs it until it is told to stop. On asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from reconciler import errors, events, fights, report
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import (
    agent,
    api,
    archiving,
    attribution,
    checkpoint,
    doors,
    listener,
    logs,
    metrics,
    opposition,
    options,
    pages,
    passes,
    probes,
    questions,
    readiness,
    renewal,
    saving,
    slicing,
    tainting,
    telling,
    walk,
    watching,
)
from reconciler.host import cgroupfs, cgroupmount, contained, inotify, notify, processes, survivors
from reconciler.policy import state
from reconciler.runtime.nri import instance

_SWITCH_INTERVAL = 0.0005
"""Seconds after which the worker must let a waiting hook run (Python's default is ten times that)."""


async def run(chosen: options.Options, tree: cgroupfs.Cgroupfs, log: logs.Log) -> None:
    """Run the agent over `tree` until SIGTERM or SIGINT. Placements stay as they are when it ends.

    Raises Usage for options, configuration and files that cannot be used, Unsuitable for the host.
    """
    _prepare()
    _make_state_dir(chosen.state_dir)
    tell = telling.Teller(log)
    in_force = renewal.Renewal(chosen.config, chosen.host_root, log)
    ready = readiness.Readiness(notify.from_environment(os.environ), log)
    stop = _stop_on_signals(log)
    waiting = asyncio.create_task(stop.wait())
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(waiting.cancel)
        alone = instance.alone(chosen.lock, on_wait=ready.stands_by, within=chosen.patience)
        if not await _either(stack.enter_async_context(alone), waiting):
            return
        _check_writable(chosen, tell)
        its_agent, its_passes, book, watched, others = _assemble(chosen, tree, tell, in_force, stack)
        saver = _remember(chosen, its_agent, its_passes, tell)
        stack.callback(saver.finish)
        drifts = archiving.Archiving(chosen.drifts, tell.history, tell)
        stack.callback(drifts.finish)
        sources = metrics.Sources(
            agent=its_agent,
            book=book,
            counters=tell.counters,
            saver=saver,
            watching=watched,
            probes=probes.Probes(its_agent, its_passes, book, dry=chosen.dry),
            opposition=others,
        )
        steered = contained.steered(tree)
        answers = questions.answers(
            its_agent, its_passes, book, saver, sources, drifts=drifts, contained=steered
        )
        await stack.enter_async_context(api.serving(chosen.api_socket, answers))
        address = in_force.config.metrics.address()
        await stack.enter_async_context(listener.serving(address, pages.pages(sources)))
        log.info("agent.started", online=str(in_force.topology.online), dry=chosen.dry, contained=steered)
        agree = None if chosen.dry else others.agreeing.serve
        entrance = doors.parts(chosen, in_force.config.nri, its_agent, watched, tell, agree=agree)
        await _serve(
            waiting,
            its_passes.serve(),
            saver.serve(),
            drifts.serve(dry=chosen.dry),
            _periodic(its_agent, its_passes, watched, in_force),
            in_force.serve(its_agent.renew),
            others.serve(dry=chosen.dry),
            ready.serve(its_agent, its_passes),
            tainting.Tainting(
                "" if chosen.dry else in_force.config.startup_taint, sources.probes.unready, tell
            ).serve(),
            *entrance,
        )
    log.info("agent.stopped")


def _assemble(
    chosen: options.Options,
    tree: cgroupfs.Cgroupfs,
    tell: telling.Teller,
    in_force: renewal.Renewal,
    stack: contextlib.AsyncExitStack,
) -> tuple[agent.Agent, passes.Passes, report.Book, watching.Watching, opposition.Opposition]:
    book = report.Book(fights=fights.Fights(rules=lambda: in_force.config.fights, draw=random.random))
    watched = watching.Watching(
        watching.opened(inotify.Watcher, chosen.cgroup_root, tell.complain),
        complain=tell.complain,
        recovered=lambda: tell.recovered("inotify: every cgroup is watched again"),
        reopen=lambda: inotify.Watcher(chosen.cgroup_root),
    )
    its_agent = agent.Agent(
        state.terms(in_force.topology, in_force.config), in_force.config, watched, tell, dry=chosen.dry
    )
    attributed = attribution.started(
        in_force.config.attribution, chosen.host_root, lambda: its_agent.state, tell
    )
    if attributed is not None:
        stack.callback(attributed.close)
    others = opposition.Opposition(
        chosen.host_root,
        lambda: its_agent.state,
        book,
        tell,
        attributed=attributed,
        agreement=lambda: in_force.config.agreement,
    )
    loop = asyncio.get_running_loop()
    walker = walk.Walker(
        tree,
        book,
        tell,
        dry=chosen.dry,
        follow=_follow(chosen, tell),
        lifted=lambda quotas: loop.call_soon_threadsafe(watched.lifted, quotas),
        suspects=others.suspects,
        told=others.told,
        isolated=lambda paths: loop.call_soon_threadsafe(watched.isolated, paths),
        sliced=slicing.Slicing(
            tree,
            book,
            "" if chosen.dry else chosen.host_slices,
            told=others.told,
            watch=lambda groups: loop.call_soon_threadsafe(_sliced, groups, watched, others),
            complain=tell.complain,
        ),
    )
    its_passes = passes.Passes(
        walker,
        lambda: its_agent.state,
        failed=lambda error: tell.failed("pass", error),
    )
    its_passes.on_drift = others.drifted
    watched.listen(loop, its_agent)
    stack.callback(watched.close, loop)
    return its_agent, its_passes, book, watched, others


def _sliced(
    groups: Mapping[events.ContainerId, str], watched: watching.Watching, others: opposition.Opposition
) -> None:
    """Other slices of the host are confined now."""
    watched.sliced(groups)
    others.units.wake()


def _check_writable(chosen: options.Options, tell: telling.Teller) -> None:
    """Say it now and not only at the first write; until then all may be in order."""
    try:
        if not chosen.dry:
            cgroupmount.check_writable(chosen.cgroup_root)
    except errors.HostFileError as error:
        tell.complain(error)


def _remember(
    chosen: options.Options, its_agent: agent.Agent, its_passes: passes.Passes, tell: telling.Teller
) -> saving.Saver:
    """Let the agent go on with its checkpoint, and keep that up to date."""
    origin = checkpoint.origin(chosen.host_root)
    terms = its_agent.state.terms
    saved = saving.restore(chosen.checkpoint, origin, terms, tell, dry=chosen.dry)
    its_agent.attach(its_passes, survivors.Survivors(chosen.cgroup_root), saved)
    write = None if chosen.dry else tell.counters.checkpointing(checkpoint.write, time.time)
    saver = saving.Saver(chosen.checkpoint, origin, lambda: its_agent.settled, tell, write=write)
    its_agent.current.on_change = saver.changed
    return saver


def _follow(chosen: options.Options, tell: telling.Teller) -> Callable[[CpuSet], None]:
    """How the agent itself stays off exclusive CPUs: by the affinity of its threads."""

    def confine(pool: CpuSet) -> None:
        try:
            processes.confine_self(pool)
        except errors.ReconcilerError as error:
            tell.complain(error)

    return (lambda _: None) if chosen.simulated else confine


async def _periodic(
    its_agent: agent.Agent, its_passes: passes.Passes, watched: watching.Watching, in_force: renewal.Renewal
) -> None:
    """A pass over everything, again and again: it finds what inotify cannot see."""
    while True:
        await asyncio.sleep(in_force.config.pass_interval_seconds)
        watched.renew(its_agent.state.inventory.containers.values())
        its_passes.everything()


async def _serve(stop: asyncio.Task[bool], *parts: Coroutine[object, object, None]) -> None:
    """Run all parts until told to stop; the first one that fails ends all."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    everything: list[asyncio.Future[Any]] = [stop, *tasks]
    try:
        await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _either(wanted: Coroutine[object, object, None], stop: asyncio.Task[bool]) -> bool:
    """Whether what is wanted came before the stop; it is cancelled otherwise."""
    task = asyncio.ensure_future(wanted)
    both: list[asyncio.Future[Any]] = [task, stop]
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return False
    task.result()
    return True


def _stop_on_signals(log: logs.Log) -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(name: str) -> None:
        log.info("agent.stopping", reason=f"received {name}")
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number.name)
    return stop


def _prepare() -> None:
    """Process-wide settings: hooks before the worker, descriptors for every container, few collections."""
    sys.setswitchinterval(_SWITCH_INTERVAL)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.collect()
    gc.freeze()


def _make_state_dir(path: str) -> None:
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as error:
        raise errors.Usage(f"state directory {path}: {error.strerror}") from error
