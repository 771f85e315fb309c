"""Passes over a folder that stands for a machine: the gate, drift that nobody told of, and dry passes."""

from __future__ import annotations

import itertools
import pathlib

from reconciler import report
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import walk
from tests.project.agent import tree

# covers: PRD-4.3, PRD-7.6, PRD-10.5


def walker(node: tree.Machine, tell: tree.Listener, *, dry: bool = False) -> walk.Walker:
    ticks = itertools.count(1)
    return walk.Walker(node.kernel, report.Book(), tell, dry=dry, clock=lambda: float(next(ticks)))


EVERYTHING = walk.Request(scope=None)


def test_the_gate_opens_when_everyone_else_has_left(tmp_path: pathlib.Path) -> None:
    with tree.machine_in(tmp_path) as node:
        its = walker(node, tree.Listener())
        node.create("web")
        its.run(node.now, EVERYTHING)
        db = node.create("db", cpus=2)
        assert node.cpus("web") == CpuSet(range(8))
        done = its.run(node.now, walk.Request(scope=frozenset(), gates=frozenset((db,))))
        assert done.verdicts == {db: ""}
        assert (node.cpus("db"), node.cpus("web")) == (CpuSet((2, 3)), CpuSet((0, 1, 4, 5, 6, 7)))


def test_the_gate_stays_shut_and_names_who_is_still_there(tmp_path: pathlib.Path) -> None:
    with tree.machine_in(tmp_path) as node:
        its = walker(node, tree.Listener())
        node.create("web")
        its.run(node.now, EVERYTHING)
        db = node.create("db", cpus=2)
        node.kernel.stuck.add("kubepods.slice/web.scope")
        done = its.run(node.now, walk.Request(scope=frozenset(), gates=frozenset((db,))))
        assert done.verdicts == {db: "exclusive CPUs 2-3 are still used by default/web container main"}
        node.kernel.stuck.clear()
        done = its.run(node.now, walk.Request(scope=frozenset(), gates=frozenset((db,))))
        assert done.verdicts == {db: ""}


def test_a_shared_container_does_not_start_on_exclusive_cpus(tmp_path: pathlib.Path) -> None:
    with tree.machine_in(tmp_path) as node:
        its = walker(node, tree.Listener())
        web = node.create("web")
        node.create("db", cpus=2)
        done = its.run(node.now, walk.Request(scope=frozenset(), gates=frozenset((web,))))
        assert done.verdicts == {web: ""}
        assert node.cpus("web") == CpuSet((0, 1, 4, 5, 6, 7))


def test_a_change_that_nobody_told_of_is_found_by_a_pass_over_everything(tmp_path: pathlib.Path) -> None:
    with tree.machine_in(tmp_path) as node:
        its = walker(node, tree.Listener())
        node.create("web")
        node.create("db", cpus=2)
        its.run(node.now, EVERYTHING)
        node.path("web").write_text("0-7\n")
        done = its.run(node.now, EVERYTHING)
        assert [entry.event for entry in done.entries] == ["drift.found", "drift.repaired"]
        assert done.entries[0].fields["found_by"] == "pass"
        assert node.cpus("web") == CpuSet((0, 1, 4, 5, 6, 7))


def test_a_dry_pass_tells_its_plan_once_and_writes_nothing(tmp_path: pathlib.Path) -> None:
    with tree.machine_in(tmp_path) as node:
        tell = tree.Listener()
        its = walker(node, tell, dry=True)
        web = node.create("web")
        db = node.create("db", cpus=2)
        files = {path: path.read_bytes() for path in pathlib.Path(node.root).rglob("*") if path.is_file()}
        for _ in range(2):
            done = its.run(node.now, walk.Request(scope=None, gates=frozenset((db,))))
            assert (done.verdicts, done.results) == ({db: ""}, ())
        assert {path: path.read_bytes() for path in files} == files
        assert [[(step.container, step.text) for step in steps] for steps in tell.plans] == [
            [(web, "0-1,4-7")]
        ]


def test_a_pass_in_which_all_is_in_order_writes_nothing(tmp_path: pathlib.Path) -> None:
    with tree.machine_in(tmp_path) as node:
        its = walker(node, tree.Listener())
        node.create("web")
        node.create("db", cpus=2)
        assert len(its.run(node.now, EVERYTHING).results) == 1
        assert its.run(node.now, EVERYTHING).results == ()
