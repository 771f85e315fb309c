"""Where a limit of inotify is reached it is told which; what is watched goes on being watched."""

from __future__ import annotations

import errno
import os
import pathlib
import resource
import shutil
import subprocess
import sys

import pytest

from reconciler import errors
from reconciler.host import inotify
from tests.host import groups, watched

SCOPE = "kubepods.slice/pod1.slice/c1.scope"
OTHER = "kubepods.slice/pod1.slice/c2.scope"


@pytest.fixture
def root(tmp_path: pathlib.Path) -> str:
    groups.make(str(tmp_path), SCOPE)
    groups.make(str(tmp_path), OTHER)
    return str(tmp_path)


def test_events_that_were_lost_are_told_and_the_watch_goes_on(root: str) -> None:
    most = int(pathlib.Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if most > 100_000:
        pytest.skip(f"the queue of this kernel takes {most} events")
    with watched.watching(root, SCOPE) as watcher:
        overfill(root, most)
        changes = watcher.read()
        assert changes == inotify.Changes(paths=frozenset({SCOPE}), vanished=frozenset(), overflowed=True)
        watched.put(root, SCOPE)
        assert watcher.read() == watched.written(SCOPE)


def overfill(root: str, most: int) -> None:
    """More events than the queue takes: equal ones in a row count once, so two files take turns."""
    files = [os.open(os.path.join(root, SCOPE, name), os.O_WRONLY) for name in ("cpuset.cpus", "cpuset.mems")]
    for _ in range(most // 2 + 10):
        for file in files:
            os.pwrite(file, b"0", 0)
    for file in files:
        os.close(file)


PROGRAM = """
import sys
from reconciler import errors
from reconciler.host import inotify

root, count, *paths = sys.argv[1:]
watchers = []
try:
    for _ in range(int(count)):
        watchers.append(inotify.Watcher(root))
    for path in paths:
        print(watchers[0].watch(path))
except errors.HostFileError as error:
    print(error.errno, error)
print(watchers[0].watch(paths[0]), watchers[0].read())
"""


def limited(limit: str, root: str, watchers: int, *paths: str) -> list[str]:
    """What the program prints where the kernel grants one of `limit`; skips where that cannot be had.

    A user namespace has limits of its own (Documentation/admin-guide/sysctl/user.rst): the host's stay.
    """
    enter = ("unshare", "--user", "--map-root-user", "sh", "-c")
    set_limit = f"echo 1 > /proc/sys/user/{limit}"
    if shutil.which("unshare") is None or subprocess.call([*enter, set_limit], stderr=subprocess.DEVNULL):
        pytest.skip("no user namespace can be made here")
    program = (sys.executable, "-c", PROGRAM, root, str(watchers), *paths)
    done = subprocess.run(
        [*enter, f'{set_limit}; exec "$@"', "sh", *program],
        check=True,
        capture_output=True,
        text=True,
        cwd=pathlib.Path(__file__).resolve().parents[2],
    )
    return done.stdout.splitlines()


def test_no_watch_left_is_an_error_that_says_which_limit_to_raise(root: str) -> None:
    first, error, after = limited("max_inotify_watches", root, 1, SCOPE, OTHER)
    assert first == "True"
    assert error.startswith("28 watch ")
    assert f"{OTHER}: " in error
    assert "raise fs.inotify.max_user_watches" in error
    assert after == f"True {watched.NOTHING}"


def test_no_instance_left_is_an_error_that_says_which_limit_to_raise(root: str) -> None:
    error, after = limited("max_inotify_instances", root, 2, SCOPE)
    assert error.startswith("24 open inotify: ")
    assert "raise fs.inotify.max_user_instances" in error
    assert after == f"True {watched.NOTHING}"


def test_no_descriptor_left_is_an_error_that_says_so(root: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(errors.HostFileError, match="the limit of open files") as caught:
            inotify.Watcher(root)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (caught.value.path, caught.value.errno) == ("inotify", errno.EMFILE)
