"""What would happen is what does happen when it is done, and the node is as before."""

# covers: PRD-5.7

from __future__ import annotations

from typing import Any

import pytest

from reconciler import errors, intent
from reconciler.config import schema
from reconciler.explain import whatif
from reconciler.policy import lifecycle, state
from tests.explain import nodes
from tests.policy import fleet


def ask(now: state.State, **question: Any) -> dict[str, Any]:
    """The answer, which must leave the node as it was."""
    before = fleet.snapshot(now)
    told = whatif.document(now, whatif.Question(**question))
    assert fleet.snapshot(now) == before
    return told


def test_an_integer_pod_is_told_whole() -> None:
    told = ask(nodes.node(nodes.WEB, nodes.DB, nodes.PICKY), cpus=2)
    choice = told.pop("choice")
    assert (choice["cpus"], [other["cpus"] for other in choice["others"]]) == ("4-5", ["6-7", "0-1"])
    assert told == {
        "admitted": True,
        "class": "integer",
        "why": "Guaranteed pod with a whole CPU limit of 2",
        "warning": None,
        "reason": "Guaranteed pod with a whole CPU limit of 2: 4-5 is exclusive",
        "cpus": "4-5",
        "mems": None,
        "exclusive": True,
        "memory": "left alone",
        "moves": [],
        "pool": {"before": "0-1,4-7", "after": "0-1,6-7"},
        "follow": 2,
    }


def test_a_refusal_is_told_whole() -> None:
    assert ask(nodes.node(nodes.DB), cpus=7) == {
        "admitted": False,
        "class": "integer",
        "why": "Guaranteed pod with a whole CPU limit of 7",
        "warning": None,
        "reason": "7 exclusive CPUs wanted, 6 of 8 are free (2 held exclusively); "
        "request fewer CPUs or remove a pod that holds some",
        "cpus": None,
        "mems": None,
        "exclusive": False,
        "memory": None,
        "choice": None,
        "moves": [],
        "pool": {"before": "0-1,4-7", "after": "0-1,4-7"},
        "follow": 0,
    }


@pytest.mark.parametrize(
    ("question", "kind", "cpus", "mems", "pool"),
    [
        pytest.param({"cores_ids": "6"}, "annotated-shared", "6", "1", "0-7", id="a shared list"),
        pytest.param(
            {"cores_ids": "6", "cpus": 1}, "annotated-exclusive", "6", "1", "0-5,7", id="an exclusive list"
        ),
        pytest.param({"forbid_core_ids": "0,7"}, "shared", "1-6", None, "0-7", id="a shared pod"),
        pytest.param(
            {"cpus": 2, "forbid_core_ids": "2-5"}, "integer", "6-7", None, "0-5", id="with a forbid list"
        ),
        pytest.param({"cpus": 300}, "integer", None, None, "0-7", id="more than shares can say"),
    ],
)
def test_the_pod_is_of_the_class_that_is_asked_for(
    question: dict[str, Any], kind: str, cpus: str | None, mems: str | None, pool: str
) -> None:
    told = ask(nodes.node(), **question)
    assert (told["class"], told["cpus"], told["mems"], told["pool"]["after"]) == (kind, cpus, mems, pool)


@pytest.mark.parametrize("cpus", [0, 1], ids=["shared", "exclusive"])
def test_integer_containers_that_would_move_are_told(cpus: int) -> None:
    told = ask(nodes.node(nodes.DB, nodes.WEB), cores_ids="3", cpus=cpus)
    assert told["admitted"]
    assert told["moves"] == [{"pod": "test/db", "container": "main", "from": "2-3", "to": "4-5"}]
    # Those who move are told as moves, the others follow the pool.
    assert told["follow"] == 1


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        pytest.param(
            {"cores_ids": "3-1"},
            "annotation weka.io/cores-ids at position 0: range 3-1 runs backwards",
            id="a list that runs backwards",
        ),
        pytest.param(
            {"cores_ids": ""},
            "annotation weka.io/cores-ids: the list is empty; name at least one CPU or remove it",
            id="an empty list",
        ),
        pytest.param(
            {"cores_ids": "9"},
            "annotation weka.io/cores-ids=9: CPU 9 is not online on this node (online: 0-7)",
            id="a CPU that is not there",
        ),
        pytest.param(
            {"cores_ids": "4"},
            "annotation weka.io/cores-ids=4 conflicts with CPUs that are held: "
            "CPU 4 by annotated-exclusive test/listed; choose other CPUs or remove that pod",
            id="a CPU that is held",
        ),
        pytest.param(
            {"cpus": 6},
            "6 exclusive CPUs would leave 0 CPUs in the shared pool, below the minimum of 1 "
            "(pool now: 0-3,6-7); request fewer CPUs",
            id="too few for the pool",
        ),
        pytest.param(
            {"forbid_core_ids": "0-7"},
            "the shared pool is 0-3,6-7 and annotation weka.io/forbid-core-ids forbids all of it (0-7); "
            "forbid fewer CPUs",
            id="the whole pool forbidden",
        ),
    ],
)
def test_a_refusal_is_the_sentence_that_a_creation_is_refused_with(
    question: dict[str, Any], reason: str
) -> None:
    now = nodes.node(nodes.LISTED)
    told = ask(now, **question)
    assert (told["admitted"], told["reason"]) == (False, reason)
    with pytest.raises(errors.Refused) as refused:
        lifecycle.admit(now, whatif.Question(**question).event())
    assert str(refused.value) == reason


def test_the_namespace_counts() -> None:
    config = schema.Config(annotated_namespaces=("storage",), unmanaged_namespaces=("kube-system",))
    now = nodes.node(config=config)
    assert ask(now, cores_ids="3", namespace="storage")["admitted"]
    refused = ask(now, cores_ids="3")
    assert refused["reason"].startswith("annotation weka.io/cores-ids: namespace default may not name CPUs")


def test_a_pod_that_is_left_alone_is_given_nothing() -> None:
    config = schema.Config(unmanaged_namespaces=("kube-system",))
    told = ask(nodes.node(config=config), cpus=2, namespace="kube-system")
    assert (told["admitted"], told["class"], told["cpus"], told["pool"]["after"]) == (
        True,
        intent.Kind.UNMANAGED.value,
        None,
        "0-7",
    )
    assert told["reason"] == "left alone by configuration"


def test_a_forbid_list_that_would_be_ignored_is_a_warning() -> None:
    told = ask(nodes.node(), forbid_core_ids="6-")
    assert told["warning"].endswith("'6-' is not a CPU or range; the list is ignored")
