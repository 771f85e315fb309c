"""Sets of ids behave as Python's sets do, and read and print lists as the kernel does."""

# covers: PRD-9.5

from __future__ import annotations

import itertools
import pickle
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reconciler import errors
from reconciler.cpu.idset import CpuSet, NodeSet

LAST = CpuSet.LIMIT - 1
ids = st.integers(0, LAST)
sets = st.sets(ids, max_size=64) | st.builds(
    lambda first, length: set(range(first, min(first + length, LAST + 1))), ids, st.integers(0, 600)
)


@given(sets, sets)
def test_the_algebra_is_that_of_sets(a: set[int], b: set[int]) -> None:
    left, right = CpuSet(a), CpuSet(b)
    assert set(left | right) == a | b
    assert set(left & right) == a & b
    assert set(left - right) == a - b
    assert (left <= right) == (a <= b)
    assert left.isdisjoint(right) == a.isdisjoint(b)
    assert (left == right) == (a == b)


@given(sets, ids)
def test_members_size_and_order_are_those_of_a_sorted_set(a: set[int], i: int) -> None:
    made = CpuSet(a)
    assert list(made) == sorted(a)
    assert len(made) == len(a)
    assert bool(made) == bool(a)
    assert (i in made) == (i in a)
    assert CpuSet.from_bits(made.bits) == made
    assert pickle.loads(pickle.dumps(made)) == made  # noqa: S301  our own bytes
    if a:
        assert made.first() == min(a)


@given(sets)
def test_equal_sets_have_equal_hashes(a: set[int]) -> None:
    assert hash(CpuSet(a)) == hash(CpuSet(sorted(a, reverse=True)))


@given(sets)
@example({0})
@example({LAST})
@example(set(range(LAST + 1)))
def test_what_is_printed_reads_back_as_the_same_set(a: set[int]) -> None:
    assert CpuSet.parse(str(CpuSet(a)), what="list") == CpuSet(a)


@given(sets)
def test_what_is_printed_is_canonical(a: set[int]) -> None:
    bounds = [[int(end) for end in part.split("-")] for part in str(CpuSet(a)).split(",") if part]
    assert all(len(part) == 1 or part[0] < part[1] for part in bounds)
    assert all(left[-1] + 1 < right[0] for left, right in itertools.pairwise(bounds))


@pytest.mark.parametrize(
    ("members", "text"),
    [
        pytest.param([], "", id="empty"),
        pytest.param([7], "7", id="one"),
        pytest.param([0, 1], "0-1", id="two-neighbours"),
        pytest.param([0, 2, 3, 8], "0,2-3,8", id="mixed"),
        pytest.param(range(8192), "0-8191", id="everything"),
        pytest.param([8191], "8191", id="the-last"),
    ],
)
def test_lists_are_printed_as_the_kernel_prints_them(members: list[int], text: str) -> None:
    assert str(CpuSet(members)) == text


@pytest.mark.parametrize(
    ("text", "members"),
    [
        pytest.param("", [], id="empty"),
        pytest.param("\n", [], id="line-end-alone"),
        pytest.param("0-3,8\n", [0, 1, 2, 3, 8], id="as-the-kernel-writes"),
        pytest.param(" 2 , 3 ", [2, 3], id="spaces-around-commas"),
        pytest.param("3,1,2,1", [1, 2, 3], id="any-order-and-twice"),
        pytest.param("5-5", [5], id="range-of-one"),
        pytest.param("007", [7], id="leading-zeros"),
    ],
)
def test_lists_are_read(text: str, members: list[int]) -> None:
    assert list(CpuSet.parse(text, what="list")) == members


@pytest.mark.parametrize(
    ("text", "position", "why"),
    [
        pytest.param("0-", 0, "not a CPU or range", id="open-range"),
        pytest.param("0,,2", 2, "expected", id="two-commas"),
        pytest.param("0,", 2, "expected", id="comma-at-the-end"),
        pytest.param(",0", 0, "expected", id="comma-at-the-start"),
        pytest.param("0,5-2", 2, "range 5-2 runs backwards", id="backwards"),
        pytest.param("a,b", 0, "'a' is not", id="letters"),
        pytest.param("1,x", 2, "'x' is not", id="letter-behind"),
        pytest.param("2 - 3", 0, "not a CPU or range", id="spaces-in-a-range"),
        pytest.param("-1", 0, "not a CPU or range", id="negative"),
        pytest.param("0-3:1/2", 0, "not a CPU or range", id="stride"),
        pytest.param("0x3", 0, "not a CPU or range", id="hexadecimal"),
        pytest.param("1,8192", 2, "CPU 8192 is above 8191", id="above-the-limit"),
        pytest.param("0-999999999", 0, "above 8191", id="range-above-the-limit"),
        pytest.param("9" * 40, 0, "not a CPU or range", id="forty-digits"),
        pytest.param("\u0663", 0, "not a CPU or range", id="digit-of-another-script"),
        pytest.param("1\x00", 0, "not a CPU or range", id="zero-byte"),
        pytest.param("1 2", 0, "not a CPU or range", id="space-for-a-comma"),
    ],
)
def test_what_is_no_list_is_refused_with_its_place(text: str, position: int, why: str) -> None:
    with pytest.raises(errors.Malformed) as caught:
        CpuSet.parse(text, what="weka.io/cores-ids")
    assert caught.value.what == "weka.io/cores-ids"
    assert caught.value.position == position
    assert why in caught.value.why
    assert len(str(caught.value)) < 200


@given(st.text(alphabet="0123456789,- \n\tax", max_size=30))
def test_any_text_gives_a_set_or_an_error_with_its_place(text: str) -> None:
    made, position = parsed(text)
    assert made is not None or (position is not None and 0 <= position <= len(text))
    assert made is None or parsed(str(made)) == (made, None)


def parsed(text: str) -> tuple[CpuSet | None, int | None]:
    """The set, or the place of the error."""
    try:
        return CpuSet.parse(text, what="text"), None
    except errors.Malformed as error:
        return None, error.position


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("0-8191," * 6_000 + "x", id="the-same-range-again-and-again"),
        pytest.param("1" * 700_000, id="one-long-number"),
        pytest.param("0-4294967295", id="a-range-of-four-thousand-million"),
        pytest.param("," * 700_000, id="commas"),
        pytest.param("\t\n" + "\x0b" * 700_000, id="white-space-that-a-strip-would-copy"),
    ],
)
def test_a_list_of_any_length_takes_no_memory(text: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(errors.Malformed):
            CpuSet.parse(text, what="list")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("0-7," * 10_000 + "0-7", id="bare"),
        pytest.param("0-7," * 10_000 + "0-7\n", id="with-an-end-of-line"),
        pytest.param("0-7" + " " * 40_000, id="followed-by-spaces"),
    ],
)
def test_a_long_list_that_is_right_is_read_without_a_copy_of_it(text: str) -> None:
    tracemalloc.start()
    try:
        made = CpuSet.parse(text, what="list")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(made) == "0-7"
    assert peak < 20_000


@pytest.mark.parametrize("outside", [-1, 8192], ids=["below", "above"])
def test_an_id_outside_the_limits_is_refused(outside: int) -> None:
    with pytest.raises(errors.Malformed, match=f"{outside} is outside 0-8191"):
        CpuSet([outside])


def test_sets_of_cpus_and_of_nodes_are_never_equal() -> None:
    cpus: object = CpuSet([1])
    assert cpus != NodeSet([1])
    assert cpus != 2


def test_a_node_set_speaks_of_nodes_and_ends_at_1023() -> None:
    assert str(NodeSet.parse("0-1023", what="mems")) == "0-1023"
    with pytest.raises(errors.Malformed, match="mems at position 0: NUMA node 1024 is above 1023"):
        NodeSet.parse("1024", what="mems")


def test_a_set_cannot_be_changed() -> None:
    made = CpuSet([1])
    with pytest.raises(AttributeError, match="CpuSet is immutable"):
        made.bits = 4
    assert list(made) == [1]


def test_the_empty_set_has_no_first_id() -> None:
    with pytest.raises(ValueError, match="no first id"):
        CpuSet().first()


@pytest.mark.parametrize("other", ["1", None, -1, 1.0], ids=repr)
def test_only_ids_are_members(other: object) -> None:
    assert other not in CpuSet([1])


def test_a_set_shows_its_list() -> None:
    assert repr(CpuSet([0, 1, 4])) == "CpuSet('0-1,4')"
