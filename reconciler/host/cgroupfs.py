"""Reads and writes cpuset files below a cgroup2 mount. I/O, through directory descriptors.

A descriptor is kept for every cgroup that was looked at: it says which cgroup is meant even after another
one was made under the same name, and spares the kernel the walk through the path. At most half of the
descriptors that the process may have are kept so, and fewer where none is left. Not thread-safe; the agent's
worker is the only user. Whether the mount is one at all is `cgroupmount`'s matter.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import resource
from collections.abc import Sequence
from dataclasses import dataclass

from reconciler import errors, observed
from reconciler.cpu import bandwidth
from reconciler.cpu.idset import CpuSet, NodeSet

_FILES = (observed.CPUS, observed.MEMS, observed.EFFECTIVE_CPUS, observed.EFFECTIVE_MEMS)
_MOST_TEXTS = 4096
"""Bytes of the first read. Nearly every list is shorter; one of 8192 single CPUs has 40 000."""
_CHILDLESS = 2
"""The links of a directory without directories: its name and its own dot."""
VANISHED = frozenset({errno.ENOENT, errno.ENODEV, errno.ENOTDIR})
"""What the kernel says of a cgroup that is gone: of its path, and of files below a descriptor of it."""
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE})
_HINTS = {
    errno.EROFS: "the cgroup2 mount is read-only here; mount it read-write",
    errno.EPERM: "not permitted; a container cannot write to its own cgroup",
    errno.EACCES: "not permitted",
    errno.ERANGE: "a CPU or node in the list does not exist on this machine",
    errno.EINVAL: "the kernel refuses the text",
    errno.E2BIG: "the list is longer than the kernel takes",
    errno.ENOSPC: "the kernel would leave the processes of the group without CPUs or memory",
    errno.EBUSY: "the kernel refuses while deadline tasks or a partition need these CPUs",
    errno.EMFILE: "no file descriptor is left; raise the limit of open files",
    errno.ENFILE: "the machine has no file descriptor left; raise fs.file-max",
}


@dataclass(slots=True)
class _Directory:
    """An open cgroup. `links` is its count of links when `has_inner` was found out: it changes with the
    number of child groups, and is 2 without any."""

    descriptor: int
    links: int
    has_inner: bool


class Cgroupfs:
    """The cgroups below one mount. Paths are relative to it."""

    def __init__(self, root: str) -> None:
        """`root` is the mount, such as `/sys/fs/cgroup`. Nothing is opened yet."""
        self.root = root
        self._open: dict[str, _Directory] = {}

    def look(self, path: str, quotas: Sequence[str] = ()) -> observed.Look:
        """The cgroup's cpuset files as they are, and the files of `quotas`, such as `cpu.max`.

        Raises Malformed for a path that leads out of the tree.
        """
        try:
            return self._look(path, quotas)
        except OSError as error:
            if error.errno in _EXHAUSTED and self._give_up():
                return self.look(path, quotas)
            if error.errno not in VANISHED:
                return observed.Unreadable(error=self._error(self._file(path, error), "read", error))
        # The descriptor may be of a cgroup that has made room for another: once more, by the path.
        self.forget(path)
        try:
            return self._look(path, quotas)
        except OSError as error:
            if error.errno not in VANISHED or self._is_there(path):
                return observed.Unreadable(error=self._error(self._file(path, error), "read", error))
            self.forget(path)
            return observed.Absent()

    def write(self, path: str, file: str, text: str) -> None:
        """Write `text` to a file of the cgroup, in one call; "" clears it.

        `file` may be one of the inner group, `container/cpuset.cpus`. Raises Gone where the cgroup does not
        exist, HostFileError where the kernel refuses, Malformed for a path that leads out of the tree.
        """
        try:
            self._write(path, file, text)
        except OSError as error:
            if error.errno in _EXHAUSTED and self._give_up():
                self.write(path, file, text)
                return
            if error.errno not in VANISHED:
                raise self._error(f"{path}/{file}", "write", error) from error
        else:
            return
        self.forget(path)
        try:
            self._write(path, file, text)
        except OSError as error:
            if error.errno in VANISHED and not self._is_there(path):
                self.forget(path)
                raise errors.Gone(f"cgroup {path} does not exist any more") from error
            raise self._error(f"{path}/{file}", "write", error) from error

    def partition(self, path: str) -> observed.Partition | None:
        """What the cgroup's partition files say; None where it does not exist.

        Raises HostFileError where they cannot be read, ENOENT on a kernel without them (before Linux 6.7),
        Malformed for a path that leads out of the tree.
        """
        try:
            return self._partition(path)
        except OSError as error:
            if error.errno not in VANISHED:
                raise self._error(self._file(path, error), "read", error) from error
        self.forget(path)
        try:
            return self._partition(path)
        except OSError as error:
            if error.errno in VANISHED and not self._is_there(path):
                self.forget(path)
                return None
            raise self._error(self._file(path, error), "read", error) from error

    def children(self, path: str) -> tuple[str, ...]:
        """The cgroups right under it, sorted; none where it does not exist."""
        check_path(path)
        with contextlib.suppress(OSError), os.scandir(os.path.join(self.root, path)) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
            return tuple(f"{path}/{name}" for name in names)
        return ()

    def forget(self, path: str) -> None:
        """Close what is open of a cgroup."""
        directory = self._open.pop(path, None)
        if directory is not None:
            os.close(directory.descriptor)

    def close(self) -> None:
        """Close everything."""
        for path in list(self._open):
            self.forget(path)

    def _look(self, path: str, quotas: Sequence[str]) -> observed.Look:
        directory = self._directory(path)
        links = os.fstat(directory.descriptor).st_nlink
        # A child group gets its files later than its name, so one without them is asked for again.
        if links != directory.links or (links != _CHILDLESS and not directory.has_inner):
            directory.links, directory.has_inner = links, _has_inner(directory.descriptor)
        prefix = ""
        try:
            outer, inner = _cpuset(_texts(directory.descriptor, prefix)), None
            if directory.has_inner:
                prefix = f"{observed.INNER}/"
                inner = _cpuset(_texts(directory.descriptor, prefix))
        except errors.Malformed as malformed:
            file = f"{path}/{prefix}{malformed.what}"
            error = errors.HostFileError(file, "read", errno.EINVAL, malformed.why)
            return observed.Unreadable(error=error)
        if not quotas:
            return observed.Present(outer=outer, inner=inner)
        read = tuple(observed.Quota(file=file, says=self._quota(path, file)) for file in quotas)
        return observed.Present(outer=outer, inner=inner, quotas=read)

    def _partition(self, path: str) -> observed.Partition:
        descriptor = self._directory(path).descriptor
        files = (observed.EXCLUSIVE, observed.PARTITION, observed.EVENTS)
        exclusive, state, events = (_line(descriptor, file) for file in files)
        try:
            cpus = CpuSet.parse(exclusive, what=observed.EXCLUSIVE)
        except errors.Malformed as malformed:
            file = f"{path}/{observed.EXCLUSIVE}"
            raise errors.HostFileError(file, "read", errno.EINVAL, malformed.why) from malformed
        return observed.Partition(exclusive=cpus, state=state, populated="populated 0" not in events)

    def _quota(self, path: str, file: str) -> bandwidth.Bandwidth | errors.HostFileError:
        """What a file of a quota says, or why that cannot be known, which costs nothing else."""
        try:
            text = _read(self._directory(path).descriptor, file)
            return bandwidth.Bandwidth.parse(text, what=file)
        except OSError as error:
            return self._error(f"{path}/{file}", "read", error)
        except errors.Malformed as malformed:
            return errors.HostFileError(f"{path}/{file}", "read", errno.EINVAL, malformed.why)

    def _write(self, path: str, file: str, text: str) -> None:
        descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._directory(path).descriptor)
        try:
            # A write of nothing is no write; a line without a list is the empty list.
            self._put(descriptor, (text or "\n").encode())
        finally:
            os.close(descriptor)

    def _put(self, descriptor: int, data: bytes) -> None:
        os.write(descriptor, data)

    def _directory(self, path: str) -> _Directory:
        known = self._open.get(path)
        if known is not None:
            return known
        check_path(path)
        self._make_room()
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        descriptor = os.open(os.path.join(self.root, path), flags)
        links = os.fstat(descriptor).st_nlink
        made = self._open[path] = _Directory(descriptor, links, _has_inner(descriptor))
        return made

    def _make_room(self) -> None:
        """Keep no more descriptors than half of what the process may have. Whoever came last goes: passes
        look at all in the same order, and the others would be gone again before their turn."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and len(self._open) >= max(1, soft // 2):
            self.forget(next(reversed(self._open)))

    def _give_up(self) -> bool:
        """Close every other descriptor that is kept: whether there was one."""
        given_up = list(self._open)[::2]
        for path in given_up:
            self.forget(path)
        return bool(given_up)

    def _is_there(self, path: str) -> bool:
        return os.path.isdir(os.path.join(self.root, path))

    def _file(self, path: str, error: OSError) -> str:
        """Which file of the group could not be read; the group itself, where it could not be opened."""
        group = os.path.join(self.root, path)
        return path if error.filename in (None, group) else f"{path}/{error.filename}"

    def _error(self, path: str, action: str, error: OSError) -> errors.HostFileError:
        number = error.errno or 0
        why = _HINTS.get(number) or error.strerror or str(error)
        if number in VANISHED:
            controller = os.path.basename(path).partition(".")[0]
            controller = "cpu" if controller == "cpu" else "cpuset"
            why = f"no such file; the {controller} controller is not enabled for this cgroup"
        return errors.HostFileError(path, action, number, why)


def _has_inner(descriptor: int) -> bool:
    try:
        os.stat(f"{observed.INNER}/{observed.CPUS}", dir_fd=descriptor)
    except OSError:
        return False
    return True


def _texts(descriptor: int, prefix: str) -> tuple[str, ...]:
    """Of all files; again where a set is not effective, for it may have been written between two of them."""
    texts = tuple([_read(descriptor, prefix + file) for file in _FILES])
    if texts[0] in ("\n", texts[2]) and texts[1] in ("\n", texts[3]):
        return texts
    return tuple([_read(descriptor, prefix + file) for file in _FILES])


def _line(directory: int, file: str) -> str:
    """The first line of a file. Raises as `_read` does."""
    return _read(directory, file).partition("\n")[0].strip()


def _read(directory: int, file: str) -> str:
    """The text of a file. Raises OSError that names `file`, which the call that reads does not."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
        try:
            data = os.read(descriptor, _MOST_TEXTS)
            if len(data) == _MOST_TEXTS:
                while more := os.read(descriptor, _MOST_TEXTS):
                    data += more
            return data.decode("ascii", "replace")
        finally:
            os.close(descriptor)
    except OSError as error:
        error.filename = file
        raise


@functools.lru_cache(maxsize=4096)
def _cpuset(texts: tuple[str, ...]) -> observed.Cpuset:
    """Cached: most containers of a node have the same texts. Raises Malformed, naming the file."""
    cpus, mems, effective_cpus, effective_mems = texts
    return observed.Cpuset(
        cpus=CpuSet.parse(cpus, what=observed.CPUS),
        mems=NodeSet.parse(mems, what=observed.MEMS),
        effective_cpus=CpuSet.parse(effective_cpus, what=observed.EFFECTIVE_CPUS),
        effective_mems=NodeSet.parse(effective_mems, what=observed.EFFECTIVE_MEMS),
    )


def check_path(path: str) -> None:
    """Raises Malformed for what does not name a group below the mount."""
    if not path or path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise errors.Malformed("cgroup path", f"{path!r} is not a path below the cgroup2 mount")
