"""The text of `cpu.max`, and what it should say instead."""

from __future__ import annotations

import pytest

from reconciler import errors
from reconciler.cpu import bandwidth
from reconciler.cpu.bandwidth import Bandwidth

TWO = Bandwidth(quota=200_000)
UNLIMITED = Bandwidth()
POD = {"file": "../cpu.max"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("max 100000\n", UNLIMITED),
        ("200000 100000\n", TWO),
        ("1000 50000\n", Bandwidth(quota=1000, period=50_000)),
        ("max 50000", Bandwidth(period=50_000)),
    ],
)
def test_what_the_kernel_prints_is_read_and_printed_alike(text: str, value: Bandwidth) -> None:
    assert Bandwidth.parse(text, what="cpu.max") == value
    assert str(value) == text.rstrip("\n")


@pytest.mark.parametrize(
    "text",
    ["", "\n", "max", "200000", "MAX 100000", "-1 100000", "1 2 3", "max max", "٢ 100000", "1" * 9999 + " 1"],
    ids=[
        "nothing",
        "a line",
        "a word",
        "a number",
        "capitals",
        "negative",
        "three",
        "words",
        "digits",
        "long",
    ],
)
def test_anything_else_is_refused_in_a_short_sentence_that_names_the_file(text: str) -> None:
    with pytest.raises(
        errors.Malformed, match=r"^a/cpu.max: '.{0,50}' is not a quota and a period"
    ) as caught:
        Bandwidth.parse(text, what="a/cpu.max")
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize(
    ("quota", "period", "text"),
    [
        (200_000, 100_000, "200000 100000"),
        (50_000, 25_000, "50000 25000"),
        (200_000, None, "200000 100000"),
        (200_000, 0, "200000 100000"),
        (None, 100_000, "None"),
        (0, 100_000, "None"),
        (-1, 100_000, "None"),
    ],
)
def test_a_limit_is_known_where_there_is_a_quota(quota: int | None, period: int | None, text: str) -> None:
    assert str(bandwidth.limit(quota, period)) == text


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ([TWO], "200000 100000"),
        ([TWO, TWO, Bandwidth(quota=50_000)], "450000 100000"),
        ([TWO, Bandwidth(quota=50_000, period=50_000)], "300000 100000"),
        ([TWO, None], "None"),
        ([None, TWO], "None"),
        ([], "None"),
    ],
    ids=["one", "three", "two periods", "one unknown", "the first unknown", "nobody"],
)
def test_a_total_is_known_where_every_limit_is(limits: list[Bandwidth | None], text: str) -> None:
    assert str(bandwidth.total(limits)) == text


@pytest.mark.parametrize(
    ("wish", "says", "instead"),
    [
        pytest.param({}, "200000 100000", "max 100000", id="a quota is lifted"),
        pytest.param({}, "7000 50000", "max 50000", id="the period is kept"),
        pytest.param({}, "max 50000", "max 50000", id="nothing is left to lift"),
        pytest.param({"lifted": False}, "max 50000", "200000 100000", id="what was lifted is given back"),
        pytest.param(
            {"lifted": False}, "300000 100000", "300000 100000", id="another quota is somebody's own"
        ),
        pytest.param({"lifted": False}, "100000 100000", "100000 100000", id="less too"),
        pytest.param({"lifted": False, **POD}, "100000 50000", "100000 50000", id="a pod has as much"),
        pytest.param({"lifted": False, **POD}, "300000 100000", "300000 100000", id="a pod has more"),
        pytest.param({"lifted": False, **POD}, "99999 50000", "200000 100000", id="a pod has less"),
        pytest.param({"lifted": False, "limit": None, **POD}, "1000 100000", "1000 100000", id="a pod's own"),
        pytest.param({"lifted": False, "limit": None}, "max 100000", "max 100000", id="no limit is known"),
    ],
)
def test_what_a_file_should_say_instead(wish: dict[str, object], says: str, instead: str) -> None:
    its = bandwidth.Wish(**{"file": "cpu.max", "limit": TWO, **wish})  # type: ignore[arg-type]
    assert str(its.instead(Bandwidth.parse(says, what="cpu.max"))) == instead


@pytest.mark.parametrize(
    ("one", "other", "less"),
    [
        (TWO, UNLIMITED, True),
        (UNLIMITED, TWO, False),
        (UNLIMITED, UNLIMITED, False),
        (TWO, TWO, False),
        (Bandwidth(quota=99_999, period=50_000), TWO, True),
        (TWO, Bandwidth(quota=99_999, period=50_000), False),
        (Bandwidth(quota=100_000, period=50_000), TWO, False),
    ],
)
def test_less_is_less_time_whatever_the_period(one: Bandwidth, other: Bandwidth, less: bool) -> None:
    assert (one < other) == less


@pytest.mark.parametrize(
    ("limit", "lifted", "text"), [(TWO, True, "max"), (TWO, False, "200000 100000"), (None, False, "")]
)
def test_a_wish_says_what_it_is_after(limit: Bandwidth | None, lifted: bool, text: str) -> None:
    assert str(bandwidth.Wish(file="cpu.max", limit=limit, lifted=lifted)) == text


@pytest.mark.parametrize(
    ("file", "says", "expected"),
    [
        ("cpu.max", "200000 100000", True),
        ("cpu.max", "200000 50000", False),
        ("cpu.max", "100000 100000", False),
        ("../cpu.max", "300000 100000", True),
    ],
)
def test_a_runtime_writes_a_containers_limits_and_kubelet_anything_to_a_pods_group(
    file: str, says: str, expected: bool
) -> None:
    wish = bandwidth.Wish(file=file, limit=TWO)
    assert wish.expects(Bandwidth.parse(says, what=file)) == expected
