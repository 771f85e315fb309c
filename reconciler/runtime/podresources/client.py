"""A client of kubelet's PodResources socket: one call, with a deadline. I/O, on asyncio.

Containers are named by namespace, pod and name there: kubelet does not say UIDs.
"""

from __future__ import annotations

from collections.abc import Mapping

import grpclib
from grpclib import client as grpc

from reconciler import errors
from reconciler.cpu.idset import CpuSet
from reconciler.runtime import broken
from reconciler.runtime.podresources import podresources_pb2 as podresources

LIST = "/v1.PodResourcesLister/List"

Owned = Mapping[tuple[str, str, str], CpuSet]
"""CPUs that containers have for themselves, by namespace, pod and container; those without are left out."""


async def owned(socket: str, *, seconds: float = 5.0) -> Owned:
    """What kubelet believes that containers have for themselves, asked at the unix socket `socket`.

    Raises Retryable where nobody answers, answers in time, or answers sense.
    """
    channel = grpc.Channel(path=socket)
    method = grpc.UnaryUnaryMethod(
        channel, LIST, podresources.ListPodResourcesRequest, podresources.ListPodResourcesResponse
    )
    try:
        return _owned(await method(podresources.ListPodResourcesRequest(), timeout=seconds))
    except TimeoutError as error:
        raise errors.Retryable(f"PodResources List: no answer from {socket} in {seconds:g} s") from error
    except grpclib.GRPCError as error:
        raise errors.Retryable(f"PodResources List: {error.message or error.status.name}") from error
    except (*broken.BROKEN, errors.Malformed) as error:
        raise errors.Retryable(f"PodResources List: {socket}: {error}") from error
    finally:
        channel.close()


def _owned(response: podresources.ListPodResourcesResponse) -> Owned:
    return {
        (pod.namespace, pod.name, container.name): CpuSet(container.cpu_ids)
        for pod in response.pod_resources
        for container in pod.containers
        if container.cpu_ids
    }
