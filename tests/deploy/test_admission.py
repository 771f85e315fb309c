"""The API server refuses what the agent would refuse or ignore, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reconciler import errors, intent
from reconciler.config import schema
from reconciler.cpu.idset import CpuSet
from tests.deploy import admission
from tests.pipeline import cpu_lists

LISTS = cpu_lists.lists()
OWN = f"{intent.CORES}.main"
NAMING = [intent.CORES, OWN]
POLICY = admission.policy()


def pod(its: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    metadata = {"name": "db"} if its is None else {"name": "db", "annotations": its}
    return {"metadata": metadata, "spec": {"containers": [{"name": "main"}], **spec}}


@pytest.mark.parametrize("key", [*NAMING, intent.FORBID])
@pytest.mark.parametrize("its", LISTS.good, ids=lambda its: repr(its.text))
def test_a_good_list_passes(its: cpu_lists.Good, key: str) -> None:
    assert POLICY.refusals(pod({key: its.text})) == []


@pytest.mark.parametrize("key", [*NAMING, intent.FORBID])
@pytest.mark.parametrize("text", LISTS.bad, ids=repr)
def test_a_bad_list_is_refused_by_name(text: str, key: str) -> None:
    (refusal,) = POLICY.refusals(pod({key: text}))
    assert refusal.startswith(f"annotation {key}: not a list of CPUs")


@pytest.mark.parametrize("text", LISTS.empty, ids=repr)
def test_an_empty_list_may_forbid_and_not_claim(text: str) -> None:
    assert POLICY.refusals(pod({intent.FORBID: text})) == []
    for key in NAMING:
        assert len(POLICY.refusals(pod({key: text}))) == 1


_texts = st.lists(
    st.one_of(
        st.integers(0, 10_000).map(str),
        st.sampled_from(
            ["-", ",", " ", "\t", "\n", "0", "00", "1-2", "8191", "8192", "a", "\r", "\u00a0", "٣"]
        ),
        st.text(max_size=2),
    ),
    max_size=12,
).map("".join)


@given(_texts)
@example("0-8191," * 3 + "5")
def test_any_list_is_judged_as_the_agent_judges_it(text: str) -> None:
    try:
        names_some = bool(CpuSet.parse(text, what="list"))
    except errors.Malformed:
        assert POLICY.refusals(pod({intent.CORES: text}))
        assert POLICY.refusals(pod({intent.FORBID: text}))
    else:
        assert (POLICY.refusals(pod({intent.CORES: text})) == []) == names_some
        assert POLICY.refusals(pod({intent.FORBID: text})) == []


@pytest.mark.parametrize("its", [None, {}, {"weka.io/other": ","}, {"weka.io/cores-idsx": ","}], ids=str)
def test_pods_without_such_an_annotation_are_not_looked_at(its: dict[str, str] | None) -> None:
    nobody = admission.policy("[]")
    assert nobody.refusals(pod(its)) == []


NAMESPACES = [
    pytest.param(("*",), "anything", True, id="all"),
    pytest.param((), "anything", False, id="none"),
    pytest.param(("storage", "db-*"), "storage", True, id="by-name"),
    pytest.param(("storage", "db-*"), "db-1", True, id="by-its-beginning"),
    pytest.param(("storage", "db-*"), "db", False, id="too-short"),
    pytest.param(("storage",), "storage-2", False, id="longer"),
    pytest.param(("storage",), "my-storage", False, id="with-more-before"),
    pytest.param(("*-db",), "my-db", True, id="by-its-end"),
    pytest.param(("a*c*e",), "abcde", True, id="two-stars"),
]


@pytest.mark.parametrize(("names", "namespace", "may"), NAMESPACES)
def test_the_namespace_decides_as_it_does_for_the_agent(
    names: tuple[str, ...], namespace: str, may: bool
) -> None:
    judging = admission.policy(f"[{', '.join(map(repr, names))}]")
    assert schema.Config(annotated_namespaces=names).may_annotate(namespace) is may
    for key in NAMING:
        refused = judging.refusals(pod({key: "1"}), namespace=namespace)
        assert refused == (
            [] if may else [f"annotation {key}: pods of the namespace {namespace} may not name CPUs"]
        )


def test_the_namespaces_are_where_the_guide_has_them_patched() -> None:
    assert POLICY.spec["variables"][0] == {"name": "namespaces", "expression": "['*']"}


def test_forbidding_cpus_to_oneself_is_everybodys_right() -> None:
    assert admission.policy("[]").refusals(pod({intent.FORBID: "1"})) == []


def test_a_list_for_a_container_that_the_pod_does_not_have_is_refused() -> None:
    (refusal,) = POLICY.refusals(pod({f"{intent.CORES}.mian": "1"}))
    assert refusal == f"annotation {intent.CORES}.mian: the pod has no container of that name"


def test_a_list_may_be_an_init_containers() -> None:
    both = pod({OWN: "1", f"{intent.CORES}.first": "2"}, initContainers=[{"name": "first"}])
    assert POLICY.refusals(both) == []


@pytest.mark.parametrize("key", [*NAMING, intent.FORBID])
def test_a_pod_that_had_its_bad_list_before_can_be_updated_and_get_no_other(key: str) -> None:
    before = pod({key: "a"})
    assert POLICY.refusals(pod({key: "a", "more": "1"}), before) == []
    assert POLICY.refusals(pod(), before) == []
    assert POLICY.refusals(pod({key: "1"}), before) == []
    assert len(POLICY.refusals(pod({key: "b"}), before)) == 1
    assert len(POLICY.refusals(before, pod())) == 1
    assert len(POLICY.refusals(before, pod({"more": "1"}))) == 1


def test_each_fault_of_a_pod_is_told() -> None:
    refused = admission.policy("[]").refusals(pod({f"{intent.CORES}.none": "a"}))
    assert len(refused) == 3
