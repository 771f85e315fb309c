"""Who wrote to a cgroup's file last, as fanotify tells. I/O: a thread of its own.

It looks at each writer at once: many have ended a millisecond later. Nothing is decided here, and nothing
waits for it but a pass that has found a drift. Such a pass reads what is still unread: the kernel queues the
event of a write right after the write, before the writer can go on.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from typing import Literal, Protocol

from reconciler import errors, events, observed, opponents
from reconciler.cpu.idset import CpuSet
from reconciler.explain import names
from reconciler.host import culprits, fanotify
from reconciler.policy import state
from reconciler.runtime import cgroup_path

_MOST_FILES = 32_768
"""Files whose last writer is known: a daemon-reload writes thirty for each container. The oldest go."""
_MOST_RECENT = 256
_RECENT_SECONDS = 1.0
"""For so long a process that has ended is who its pid was last."""
_FRESH_SECONDS = 0.01
"""For so long a process is not looked at again: systemd writes thousands of files in a row."""
_REST_SECONDS = 0.001
"""After a read in which nobody was to be looked at, as of our own writes: the next ones are read together."""
_URGENT = -20
"""The thread's nice value, where that is permitted: it sleeps but for a moment, and the writers hurry."""


class Source(Protocol):
    """As `fanotify.Watcher`."""

    fd: int

    def read(self, but_not_by: int) -> Iterator[fanotify.Write | None]:
        """What was written."""

    def close(self) -> None:
        """Watch nothing any more."""


class Tell(Protocol):
    """Is told, from any thread."""

    def attribution(self, what: str, **fields: object) -> None:
        """It has begun; or, each once, it is `unavailable`, is `blind` to a writer, has `lost` events."""

    def failed(self, what: str, error: BaseException) -> None:
        """Something of ours broke off."""


def started(
    how: Literal["off", "fanotify"], host_root: str, now: Callable[[], state.State], tell: Tell
) -> Attribution | None:
    """The attribution that the configuration asks for, below a host root; None where it asks for none."""
    if how == "off":
        return None
    root = os.path.join(host_root, "sys/fs/cgroup")
    found = Attribution(root, culprits.procfs(host_root), now, tell)
    found.start()
    return found


class Attribution:
    """Knows the last writer of each file, our own process apart. Until `start` it knows nobody.

    `writes` counts what others wrote, `unnamed` those of which only the pid is known, `lost` how often events
    were; `reason` says why it is not active though it should be.
    """

    def __init__(
        self,
        root: str,
        proc: str,
        now: Callable[[], state.State],
        tell: Tell,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`root` is the cgroup2 mount, `proc` a procfs of this pid namespace, `clock` gives monotonic
        seconds."""
        self.reason = ""
        self.writes = self.unnamed = self.lost = 0
        self._root = root
        self._proc = proc
        self._now = now
        self._tell = tell
        self._clock = clock
        self._us = os.getpid()
        self._lock = threading.Lock()
        self._source: Source | None = None
        self._thread: threading.Thread | None = None
        self._stop = -1
        self._last: dict[int, opponents.Writer] = {}
        self._recent: dict[int, tuple[float, opponents.Writer]] = {}
        self._looks = 0
        self._told: set[str] = set()

    @property
    def active(self) -> bool:
        """Whether writers are known from here on."""
        return self._source is not None

    def start(self, source: Callable[[str], Source] = fanotify.Watcher) -> None:
        """Begin. Where that is not possible, it is told, and nobody is known."""
        try:
            self._source = source(self._root)
        except errors.ReconcilerError as error:
            self._give_up(str(error))
            return
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(
            target=self._serve, args=(self._source,), name="attribution", daemon=True
        )
        self._thread.start()
        self._tell.attribution("started", path=self._root)

    def close(self) -> None:
        """Know nobody any more. More than once does no harm."""
        if self._thread is not None:
            os.eventfd_write(self._stop, 1)
            self._thread.join()
            os.close(self._stop)
            self._thread = None
        with self._lock:
            if self._source is not None:
                self._source.close()
                self._source = None

    def writer(self, container: events.Container, file: str) -> opponents.Writer | None:
        """Who wrote last to `file` of the container's cgroup, us apart; None where that is not known. For
        what the kernel grants, who wrote the nearest ancestor's cpuset that is narrower. From any thread."""
        if self._source is None or container.cgroup is None:
            return None
        with self._lock:
            self._read()
        folder = os.path.join(self._root, container.cgroup)
        if file == observed.EFFECTIVE_CPUS:
            return self._of_ancestor(folder)
        return self._of(os.path.join(folder, file))

    def document(self) -> dict[str, object]:
        """What the status says."""
        return {
            "active": self.active,
            "reason": self.reason,
            "writes": self.writes,
            "unnamed": self.unnamed,
            "lost": self.lost,
        }

    def _of(self, path: str) -> opponents.Writer | None:
        try:
            return self._last.get(os.stat(path).st_ino)
        except OSError:
            return None

    def _of_ancestor(self, folder: str) -> opponents.Writer | None:
        wanted = _cpus(os.path.join(folder, observed.CPUS))
        above = os.path.dirname(folder)
        while len(above) > len(self._root):
            path = os.path.join(above, observed.CPUS)
            has = _cpus(path)
            if has and not wanted <= has:
                return self._of(path)
            above = os.path.dirname(above)
        return None

    def _serve(self, source: Source) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _URGENT)
        poll = select.poll()
        poll.register(source.fd, select.POLLIN)
        poll.register(self._stop, select.POLLIN)
        while self._source is not None:
            if any(ready == self._stop for ready, _ in poll.poll()):
                return
            before = self._looks
            with self._lock:
                self._read()
            if self._looks == before:
                time.sleep(_REST_SECONDS)

    def _read(self) -> None:
        """Take what is unread. What cannot be understood, or a fault, ends the attribution and no more."""
        source = self._source
        if source is None:
            return
        try:
            for write in source.read(self._us):
                if write is None:
                    self._lose()
                else:
                    self._take(write)
        except errors.ReconcilerError as error:
            self._end(source, str(error))
        except Exception as error:  # noqa: BLE001  passes go on, whatever broke this
            self._tell.failed("attribution", error)
            self._end(source, f"{type(error).__name__}: {error}")

    def _take(self, write: fanotify.Write) -> None:
        self.writes += 1
        writer = self._who(write.pid)
        self.unnamed += not writer.command
        self._last.pop(write.inode, None)
        self._last[write.inode] = writer
        if len(self._last) > _MOST_FILES:
            del self._last[next(iter(self._last))]

    def _who(self, pid: int) -> opponents.Writer:
        if not pid:
            why = "a process of another pid namespace writes cgroups; the agent needs the host's to see it"
            self._tell_once("blind", why)
            return opponents.Writer(pid=0)
        at = self._clock()
        before, known = self._recent.get(pid, (at, None))
        if known is not None and at - before <= _FRESH_SECONDS:
            return known
        self._looks += 1
        writer = self._look(pid)
        if writer is None:
            if known is not None and at - before <= _RECENT_SECONDS:
                return known
            return opponents.Writer(pid=pid)
        # One value for all that a process has written.
        writer = known if known is not None and known == writer else writer
        self._recent.pop(pid, None)
        self._recent[pid] = at, writer
        if len(self._recent) > _MOST_RECENT:
            del self._recent[next(iter(self._recent))]
        return writer

    def _look(self, pid: int) -> opponents.Writer | None:
        found = culprits.process(self._proc, pid)
        if found is None:
            return None
        return opponents.Writer(
            pid=pid,
            command=found.command,
            cmdline=found.cmdline,
            unit=culprits.unit(found.cgroup) or f"/{found.cgroup}",
            container=self._container(found.cgroup),
        )

    def _container(self, cgroup: str) -> str:
        """The innermost container that a cgroup belongs to, by its names; its id where the agent does not
        know it, "" where it belongs to none."""
        for step in reversed(cgroup.split("/")):
            if (id_ := cgroup_path.container_id(step)) is not None:
                now = self._now()
                container = now.inventory.containers.get(id_)
                return id_ if container is None else names.of(now, container)
        return ""

    def _lose(self) -> None:
        """Who is known may be out of date now."""
        self.lost += 1
        self._last.clear()
        self._tell_once("lost", "fanotify lost events: who wrote before now is not known")

    def _end(self, source: Source, why: str) -> None:
        self._source = None
        source.close()
        self._last.clear()
        self._give_up(why)

    def _give_up(self, why: str) -> None:
        self.reason = why
        self._tell_once("unavailable", f"{why}; drifts are repaired, but who wrote is not known")

    def _tell_once(self, what: str, reason: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self._tell.attribution(what, reason=reason)


def _cpus(path: str) -> CpuSet:
    """What a cpuset file says; nothing where that cannot be known."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return CpuSet.parse(file.read().strip(), what=path)
    except (OSError, errors.Malformed):
        return CpuSet()
