"""The stand-in reads lists by the kernel's own grammar, which takes more than Kubernetes does."""

from __future__ import annotations

import errno
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.cpu.idset import CpuSet
from reconciler.sim import lists


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        pytest.param("", [], id="nothing"),
        pytest.param(" , ,", [], id="separators"),
        pytest.param("N", [7], id="the-last"),
        pytest.param("5-N", [5, 6, 7], id="up-to-the-last"),
        pytest.param("ALL", range(8), id="all"),
        pytest.param("all:1/4", [0, 4], id="all-with-a-stride"),
        pytest.param("1-6:2/3", [1, 2, 4, 5], id="two-of-three"),
        pytest.param("0-7:0/2", [], id="none-of-two"),
        pytest.param("1 3\t5", [1, 3, 5], id="spaces"),
        pytest.param("0" * 5000 + "7", [7], id="leading-zeros"),
    ],
)
def test_the_kernel_s_grammar_is_taken(text: str, ids: list[int]) -> None:
    assert lists.parse(text, 8) == set(ids)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        pytest.param("8", errno.ERANGE, id="behind-the-last"),
        pytest.param("0-8", errno.ERANGE, id="range-behind-the-last"),
        pytest.param("9-8", errno.EINVAL, id="backwards-and-behind"),
        pytest.param("4294967295", errno.ERANGE, id="largest-int"),
        pytest.param("4294967296", errno.EOVERFLOW, id="no-int"),
        pytest.param("9" * 5000, errno.EOVERFLOW, id="five-thousand-digits"),
        pytest.param(f"0-7:{'9' * 5000}/2", errno.EOVERFLOW, id="no-int-in-a-stride"),
        pytest.param("0-7:3/2", errno.EINVAL, id="three-of-two"),
        pytest.param("0-7:0/0", errno.EINVAL, id="none-of-none"),
        pytest.param("5:1/2", errno.EINVAL, id="stride-of-one"),
        pytest.param("allx", errno.EINVAL, id="all-and-more"),
        pytest.param("n", errno.EINVAL, id="small-n"),
        pytest.param("\u0663", errno.EINVAL, id="digit-of-another-script"),
    ],
)
def test_what_the_kernel_refuses_is_refused_with_its_errno(text: str, number: int) -> None:
    with pytest.raises(OSError, match=re.escape(os.strerror(number))) as caught:
        lists.parse(text, 8)
    assert caught.value.errno == number


@given(st.sets(st.integers(0, 99)))
def test_a_list_as_the_agent_prints_it_is_that_set(ids: set[int]) -> None:
    assert lists.parse(f"{CpuSet(ids)}\n", 100) == ids


@given(st.text(alphabet="0123456789N-:/, alx\n", max_size=20))
def test_any_text_gives_ids_below_the_limit_or_a_number_of_the_kernel_s(text: str) -> None:
    ids, number = listed(text)
    assert ids <= set(range(8))
    assert number in {0, errno.EINVAL, errno.ERANGE, errno.EOVERFLOW}


def listed(text: str) -> tuple[set[int], int]:
    """The ids below 8, and the errno, 0 without an error."""
    try:
        return lists.parse(text, 8), 0
    except OSError as error:
        return set(), error.errno or -1
