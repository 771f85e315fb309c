"""Lists that people write into annotations mean to the agent what fixtures/annotations.yaml says."""

from __future__ import annotations

import pytest

from reconciler import intent
from reconciler.config import schema
from reconciler.cpu.idset import CpuSet
from tests.pipeline import cpu_lists, samples

# covers: PRD-1.6, PRD-3.5, PRD-9.1

LISTS = cpu_lists.lists()
NAMING = [intent.CORES, f"{intent.CORES}.main"]


def decide(key: str, text: str) -> intent.Intent:
    pod = samples.pod("db", annotations={key: text})
    return intent.decide(pod, samples.container(pod, "main"), schema.Config())


@pytest.mark.parametrize("key", NAMING)
@pytest.mark.parametrize("its", LISTS.good, ids=lambda its: repr(its.text))
def test_a_good_list_claims_the_cpus_that_it_means(its: cpu_lists.Good, key: str) -> None:
    decided = decide(key, its.text)
    assert (decided.refusal, decided.cpus) == ("", CpuSet(its.cpus))


@pytest.mark.parametrize("its", LISTS.good, ids=lambda its: repr(its.text))
def test_a_good_list_forbids_the_cpus_that_it_means(its: cpu_lists.Good) -> None:
    decided = decide(intent.FORBID, its.text)
    assert (decided.warning, decided.forbidden) == ("", CpuSet(its.cpus))


@pytest.mark.parametrize("key", NAMING)
@pytest.mark.parametrize("text", [*LISTS.empty, *LISTS.bad], ids=repr)
def test_a_list_that_is_bad_or_empty_claims_nothing_and_is_refused_by_name(text: str, key: str) -> None:
    decided = decide(key, text)
    assert f"annotation {key}" in decided.refusal
    assert not decided.cpus


@pytest.mark.parametrize("text", LISTS.bad, ids=repr)
def test_a_bad_list_forbids_nothing_and_is_warned_of(text: str) -> None:
    decided = decide(intent.FORBID, text)
    assert f"annotation {intent.FORBID}" in decided.warning
    assert not decided.forbidden


@pytest.mark.parametrize("text", LISTS.empty, ids=repr)
def test_an_empty_list_forbids_nothing_in_silence(text: str) -> None:
    decided = decide(intent.FORBID, text)
    assert (decided.warning, decided.forbidden) == ("", CpuSet())
