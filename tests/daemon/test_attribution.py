"""Who wrote is known while it can be, and where it cannot the agent goes on without."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from reconciler import errors, events, opponents
from reconciler.config import schema
from reconciler.daemon import attribution
from reconciler.host import fanotify
from reconciler.policy import state
from tests.daemon import node, observing, pods

# covers: PRD-7.10, PRD-7.12, PRD-7.25

WEB = pods.pod("web")
SHARED = pods.container(WEB)
DB = pods.guaranteed("db")
INTEGER = pods.container(DB, whole=2)
ID = events.ContainerId("ab" * 32)
RUNC = "0::/system.slice/containerd.service\n"


def unasked() -> state.State:
    """Who is on the node, where nobody is in a container."""
    raise AssertionError("nobody asks")


class Source:
    """Stands for the kernel: tells what it is given to the next reader."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.queue: list[fanotify.Write | None] = []
        self.fault: Exception | None = None
        self.closed = False
        self.told = threading.Event()
        """All of the queue has been taken."""

    def read(self, but_not_by: int) -> Iterator[fanotify.Write | None]:  # noqa: ARG002
        """As `fanotify.Watcher`."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        if self.fault is not None:
            raise self.fault
        while self.queue:
            yield self.queue.pop(0)
        self.told.set()

    def close(self) -> None:
        """As `fanotify.Watcher`."""
        os.close(self.fd)
        self.closed = True


class Tell:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, object]]] = []

    def attribution(self, what: str, **fields: object) -> None:
        """As `attribution.Tell`."""
        self.told.append((what, fields))

    def failed(self, what: str, error: BaseException) -> None:  # noqa: ARG002
        """As `attribution.Tell`."""
        self.told.append(("failed", {"what": what}))


class Host:
    """A tree with one container's group, a procfs, and an attribution over both that has begun."""

    def __init__(self, folder: pathlib.Path, now: Callable[[], state.State]) -> None:
        self.root, self.proc = folder / "cgroup", folder / "proc"
        self.proc.mkdir()
        self.group = self.root / str(SHARED.cgroup)
        for group in (self.group, *self.group.parents):
            if group == folder:
                break
            group.mkdir(parents=True, exist_ok=True)
            (group / "cpuset.cpus").write_text("\n")
            (group / "cpuset.mems").write_text("\n")
        self.seconds = 100.0
        self.source = Source()
        self.tell = Tell()
        self.its = attribution.Attribution(
            str(self.root), str(self.proc), now, self.tell, clock=lambda: self.seconds
        )
        self.its.start(lambda _: self.source)

    def process(self, pid: int, comm: str, cgroup: str = RUNC) -> int:
        """Have a process; its pid."""
        folder = self.proc / str(pid)
        folder.mkdir(exist_ok=True)
        (folder / "comm").write_text(f"{comm}\n")
        (folder / "cgroup").write_text(cgroup)
        (folder / "cmdline").write_text(f"{comm}\0update\0")
        return pid

    def end(self, pid: int) -> None:
        """It has ended."""
        shutil.rmtree(self.proc / str(pid))

    def wrote(self, pid: int, file: str = "cpuset.cpus", group: pathlib.Path | None = None) -> None:
        """The kernel has queued that it wrote."""
        inode = ((self.group if group is None else group) / file).stat().st_ino
        self.source.queue.append(fanotify.Write(inode, pid))

    def writer(self, file: str = "cpuset.cpus") -> opponents.Writer | None:
        """Who wrote last to the container's."""
        return self.its.writer(SHARED, file)


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Iterator[Host]:
    """It, ended afterwards."""
    made = Host(tmp_path, unasked)
    yield made
    made.its.close()


def test_a_file_that_nobody_wrote_has_no_writer(host: Host) -> None:
    host.wrote(host.process(1, "systemd"), "cpuset.mems")
    assert host.writer() is None


def test_the_newest_writer_of_each_file_is_known(host: Host) -> None:
    host.wrote(host.process(1, "systemd", "0::/init.scope\n"))
    host.wrote(1, "cpuset.mems")
    host.wrote(host.process(7, "runc"))
    assert host.writer("cpuset.mems") == opponents.Writer(
        pid=1, command="systemd", cmdline="systemd update", unit="init.scope"
    )
    assert host.writer() == opponents.Writer(
        pid=7, command="runc", cmdline="runc update", unit="containerd.service"
    )


def test_one_that_ended_since_is_still_known(host: Host) -> None:
    host.wrote(host.process(7, "runc"))
    assert host.writer() is not None
    host.end(7)
    found = host.writer()
    assert found is not None
    assert found.command == "runc"


def test_of_one_that_ended_before_it_could_be_looked_at_the_pid_is_known(host: Host) -> None:
    host.wrote(7)
    assert host.writer() == opponents.Writer(pid=7)
    assert host.its.document() == {"active": True, "reason": "", "writes": 1, "unnamed": 1, "lost": 0}


@pytest.mark.parametrize(
    ("later", "command"), [pytest.param(1.0, "runc", id="a second"), pytest.param(1.1, "", id="longer")]
)
def test_one_that_has_ended_is_who_its_pid_was_a_moment_ago(host: Host, later: float, command: str) -> None:
    host.wrote(host.process(7, "runc"), "cpuset.mems")
    host.writer()
    host.end(7)
    host.seconds += later
    host.wrote(7)
    found = host.writer()
    assert found is not None
    assert found.command == command


def test_a_process_is_not_looked_at_for_each_of_its_writes(host: Host) -> None:
    host.wrote(host.process(7, "runc"))
    first = host.writer()
    host.process(7, "another")
    host.wrote(7, "cpuset.mems")
    assert host.writer("cpuset.mems") is first
    host.process(7, "runc")
    host.seconds += 0.02
    host.wrote(7, "cpuset.mems")
    assert host.writer("cpuset.mems") is first, "it is the same value, not one more"


def test_a_pid_that_is_another_program_now_is_that_one(host: Host) -> None:
    host.wrote(host.process(7, "sh"))
    host.writer()
    host.seconds += 0.02
    host.wrote(host.process(7, "runc"))
    found = host.writer()
    assert found is not None
    assert found.command == "runc"


def test_a_group_that_was_made_anew_has_not_the_writer_of_the_old_one(host: Host) -> None:
    host.wrote(host.process(7, "runc"))
    assert host.writer() is not None
    (host.group / "cpuset.cpus").rename(host.root / "kept")  # so that its number is not given again
    (host.group / "cpuset.cpus").write_text("\n")
    assert host.writer() is None
    shutil.rmtree(host.group)
    assert host.writer() is None


def test_of_what_the_kernel_grants_the_writer_is_the_narrower_ancestors(host: Host) -> None:
    host.process(1, "systemd", "0::/init.scope\n")
    host.process(7, "sh")
    slice_ = host.group.parent
    (host.group / "cpuset.cpus").write_text("0-7\n")
    (slice_ / "cpuset.cpus").write_text("0-7\n")
    host.wrote(7, group=slice_)
    (slice_.parent / "cpuset.cpus").write_text("0-3\n")
    host.wrote(1, group=slice_.parent)
    found = host.writer("cpuset.cpus.effective")
    assert found is not None
    assert found.command == "systemd"
    (slice_.parent / "cpuset.cpus").write_text("0-7\n")
    assert host.writer("cpuset.cpus.effective") is None, "CPUs are offline, and nobody wrote that"


def test_one_of_another_pid_namespace_is_told_once(host: Host) -> None:
    for _ in range(3):
        host.wrote(0)
        assert host.writer() == opponents.Writer(pid=0)
    assert [what for what, _ in host.tell.told] == ["started", "blind"]


def test_after_a_loss_nobody_is_known_and_that_is_told_once(host: Host) -> None:
    host.process(7, "runc")
    for lost in range(1, 4):
        host.wrote(7)
        assert host.writer() is not None
        host.source.queue.append(None)
        assert host.writer() is None
        assert host.its.lost == lost
    assert [what for what, _ in host.tell.told] == ["started", "lost"]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        pytest.param(errors.Malformed("fanotify event", "its length is 0"), ["unavailable"], id="garbage"),
        pytest.param(RuntimeError("a mistake"), ["failed", "unavailable"], id="a mistake"),
    ],
)
def test_what_cannot_be_read_ends_the_attribution_and_nothing_else(
    host: Host, fault: Exception, told: list[str]
) -> None:
    host.wrote(host.process(7, "runc"))
    host.writer()
    host.source.fault = fault
    assert host.writer() is None
    assert host.writer() is None
    assert [what for what, _ in host.tell.told[1:]] == told
    assert host.source.closed
    assert (host.its.active, host.its.document()["reason"]) == (
        False,
        str(fault) if isinstance(fault, errors.Malformed) else "RuntimeError: a mistake",
    )


def test_where_it_is_not_permitted_it_is_told_and_nobody_is_known(tmp_path: pathlib.Path) -> None:
    def refuse(_: str) -> attribution.Source:
        raise errors.HostFileError("fanotify", "open", 1, "Operation not permitted; it needs CAP_SYS_ADMIN")

    tell = Tell()
    its = attribution.Attribution(str(tmp_path), "/proc", unasked, tell)
    its.start(refuse)
    assert its.writer(SHARED, "cpuset.cpus") is None
    [(what, fields)] = tell.told
    assert what == "unavailable"
    assert "it needs CAP_SYS_ADMIN" in str(fields["reason"])
    assert "it needs CAP_SYS_ADMIN" in its.reason
    its.close()


def test_a_thread_of_its_own_looks_at_writers_as_they_come(host: Host) -> None:
    host.wrote(host.process(7, "runc"))
    os.eventfd_write(host.source.fd, 1)
    assert host.source.told.wait(node.PATIENCE)
    assert host.its.writes == 1
    assert [thread.name for thread in threading.enumerate()].count("attribution") == 1
    host.its.close()
    assert host.source.closed
    assert "attribution" not in [thread.name for thread in threading.enumerate()]
    host.its.close()


def test_the_table_is_bounded_and_the_newest_stay(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribution, "_MOST_FILES", 3)
    monkeypatch.setattr(attribution, "_MOST_RECENT", 3)
    host.wrote(host.process(7, "runc"))
    for number in range(1, 4):
        host.source.queue.append(fanotify.Write(-number, host.process(100 + number, "sh")))
    assert host.writer() is None
    host.wrote(7)
    assert host.writer() is not None
    assert (len(host.its._last), len(host.its._recent)) == (3, 3)


async def test_one_in_a_container_is_called_by_its_names_and_an_unknown_one_by_its_id(
    tmp_path: pathlib.Path,
) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        known = pods.container(WEB, "builder")
        known = events.Container(
            id=ID,
            sandbox=WEB.sandbox,
            name="builder",
            cgroup=f"kubepods.slice/cri-containerd-{ID}.scope",
            limits=known.limits,
            phase=known.phase,
        )
        await made.run(WEB, known)
        (tmp_path / "other").mkdir()
        its = Host(tmp_path / "other", lambda: made.agent.state)
        its.wrote(its.process(7, "sh", f"0::/kubepods.slice/cri-containerd-{ID}.scope/inner\n"))
        found = its.writer()
        assert found is not None
        assert (found.container, found.unit) == ("default/web/builder", f"cri-containerd-{ID}.scope")
        assert str(found) == "sh (pid 7, default/web/builder)"
        stranger = "cd" * 32
        its.wrote(its.process(8, "sh", f"0::/kubepods/pod1/{stranger}\n"))
        found = its.writer()
        assert found is not None
        assert (found.container, found.unit) == (stranger, f"/kubepods/pod1/{stranger}")
        its.its.close()


@pytest.fixture
def shm() -> Iterator[pathlib.Path]:
    """A folder of a file system to which few write. Skips where this process may not watch it."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        try:
            fanotify.Watcher(folder).close()
        except errors.HostFileError as error:
            pytest.skip(str(error))
        yield pathlib.Path(folder)


class Shell:
    """Somebody at a prompt, who writes what is asked and stays until told to go."""

    def __init__(self) -> None:
        script = 'while read -r text path; do echo "$text" > "$path"; echo done; done'
        self._process = subprocess.Popen(
            ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid

    def write(self, text: str, path: pathlib.Path) -> None:
        """Write; returns when it is written."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{text} {path}\n")
        stdin.flush()
        assert stdout.readline() == "done\n"

    def close(self) -> None:
        """Go."""
        self._process.communicate()


@contextlib.contextmanager
def attributing(made: node.Node) -> Iterator[attribution.Attribution]:
    """The node's agent sees who writes."""
    its = attribution.started("fanotify", made.root, lambda: made.agent.state, made.tell)
    assert its is not None
    made.opposition.attribution = its
    try:
        yield its
    finally:
        its.close()


def named(records: Sequence[dict[str, Any]]) -> list[tuple[str, int, str]]:
    """Whom records name."""
    return [(its["event"], its["writer"]["pid"], its["writer"]["command"]) for its in records]


async def test_a_drift_and_its_repair_name_who_wrote_and_a_conflict_does_too(shm: pathlib.Path) -> None:
    async with node.running(shm, watch=True) as made:
        await made.run(WEB, SHARED)
        await made.run(DB, INTEGER)
        file = pathlib.Path(made.host.root, str(SHARED.cgroup), "cpuset.cpus")
        with attributing(made), contextlib.closing(Shell()) as shell:
            for text in ("5", "6"):
                shell.write(text, file)
                await node.until(lambda: made.cpus(SHARED) == "0-1,4-7")
                await made.quiet()
            pid = shell.pid
            assert named(made.records("drift.found")) == [("drift.found", pid, "sh")] * 2
            repaired = made.records("drift.repaired")
            assert named(repaired)[0] == ("drift.repaired", pid, "sh")
            assert "while read -r text path" in repaired[0]["writer"]["cmdline"]
            [raised] = made.records("conflict.raised")
            assert (raised["opponent"], raised["evidence"]) == (str(_writer(raised)), "fanotify saw it write")
            assert raised["opponent"].startswith(f"sh (pid {pid}, ")
            [opponent] = made.opposition.document()
            assert (opponent["kind"], opponent["name"]) == ("agent", raised["opponent"])


async def test_our_own_writes_have_no_writer_and_are_not_counted(shm: pathlib.Path) -> None:
    async with node.running(shm, watch=True) as made:
        with attributing(made) as its:
            await made.run(WEB, SHARED)
            await made.run(DB, INTEGER)
            await made.quiet()
            assert made.kernel.attempts
            assert its.writer(SHARED, "cpuset.cpus") is None
            made.put(SHARED, "5")
            await node.until(lambda: made.cpus(SHARED) == "0-1,4-7")
            await made.quiet()
            [found] = made.records("drift.found")
            assert "writer" not in found


async def test_the_metrics_count_what_was_seen(shm: pathlib.Path) -> None:
    async with node.running(shm) as made:
        sources = observing.sources(made, shm)
        assert observing.read(sources)["attribution_active"] == 0
        file = shm / "file"
        with attributing(made) as its, contextlib.closing(Shell()) as shell:
            shell.write("1", file)
            its.writer(SHARED, "cpuset.cpus")
            await node.until(lambda: its.writes > 0)
            read = observing.read(sources)
            assert (read["attribution_active"], read["attribution_unnamed_total"]) == (1, 0)
            assert read["attribution_writes_total"] >= 1
            assert read["attribution_losses_total"] == 0


class Certain(attribution.Attribution):
    """Says of every file that the same process has written it."""

    def writer(self, container: events.Container, file: str) -> opponents.Writer | None:
        """As `Attribution.writer`."""
        return opponents.Writer(pid=7, command="sh", cmdline=f"{container.id} {file}")


@pytest.mark.parametrize(
    ("text", "command"),
    [
        pytest.param("member", "sh", id="somebody"),
        pytest.param("root invalid (a sibling)", None, id="the kernel"),
    ],
)
async def test_who_ended_a_partition_is_named_and_the_kernel_is_nobody(
    tmp_path: pathlib.Path, text: str, command: str | None
) -> None:
    async with node.running(tmp_path, schema.Config(isolation="partition")) as made:
        await made.run(DB, INTEGER)
        await made.quiet()
        made.opposition.attribution = Certain(made.root, "/proc", unasked, made.tell)
        state_ = pathlib.Path(made.host.root, str(INTEGER.cgroup), "cpuset.cpus.partition")
        assert state_.read_text().split() == ["root"]
        state_.write_text(f"{text}\n")
        await made.quiet()
        [found] = made.records("drift.found")
        assert (found["file"], found["observed"]) == ("cpuset.cpus.partition", text)
        assert found.get("writer", {}).get("command") == command
        if command is not None:
            assert found["writer"]["cmdline"] == f"{INTEGER.id} cpuset.cpus.partition"


def test_where_it_is_off_there_is_none(tmp_path: pathlib.Path) -> None:
    assert attribution.started("off", str(tmp_path), unasked, Tell()) is None


def _writer(record: dict[str, Any]) -> opponents.Writer:
    return opponents.Writer(**record["writer"])
