"""What a simulated kernel makes of `cpuset.cpus.exclusive` and `cpuset.cpus.partition`. I/O below the tree.

Of the newest kernel only what there is of remote partitions: each is taken from the root, through exclusive
sets in every group above it (kernel/cgroup/cpuset.c, `remote_partition_enable`). None is below another.
`fixtures/kernel/partition.yaml` is played on this and on a real kernel.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator

from reconciler import observed
from reconciler.cpu.idset import CpuSet
from reconciler.sim import lists

KINDS = ("root", "isolated")
FILES = {observed.EXCLUSIVE: "\n", observed.PARTITION: f"{observed.MEMBER}\n"}
"""The files of a new group."""
INVALID_CPUS = "Invalid cpu list in cpuset.cpus.exclusive"
NOTHING_SET = "cpuset.cpus and cpuset.cpus.exclusive are empty"
NOT_PERMITTED = "Enable partition not permitted"
"""Reasons in the words of the kernel (kernel/cgroup/cpuset.c, `perr_strings`)."""


class Partitions:
    """The partitions below one root, as the files say at each look. `permitted` is whether who writes has
    CAP_SYS_ADMIN, without which there is no remote partition."""

    def __init__(self, root: str, online: Callable[[], CpuSet]) -> None:
        """`online` gives the CPUs that are online."""
        self._root = root
        self._online = online
        self.permitted = True

    def valid(self) -> dict[str, CpuSet]:
        """The partitions in force, by path, with their CPUs, offline ones too."""
        return dict(self._below("", None))

    def state(self, path: str) -> str:
        """What `cpuset.cpus.partition` of a group says."""
        text = self.said(path)
        return _invalid(text, INVALID_CPUS) if text in KINDS and path not in self.valid() else text

    def said(self, path: str) -> str:
        """What the file said when it was written last, "" where there is none."""
        return self._line(path, observed.PARTITION)

    def enabled(self, path: str, text: str) -> str:
        """What the file says after `text` was written, which never fails for the CPUs.

        Raises OSError, EINVAL, for a text that is no kind.
        """
        kind = text.strip()
        if kind == observed.MEMBER:
            return kind
        if kind not in KINDS:
            raise lists.refusal(errno.EINVAL)
        valid = self.valid()
        return kind if path in valid else self._enabled(path, kind, valid)

    def check(self, path: str, cpus: CpuSet) -> None:
        """Raises OSError, EINVAL, where these may not be the exclusive CPUs of a group beside its siblings
        (`validate_change`): theirs must be others, and each must keep a CPU of its own list."""
        if not cpus or cpus == self.exclusive(path):
            return
        for sibling in self._groups(os.path.dirname(path)):
            own = CpuSet.parse(self._line(sibling, observed.CPUS), what=sibling)
            if sibling != path and (not cpus.isdisjoint(self.exclusive(sibling)) or (own and own <= cpus)):
                raise lists.refusal(errno.EINVAL)

    def exclusive(self, path: str) -> CpuSet:
        """What `cpuset.cpus.exclusive` of a group says. Raises Malformed."""
        return CpuSet.parse(self._line(path, observed.EXCLUSIVE), what=f"{path}/{observed.EXCLUSIVE}")

    def _enabled(self, path: str, kind: str, valid: dict[str, CpuSet]) -> str:
        if not self.exclusive(path) and not self._line(path, observed.CPUS):
            return _invalid(kind, NOTHING_SET)
        if not self.permitted:
            return _invalid(kind, NOT_PERMITTED)
        granted = self.exclusive(path)
        above = os.path.dirname(path)
        while above:
            granted &= self.exclusive(above)
            above = os.path.dirname(above)
        left = self._online()
        for cpus in valid.values():
            left -= cpus
        if granted.isdisjoint(self._online()) or left <= granted:
            return _invalid(kind, INVALID_CPUS)
        return kind

    def _below(self, path: str, granted: CpuSet | None) -> Iterator[tuple[str, CpuSet]]:
        """The partitions below a group; `granted` are its exclusive CPUs, None for all."""
        for group in self._groups(path):
            cpus = self.exclusive(group)
            its = cpus if granted is None else cpus & granted
            if not its:
                continue
            if self._line(group, observed.PARTITION) not in KINDS:
                yield from self._below(group, its)
            elif not its.isdisjoint(self._online()):
                yield group, its

    def _groups(self, path: str) -> list[str]:
        try:
            with os.scandir(os.path.join(self._root, path)) as entries:
                return [os.path.join(path, entry.name) for entry in entries if entry.is_dir()]
        except FileNotFoundError:
            return []

    def _line(self, path: str, file: str) -> str:
        """The first line of a file, "" where there is none."""
        try:
            with open(os.path.join(self._root, path, file), encoding="ascii", errors="replace") as stream:
                return stream.readline().strip()
        except (FileNotFoundError, NotADirectoryError):
            return ""


def _invalid(kind: str, why: str) -> str:
    return f"{kind} invalid ({why})"
