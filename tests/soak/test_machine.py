"""Whatever happens on a node in whatever order: after every single write all that must hold does."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from reconciler import errors, events, observed
from reconciler.cpu.idset import NodeSet
from reconciler.policy import desired, state
from reconciler.sim import machine as machines
from tests.pipeline import samples
from tests.pipeline.samples import cpus
from tests.soak import invariants, kernel, machine, runtime, witness

# covers: PRD-1.12, PRD-2.12, PRD-2.14, PRD-4.1, PRD-4.2, PRD-4.4, PRD-4.5, PRD-4.7, PRD-4.8
# covers: PRD-5.4, PRD-5.5, PRD-5.6, PRD-6.5, PRD-6.8

SEQUENCES = 2000
REACHED = {
    "CPUs lent within a pod": 3,
    "an empty pool": 5,
    "chains of moves": 3,
    "claims without a CPU": 50,
    "creation taken back": 50,
    "ends that are not over": 1000,
    "former CPUs given back": 5,
    "granted annotated-exclusive": 200,
    "granted annotated-shared": 100,
    "granted integer": 500,
    "granted shared": 200,
    "granted to a container's own list": 30,
    "keeps its CPUs through a restart": 40,
    "leftovers found again": 25,
    "leftovers that are over": 300,
    "lists that overlap": 60,
    "moves": 100,
    "moves of several": 5,
    "nodes without a CPU": 100,
    "part of a pass": 1000,
    "plans of all phases": 50,
    "refused": 500,
    "refused for a ceiling": 20,
    "resize from annotated-exclusive to annotated-shared": 1,
    "resize from annotated-shared to annotated-exclusive": 1,
    "resize from integer to shared": 10,
    "resize from shared to integer": 5,
    "resize grows": 10,
    "resize refused": 30,
    "resize shrinks": 15,
    "resize taken back": 40,
    "restarts": 100,
    "sequences": SEQUENCES,
    "short claims": 80,
    "starts held up": 80,
    "taken back after something else": 40,
    "the next attempt has its CPUs": 2,
    "writes": 5000,
    "writes held up": 150,
    "writes that failed": 500,
    "writes to vanished groups": 40,
}
"""How often a run of that many sequences comes to what it is about, at least: a third of what is usual."""


def test_every_sequence_keeps_the_invariants_and_they_reach_what_they_are_about() -> None:
    # One seed, or what it reaches would depend on chance; `make soak` runs others.
    reached = machine.run(SEQUENCES, seed=2)
    assert {what: reached[what] for what, least in REACHED.items() if reached[what] < least} == {}


OWNER = state.ClaimKey(events.PodUid("a"), "main")
WANTED: desired.Desired = {
    events.ContainerId("a"): desired.Placement(cpus=cpus("2-3"), owner=OWNER),
    events.ContainerId("shared"): desired.Placement(cpus=cpus("0-1,4-7")),
}
KIN = {"a": OWNER}


def ground(**files: str) -> kernel.Kernel:
    made = kernel.Kernel(cpus("0-7"))
    for path, text in files.items():
        made.make(path, cpus(text), NodeSet())
    return made


@pytest.mark.parametrize(
    ("files", "path", "text"),
    [
        pytest.param({"a": "2-3", "shared": "0-1"}, "shared", "0-2", id="onto the CPUs of a holder"),
        pytest.param({"a": "2", "shared": "0-1"}, "shared", "3", id="onto CPUs of a claim that is in force"),
        pytest.param({"a": "", "shared": "0-7"}, "a", "2-3", id="a holder before others have left"),
        pytest.param({"a": "0-1", "shared": "3"}, "a", "2-3", id="a holder onto one with someone there"),
    ],
)
def test_the_witness_sees_a_write_that_puts_two_on_a_cpu(files: dict[str, str], path: str, text: str) -> None:
    tree = ground(**files)
    tree.watch = witness.Witness(tree, WANTED, KIN).wrote
    with pytest.raises(AssertionError, match="was put on CPU"):
        tree.write(path, observed.CPUS, text)


@pytest.mark.parametrize(
    ("files", "path", "text"),
    [
        pytest.param({"a": "2-3", "shared": "0-3"}, "shared", "0-1", id="who leaves"),
        pytest.param({"a": "2-3", "shared": "0-3"}, "shared", "0-2", id="who leaves in part"),
        pytest.param({"a": "0-1", "shared": "0-1"}, "a", "2-3", id="a holder that comes where nobody is"),
    ],
)
def test_the_witness_lets_pass_what_makes_nothing_worse(files: dict[str, str], path: str, text: str) -> None:
    tree = ground(**files)
    tree.watch = witness.Witness(tree, WANTED, KIN).wrote
    tree.write(path, observed.CPUS, text)


def test_the_kernel_fails_the_writes_that_it_is_told_to_and_no_others() -> None:
    tree = ground(a="0", b="0")
    tree.failing["a"] = 0b10
    tree.write("a", observed.CPUS, "1")
    with pytest.raises(errors.HostFileError):
        tree.write("a", observed.CPUS, "2")
    tree.write("a", observed.CPUS, "3")
    tree.vanishing.add("b")
    with pytest.raises(errors.Gone):
        tree.write("b", observed.CPUS, "1")
    assert tree.cpus == {"a": cpus("3")}
    assert tree.look("b") == observed.Absent()


def test_the_kernel_grants_what_is_online_of_a_file_or_all_that_is() -> None:
    tree = ground(a="0-3", b="")
    for online, granted in (("2-7", ["2-3", "2-7"]), ("4-7", ["4-7", "4-7"])):
        tree.online = cpus(online)
        looks = [tree.look(path) for path in ("a", "b")]
        assert [
            str(its.outer.effective_cpus) for its in looks if isinstance(its, observed.Present)
        ] == granted


def test_two_claims_on_one_cpu_are_seen() -> None:
    its = runtime.Runtime(machines.Shape(sockets=1, cores=4), Counter())
    its.run("p0", samples.GUARANTEED, {})
    its.create("p0", "main", 2)
    now = its.agent.now
    [claim] = now.ledger.claims.values()
    other = dataclasses.replace(claim, key=claim.key._replace(name="other"))
    with pytest.raises(AssertionError, match="and another"):
        invariants.check_claims(dataclasses.replace(now, ledger=now.ledger.with_claim(other)))
