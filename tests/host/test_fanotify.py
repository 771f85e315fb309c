"""Who wrote is read off the kernel's bytes, and the kernel tells it of every mount."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler import errors
from reconciler.host import fanotify

# covers: PRD-7.10

US = 4242
"""A pid that stands for ours."""
FIXED = bytes.fromhex("18000000 03 00 1800 0200000000000000 04000000 5a650000")
"""As Linux 6.18 wrote it on x86_64 for a shell with the pid 25946."""
_FIELDS = st.tuples(
    st.integers(0, 2**64 - 1), st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1)
)


def packed(mask: int = fanotify.MODIFY, fd: int = fanotify.NO_FD, pid: int = 1, more: bytes = b"") -> bytes:
    """An event, with `more` information after it as later kernels may have it."""
    size = fanotify.HEADER.size
    return fanotify.HEADER.pack(size + len(more), fanotify.VERSION, 0, size, mask, fd, pid) + more


@pytest.mark.skipif(sys.byteorder == "big", reason="the bytes are a little-endian machine's")
def test_the_bytes_of_a_kernel_are_understood() -> None:
    assert list(fanotify.parse(FIXED)) == [fanotify.Event(mask=fanotify.MODIFY, fd=4, pid=25946)]


@given(st.lists(st.tuples(_FIELDS, st.binary(max_size=64))))
def test_events_come_out_as_they_went_in(told: list[tuple[tuple[int, int, int], bytes]]) -> None:
    data = b"".join(packed(*fields, more) for fields, more in told)
    assert list(fanotify.parse(data)) == [fanotify.Event(*fields) for fields, _ in told]


@given(st.binary(max_size=400))
def test_any_bytes_are_events_or_refused(data: bytes) -> None:
    with contextlib.suppress(errors.Malformed):
        found = list(fanotify.parse(data))
        assert len(found) <= len(data) // fanotify.HEADER.size


@pytest.mark.parametrize(
    ("data", "why"),
    [
        pytest.param(packed()[:-1], "position 0: it ends in its header", id="half a header"),
        pytest.param(packed() + b"\0", "position 24: it ends in its header", id="a byte too many"),
        pytest.param(b"\0" * 24, "its version is 0, not 3", id="zeros"),
        pytest.param(struct.pack("=IBBHQii", 0, 3, 0, 24, 2, -1, 1), "its length is 0", id="no length"),
        pytest.param(struct.pack("=IBBHQii", 23, 3, 0, 24, 2, -1, 1), "its length is 23", id="too short"),
        pytest.param(struct.pack("=IBBHQii", 25, 3, 0, 24, 2, -1, 1), "its length is 25", id="too long"),
        pytest.param(
            struct.pack("=IBBHQii", 24, 4, 0, 24, 2, -1, 1), "its version is 4", id="another version"
        ),
    ],
)
def test_what_no_kernel_writes_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(errors.Malformed, match=why):
        list(fanotify.parse(data))


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Stands for the kernel's queue: what is written to the second end is read from the first."""
    ends = os.pipe2(os.O_NONBLOCK)
    yield ends
    for end in ends:
        os.close(end)


def opened(path: pathlib.Path) -> int:
    """A descriptor as the kernel gives one with an event."""
    return os.open(path, os.O_RDONLY)


def is_open(fd: int) -> bool:
    """Whether a descriptor is one."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_a_write_has_the_files_inode_and_its_descriptor_is_closed(
    pipe: tuple[int, int], tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "cpuset.cpus"
    file.touch()
    fds = [opened(file), opened(file), opened(tmp_path)]
    os.write(pipe[1], packed(fd=fds[0], pid=7) + packed(fd=fds[1], pid=US) + packed(fd=fds[2], pid=0))
    inodes = (file.stat().st_ino, tmp_path.stat().st_ino)
    assert list(fanotify.read(pipe[0], US)) == [fanotify.Write(inodes[0], 7), fanotify.Write(inodes[1], 0)]
    assert not any(map(is_open, fds))


def test_a_full_queue_is_a_loss_among_the_writes(pipe: tuple[int, int], tmp_path: pathlib.Path) -> None:
    lost = packed(mask=fanotify.OVERFLOW, pid=0)
    os.write(pipe[1], packed(fd=opened(tmp_path)) + lost + packed(fd=opened(tmp_path)))
    write = fanotify.Write(tmp_path.stat().st_ino, 1)
    assert list(fanotify.read(pipe[0], US)) == [write, None, write]


def test_a_reader_that_stops_halfway_leaves_no_descriptor_open(
    pipe: tuple[int, int], tmp_path: pathlib.Path
) -> None:
    fds = [opened(tmp_path) for _ in range(3)]
    os.write(pipe[1], b"".join(packed(fd=fd) for fd in fds))
    reading = fanotify.read(pipe[0], US)
    next(reading)
    assert all(map(is_open, fds))
    reading.close()  # type: ignore[attr-defined]
    assert not any(map(is_open, fds))


@pytest.fixture
def shm() -> Iterator[pathlib.Path]:
    """A folder of a file system to which few write. Skips where this process may not watch it."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        try:
            fanotify.Watcher(folder).close()
        except errors.HostFileError as error:
            pytest.skip(str(error))
        yield pathlib.Path(folder)


def by_another(script: str, *arguments: str) -> int:
    """Run a shell that does this; the pid that it had."""
    shell = subprocess.Popen(["sh", "-e", "-c", script, "sh", *arguments])
    assert shell.wait() == 0
    return shell.pid


def writes(watcher: fanotify.Watcher, *files: pathlib.Path) -> list[tuple[str, int]]:
    """What was written to these files since the last time, by name and pid."""
    names = {file.stat().st_ino: file.name for file in files}
    told = list(watcher.read(os.getpid()))
    assert None not in told
    return [(names[write.inode], write.pid) for write in told if write is not None and write.inode in names]


def test_the_kernel_tells_of_others_with_their_pids_and_not_of_us(shm: pathlib.Path) -> None:
    file = shm / "cpuset.cpus"
    file.touch()
    with contextlib.closing(fanotify.Watcher(str(shm))) as watcher:
        file.write_text("0")
        pid = by_another('echo 1 > "$1"', str(file))
        assert writes(watcher, file) == [("cpuset.cpus", pid)]
        assert writes(watcher, file) == []


def test_a_write_through_another_mount_is_told_too(shm: pathlib.Path) -> None:
    file, elsewhere = shm / "cpuset.cpus", shm / "elsewhere"
    file.touch()
    elsewhere.mkdir()
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("no mount namespace can be made here")
    with contextlib.closing(fanotify.Watcher(str(shm))) as watcher:
        mounted = 'mount --bind "$1" "$1/elsewhere"; echo 1 > "$1/elsewhere/cpuset.cpus"'
        subprocess.run(["unshare", "-m", "sh", "-e", "-c", mounted, "sh", str(shm)], check=True)
        assert [name for name, _ in writes(watcher, file)] == ["cpuset.cpus"]


def test_more_than_a_buffer_is_read_at_once_in_order_without_a_descriptor_left(shm: pathlib.Path) -> None:
    files = [shm / f"{number:03}" for number in range(300)]
    for file in files:
        file.touch()
    with contextlib.closing(fanotify.Watcher(str(shm))) as watcher:
        before = len(os.listdir("/proc/self/fd"))
        by_another('for file in "$1"/*; do echo 1 > "$file"; done', str(shm))
        assert [name for name, _ in writes(watcher, *files)] == [file.name for file in files]
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_that_is_gone_is_left_out_and_the_rest_is_told(shm: pathlib.Path) -> None:
    gone, stays = shm / "gone", shm / "stays"
    with contextlib.closing(fanotify.Watcher(str(shm))) as watcher:
        by_another('echo 1 > "$1"; rm "$1"; echo 1 > "$2"', str(gone), str(stays))
        assert [name for name, _ in writes(watcher, stays)] == ["stays"]


def test_a_folder_that_is_not_there_is_an_error_with_its_name(shm: pathlib.Path) -> None:
    with pytest.raises(errors.HostFileError, match=r"/none: No such file or directory"):
        fanotify.Watcher(str(shm / "none"))


def test_without_the_capability_the_error_names_it() -> None:
    if shutil.which("setpriv") is None or os.geteuid() != 0:
        drop = []
    else:
        drop = ["setpriv", "--bounding-set", "-sys_admin"]
    program = (
        "from reconciler import errors; from reconciler.host import fanotify\n"
        "try: fanotify.Watcher('/dev/shm')\n"
        "except errors.HostFileError as error: print(error)"
    )
    done = subprocess.run(
        [*drop, sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=os.getcwd()
    )
    assert "Operation not permitted; it needs CAP_SYS_ADMIN" in done.stdout
