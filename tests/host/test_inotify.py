"""A watch tells of every write to the cpuset files of a group, and of its end."""

from __future__ import annotations

import contextlib
import os
import pathlib
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from reconciler import errors
from reconciler.host import inotify
from tests.host import groups

SCOPE = "kubepods.slice/pod1.slice/c1.scope"
OTHER = "kubepods.slice/pod1.slice/c2.scope"
NOTHING = inotify.Changes(paths=frozenset(), vanished=frozenset(), overflowed=False)


@pytest.fixture
def root(tmp_path: pathlib.Path) -> str:
    groups.make(str(tmp_path), SCOPE)
    groups.make(str(tmp_path), OTHER)
    return str(tmp_path)


@contextlib.contextmanager
def watching(root: str, *paths: str) -> Iterator[inotify.Watcher]:
    with contextlib.closing(inotify.Watcher(root)) as watcher:
        assert all(watcher.watch(path) for path in paths)
        yield watcher


def written(*paths: str) -> inotify.Changes:
    return inotify.Changes(paths=frozenset(paths), vanished=frozenset(), overflowed=False)


def vanished(*paths: str) -> inotify.Changes:
    return inotify.Changes(paths=frozenset(), vanished=frozenset(paths), overflowed=False)


def put(root: str, path: str, file: str = "cpuset.cpus", text: str = "0-1\n") -> None:
    """One open and one write, as the agent does."""
    descriptor = os.open(os.path.join(root, path, file), os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def shell(root: str, command: str) -> None:
    """Run by another process, in the root."""
    subprocess.run(["sh", "-c", command], cwd=root, check=True)


@pytest.mark.parametrize("file", ["cpuset.cpus", "cpuset.mems"])
def test_a_write_by_another_process_is_told(root: str, file: str) -> None:
    with watching(root, SCOPE, OTHER) as watcher:
        shell(root, f"echo 1 > {SCOPE}/{file}")
        assert watcher.read() == written(SCOPE)
        assert watcher.read() == NOTHING


def test_our_own_write_is_told_too(root: str) -> None:
    with watching(root, SCOPE, OTHER) as watcher:
        put(root, OTHER)
        assert watcher.read() == written(OTHER)


def test_a_write_of_what_is_there_already_is_told(root: str) -> None:
    with watching(root, SCOPE) as watcher:
        put(root, SCOPE)
        put(root, SCOPE)
        assert watcher.read() == written(SCOPE)
        put(root, SCOPE)
        assert watcher.read() == written(SCOPE)


def test_many_writes_are_told_once_for_each_group(root: str) -> None:
    with watching(root, SCOPE, OTHER) as watcher:
        shell(
            root,
            f"for n in 1 2 3 4 5 6 7; do echo $n > {SCOPE}/cpuset.cpus; echo 0 > {OTHER}/cpuset.mems; done",
        )
        assert watcher.read() == written(SCOPE, OTHER)
        assert watcher.read() == NOTHING


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("echo 1 > {}/cpuset.cpus.effective", id="effective"),
        pytest.param("echo 100 > {}/cpu.weight", id="a-new-file"),
        pytest.param("cat {}/cpuset.cpus > /dev/null", id="reading"),
        pytest.param("exec 3<>{}/cpuset.cpus", id="opening"),
        pytest.param("touch {}/cpuset.cpus", id="touching"),
        pytest.param("mkdir {}/cpuset.cpus.d", id="a-child-of-another-name"),
        pytest.param("echo 1 > {}/../cpuset.cpus", id="the-parent"),
    ],
)
def test_what_changes_no_wish_is_not_told(root: str, command: str) -> None:
    with watching(root, SCOPE) as watcher:
        shell(root, command.format(SCOPE))
        assert watcher.read() == NOTHING


def test_reading_returns_at_once_when_nothing_has_happened(root: str) -> None:
    with watching(root, SCOPE) as watcher:
        assert watcher.read() == NOTHING


def test_the_descriptor_is_readable_from_an_event_until_it_is_read(root: str) -> None:
    with watching(root, SCOPE) as watcher:
        assert readable(watcher.fd) == []
        put(root, SCOPE)
        assert readable(watcher.fd) == [watcher.fd]
        watcher.read()
        assert readable(watcher.fd) == []


def readable(descriptor: int) -> list[int]:
    return select.select([descriptor], [], [], 0)[0]


@pytest.mark.parametrize("path", ["kubepods.slice/none", f"{SCOPE}/cpuset.cpus"], ids=["none", "a-file"])
def test_what_is_no_group_is_not_watched(root: str, path: str) -> None:
    with watching(root) as watcher:
        assert not watcher.watch(path)
        put(root, SCOPE)
        assert watcher.read() == NOTHING


@pytest.mark.parametrize("path", ["", "/etc", "..", f"{SCOPE}/../../../..", "a\0b"], ids=ascii)
def test_a_path_that_leads_out_of_the_tree_is_refused(root: str, path: str) -> None:
    with watching(root) as watcher, pytest.raises(errors.Malformed, match="cgroup path"):
        watcher.watch(path)


def test_a_group_that_goes_is_told_once(root: str) -> None:
    with watching(root, SCOPE, OTHER) as watcher:
        put(root, SCOPE)
        shutil.rmtree(os.path.join(root, SCOPE))
        assert watcher.read() == vanished(SCOPE)
        assert watcher.read() == NOTHING
        put(root, OTHER)
        assert watcher.read() == written(OTHER)


def test_a_group_that_went_with_its_inner_one_is_told_once(root: str) -> None:
    groups.make(root, f"{SCOPE}/container")
    with watching(root, SCOPE) as watcher:
        shutil.rmtree(os.path.join(root, SCOPE))
        assert watcher.read() == vanished(SCOPE)
        assert watcher.read() == NOTHING


def test_a_group_made_anew_is_watched_when_asked_for_again(root: str) -> None:
    with watching(root, SCOPE) as watcher:
        shutil.rmtree(os.path.join(root, SCOPE))
        assert watcher.read() == vanished(SCOPE)
        groups.make(root, SCOPE)
        assert watcher.watch(SCOPE)
        put(root, SCOPE)
        assert watcher.read() == written(SCOPE)


def test_the_end_of_the_old_group_is_not_told_of_the_new_one(root: str) -> None:
    with watching(root, SCOPE) as watcher:
        put(root, SCOPE)
        shutil.rmtree(os.path.join(root, SCOPE))
        groups.make(root, SCOPE)
        assert watcher.watch(SCOPE)
        assert watcher.read() == NOTHING
        put(root, SCOPE)
        assert watcher.read() == written(SCOPE)
        shutil.rmtree(os.path.join(root, SCOPE))
        assert watcher.read() == vanished(SCOPE)


def test_watching_twice_tells_once_and_takes_no_second_watch(root: str) -> None:
    with watching(root, SCOPE, SCOPE) as watcher:
        assert watches(watcher) == 1
        put(root, SCOPE)
        assert watcher.read() == written(SCOPE)
        watcher.unwatch(SCOPE)
        assert watches(watcher) == 0


def watches(watcher: inotify.Watcher) -> int:
    """How many the kernel keeps (proc(5), fdinfo)."""
    with open(f"/proc/self/fdinfo/{watcher.fd}", encoding="ascii") as file:
        return sum(line.startswith("inotify ") for line in file)


def test_what_is_no_longer_watched_is_not_told(root: str) -> None:
    groups.make(root, f"{SCOPE}/container")
    with watching(root, SCOPE, OTHER) as watcher:
        put(root, SCOPE)
        watcher.unwatch(SCOPE)
        put(root, SCOPE)
        put(root, f"{SCOPE}/container")
        assert watcher.read() == NOTHING
        assert watches(watcher) == 1
        watcher.unwatch(SCOPE)
        watcher.unwatch("never/watched")
        assert watches(watcher) == 1


def test_writes_to_the_inner_group_are_told_as_the_container_s(root: str) -> None:
    groups.make(root, f"{SCOPE}/container")
    with watching(root, SCOPE) as watcher:
        shell(root, f"echo 1 > {SCOPE}/container/cpuset.cpus")
        assert watcher.read() == written(SCOPE)


def test_an_inner_group_made_later_is_told_and_watched(root: str) -> None:
    with watching(root, SCOPE) as watcher:
        groups.make(root, f"{SCOPE}/container")
        assert watcher.read() == written(SCOPE)
        watcher.read()
        put(root, f"{SCOPE}/container")
        assert watcher.read() == written(SCOPE)
        assert watches(watcher) == 2


def test_an_inner_group_that_goes_is_not_the_end_of_the_container_s(root: str) -> None:
    groups.make(root, f"{SCOPE}/container")
    with watching(root, SCOPE) as watcher:
        shutil.rmtree(os.path.join(root, SCOPE, "container"))
        assert watcher.read() == NOTHING
        groups.make(root, f"{SCOPE}/container")
        assert watcher.read() == written(SCOPE)
        watcher.read()
        put(root, f"{SCOPE}/container")
        assert watcher.read() == written(SCOPE)
        assert watches(watcher) == 2


def test_a_thousand_groups_are_watched_and_told_apart(tmp_path: pathlib.Path) -> None:
    names = [f"pod{number}.slice" for number in range(1000)]
    for name in names:
        (tmp_path / name).mkdir()
    for name in names[::7]:
        groups.make(str(tmp_path), name)
    with watching(str(tmp_path), *names) as watcher:
        for name in names[::7]:
            put(str(tmp_path), name)
        assert watcher.read() == written(*names[::7])
        for name in names[1::7]:
            (tmp_path / name).rmdir()
        assert watcher.read() == vanished(*names[1::7])
        assert watches(watcher) == 1000 - len(names[1::7])


def test_groups_that_come_and_go_leave_no_watch(root: str) -> None:
    with watching(root, OTHER) as watcher:
        for _ in range(100):
            os.makedirs(os.path.join(root, "short.scope/container"))
            assert watcher.watch("short.scope")
            os.removedirs(os.path.join(root, "short.scope/container"))
            assert watcher.read() == vanished("short.scope")
            assert watches(watcher) == 1
        put(root, OTHER)
        assert watcher.read() == written(OTHER)


def test_events_that_were_lost_are_told_and_the_watch_goes_on(root: str) -> None:
    most = int(pathlib.Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if most > 100_000:
        pytest.skip(f"the queue of this kernel takes {most} events")
    with watching(root, SCOPE) as watcher:
        overfill(root, most)
        changes = watcher.read()
        assert changes == inotify.Changes(paths=frozenset({SCOPE}), vanished=frozenset(), overflowed=True)
        put(root, SCOPE)
        assert watcher.read() == written(SCOPE)


def overfill(root: str, most: int) -> None:
    """More events than the queue takes: equal ones in a row count once, so two files take turns."""
    files = [os.open(os.path.join(root, SCOPE, name), os.O_WRONLY) for name in ("cpuset.cpus", "cpuset.mems")]
    for _ in range(most // 2 + 10):
        for file in files:
            os.pwrite(file, b"0", 0)
    for file in files:
        os.close(file)


def test_nothing_is_left_after_the_end(root: str) -> None:
    before = groups.descriptors()
    with watching(root, SCOPE) as watcher:
        assert groups.descriptors() == before + 1
        assert not os.get_inheritable(watcher.fd)
    assert groups.descriptors() == before


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
    assert after == f"True {NOTHING}"


def test_no_instance_left_is_an_error_that_says_which_limit_to_raise(root: str) -> None:
    error, after = limited("max_inotify_instances", root, 2, SCOPE)
    assert error.startswith("24 open inotify: ")
    assert "raise fs.inotify.max_user_instances" in error
    assert after == f"True {NOTHING}"
