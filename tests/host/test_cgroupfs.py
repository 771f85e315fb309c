"""Cpuset files are read and written as they are now, of the group that is there now."""

# covers: PRD-10.4

from __future__ import annotations

import errno
import os
import shutil

import pytest

from reconciler import errors, observed
from reconciler.cpu.idset import CpuSet, NodeSet
from reconciler.host import cgroupfs
from tests.host import groups

POD = "kubepods.slice/pod1.slice"
SCOPE = f"{POD}/c1.scope"


def test_a_look_gives_what_the_files_say(ground: str) -> None:
    groups.make(ground, SCOPE, cpus="0-1,4", mems="1", effective="4")
    with groups.opened(ground) as tree:
        assert tree.look(SCOPE) == observed.Present(
            outer=observed.Cpuset(
                cpus=CpuSet((0, 1, 4)),
                mems=NodeSet((1,)),
                effective_cpus=CpuSet((4,)),
                effective_mems=NodeSet((1,)),
            )
        )


def test_a_list_that_is_written_between_two_files_is_seen_whole(
    ground: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of it would be a drift that nobody caused: the old list with what is effective for the new."""
    groups.make(ground, SCOPE, cpus="2-3", effective="2-3")
    read, seen = cgroupfs._read, list[str]()

    def interrupted(directory: int, file: str) -> str:
        text = read(directory, file)
        if not seen:
            groups.make(ground, SCOPE, cpus="0-7", effective="0-7")
        seen.append(file)
        return text

    monkeypatch.setattr(cgroupfs, "_read", interrupted)
    with groups.opened(ground) as tree:
        look = tree.look(SCOPE)
    assert isinstance(look, observed.Present)
    assert look.outer.cpus == look.outer.effective_cpus == CpuSet(range(8))
    assert len(seen) == 2 * 4


def test_a_group_that_asks_for_nothing_reaches_what_it_inherits(ground: str) -> None:
    groups.make(ground, SCOPE, effective="2-5")
    with groups.opened(ground) as tree:
        look = tree.look(SCOPE)
    assert isinstance(look, observed.Present)
    assert look.outer.cpus == CpuSet()
    assert look.outer.reach == CpuSet(range(2, 6))


def test_a_look_gives_the_quotas_that_were_asked_for_and_no_other(ground: str) -> None:
    full = groups.make(ground, SCOPE, cpus="0-1")
    groups.put(full, "cpu.max", "200000 100000\n")
    groups.put(full, "../cpu.max", "max 50000\n")
    with groups.opened(ground) as tree:
        assert quotas(tree.look(SCOPE)) == {}
        assert quotas(tree.look(SCOPE, ["cpu.max"])) == {"cpu.max": "200000 100000"}
        both = {"cpu.max": "200000 100000", "../cpu.max": "max 50000"}
        assert quotas(tree.look(SCOPE, ["cpu.max", "../cpu.max"])) == both
        tree.write(SCOPE, "cpu.max", "300000 100000")
        tree.write(SCOPE, "../cpu.max", "max 70000")
        assert quotas(tree.look(SCOPE, list(both))) == {"cpu.max": "300000 100000", "../cpu.max": "max 70000"}


def quotas(look: observed.Look) -> dict[str, str]:
    """The quotas that were read."""
    assert isinstance(look, observed.Present)
    return {its.file: str(its.says) for its in look.quotas}


def test_quotas_of_a_group_that_is_gone_are_not_asked_for(ground: str) -> None:
    with groups.opened(ground) as tree:
        assert tree.look(SCOPE, ["cpu.max"]) == observed.Absent()


def test_no_quota_is_opened_that_nobody_asks_for(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    groups.put(groups.make(root, SCOPE), "cpu.max", "max 100000\n")
    opened: list[str] = []
    real = os.open

    def noting(path: str, *args: int, **kwargs: int) -> int:
        opened.append(os.path.basename(path))
        return real(path, *args, **kwargs)

    with groups.opened(root) as tree:
        tree.look(SCOPE)
        monkeypatch.setattr(os, "open", noting)
        tree.look(SCOPE)
        assert sorted(opened) == [
            "cpuset.cpus",
            "cpuset.cpus.effective",
            "cpuset.mems",
            "cpuset.mems.effective",
        ]
        opened.clear()
        tree.look(SCOPE, ["cpu.max"])
        assert opened.count("cpu.max") == 1


def test_every_look_reads_the_files_anew(ground: str) -> None:
    groups.make(ground, SCOPE, cpus="0-1")
    with groups.opened(ground) as tree:
        assert groups.cpus_of(tree.look(SCOPE)) == "0-1"
        groups.make(ground, SCOPE, cpus="2-3")
        assert groups.cpus_of(tree.look(SCOPE)) == "2-3"


def test_a_list_longer_than_one_read_is_read_whole(ground: str) -> None:
    every_other = CpuSet(range(0, CpuSet.LIMIT, 2))
    groups.make(ground, SCOPE, cpus=str(every_other))
    with groups.opened(ground) as tree:
        assert groups.cpus_of(tree.look(SCOPE)) == str(every_other)


@pytest.mark.parametrize("length", [4095, 4096, 4097, 8192])
def test_a_list_is_read_whole_at_any_length(ground: str, length: int) -> None:
    groups.make(ground, SCOPE, cpus="7".rjust(length - 1))
    assert os.stat(os.path.join(ground, SCOPE, "cpuset.cpus")).st_size == length
    with groups.opened(ground) as tree:
        assert groups.cpus_of(tree.look(SCOPE)) == "7"


@pytest.mark.parametrize(
    "path",
    ["kubepods.slice/other", f"{SCOPE}/cpuset.cpus", f"{SCOPE}/cpuset.cpus/x"],
    ids=["none", "a-file", "below"],
)
def test_what_is_no_group_is_absent(ground: str, path: str) -> None:
    groups.make(ground, SCOPE)
    with groups.opened(ground) as tree:
        assert tree.look(path) == observed.Absent()


@pytest.mark.parametrize("file", ["cpuset.cpus", "cpuset.mems", "container/cpuset.cpus"])
def test_a_write_puts_the_text_into_the_file_and_no_other(ground: str, file: str) -> None:
    groups.make(ground, SCOPE)
    groups.make(ground, f"{SCOPE}/container")
    names = [f"{folder}{name}" for folder in ("", "container/") for name in ("cpuset.cpus", "cpuset.mems")]
    with groups.opened(ground) as tree:
        tree.write(SCOPE, file, "0-1")
    assert {name: groups.text(ground, SCOPE, name).strip() for name in names} == {
        name: "0-1" if name == file else "" for name in names
    }


def test_clearing_writes_an_end_of_line_because_the_kernel_is_not_told_of_nothing(ground: str) -> None:
    full = groups.make(ground, SCOPE)
    os.truncate(os.path.join(full, "cpuset.cpus"), 0)
    with groups.opened(ground) as tree:
        tree.write(SCOPE, "cpuset.cpus", "")
    assert groups.text(full, "cpuset.cpus") == "\n"


def test_writing_to_a_group_that_is_not_there_is_told_apart_from_failing(ground: str) -> None:
    with (
        groups.opened(ground) as tree,
        pytest.raises(errors.Gone, match=f"cgroup {SCOPE} does not exist any more"),
    ):
        tree.write(SCOPE, "cpuset.cpus", "0")


def test_writing_to_a_group_that_was_removed_says_that_it_is_gone(ground: str) -> None:
    full = groups.make(ground, SCOPE)
    with groups.opened(ground) as tree:
        tree.look(SCOPE)
        shutil.rmtree(full)
        with pytest.raises(errors.Gone):
            tree.write(SCOPE, "cpuset.cpus", "0")
        assert tree.look(SCOPE) == observed.Absent()


def test_a_group_made_anew_is_not_taken_for_the_old_one(root: str) -> None:
    full = groups.make(root, SCOPE, cpus="0-1")
    with groups.opened(root) as tree:
        assert groups.cpus_of(tree.look(SCOPE)) == "0-1"
        shutil.rmtree(full)
        groups.make(root, SCOPE, cpus="2-3")
        assert groups.cpus_of(tree.look(SCOPE)) == "2-3"


def test_a_write_goes_to_the_group_made_anew(root: str) -> None:
    full = groups.make(root, SCOPE, cpus="0-1")
    with groups.opened(root) as tree:
        tree.look(SCOPE)
        shutil.rmtree(full)
        groups.make(root, SCOPE)
        tree.write(SCOPE, "cpuset.cpus", "4-5")
        assert groups.cpus_of(tree.look(SCOPE)) == "4-5"
    assert groups.text(full, "cpuset.cpus").strip() == "4-5"


def test_a_group_is_found_again_though_its_parent_was_made_anew(root: str) -> None:
    groups.make(root, SCOPE, cpus="0-1")
    with groups.opened(root) as tree:
        tree.look(SCOPE)
        shutil.rmtree(os.path.join(root, POD))
        assert tree.look(SCOPE) == observed.Absent()
        groups.make(root, SCOPE, cpus="6")
        assert groups.cpus_of(tree.look(SCOPE)) == "6"


def test_a_group_that_went_and_came_back_without_its_files_is_an_error(root: str) -> None:
    full = groups.make(root, SCOPE)
    with groups.opened(root) as tree:
        tree.look(SCOPE)
        shutil.rmtree(full)
        os.mkdir(full)
        assert groups.error_of(tree.look(SCOPE)).errno == errno.ENOENT


def test_an_inner_group_is_looked_at_from_when_it_is_there(ground: str) -> None:
    groups.make(ground, SCOPE, cpus="0-3")
    with groups.opened(ground) as tree:
        assert groups.inner_of(tree.look(SCOPE)) is None
        groups.make(ground, f"{SCOPE}/container", cpus="1")
        assert groups.inner_of(tree.look(SCOPE)) == "1"
        shutil.rmtree(os.path.join(ground, SCOPE, "container"))
        assert groups.inner_of(tree.look(SCOPE)) is None
        groups.make(ground, f"{SCOPE}/container", cpus="2")
        assert groups.inner_of(tree.look(SCOPE)) == "2"


def test_an_inner_group_is_looked_at_once_its_files_are_there(ground: str) -> None:
    groups.make(ground, SCOPE)
    os.mkdir(os.path.join(ground, SCOPE, "container"))
    with groups.opened(ground) as tree:
        assert groups.inner_of(tree.look(SCOPE)) is None
        groups.make(ground, f"{SCOPE}/container", cpus="1")
        assert groups.inner_of(tree.look(SCOPE)) == "1"


def test_only_crun_s_name_is_an_inner_group(ground: str) -> None:
    groups.make(ground, SCOPE)
    groups.make(ground, f"{SCOPE}/init", cpus="1")
    with groups.opened(ground) as tree:
        assert groups.inner_of(tree.look(SCOPE)) is None


def test_an_inner_group_that_another_child_took_the_place_of_is_not_looked_at(root: str) -> None:
    groups.make(root, SCOPE, cpus="0-3")
    groups.make(root, f"{SCOPE}/container", cpus="1")
    with groups.opened(root) as tree:
        assert groups.inner_of(tree.look(SCOPE)) == "1"
        os.rename(os.path.join(root, SCOPE, "container"), os.path.join(root, SCOPE, "init"))
        assert groups.inner_of(tree.look(SCOPE)) is None
        os.rename(os.path.join(root, SCOPE, "init"), os.path.join(root, SCOPE, "container"))
        assert groups.inner_of(tree.look(SCOPE)) == "1"


def test_one_descriptor_is_kept_for_each_group_and_none_after_the_end(root: str) -> None:
    names = [f"pod{number}/c.scope" for number in range(50)]
    for name in names:
        groups.make(root, name)
        groups.make(root, f"{name}/container")
    before = groups.descriptors()
    with groups.opened(root) as tree:
        for _ in range(3):
            for name in names:
                tree.look(name)
                tree.write(name, "cpuset.cpus", "0")
        assert groups.descriptors() == before + 50
        tree.forget(names[0])
        tree.forget("never/looked/at")
        assert groups.descriptors() == before + 49
    assert groups.descriptors() == before


def test_groups_that_go_leave_no_descriptor(root: str) -> None:
    before = groups.descriptors()
    with groups.opened(root) as tree:
        for number in range(300):
            full = groups.make(root, SCOPE, cpus=str(number % 8))
            assert groups.cpus_of(tree.look(SCOPE)) == str(number % 8)
            shutil.rmtree(full)
            if number % 3 == 0:
                assert tree.look(SCOPE) == observed.Absent()
                assert groups.descriptors() == before
        tree.look(SCOPE)
        assert groups.descriptors() == before


def test_descriptors_are_not_handed_to_programs_that_are_started(root: str) -> None:
    full = groups.make(root, SCOPE)
    with groups.opened(root) as tree:
        tree.look(SCOPE)
        kept = [int(name) for name in os.listdir("/proc/self/fd") if leads_to(name) == full]
        assert [os.get_inheritable(descriptor) for descriptor in kept] == [False]


def leads_to(descriptor: str) -> str:
    """The path of an open file; "" if it has been closed since it was listed."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except FileNotFoundError:
        return ""
