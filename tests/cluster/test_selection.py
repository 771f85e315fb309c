"""Which scenarios a node can play."""

from __future__ import annotations

import pathlib

import pytest

from hack.e2e import selection
from reconciler.cpu.idset import CpuSet
from tests.scenarios import model


def cpus(text: str) -> CpuSet:
    return CpuSet.parse(text, what="test")


def why_not(name: str, online: str, *, free: str = "", milli: int = 64000, refuses: bool = True) -> str:
    node = selection.Node(online=cpus(online), free=cpus(free or online), milli=milli, refuses=refuses)
    return selection.why_not(model.load(model.FOLDER / f"{name}.yaml"), node)


@pytest.mark.parametrize("path", model.files(), ids=lambda path: path.stem)
def test_what_a_small_node_can_play_a_large_one_can(path: pathlib.Path) -> None:
    scenario = model.load(path)
    nodes = [
        selection.Node(online=cpus(f"0-{last}"), free=cpus(f"0-{last}"), milli=64000, refuses=True)
        for last in (3, 9, 15, 63)
    ]
    answers = [not selection.why_not(scenario, node) for node in nodes]
    assert answers == sorted(answers)


def test_lists_need_their_cpus_to_be_free() -> None:
    assert why_not("annotated-exclusive-pod", "0-15") == ""
    reason = why_not("annotated-exclusive-pod", "0-15", free="0-5,8-15")
    assert reason == "it names CPUs 4,6-7, and free are 0-5,8-15"


def test_one_cpu_more_than_all_pods_take_is_needed() -> None:
    assert why_not("pool-grows-back", "0-4") == ""
    assert why_not("pool-grows-back", "0-3") == "it needs 5 free CPUs, and there are 4"


def test_the_scheduler_has_to_have_room() -> None:
    assert why_not("pool-grows-back", "0-15", milli=4000) == ""
    reason = why_not("pool-grows-back", "0-15", milli=3999)
    assert reason == "its pods request 4000m of CPU at a time, and 3999m are left to be requested"


def test_without_nri_no_refusal_is_asked_for() -> None:
    assert why_not("annotated-pods-conflict", "0-15") == ""
    assert why_not("annotated-pods-conflict", "0-15", refuses=False) == "without NRI nothing is refused"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("reserved-cpus", "configuration"),
        ("no-room-to-move", "(room)"),
        ("the-pool-keeps-its-minimum", "configuration"),
        ("forbidden-cpus", "nothing of the shared pool is left"),
        ("a-list-with-cpus-that-are-not-online", "not online"),
        ("a-crash-loop-keeps-its-cpus", "kubelet starts a container"),
        ("siblings-of-a-core-stay-together", "a machine like two-socket"),
    ],
)
def test_what_hangs_on_the_machine_or_on_others_is_not_played_and_says_why(name: str, why: str) -> None:
    assert why in why_not(name, "0-15")


def test_on_the_scenarios_own_machine_more_can_be_played() -> None:
    assert why_not("a-list-with-cpus-that-are-not-online", "0-7") == ""
