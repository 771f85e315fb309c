"""The stand-in for the kernel makes of each write what the real one does."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import posixpath
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from reconciler import errors, observed
from reconciler.cpu import topology as topologies
from reconciler.sim import kernel, machine

if TYPE_CHECKING:
    from pyfakefs.fake_filesystem import FakeFilesystem

_FIXTURES = pathlib.Path(__file__).resolve().parents[2] / "fixtures" / "kernel"
CASES: list[dict[str, Any]] = [
    case
    for table in ("cpuset.yaml", "partition.yaml")
    for case in yaml.load((_FIXTURES / table).read_text(), Loader=yaml.CSafeLoader)
]
FILES = {
    "cpus": "cpuset.cpus",
    "effective": "cpuset.cpus.effective",
    "mems": "cpuset.mems",
    "effective_mems": "cpuset.mems.effective",
}
PARTITION = {"exclusive": "cpuset.cpus.exclusive", "partition": "cpuset.cpus.partition"}
# There are no processes on this ground, so what a case says of `allowed` is not looked at. It stands for the
# newest kernel.
NEWEST = [case for case in CASES if "before" not in case]
by_case = pytest.mark.parametrize("case", NEWEST, ids=[case["name"].replace(" ", "-") for case in NEWEST])


class Ground:
    """The emulated node's machine in a folder; groups of a case are below one of its own."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.root = os.path.join(host, "sys/fs/cgroup")
        # Only what the stand-in reads again: the lists of CPUs.
        machine.write(host, {topologies.ONLINE: "0-7\n"})
        self.kernel = kernel.SimulatedCgroupfs(self.root, topologies.parse(machine.vm()))
        self.kernel.make("case")

    def do(self, step: dict[str, Any]) -> None:
        """One step of a case."""
        ((kind, value),) = step.items()
        match kind:
            case "mkdir":
                self.kernel.make(f"case/{value}")
            case "rmdir":
                self.kernel.remove(f"case/{value}")
            case "write":
                assert self.write(**value) == value.get("errno", 0)
            case "online":
                machine.write(self.host, {topologies.ONLINE: f"{value}\n"})
            case "populate":
                pass
            case _:
                raise AssertionError(f"unknown step {kind}")

    def write(self, path: str, file: str, text: str, **_: int) -> int:
        """Write; the errno."""
        try:
            self.kernel.write(within(path), file, text)
        except errors.Gone:
            return errno.ENOENT
        except errors.HostFileError as error:
            return error.errno
        return 0

    def look(self, path: str) -> dict[str, str]:
        """What the stand-in says of a group, in the table's words."""
        seen = self.kernel.look(within(path))
        assert isinstance(seen, observed.Present)
        outer = seen.outer
        return {
            "cpus": str(outer.cpus),
            "effective": str(outer.effective_cpus),
            "mems": str(outer.mems),
            "effective_mems": str(outer.effective_mems),
        }

    def quota(self, path: str) -> str:
        """What the stand-in says of a group's `cpu.max`."""
        seen = self.kernel.look(f"case/{path}", ["cpu.max"])
        assert isinstance(seen, observed.Present)
        return str(seen.says("cpu.max"))

    def partition(self, path: str) -> dict[str, str]:
        """What the stand-in says of a group's partition files."""
        seen = self.kernel.partition(within(path))
        assert seen is not None
        return {"exclusive": str(seen.exclusive), "partition": seen.state}

    def read(self, path: str, files: Mapping[str, str] = FILES) -> dict[str, str]:
        """What an onlooker sees in the files."""
        return {key: self.text(f"{within(path)}/{file}") for key, file in files.items()}

    def text(self, path: str) -> str:
        """A file below the mount, without the end of line."""
        with open(os.path.join(self.root, path), encoding="ascii") as file:
            return file.readline().strip()

    def put(self, path: str, text: str) -> None:
        """Write a file as a shell does."""
        with open(os.path.join(self.root, path), "w", encoding="utf-8") as file:
            file.write(text)


def within(path: str) -> str:
    """A path of the table, below the mount."""
    return posixpath.normpath(f"case/{path}")


@contextlib.contextmanager
def ground(host: str) -> Iterator[Ground]:
    """A ground that leaves nothing open."""
    made = Ground(host)
    with contextlib.closing(made.kernel):
        yield made


def play(case: dict[str, Any], host: str) -> None:
    """Play a case and compare what is expected."""
    with ground(host) as made:
        for step in case["steps"]:
            made.do(step)
        for path, expected in case["expect"].items():
            wanted = {key: text for key, text in expected.items() if key in FILES}
            assert wanted.items() <= made.look(path).items()
            said = {key: text for key, text in expected.items() if key in PARTITION}
            assert said.items() <= made.partition(path).items()
            if "quota" in expected:
                assert made.quota(path) == expected["quota"] == made.text(f"case/{path}/cpu.max")
            if not any("online" in step for step in case["steps"]):
                assert wanted.items() <= made.read(path).items()
                assert said.items() <= made.read(path, PARTITION).items()


@by_case
def test_a_case_of_the_kernel_on_a_directory(case: dict[str, Any], tmp_path: pathlib.Path) -> None:
    play(case, str(tmp_path))


@by_case
def test_a_case_of_the_kernel_on_a_fake_file_system(case: dict[str, Any], fs: FakeFilesystem) -> None:
    play(case, "/host")


@pytest.fixture
def made(tmp_path: pathlib.Path) -> Iterator[Ground]:
    """A ground on a real directory."""
    with ground(str(tmp_path)) as one:
        yield one


def test_a_quota_is_seen_and_written_from_a_group_below(made: Ground) -> None:
    made.kernel.make("case/a/b", quota="50000 100000")
    made.kernel.write("case/a/b", "../cpu.max", "70000")
    seen = made.kernel.look("case/a/b", ["cpu.max", "../cpu.max"])
    assert isinstance(seen, observed.Present)
    assert [str(its.says) for its in seen.quotas] == ["50000 100000", "70000 100000"]
    assert (made.text("case/a/cpu.max"), made.text("case/a/b/cpu.max")) == ("70000 100000", "50000 100000")


def test_garbage_in_a_quota_costs_nothing_else(made: Ground) -> None:
    made.kernel.make("case/a", cpus="1")
    made.put("case/a/cpu.max", "zebra\n")
    seen = made.kernel.look("case/a", ["cpu.max"])
    assert isinstance(seen, observed.Present)
    error = seen.says("cpu.max")
    assert isinstance(error, errors.HostFileError)
    assert (error.path, error.errno) == ("case/a/cpu.max", errno.EINVAL)
    assert str(seen.outer.cpus) == "1"
    made.kernel.write("case/a", "cpu.max", "max")
    assert made.quota("a") == "max 100000"


def test_a_list_written_behind_its_back_counts_at_the_next_look(made: Ground) -> None:
    made.kernel.make("case/a/b", cpus="0-1")
    made.put("case/a/cpuset.cpus", "1-2\n")
    assert made.look("a/b") == {"cpus": "0-1", "effective": "1", "mems": "", "effective_mems": "0-1"}


@pytest.mark.parametrize(
    "text",
    ["zebra\n", "3-1\n", "0-9999\n", "\u0663\n", "\x00"],
    ids=["word", "back", "far", "script", "zero"],
)
def test_garbage_that_a_kernel_would_not_have_taken_is_unreadable(made: Ground, text: str) -> None:
    made.kernel.make("case/a/b")
    made.put("case/a/b/cpuset.cpus", text)
    seen = made.kernel.look("case/a/b")
    assert isinstance(seen, observed.Unreadable)
    assert seen.error.path == "case/a/b/cpuset.cpus"
    assert seen.error.errno == errno.EINVAL
    assert "zebra" not in text or "'zebra' is not a CPU or range" in str(seen.error)


def test_garbage_in_one_group_leaves_its_neighbour_readable(made: Ground) -> None:
    made.kernel.make("case/a")
    made.kernel.make("case/b", cpus="3")
    made.put("case/a/cpuset.cpus", "zebra\n")
    assert made.look("b")["effective"] == "3"


def test_a_write_over_garbage_mends_it(made: Ground) -> None:
    made.kernel.make("case/a")
    made.put("case/a/cpuset.cpus", "zebra and more than that\n")
    made.kernel.write("case/a", "cpuset.cpus", "2")
    assert made.look("a")["cpus"] == "2"
    assert made.text("case/a/cpuset.cpus") == "2"


def test_the_files_for_onlookers_follow_down_the_tree(made: Ground) -> None:
    made.kernel.make("case/a/b/c", cpus="0-3")
    made.kernel.write("case/a", "cpuset.cpus", "2-5")
    assert made.read("a/b") == {"cpus": "", "effective": "2-5", "mems": "", "effective_mems": "0-1"}
    assert made.read("a/b/c")["effective"] == "2-3"


def test_crun_s_inner_group_is_seen_and_written(made: Ground) -> None:
    made.kernel.make("case/a", cpus="0-3")
    made.kernel.make("case/a/container")
    made.kernel.write("case/a", "container/cpuset.cpus", "1")
    seen = made.kernel.look("case/a")
    assert isinstance(seen, observed.Present)
    assert seen.inner is not None
    assert (str(seen.outer.effective_cpus), str(seen.inner.effective_cpus)) == ("0-3", "1")


def test_a_group_comes_with_control_files_and_so_do_those_above_it(made: Ground) -> None:
    made.kernel.create("case/a/b", cpus="1", mems="1")
    for path in ("case/a", "case/a/b"):
        names = set(os.listdir(os.path.join(made.root, path)))
        assert names >= {*FILES.values(), "cgroup.procs", "cgroup.controllers", "cgroup.subtree_control"}
    assert made.read("a/b") == {"cpus": "1", "effective": "1", "mems": "1", "effective_mems": "1"}


def test_making_a_group_again_keeps_what_it_is_not_told(made: Ground) -> None:
    made.kernel.create("case/a", cpus="1", mems="0")
    made.kernel.create("case/a", cpus="2", mems="")
    assert (made.look("a")["cpus"], made.look("a")["mems"]) == ("2", "0")


def test_a_removed_group_is_absent_and_a_new_one_has_nothing_of_it(made: Ground) -> None:
    made.kernel.create("case/a", cpus="1", mems="")
    made.look("a")
    made.kernel.remove("case/a")
    made.kernel.remove("case/a")
    assert isinstance(made.kernel.look("case/a"), observed.Absent)
    with pytest.raises(errors.Gone, match="cgroup case/a does not exist any more"):
        made.kernel.write("case/a", "cpuset.cpus", "0")
    made.kernel.create("case/a", cpus="", mems="")
    assert made.look("a")["cpus"] == ""


def test_a_file_that_no_group_has_is_an_error(made: Ground) -> None:
    made.kernel.make("case/a")
    with pytest.raises(errors.HostFileError, match=r"case/a/cpuset\.zebra") as caught:
        made.kernel.write("case/a", "cpuset.zebra", "1")
    assert caught.value.errno == errno.ENOENT


def test_a_node_without_memory_may_be_asked_for_and_is_not_effective(tmp_path: pathlib.Path) -> None:
    files = machine.vm() | {topologies.NODES_WITH_MEMORY: "0\n"}
    tree = kernel.SimulatedCgroupfs(str(tmp_path), topologies.parse(files))
    with contextlib.closing(tree):
        tree.make("a", mems="1")
        seen = tree.look("a")
    assert isinstance(seen, observed.Present)
    assert (str(seen.outer.mems), str(seen.outer.effective_mems)) == ("1", "0")


def test_a_hole_among_the_cpus_is_not_a_cpu(tmp_path: pathlib.Path) -> None:
    tree = kernel.SimulatedCgroupfs(str(tmp_path), topologies.parse({topologies.ONLINE: "0-1,4-5\n"}))
    with contextlib.closing(tree):
        tree.make("a")
        with pytest.raises(errors.HostFileError) as caught:
            tree.write("a", "cpuset.cpus", "1-4")
    assert caught.value.errno == errno.EINVAL


def test_a_thousand_groups_follow_the_one_above_them(made: Ground) -> None:
    paths = [f"case/pod/c{index}" for index in range(1000)]
    for path in paths:
        made.kernel.make(path)
    made.kernel.write("case/pod", "cpuset.cpus", "2-7")
    for path in paths:
        assert made.look(path.removeprefix("case/"))["effective"] == "2-7"
        assert made.text(f"{path}/cpuset.cpus.effective") == "2-7"


@pytest.mark.parametrize("path", ["", "/etc", "..", "case/../..", "case/a\0b"], ids=ascii)
def test_a_path_that_leads_out_of_the_tree_is_refused(made: Ground, path: str) -> None:
    for ask in (made.kernel.look, made.kernel.make, made.kernel.remove, made.kernel.refresh):
        with pytest.raises(errors.Malformed, match="cgroup path"):
            ask(path)
    with pytest.raises(errors.Malformed, match="cgroup path"):
        made.kernel.write(path, "cpuset.cpus", "0")
    assert os.listdir(made.root) == ["case"]


def test_a_text_that_is_too_long_for_the_kernel_is_refused_and_the_old_list_stays(made: Ground) -> None:
    made.kernel.make("case/a", cpus="1")
    assert made.write("a", "cpuset.cpus", "0," * 25_000) == errno.E2BIG
    assert made.look("a")["cpus"] == "1"


def test_a_shorter_list_covers_a_longer_one_in_one_write_so_that_nobody_sees_an_empty_file(
    made: Ground,
) -> None:
    made.kernel.make("case/a", cpus="0-6")
    with open(os.path.join(made.root, "case/a/cpuset.cpus"), encoding="ascii") as file:
        made.kernel.write("case/a", "cpuset.cpus", "7")
        assert file.read() == "7  \n"
    assert made.look("a")["cpus"] == "7"


def test_no_descriptor_stays_open(tmp_path: pathlib.Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with ground(str(tmp_path)) as made:
        for index in range(20):
            made.kernel.make(f"case/a{index}", cpus="1")
            made.look(f"a{index}")
            made.kernel.remove(f"case/a{index}")
    assert len(os.listdir("/proc/self/fd")) == before
