"""A kernel's cpusets and CFS quotas on a plain directory tree. I/O below the tree.

Anyone may write to the files with any tool: what is effective follows from the texts and from the CPUs that
are online at each look, as the kernel would have it (kernel/cgroup/cpuset.c). Unlike the kernel, a plain file
takes garbage from others; it reads as an error then. It also keeps the end of a longer text that was there
before, so the first line counts, and writes here are padded: nobody sees an empty file or half a list.
`fixtures/kernel/cpuset.yaml` is played on this and on a real kernel.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
from collections.abc import Iterator, Sequence

from reconciler import errors, observed
from reconciler.cpu import bandwidth
from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet, NodeSet
from reconciler.host import cgroupfs, survivors

_REGION = re.compile(
    r"(?P<only>\d+|N)|"
    r"(?:(?P<all>[Aa][Ll][Ll])|(?P<first>\d+|N)-(?P<last>\d+|N))(?::(?P<used>\d+)/(?P<group>\d+))?",
    re.ASCII,
)
_MAX_NODES = 1024
_LONGEST = {observed.CPUS: 100 + 6 * CpuSet.LIMIT, observed.MEMS: 100 + 6 * _MAX_NODES}
"""Characters that the kernel takes in one write (kernel/cgroup/cpuset.c, `max_write_len`)."""
_LONGEST_NUMBER = 10
_BANDWIDTH = re.compile(r"\s*(?P<quota>max|\d{1,15})(?:\s+(?P<period>\d{1,15}))?\s*", re.ASCII)
_SHORTEST = 1_000
_LONGEST_PERIOD = 1_000_000
"""Microseconds that a quota has at least, and a period at least and at most (kernel/sched/core.c)."""
_CONTROL_FILES = {
    "cgroup.controllers": "cpuset cpu memory pids\n",
    "cgroup.subtree_control": "cpuset cpu memory pids\n",
    "cgroup.procs": "",
    survivors.EVENTS: "populated 1\nfrozen 0\n",
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
            os.rename(os.path.join(self.root, path), os.path.join(aside, "gone"))

    def populate(self, path: str, *pids: int) -> None:
        """Let these be the processes of a group, of which otherwise only that is known that it has some."""
        self._say(path, "cgroup.procs", "".join(f"{pid}\n" for pid in pids))
        self._say(path, survivors.EVENTS, f"populated {int(bool(pids))}\nfrozen 0\n")

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

    def write(self, path: str, file: str, text: str) -> None:
        """As `Cgroupfs.write`, with the errors that the kernel gives. Refreshes what is effective below."""
        cgroupfs.check_path(path)
        name = file.rpartition("/")[2]
        if os.path.isdir(os.path.join(self.root, path)):
            try:
                if name == bandwidth.FILE:
                    text = self._throttled(path, file, text)
                else:
                    text = self._accepted(name, text)
            except OSError as error:
                raise self._error(f"{path}/{file}", "write", error) from error
        super().write(path, file, text)
        self.refresh(path)

    def refresh(self, path: str) -> None:
        """Write the files that show what is effective, for onlookers: of a group and of all below it."""
        cgroupfs.check_path(path)
        for group in self._groups(path):
            with contextlib.suppress(OSError, errors.Malformed):
                cpuset = self._cpuset(group)
                self._show(group, observed.EFFECTIVE_CPUS, str(cpuset.effective_cpus))
                self._show(group, observed.EFFECTIVE_MEMS, str(cpuset.effective_mems))

    def _make_one(self, path: str) -> None:
        full = os.path.join(self.root, path)
        if os.path.exists(os.path.join(full, observed.CPUS)):
            return
        os.makedirs(full, exist_ok=True)
        for name, text in _CONTROL_FILES.items():
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
        piece = ""
        for name in path.split("/"):
            piece = f"{piece}/{name}" if piece else name
            cpus, mems = self._wish(piece)
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
            raise _refusal(errno.EINVAL)
        before = self._quota(path, file)
        period = before.period if isinstance(before, bandwidth.Bandwidth) else bandwidth.DEFAULT_PERIOD
        period = int(found["period"] or period)
        quota = None if found["quota"] == "max" else int(found["quota"])
        if not _SHORTEST <= period <= _LONGEST_PERIOD or (quota is not None and quota < _SHORTEST):
            raise _refusal(errno.EINVAL)
        return str(bandwidth.Bandwidth(quota=quota, period=period))

    def _accepted(self, name: str, text: str) -> str:
        """The list as the kernel would print it. Raises OSError as the kernel would."""
        if len(text) > _LONGEST.get(name, len(text)):
            raise _refusal(errno.E2BIG)
        if name == observed.CPUS:
            cpus = CpuSet(parse_list(text, max(self._possible, default=0) + 1))
            if not cpus <= self._possible:
                raise _refusal(errno.EINVAL)
            return str(cpus)
        if name == observed.MEMS:
            nodes = NodeSet(parse_list(text, _MAX_NODES))
            if not nodes <= self._nodes:
                raise _refusal(errno.EINVAL)
            return str(nodes)
        if name in (observed.EFFECTIVE_CPUS, observed.EFFECTIVE_MEMS):
            raise _refusal(errno.EINVAL)
        return text


def parse_list(text: str, limit: int) -> set[int]:
    """The ids in a list, below `limit`, by the kernel's own grammar (lib/bitmap-str.c, bitmap_parselist).

    That takes more than Kubernetes does: strides, `all`, `N` for the last id, commas and spaces too many.
    Raises OSError: ERANGE for an id that is too large, EOVERFLOW for one that no int of the kernel's holds,
    EINVAL for anything else.
    """
    ids: set[int] = set()
    for piece in text.replace(",", " ").split():
        found = _REGION.fullmatch(piece)
        if found is None:
            raise _refusal(errno.EINVAL)
        first, last = _bounds(found, limit - 1)
        used, group = (_number(found[part] or "1") for part in ("used", "group"))
        if first > last or not used <= group or not group:
            raise _refusal(errno.EINVAL)
        if last >= limit:
            raise _refusal(errno.ERANGE)
        ids.update(id_ for id_ in range(first, last + 1) if (id_ - first) % group < used)
    return ids


def _bounds(region: re.Match[str], last_id: int) -> tuple[int, int]:
    """The first and the last id of a region of a list."""
    if region["all"]:
        return 0, last_id
    texts = (region["only"], region["only"]) if region["only"] else (region["first"], region["last"])
    first, last = (last_id if text == "N" else _number(text) for text in texts)
    return first, last


def _number(digits: str) -> int:
    """A number that an unsigned int of the kernel's holds. Raises OSError, EOVERFLOW, for any other."""
    digits = digits.lstrip("0") or "0"
    if len(digits) > _LONGEST_NUMBER or int(digits) >= 1 << 32:
        raise _refusal(errno.EOVERFLOW)
    return int(digits)


def _refusal(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _text(path: str) -> str:
    """The first line of a file, "" where there is none."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.readline()
    except FileNotFoundError:
        return ""
