"""Which slices of the host can be named, and where they are."""

from __future__ import annotations

import pytest

from reconciler import errors, slices
from reconciler.config import schema

# covers: PRD-7.18


def test_by_default_there_are_none() -> None:
    assert schema.Config().host_slices == ()


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("system.slice", "system.slice"),
        ("init.scope", "init.scope"),
        ("a-b.slice", "a.slice/a-b.slice"),
        ("a-b-c.slice", "a.slice/a-b.slice/a-b-c.slice"),
        ("x\\x2dy.slice", "x\\x2dy.slice"),
        ("a-b.scope", "a-b.scope"),
    ],
)
def test_a_slice_is_where_its_dashes_say(name: str, path: str) -> None:
    assert schema.convert({"hostSlices": [name]}).host_slices == (name,)
    assert slices.path(name) == path
    assert slices.named(slices.key(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", "system", "-.slice", "-a.slice", "a/b.slice", "../a.slice", "a.service", "a.slice\n", "."),
        *("kubepods.slice", "kubepods-burstable.slice", "kubepods-pod1.slice", "a" * 300 + ".slice"),
    ],
)
def test_what_is_no_slice_or_has_containers_in_it_is_refused(name: str) -> None:
    with pytest.raises(errors.Usage, match="hostSlices"):
        schema.convert({"hostSlices": [name]})
    assert not schema.is_host_slice(name)
