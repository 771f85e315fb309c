"""What a weight says of shares: as runtimes map it, and nothing where they do not agree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.cpu import weight

LINE, CURVE = weight.Mapping.LINE, weight.Mapping.CURVE
SHARES = st.integers(weight.FEWEST, weight.MOST)


@pytest.mark.parametrize(
    ("mapping", "shares", "expected"),
    [
        pytest.param(LINE, 2, 1, id="line fewest"),
        pytest.param(LINE, 1024, 39, id="line one CPU"),
        pytest.param(LINE, 2048, 79, id="line two CPUs"),
        pytest.param(LINE, 262_144, 10_000, id="line most"),
        pytest.param(CURVE, 2, 1, id="curve fewest"),
        pytest.param(CURVE, 1024, 100, id="curve one CPU"),
        pytest.param(CURVE, 262_144, 10_000, id="curve most"),
        pytest.param(LINE, 0, 1, id="line below"),
        pytest.param(CURVE, 1 << 20, 10_000, id="curve above"),
    ],
)
def test_a_mapping_is_the_runtimes(mapping: weight.Mapping, shares: int, expected: int) -> None:
    assert mapping.weight(shares) == expected


@given(st.sampled_from(weight.Mapping), SHARES, SHARES)
def test_more_shares_never_weigh_less(mapping: weight.Mapping, one: int, other: int) -> None:
    assert mapping.weight(min(one, other)) <= mapping.weight(max(one, other))
    assert 1 <= mapping.weight(one) <= 10_000


@pytest.mark.parametrize("mapping", weight.Mapping)
@pytest.mark.parametrize("count", [1, 2, 3, 64, 255])
def test_the_shares_of_whole_cpus_are_found_again(mapping: weight.Mapping, count: int) -> None:
    assert mapping.shares(mapping.weight(count * 1024)) == count * 1024


@pytest.mark.parametrize(
    ("mapping", "text"),
    [
        pytest.param(LINE, 1, id="fewest"),
        pytest.param(LINE, 59, id="one and a half CPUs"),
        pytest.param(LINE, 10_000, id="256 CPUs or more"),
        pytest.param(CURVE, 140, id="one and a half CPUs on the curve"),
    ],
)
def test_of_other_weights_nothing_is_said(mapping: weight.Mapping, text: int) -> None:
    assert mapping.shares(text) is None


@given(st.sampled_from(weight.Mapping), st.integers(1024, weight.MOST - 1))
def test_a_node_whose_containers_are_known_tells_its_mapping(mapping: weight.Mapping, shares: int) -> None:
    assert weight.mapping([(2, 1), (shares, mapping.weight(shares))]) is mapping


def test_pause_containers_alone_do_not_tell_it_nor_does_what_no_mapping_gives() -> None:
    assert weight.mapping([]) is None
    assert weight.mapping([(2, 1), (2, 1)]) is None
    assert weight.mapping([(1024, 39), (1024, 100)]) is None
    assert weight.mapping([(2048, 100)]) is None
