"""A kernel's cpusets and CFS quotas on a plain directory tree. I/O below the tree.

Anyone may write to the files with any tool: what is effective follows from the texts and from the CPUs that
are online at each look, as the kernel would have it (kernel/cgroup/cpuset.c). Unlike the kernel, a plain file
takes garbage from others; it reads as an error then. It also keeps the end of a longer text that was there
before, so the first line counts, and writes here are padded: nobody sees an empty file or half a list.
`fixtures/kernel/cpuset.yaml` is played on this and on a real kernel. `partitions` has the rest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import re
import tempfile
from collections.abc import Iterator, Sequence

from reconciler import errors, observed
from reconciler.cpu import bandwidth
from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet, NodeSet
from reconciler.host import cgroupfs
from reconciler.sim import lists, partitions

_MAX_NODES = 1024
_LONGEST = {
    observed.CPUS: 100 + 6 * CpuSet.LIMIT,
    observed.EXCLUSIVE: 100 + 6 * CpuSet.LIMIT,
    observed.MEMS: 100 + 6 * _MAX_NODES,
}
"""Characters that the kernel takes in one write (kernel/cgroup/cpuset.c, `max_write_len`)."""
_BANDWIDTH = re.compile(r"\s*(?P<quota>max|\d{1,15})(?:\s+(?P<period>\d{1,15}))?\s*", re.ASCII)
_SHORTEST = 1_000
_LONGEST_PERIOD = 1_000_000
"""Microseconds that a quota has at least, and a period at least and at most (kernel/sched/core.c)."""
_CONTROL_FILES = {
    "cgroup.controllers": "cpuset cpu memory pids\n",
    "cgroup.subtree_control": "cpuset cpu memory pids\n",
    "cgroup.procs": "",
    observed.EVENTS: "populated 1\nfrozen 0\n",
    observed.CPUS: "\n",
    observed.MEMS: "\n",
    bandwidth.FILE: f"{bandwidth.Bandwidth()}\n",
}


class SimulatedCgroupfs(cgroupfs.Cgroupfs):
    """`Cgroupfs` on a directory. Also makes and removes groups, as a runtime does."""

    def __init__(self, root: str, topology: topologies.Topology) -> None:
        """`topology` says which CPUs and memory nodes are possible. Which CPUs are online is read anew from
        the sysfs beside the tree (`../../devices/system/cpu/online`), if there is one."""
        super().__init__(root)
        self._possible = topology.online | topology.offline
        self._nodes = NodeSet(node.id for node in topology.nodes)
        self._memory = NodeSet(node.id for node in topology.nodes if node.has_memory)
        self.stubborn: set[str] = set()
        self._online = topology.online
        self._online_file = os.path.join(root, os.pardir, os.pardir, os.pardir, topologies.ONLINE)
        self.partitions = partitions.Partitions(root, self._now_online)
        self.has_partitions = True
        """Whether groups are made with the files of partitions, as before Linux 6.7 they are not."""

    def make(self, path: str, cpus: str = "", mems: str = "", quota: str = "") -> None:
        """Make a group with the missing ones above it. "" leaves a file as it is. Raises as `write` does."""
        cgroupfs.check_path(path)
        piece = ""
        for name in path.split("/"):
            piece = f"{piece}/{name}" if piece else name
            self._make_one(piece)
        for file, text in ((observed.CPUS, cpus), (observed.MEMS, mems), (bandwidth.FILE, quota)):
            if text:
                self.write(path, file, text)

    create = make

    def remove(self, path: str) -> None:
        """Remove a group and what is in it, all at once; one that is not there is no fault, and one of
        `stubborn` stays, as one does whose process cannot end."""
        cgroupfs.check_path(path)
        if path in self.stubborn:
            return
        self.forget(path)
        with (
            tempfile.TemporaryDirectory(dir=os.path.dirname(self.root)) as aside,
            contextlib.suppress(FileNotFoundError),
        ):
            took = bool(_text(os.path.join(self.root, path, observed.EXCLUSIVE)).strip())
            os.rename(os.path.join(self.root, path), os.path.join(aside, "gone"))
            if took:
                self._refresh_all()

    def populate(self, path: str, *pids: int) -> None:
        """Let these be the processes of a group, of which otherwise only that is known that it has some."""
        self._say(path, "cgroup.procs", "".join(f"{pid}\n" for pid in pids))
        self._say(path, observed.EVENTS, f"populated {int(bool(pids))}\nfrozen 0\n")

    def _say(self, path: str, file: str, text: str) -> None:
        with open(os.path.join(self.root, path, file), "r+", encoding="ascii") as stream:
            stream.truncate(stream.write(text))

    def look(self, path: str, quotas: Sequence[str] = ()) -> observed.Look:
        """As `Cgroupfs.look`; what is effective is worked out and not read."""
        cgroupfs.check_path(path)
        full = os.path.join(self.root, path)
        if not os.path.isdir(full):
            return observed.Absent()
        try:
            inner = f"{path}/{observed.INNER}"
            has_inner = os.path.exists(os.path.join(self.root, inner, observed.CPUS))
            found = observed.Present(
                outer=self._cpuset(path),
                inner=self._cpuset(inner) if has_inner else None,
                quotas=tuple(observed.Quota(file=file, says=self._quota(path, file)) for file in quotas),
            )
        except errors.Malformed as error:
            number, why = errno.EINVAL, error.why
            return observed.Unreadable(error=errors.HostFileError(error.what, "read", number, why))
        except OSError as error:
            return observed.Unreadable(error=self._error(path, "read", error))
        # One that was removed meanwhile has no files, which would read as empty lists.
        return found if os.path.isdir(full) else observed.Absent()

    def partition(self, path: str) -> observed.Partition | None:
        """As `Cgroupfs.partition`; whether the kernel keeps others away is worked out."""
        found = super().partition(path)
        return None if found is None else dataclasses.replace(found, state=self.partitions.state(path))

    def write(self, path: str, file: str, text: str) -> None:
        """As `Cgroupfs.write`, with the errors that the kernel gives. Refreshes what is effective below."""
        cgroupfs.check_path(path)
        name = file.rpartition("/")[2]
        if os.path.isdir(os.path.join(self.root, path)):
            try:
                if name == bandwidth.FILE:
                    text = self._throttled(path, file, text)
                elif name == observed.PARTITION:
                    text = self.partitions.enabled(path, text)
                else:
                    text = self._accepted(path, name, text)
            except OSError as error:
                raise self._error(f"{path}/{file}", "write", error) from error
        super().write(path, file, text)
        if name in partitions.FILES:
            self._refresh_all()
        else:
            self.refresh(path)

    def refresh(self, path: str) -> None:
        """Write the files that show what is effective, for onlookers: of a group and of all below it."""
        cgroupfs.check_path(path)
        for group in self._groups(path):
            with contextlib.suppress(OSError, errors.Malformed):
                cpuset = self._cpuset(group)
                self._show(group, observed.EFFECTIVE_CPUS, str(cpuset.effective_cpus))
                self._show(group, observed.EFFECTIVE_MEMS, str(cpuset.effective_mems))
                # Nobody is told of a state that stays.
                if (state := self.partitions.state(group)) != self.partitions.said(group):
                    self._show(group, observed.PARTITION, state)

    def _refresh_all(self) -> None:
        for group in os.listdir(self.root):
            self.refresh(group)

    def _make_one(self, path: str) -> None:
        full = os.path.join(self.root, path)
        if os.path.exists(os.path.join(full, observed.CPUS)):
            return
        os.makedirs(full, exist_ok=True)
        for name, text in {**_CONTROL_FILES, **(partitions.FILES if self.has_partitions else {})}.items():
            with open(os.path.join(full, name), "w", encoding="ascii") as file:
                file.write(text)
        self.refresh(path)

    def _groups(self, path: str) -> Iterator[str]:
        for folder, _, files in os.walk(os.path.join(self.root, path)):
            if observed.CPUS in files:
                yield os.path.relpath(folder, self.root)

    def _show(self, path: str, file: str, text: str) -> None:
        descriptor = os.open(os.path.join(self.root, path, file), os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            self._put(descriptor, text.encode())
        finally:
            os.close(descriptor)

    def _put(self, descriptor: int, data: bytes) -> None:
        line = data.rstrip(b"\n")
        os.write(descriptor, line.ljust(os.fstat(descriptor).st_size - 1) + b"\n")

    def _cpuset(self, path: str) -> observed.Cpuset:
        cpus, mems = CpuSet(), NodeSet()
        effective_cpus, effective_mems = self._now_online(), self._memory
        valid = self.partitions.valid()
        for taken in valid.values():
            effective_cpus -= taken
        piece = ""
        for name in path.split("/"):
            piece = f"{piece}/{name}" if piece else name
            cpus, mems = self._wish(piece)
            if piece in valid:
                effective_cpus = valid[piece] & self._now_online()
            else:
                effective_cpus = cpus & effective_cpus or effective_cpus
            effective_mems = mems & effective_mems or effective_mems
        return observed.Cpuset(
            cpus=cpus, mems=mems, effective_cpus=effective_cpus, effective_mems=effective_mems
        )

    def _wish(self, path: str) -> tuple[CpuSet, NodeSet]:
        """What the group asks for. One without the files, as the mount's root, asks for nothing."""
        cpus = _text(os.path.join(self.root, path, observed.CPUS))
        mems = _text(os.path.join(self.root, path, observed.MEMS))
        return (
            CpuSet.parse(cpus, what=f"{path}/{observed.CPUS}"),
            NodeSet.parse(mems, what=f"{path}/{observed.MEMS}"),
        )

    def _now_online(self) -> CpuSet:
        text = _text(self._online_file)
        return CpuSet.parse(text, what=topologies.ONLINE) if text else self._online

    def _quota(self, path: str, file: str) -> bandwidth.Bandwidth | errors.HostFileError:
        what = f"{path}/{file}"
        try:
            with open(os.path.join(self.root, what), encoding="ascii", errors="replace") as stream:
                return bandwidth.Bandwidth.parse(stream.readline().rstrip(), what=what)
        except OSError as error:
            return self._error(what, "read", error)
        except errors.Malformed as malformed:
            return errors.HostFileError(what, "read", errno.EINVAL, malformed.why)

    def _throttled(self, path: str, file: str, text: str) -> str:
        """What `cpu.max` says after a write (kernel/sched/core.c, `cpu_period_quota_parse`): a period that is
        not given stays. Raises OSError, EINVAL, as the kernel would."""
        found = _BANDWIDTH.fullmatch(text)
        if found is None:
            raise lists.refusal(errno.EINVAL)
        before = self._quota(path, file)
        period = before.period if isinstance(before, bandwidth.Bandwidth) else bandwidth.DEFAULT_PERIOD
        period = int(found["period"] or period)
        quota = None if found["quota"] == "max" else int(found["quota"])
        if not _SHORTEST <= period <= _LONGEST_PERIOD or (quota is not None and quota < _SHORTEST):
            raise lists.refusal(errno.EINVAL)
        return str(bandwidth.Bandwidth(quota=quota, period=period))

    def _accepted(self, path: str, name: str, text: str) -> str:
        """The list as the kernel would print it. Raises OSError as the kernel would."""
        if len(text) > _LONGEST.get(name, len(text)):
            raise lists.refusal(errno.E2BIG)
        if name in (observed.CPUS, observed.EXCLUSIVE):
            cpus = CpuSet(lists.parse(text, max(self._possible, default=0) + 1))
            if not cpus <= self._possible:
                raise lists.refusal(errno.EINVAL)
            if name == observed.EXCLUSIVE:
                self.partitions.check(path, cpus)
            return str(cpus)
        if name == observed.MEMS:
            nodes = NodeSet(lists.parse(text, _MAX_NODES))
            if not nodes <= self._nodes:
                raise lists.refusal(errno.EINVAL)
            return str(nodes)
        if name in (observed.EFFECTIVE_CPUS, observed.EFFECTIVE_MEMS):
            raise lists.refusal(errno.EINVAL)
        return text


def _text(path: str) -> str:
    """The first line of a file, "" where there is none."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.readline()
    except FileNotFoundError:
        return ""
