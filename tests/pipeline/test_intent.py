"""The class of a container and what it is entitled to, row by row, and what bad annotations come to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler import events, intent
from reconciler.config import schema
from tests.pipeline import samples
from tests.pipeline.samples import cpus

# covers: PRD-2.1, PRD-2.2, PRD-2.8, PRD-1.6, PRD-3.5, PRD-9.1

KIND = intent.Kind


def limits(
    quota: int | None = None, period: int | None = None, shares: int | None = None
) -> events.CpuLimits:
    return events.CpuLimits(quota=quota, period=period, shares=shares)


def decide(
    annotations: dict[str, str] | None = None,
    its: events.CpuLimits | None = None,
    qos: events.Qos = samples.GUARANTEED,
) -> intent.Intent:
    pod = samples.pod("db", qos=qos, annotations=annotations)
    return intent.decide(pod, samples.container(pod, limits=its), schema.Config())


@pytest.mark.parametrize(
    ("its", "count"),
    [
        pytest.param(limits(100_000, 100_000, 1024), 1, id="one CPU"),
        pytest.param(limits(200_000, 100_000, 2048), 2, id="two CPUs"),
        pytest.param(limits(150_000, 100_000, 1536), 0, id="one and a half"),
        pytest.param(limits(50_000, 100_000, 512), 0, id="half a CPU"),
        pytest.param(limits(99_999, 100_000, 1024), 0, id="a little less than one"),
        pytest.param(limits(1, 1), 1, id="the smallest of both"),
        pytest.param(limits(40_000, 10_000), 4, id="another period"),
        pytest.param(limits(100_000, 30_000), 0, id="another period that does not divide"),
        pytest.param(limits(20_000, 50_000), 0, id="less than the period"),
        pytest.param(limits(300_000), 3, id="no period: the kernel's"),
        pytest.param(limits(300_000, 0), 3, id="period 0: the kernel's"),
        pytest.param(limits(300_000, -5), 3, id="a negative period: the kernel's"),
        pytest.param(limits(51_200_000, 100_000, 262_144), 512, id="above 256 CPUs the quota decides"),
        pytest.param(limits(), 0, id="nothing said"),
        pytest.param(limits(0, 100_000), 0, id="quota 0 and no shares"),
        pytest.param(limits(-1, 100_000), 0, id="quota off and no shares"),
        pytest.param(limits(-1, 100_000, 2048), 2, id="quota off: the shares"),
        pytest.param(limits(0, 100_000, 2048), 2, id="quota 0: the shares"),
        pytest.param(limits(None, None, 3072), 3, id="no quota: the shares"),
        pytest.param(limits(-1, None, 1536), 0, id="quota off, shares of one and a half"),
        pytest.param(limits(-1, None, 2), 0, id="the kernel's smallest shares"),
        pytest.param(limits(-1, None, 0), 0, id="shares 0"),
        pytest.param(limits(-1, None, -2048), 0, id="negative shares"),
        pytest.param(limits(-1, None, 261_120), 255, id="the last shares that mean something"),
        pytest.param(limits(-1, None, 262_144), 0, id="capped shares mean nothing"),
        pytest.param(limits(-1, None, 524_288), 0, id="shares above the cap"),
        pytest.param(limits(150_000, 100_000, 2048), 0, id="a fraction by quota, whole by shares"),
    ],
)
def test_a_limit_is_whole_or_not(its: events.CpuLimits, count: int) -> None:
    assert intent.whole_cpus(its) == count
    decided = decide(its=its)
    assert (decided.kind, decided.count) == (KIND.INTEGER if count else KIND.SHARED, count)


_NUMBERS = st.one_of(st.none(), st.integers(-(1 << 63), 1 << 63))


@given(_NUMBERS, _NUMBERS, _NUMBERS)
def test_no_limits_give_a_negative_count(quota: int | None, period: int | None, shares: int | None) -> None:
    count = intent.whole_cpus(limits(quota, period, shares))
    assert count >= 0
    if count and quota is not None and quota > 0:
        assert quota == count * (period if period is not None and period > 0 else intent.DEFAULT_PERIOD)


@pytest.mark.parametrize("qos", [events.Qos.BURSTABLE, events.Qos.BEST_EFFORT])
def test_only_guaranteed_pods_have_integer_semantics(qos: events.Qos) -> None:
    assert decide(its=samples.whole(2), qos=qos).kind is KIND.SHARED
    assert decide({intent.CORES: "2-3"}, samples.whole(2), qos).kind is KIND.ANNOTATED_SHARED


@pytest.mark.parametrize(
    ("its", "kind"),
    [
        pytest.param(samples.whole(2), KIND.ANNOTATED_EXCLUSIVE, id="whole CPUs"),
        pytest.param(samples.whole(7), KIND.ANNOTATED_EXCLUSIVE, id="another number than the list has"),
        pytest.param(limits(150_000, 100_000), KIND.ANNOTATED_SHARED, id="a fraction"),
        pytest.param(limits(), KIND.ANNOTATED_SHARED, id="no limit"),
    ],
)
def test_an_annotated_container_is_exclusive_with_whole_cpus(
    its: events.CpuLimits, kind: intent.Kind
) -> None:
    decided = decide({intent.CORES: " 0, 2-3 ,8\n"}, its)
    assert (decided.kind, decided.cpus, decided.count) == (kind, cpus("0,2-3,8"), 0)
    assert (decided.refusal, decided.warning) == ("", "")


BAD_LISTS = [
    pytest.param("2,", "at position 2: CPU or range expected", id="a comma at the end"),
    pytest.param(",2", "at position 0: CPU or range expected", id="a comma at the start"),
    pytest.param("1,,2", "at position 2: CPU or range expected", id="two commas"),
    pytest.param("0,two", "at position 2: 'two' is not a CPU or range", id="a word"),
    pytest.param("0;1", "at position 0: '0;1' is not a CPU or range", id="another separator"),
    pytest.param("-1", "at position 0: '-1' is not a CPU or range", id="a negative number"),
    pytest.param("1-", "at position 0: '1-' is not a CPU or range", id="half a range"),
    pytest.param("1 - 3", "at position 0: '1 - 3' is not a CPU or range", id="spaces in a range"),
    pytest.param("5,4-2", "at position 2: range 4-2 runs backwards", id="backwards"),
    pytest.param("0,8192", "at position 2: CPU 8192 is above 8191", id="beyond the largest kernel"),
    pytest.param("9999999999", "is not a CPU or range", id="more digits than a CPU has"),
    pytest.param("0x3", "at position 0: '0x3' is not a CPU or range", id="a mask"),
    pytest.param("0-6/2", "at position 0: '0-6/2' is not a CPU or range", id="a stride"),
    pytest.param("\u0661,\u0662", "at position 0: '\u0661' is not a CPU or range", id="Arabic digits"),
    pytest.param("\uff12-\uff13", "is not a CPU or range", id="full-width digits"),
    pytest.param("2\u00b2", "is not a CPU or range", id="a superscript"),
    pytest.param("2\u20133", "is not a CPU or range", id="a dash that is no hyphen"),
    pytest.param("2\x00", "is not a CPU or range", id="a null"),
]


@pytest.mark.parametrize(("text", "why"), BAD_LISTS)
def test_a_malformed_list_is_refused_with_its_annotation_and_place(text: str, why: str) -> None:
    decided = decide({intent.CORES: text}, samples.whole(2))
    assert decided.refusal.startswith(f"annotation {intent.CORES} at position")
    assert why in decided.refusal
    assert not decided.cpus
    assert decided.kind is KIND.ANNOTATED_EXCLUSIVE


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_an_empty_list_is_refused(text: str) -> None:
    decided = decide({intent.CORES: text})
    assert (
        decided.refusal == f"annotation {intent.CORES}: the list is empty; name at least one CPU or remove it"
    )


@pytest.mark.parametrize(("text", "why"), BAD_LISTS)
def test_a_malformed_forbid_list_forbids_nothing_and_warns(text: str, why: str) -> None:
    decided = decide({intent.FORBID: text}, samples.whole(2))
    assert (decided.kind, decided.count, decided.forbidden) == (KIND.INTEGER, 2, cpus(""))
    assert decided.refusal == ""
    assert decided.warning.startswith(f"annotation {intent.FORBID} at position")
    assert decided.warning.endswith("; the list is ignored")
    assert why in decided.warning


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("0-8191," * (1 << 17), id="many entries and a comma too many"),
        pytest.param("x" * (1 << 20), id="no list at all"),
        pytest.param("0-" * (1 << 19), id="a range without end"),
        pytest.param("9" * (1 << 20), id="a number without end"),
        pytest.param(" " * (1 << 20) + "x", id="space and a letter"),
    ],
)
def test_a_mebibyte_of_nonsense_is_refused_in_one_short_sentence(text: str) -> None:
    assert len(decide({intent.CORES: text}).refusal) < 200
    assert len(decide({intent.FORBID: text}).warning) < 200


def test_a_mebibyte_of_sense_is_read() -> None:
    text = ",".join(["0-8191"] * (1 << 17))
    assert len(decide({intent.CORES: text}).cpus) == 8192


@pytest.mark.parametrize(
    ("its", "kind"),
    [
        pytest.param(samples.whole(2), KIND.INTEGER, id="integer"),
        pytest.param(limits(), KIND.SHARED, id="shared"),
    ],
)
def test_a_forbid_list_holds_for_integer_and_shared_containers(
    its: events.CpuLimits, kind: intent.Kind
) -> None:
    decided = decide({intent.FORBID: "0-1,7"}, its)
    assert (decided.kind, decided.forbidden, decided.warning) == (kind, cpus("0-1,7"), "")


def test_a_list_of_cpus_stands_above_a_forbid_list() -> None:
    decided = decide({intent.CORES: "2-3", intent.FORBID: "3"})
    assert (decided.cpus, decided.forbidden) == (cpus("2-3"), cpus(""))


def test_other_annotations_mean_nothing() -> None:
    assert decide({"weka.io/cores": "2-3", "cores-ids": "x"}) == decide()


@given(st.text(max_size=30))
def test_no_text_makes_a_decision_fail(text: str) -> None:
    listed = decide({intent.CORES: text}, samples.whole(1))
    assert bool(listed.refusal) != bool(listed.cpus)
    forbidding = decide({intent.FORBID: text})
    assert not (forbidding.warning and forbidding.forbidden)


@given(st.sets(st.integers(0, 8191), min_size=1, max_size=12))
def test_every_list_that_the_kernel_would_print_is_understood(ids: set[int]) -> None:
    assert set(decide({intent.CORES: ",".join(map(str, sorted(ids)))}).cpus) == ids
