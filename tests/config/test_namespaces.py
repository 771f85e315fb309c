"""Which namespaces may pin, how much, and whose pods are left alone."""

from __future__ import annotations

import pytest

from reconciler.config import schema

# covers: PRD-1.11, PRD-2.14, PRD-3.10


@pytest.mark.parametrize(
    ("patterns", "namespace", "may"),
    [
        (["*"], "any", True),
        ([], "any", False),
        (["storage"], "storage", True),
        (["storage"], "storage-2", False),
        (["db-*"], "db-1", True),
        (["db-*"], "db", False),
        (["*-db"], "my-db", True),
        (["a", "b"], "b", True),
    ],
)
def test_who_may_name_cpus(patterns: list[str], namespace: str, *, may: bool) -> None:
    assert schema.convert({"annotatedNamespaces": patterns}).may_annotate(namespace) == may


@pytest.mark.parametrize(
    ("namespace", "most"),
    [("storage", 16), ("db-1", 2), ("db-big", 8), ("web", 4)],
    ids=["by its name", "the least of those that match", "its name before a pattern", "the rest"],
)
def test_how_much_a_namespace_may_hold(namespace: str, most: int) -> None:
    limits = {"storage": 16, "db-*": 2, "db-big": 8, "*": 4}
    assert schema.convert({"maxExclusiveCpus": limits}).most_exclusive(namespace) == most


def test_without_a_limit_that_matches_there_is_none() -> None:
    assert schema.convert({"maxExclusiveCpus": {"a": 1}}).most_exclusive("b") is None


@pytest.mark.parametrize(
    ("namespace", "annotations", "alone"),
    [
        ("kube-system", {}, True),
        ("web", {}, False),
        ("web", {schema.UNMANAGED: "true"}, False),
        ("trusted", {schema.UNMANAGED: "true"}, True),
        ("trusted", {schema.UNMANAGED: "false"}, False),
        ("trusted", {}, False),
    ],
)
def test_whose_pods_are_left_alone(namespace: str, annotations: dict[str, str], *, alone: bool) -> None:
    config = schema.convert({"unmanagedNamespaces": ["kube-*"], "optOutNamespaces": ["trusted"]})
    assert config.leaves_alone(namespace, annotations) == alone
