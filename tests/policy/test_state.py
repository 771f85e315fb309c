"""The ledger's unions are those of its claims, whatever was added, replaced and dropped."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler import events, intent
from reconciler.config import schema
from reconciler.cpu.idset import CpuSet
from reconciler.policy import state
from reconciler.sim import machine
from tests.pipeline import samples

KIND = intent.Kind
SHAPE = machine.Shape(sockets=1, cores=4)


def claim(number: int, cpus: CpuSet, kind: intent.Kind) -> state.Claim:
    key = state.ClaimKey(events.PodUid(f"uid-{number}"), "")
    return state.Claim(key=key, kind=kind, cpus=cpus, pod=f"test/{number}", holders=frozenset({"main"}))


_CLAIMS = st.tuples(
    st.integers(0, 3),
    st.integers(0, 255).map(CpuSet.from_bits),
    st.sampled_from([KIND.INTEGER, KIND.ANNOTATED_EXCLUSIVE, KIND.ANNOTATED_SHARED]),
    st.booleans(),
)


@given(st.lists(_CLAIMS, max_size=20))
@settings(deadline=None, print_blob=True)
def test_the_unions_equal_those_that_are_made_anew(
    done: list[tuple[int, CpuSet, intent.Kind, bool]],
) -> None:
    ledger = state.Ledger()
    for number, cpus, kind, drop in done:
        made = claim(number, cpus, kind)
        ledger = ledger.without_claim(made.key) if drop else ledger.with_claim(made)
        assert (ledger.exclusive, ledger.pinned) == state.unions(ledger.claims)
        assert (made.key in ledger.claims) != drop


def test_dropping_what_is_not_there_gives_the_same_ledger() -> None:
    ledger = state.Ledger().with_claim(claim(1, samples.cpus("2-3"), KIND.INTEGER))
    assert ledger.without_claim(state.ClaimKey(events.PodUid("nobody"), "")) is ledger
    assert ledger.without_container(events.ContainerId("nobody")) is ledger
    assert ledger.with_unsatisfied(events.ContainerId("nobody"), "") is ledger


def test_a_container_that_is_dropped_leaves_its_claim() -> None:
    id_ = events.ContainerId("one")
    what = intent.Intent(kind=KIND.INTEGER, count=2, why="test")
    held = claim(1, samples.cpus("2-3"), KIND.INTEGER)
    ledger = state.Ledger().with_claim(held).with_intent(id_, what).with_unsatisfied(id_, "no room")
    left = ledger.without_container(id_)
    assert (dict(left.intents), dict(left.unsatisfied)) == ({}, {})
    assert dict(left.claims) == {held.key: held}


@pytest.mark.parametrize(
    ("config", "poolable", "pinned"),
    [
        pytest.param(schema.Config(), "0-5", False, id="default"),
        pytest.param(schema.Config(isolated_cpus="use"), "0-7", False, id="isolated CPUs are used"),
        pytest.param(schema.Config(integer_memory="pin"), "0-5", True, id="memory is pinned"),
        pytest.param(schema.Config(reserved_cpus="0-1", min_shared_cpus=2), "0-5", False, id="reserved"),
    ],
)
def test_terms_are_topology_and_configuration_as_sets(
    config: schema.Config, poolable: str, pinned: bool
) -> None:
    terms = state.terms(samples.topology(SHAPE, isolated="6-7"), config)
    assert (terms.poolable, terms.pin_integer_memory) == (samples.cpus(poolable), pinned)
    assert (terms.reserved, terms.min_shared) == (config.reserved(), config.min_shared_cpus)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(KIND.INTEGER, "main"), (KIND.ANNOTATED_EXCLUSIVE, ""), (KIND.ANNOTATED_SHARED, "")],
    ids=lambda value: getattr(value, "value", None),
)
def test_an_integer_claim_is_a_containers_and_an_annotated_one_its_pods(kind: intent.Kind, name: str) -> None:
    pod = samples.pod("db")
    assert state.claim_key(pod, samples.container(pod), intent.Intent(kind=kind, why="")) == state.ClaimKey(
        pod.uid, name
    )


@pytest.mark.parametrize("kind", [KIND.SHARED, KIND.UNMANAGED], ids=lambda kind: str(kind.value))
def test_who_is_entitled_to_nothing_runs_on_no_claim(kind: intent.Kind) -> None:
    pod = samples.pod("db")
    ledger = state.Ledger().with_claim(
        state.Claim(
            key=state.ClaimKey(pod.uid, ""),
            kind=KIND.ANNOTATED_EXCLUSIVE,
            cpus=samples.cpus("2"),
            pod="test/db",
            holders=frozenset(),
        )
    )
    what = intent.Intent(kind=kind, why="")
    assert state.claim_of(ledger, pod, samples.container(pod), what) is None
