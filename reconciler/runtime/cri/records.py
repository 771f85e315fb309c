"""What cpuset the runtime has on record of a container, and how it is told another one. On asyncio.

The record is what the runtime writes back with each update of anything, and what systemd's unit has where
the runtime uses that driver. Raises as `client.Client` does.
"""

from __future__ import annotations

from reconciler.runtime.cri import client as clients
from reconciler.runtime.cri import cri_pb2 as cri
from reconciler.runtime.cri import info


async def read(client: clients.Client, id_: str) -> str:
    """The kernel list on record, "" where there is none. Raises Malformed where the runtime says nonsense.

    It comes from the runtime's OCI spec, which every generation has in the verbose status.
    """
    status = await client.container_status(id_, verbose=True)
    return info.parse(status.info).cpu.cpus or status.status.resources.linux.cpuset_cpus


async def write(client: clients.Client, id_: str, cpus: str, mems: str | None) -> None:
    """Tell the runtime these kernel lists, and nothing else: what is not set stays as it is on record.

    `mems` None leaves the memory nodes alone. The runtime writes its whole record into the cgroup, which
    takes it some hundred milliseconds.
    """
    linux = cri.LinuxContainerResources(cpuset_cpus=cpus, cpuset_mems=mems or "")
    await client.update_resources(id_, linux)
