"""The ledger as a document: nothing is lost, and nothing that cannot be right is taken."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler import events, intent, inventory
from reconciler.policy import checkpoint, lifecycle, state
from tests.pipeline import samples
from tests.policy import fleet
from tests.policy.test_sequences import FRESH, STEPS, Step, step

# covers: PRD-6.7

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "fixtures" / "checkpoints"
ORIGIN = checkpoint.Origin(machine="one", boot="first")
SETTINGS = settings(deadline=None, max_examples=150, print_blob=True)


def written(now: state.State, origin: checkpoint.Origin = ORIGIN) -> bytes:
    return b"".join(checkpoint.encode(now, origin))


def a_node() -> state.State:
    """A ledger with something of everything."""
    its = fleet.Fleet(FRESH)
    for pod, container in (("listed", "main"), ("cache", "main"), ("db", "main"), ("web", "main")):
        its.run(pod)
        its.create(pod, container)
    its.run("near")
    its.miss("near", "main")
    its.end_sandbox("db")
    return its.now


@given(STEPS)
@SETTINGS
def test_any_ledger_is_read_as_it_was_written(steps: list[Step]) -> None:
    its = fleet.Fleet(FRESH)
    for done in steps:
        step(its, done)
    saved = checkpoint.decode(written(its.now), machine="one")
    assert saved.ledger == its.now.ledger
    assert (saved.origin, saved.online) == (ORIGIN, its.now.terms.topology.online)
    containers = its.now.inventory.containers
    assert saved.shares == {
        id_: containers[id_].limits.shares
        for id_ in its.now.ledger.intents
        if containers[id_].limits.shares is not None
    }


def test_the_node_of_these_tests_has_something_of_everything() -> None:
    ledger = a_node().ledger
    assert {claim.kind.value for claim in ledger.claims.values()} == {"annotated-exclusive", "integer"}
    assert ledger.former
    assert ledger.unsatisfied


def test_a_document_comes_in_pieces_of_little_work() -> None:
    now = a_node()
    for number in range(100):
        pod = samples.pod(f"web-{number}")
        now, _, _ = lifecycle.admit(now, samples.creating(pod, samples.container(pod)))
    pieces = list(checkpoint.encode(now, ORIGIN))
    assert len(pieces) >= 5
    assert checkpoint.decode(b"".join(pieces)).ledger == now.ledger


@given(st.binary(max_size=200))
@SETTINGS
def test_random_bytes_are_refused_in_words(text: bytes) -> None:
    with pytest.raises(checkpoint.Unusable) as caught:
        checkpoint.decode(text)
    assert str(caught.value)


@given(st.data())
@SETTINGS
def test_a_document_with_a_few_other_bytes_is_read_or_refused_in_words(data: st.DataObject) -> None:
    text = bytearray(written(a_node()))
    for at in data.draw(st.lists(st.integers(0, len(text) - 1), min_size=1, max_size=4)):
        text[at] = data.draw(st.integers(0, 255))
    _read_or_refused(bytes(text))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.data())
@SETTINGS
def test_a_document_with_another_value_somewhere_is_read_or_refused_in_words(data: st.DataObject) -> None:
    document = json.loads(written(a_node()))
    within: Any = document
    while True:
        key = data.draw(st.sampled_from(sorted(within) if isinstance(within, dict) else range(len(within))))
        if isinstance(within[key], (dict, list)) and within[key] and data.draw(st.booleans()):
            within = within[key]
            continue
        within[key] = data.draw(JSON)
        break
    _read_or_refused(json.dumps(document).encode())


def _read_or_refused(text: bytes) -> None:
    """What is read can be written, too."""
    try:
        saved = checkpoint.decode(text)
    except checkpoint.Unusable as unusable:
        assert str(unusable)  # noqa: PT017  either is fine
        return
    written(state.State(terms=FRESH.terms, ledger=saved.ledger))


@pytest.mark.parametrize(
    ("text", "reason", "why"),
    [
        pytest.param(b"", "damaged", "truncated", id="empty"),
        pytest.param(b'{"version":1,"mach', "damaged", "truncated", id="truncated"),
        pytest.param(b"\0" * 4096, "damaged", "byte 0", id="zeroes"),
        pytest.param(b"[" * 1_000_000, "damaged", "recursion", id="deep"),
        pytest.param(b" " * (checkpoint.LIMIT + 1), "damaged", "more than", id="huge"),
        pytest.param(b"[]", "damaged", "no JSON object", id="no object"),
        pytest.param(b'{"version":true}', "damaged", "$.version", id="no version"),
        pytest.param(b'{"version":0}', "damaged", "$.version", id="version 0"),
        pytest.param(b'{"version":3}', "newer", "3 is newer than 2", id="newer"),
        pytest.param(b'{"version":1}', "damaged", "`machine`", id="key missing"),
    ],
)
def test_what_is_no_document_is_refused_with_the_reason(text: bytes, reason: str, why: str) -> None:
    with pytest.raises(checkpoint.Unusable, match="checkpoint") as caught:
        checkpoint.decode(text)
    assert caught.value.reason == reason
    assert why in str(caught.value)


def _claim(**change: object) -> dict[str, object]:
    return {"uid": "u", "kind": "integer", "cpus": "2-3", "pod": "a/b", "holders": ["main"], **change}


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        pytest.param([_claim(cpus="")], "$.claims[0].cpus: is empty", id="no CPUs"),
        pytest.param([_claim(), _claim(cpus="4")], "$.claims[1]: a/b has another", id="twice"),
        pytest.param([_claim(kind="shared")], "$.claims[0].kind: shared holds no CPUs", id="kind"),
        pytest.param([_claim(kind="odd")], "$.claims[0].kind", id="unknown kind"),
        pytest.param([_claim(cpus="3-2")], "$.claims[0].cpus: range 3-2 runs backwards", id="list"),
        pytest.param([_claim(cpus="0-99999")], "$.claims[0].cpus: CPU 99999 is above 8191", id="CPU"),
        pytest.param([_claim(holders=[])], "$.claims[0].holders", id="nobody holds it"),
        pytest.param([_claim(more=1)], "more", id="unknown key"),
    ],
)
def test_a_claim_that_cannot_be_right_is_named_by_its_position(
    claims: list[dict[str, object]], why: str
) -> None:
    document = {**json.loads(written(FRESH)), "claims": claims}
    with pytest.raises(checkpoint.Unusable) as caught:
        checkpoint.decode(json.dumps(document).encode())
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("made_on", "read_on", "foreign"),
    [("one", "one", False), ("one", "two", True), ("", "two", False), ("one", "", False)],
)
def test_a_document_of_another_machine_is_foreign(made_on: str, read_on: str, foreign: bool) -> None:
    text = written(a_node(), checkpoint.Origin(machine=made_on, boot="first"))
    if not foreign:
        assert checkpoint.decode(text, machine=read_on).ledger == a_node().ledger
        return
    with pytest.raises(checkpoint.Unusable, match="was made on machine one") as caught:
        checkpoint.decode(text, machine=read_on)
    assert caught.value.reason == "foreign"


@pytest.mark.parametrize("version", [1, 2])
def test_a_document_of_every_version_stays_readable(version: int) -> None:
    saved = checkpoint.decode((FOLDER / f"version-{version}.json").read_bytes())
    claims = {
        f"{claim.pod}/{key.name}": f"{claim.kind.value} {claim.cpus} not {claim.forbidden}"
        for key, claim in saved.ledger.claims.items()
    }
    assert claims == {
        "test/listed/": "annotated-exclusive 2-3 not ",
        "test/pinned/": "annotated-shared 1 not ",
        "test/cache/main": "integer 4,6 not 1-2",
    }
    intents = {
        id_: (what.kind.value, what.count)
        for id_, what in saved.ledger.intents.items()
        if not id_.startswith("sandbox-")
    }
    assert intents == {
        "listed-1": ("annotated-exclusive", 0),
        "pinned-1": ("annotated-shared", 0),
        "cache-1": ("integer", 2),
        "greedy-1": ("integer", 5),
        "web-1": ("shared", 0),
    }
    assert dict(saved.ledger.unsatisfied) == {"greedy-1": "5 exclusive CPUs wanted, 1 of 8 are free"}
    assert dict(saved.ledger.former) == {state.FormerKey("test/db-0", "main"): samples.cpus("5,7")}
    assert saved.shares == {
        events.ContainerId("listed-1"): 2048,
        events.ContainerId("cache-1"): 2048,
        events.ContainerId("greedy-1"): 5120,
        events.ContainerId("web-1"): 2,
    }
    assert (saved.origin.boot, str(saved.online)) == ("5c1d1a6f-7f9e-4c2e-9a41-9d1f6a1f0b7e", "0-7")


def test_version_2_says_who_is_who_and_version_1_does_not() -> None:
    old, new = (checkpoint.decode((FOLDER / f"version-{version}.json").read_bytes()) for version in (1, 2))
    assert (dict(old.inventory.pods), dict(old.inventory.containers), old.nodes) == ({}, {}, {})
    names = {
        id_: f"{new.inventory.pods[its.sandbox].namespace}/{new.inventory.pods[its.sandbox].name}/{its.name}"
        for id_, its in new.inventory.containers.items()
    }
    assert names == {
        "listed-1": "test/listed/main",
        "pinned-1": "test/pinned/main",
        "cache-1": "test/cache/main",
        "greedy-1": "test/greedy/main",
        "web-1": "test/web/main",
    }
    cache = new.inventory.pods[events.SandboxId("sandbox-cache")]
    assert (cache.uid, cache.qos, dict(cache.annotations)) == (
        "uid-cache",
        events.Qos.GUARANTEED,
        {"weka.io/forbid-core-ids": "1-2"},
    )
    limits = new.inventory.containers[events.ContainerId("cache-1")].limits
    assert limits == events.CpuLimits(shares=2048, quota=200_000, period=100_000)
    assert {node: str(its) for node, its in new.nodes.items()} == {0: "0-3", 1: "4-7"}


def test_what_is_read_of_version_1_is_written_as_version_2() -> None:
    saved = checkpoint.decode((FOLDER / "version-1.json").read_bytes())
    again = checkpoint.decode(written(state.State(terms=FRESH.terms, ledger=saved.ledger), saved.origin))
    assert (again.ledger, again.origin) == (saved.ledger, saved.origin)
    assert json.loads(written(state.State(terms=FRESH.terms, ledger=saved.ledger)))["version"] == 2


def test_names_annotations_and_limits_are_read_as_they_were_written() -> None:
    its = fleet.Fleet(FRESH)
    for pod, container in (("picky", "main"), ("cache", "main"), ("db", "side")):
        its.run(pod)
        its.create(pod, container)
    saved = checkpoint.decode(written(its.now))
    bare = {id_: dataclasses.replace(pod, cgroup=None) for id_, pod in its.now.inventory.pods.items()}
    assert dict(saved.inventory.pods) == bare
    claiming = {id_ for id_, what in its.now.ledger.intents.items() if what.kind in intent.CLAIMING}
    containers = {
        id_: dataclasses.replace(known, cgroup=known.cgroup if id_ in claiming else None)
        for id_, known in its.now.inventory.containers.items()
        if known.name != inventory.PAUSE
    }
    assert len(containers) == 3
    assert 0 < len(claiming & containers.keys()) < 3
    assert dict(saved.inventory.containers) == containers


def test_a_container_that_wants_more_cpus_than_there_can_be_is_remembered() -> None:
    pod = samples.pod("vast", qos=samples.GUARANTEED)
    vast = samples.container(pod, limits=samples.whole(1 << 40), phase=events.Phase.RUNNING)
    now = lifecycle.absorb(FRESH, events.PodStarted(pod=pod))
    now = lifecycle.absorb(now, events.ContainerStarting(pod=pod, container=vast))
    assert now.ledger.intents[vast.id].count == 1 << 40
    assert checkpoint.decode(written(now)).ledger == now.ledger


@pytest.mark.parametrize("node", ["", "x", "-1", "99999", "\u0663"])
def test_what_is_no_numa_node_is_refused(node: str) -> None:
    broken = {**json.loads(written(FRESH)), "nodes": {node: "0-3"}}
    with pytest.raises(checkpoint.Unusable, match=r"\$\.nodes"):
        checkpoint.decode(json.dumps(broken).encode())


def test_an_older_document_is_brought_up_to_date_one_version_at_a_time() -> None:
    current = json.loads(written(a_node()))
    steps: list[int] = []

    def renamed(raw: dict[str, object]) -> dict[str, object]:
        steps.append(1)
        return {("machine" if key == "host" else key): value for key, value in raw.items()}

    def completed(raw: dict[str, object]) -> dict[str, object]:
        steps.append(2)
        return {**raw, "former": []}

    old = {("host" if key == "machine" else key): its for key, its in current.items() if key != "former"}
    text = json.dumps({**old, "version": 1}).encode()
    saved = checkpoint.decode(text, machine="one", upgrades={1: renamed, 2: completed})
    assert steps == [1, 2]
    assert dict(saved.ledger.claims) == dict(a_node().ledger.claims)
    assert saved.origin == ORIGIN


def test_a_container_whose_pod_is_not_in_it_is_nobody() -> None:
    text = json.loads((FOLDER / "version-2.json").read_text())
    del text["pods"]["sandbox-cache"]
    saved = checkpoint.decode(json.dumps(text).encode())
    assert "cache-1" not in saved.inventory.containers
    assert "cache-1" in saved.ledger.intents
    assert events.SandboxId("sandbox-cache") not in saved.inventory.members


@given(STEPS)
@SETTINGS
def test_who_is_remembered_is_who_a_list_of_them_would_tell(steps: list[Step]) -> None:
    its = fleet.Fleet(FRESH)
    for done in steps:
        step(its, done)
    known = checkpoint.decode(written(its.now)).inventory
    listed = events.Synchronized(pods=tuple(known.pods.values()), containers=tuple(known.containers.values()))
    assert inventory.reduce(inventory.Inventory(), listed) == known
