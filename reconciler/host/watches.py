"""One inotify instance for directories, and what its errors mean. I/O; the one door to inotify-simple.

What the events say is the matter of whoever watches.
"""

from __future__ import annotations

import errno

import inotify_simple

from reconciler import errors

_NORMAL = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENODEV})


class Instance:
    """Nothing blocks; `fd` is for the event loop."""

    def __init__(self) -> None:
        """Raises HostFileError where the kernel gives no inotify instance."""
        try:
            self._inotify = inotify_simple.INotify(nonblocking=True)
        except OSError as error:
            why = f"{error.strerror}; raise fs.inotify.max_user_instances or the limit of open files"
            raise errors.HostFileError("inotify", "open", error.errno or 0, why) from error

    @property
    def fd(self) -> int:
        """The descriptor that becomes readable."""
        return self._inotify.fileno()

    def add(self, full: str, mask: int) -> int | None:
        """The watch on the directory at `full`, None where there is none. Raises HostFileError where the
        kernel gives no more watches."""
        try:
            return int(self._inotify.add_watch(full, mask))
        except OSError as error:
            if error.errno in _NORMAL:
                return None
            limit = "; raise fs.inotify.max_user_watches" if error.errno == errno.ENOSPC else ""
            raise errors.HostFileError(full, "watch", error.errno or 0, f"{error.strerror}{limit}") from error

    def remove(self, watch: int) -> None:
        """Take a watch away."""
        try:
            self._inotify.rm_watch(watch)
        except OSError as error:
            # The kernel has taken it away already, with its directory.
            if error.errno != errno.EINVAL:
                raise

    def read(self) -> list[inotify_simple.Event]:
        """What has been told since the last read; returns at once."""
        return list(self._inotify.read(timeout=0))

    def close(self) -> None:
        """Watch nothing any more."""
        self._inotify.close()
