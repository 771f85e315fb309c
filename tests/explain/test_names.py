"""A name means one container, or the answer says which ones it could mean."""

from __future__ import annotations

import dataclasses

import pytest

from reconciler import errors, events
from reconciler.explain import names
from reconciler.policy import lifecycle
from tests.explain import nodes
from tests.pipeline import samples


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("db/main", id="pod and container"),
        pytest.param("test/db/main", id="namespace, pod and container"),
        pytest.param("sandbox-db-0/main-0", id="an id"),
        pytest.param("sandbox-d", id="the beginning of an id"),
    ],
)
def test_a_container_goes_by_several_names(name: str) -> None:
    now = nodes.node(nodes.DB, nodes.WEB)
    assert names.find(now, name).id == nodes.DB.container.id


def test_an_id_that_is_the_beginning_of_another_means_itself() -> None:
    short, long = nodes.creating("db", attempt=1), nodes.creating("db", attempt=10)
    assert names.find(nodes.node(short, long), short.container.id).id == short.container.id


@pytest.mark.parametrize(
    ("name", "why"),
    [
        pytest.param("web/nginx", "there are test/web/main", id="no such container"),
        pytest.param("prod/db/main", "there are test/db/main, test/web/main", id="no such namespace"),
        pytest.param("db", "there are test/db/main", id="a pod"),
        pytest.param("x/y", "there are test/db/main, test/web/main", id="nothing like it"),
        pytest.param("a/test/db/main", "there are test/db/main, test/web/main", id="too many parts"),
        pytest.param("", "there are test/db/main, test/web/main", id="nothing"),
        pytest.param("/", "there are test/db/main, test/web/main", id="no parts"),
    ],
)
def test_a_name_that_nobody_has_is_answered_with_those_there_are(name: str, why: str) -> None:
    with pytest.raises(errors.Malformed) as told:
        names.find(nodes.node(nodes.DB, nodes.WEB), name)
    assert str(told.value) == f"container {name!r}: there is none of that name or id; {why}"


def test_a_node_without_containers_has_no_names() -> None:
    with pytest.raises(errors.Malformed, match="the agent knows of no container"):
        names.find(nodes.node(), "db/main")


def test_a_beginning_that_several_ids_have_is_answered_with_these() -> None:
    with pytest.raises(errors.Malformed) as told:
        names.find(nodes.node(nodes.DB, nodes.WEB), "sandbox-")
    assert str(told.value) == (
        "container 'sandbox-': several are meant: test/db/main (sandbox-db-0/main-0), "
        "test/web/main (sandbox-web-0/main-0)"
    )


def test_a_name_that_several_pods_have_is_answered_with_their_containers() -> None:
    other = dataclasses.replace(
        nodes.WEB.pod,
        namespace="prod",
        uid=events.PodUid("uid-other"),
        sandbox=events.SandboxId("sandbox-other"),
    )
    now = nodes.node(nodes.WEB, samples.creating(other, samples.container(other)))
    with pytest.raises(errors.Malformed, match=r"prod/web/main \(sandbox-other/main-0\), test/web"):
        names.find(now, "web/main")
    assert names.find(now, "prod/web/main").sandbox == "sandbox-other"


@pytest.mark.parametrize("lingers", [False, True])
def test_of_several_attempts_the_one_that_runs_is_meant(lingers: bool) -> None:
    first, second = nodes.creating(attempt=1), nodes.creating(attempt=2)
    ending = events.ContainerStopped(pod=first.pod, container=first.container)
    alive = frozenset((first.container.id,) if lingers else ())
    now = lifecycle.absorb(nodes.node(first), ending, alive)
    assert names.find(now, "db/main").id == first.container.id
    now, _, _ = lifecycle.admit(now, second)
    assert names.find(now, "db/main").id == second.container.id


def test_exited_and_pause_containers_are_no_candidates() -> None:
    web = samples.pod("web", paused=True)
    now = nodes.node(nodes.DB, samples.creating(web, samples.container(web)))
    now = lifecycle.absorb(now, events.ContainerStopped(pod=nodes.DB.pod, container=nodes.DB.container))
    with pytest.raises(errors.Malformed, match=r"; there are test/web/main$"):
        names.find(now, "x/y")
    assert str(names.find(now, "web/POD").id) == web.sandbox


def test_many_candidates_are_counted() -> None:
    now = nodes.node(*(nodes.creating(f"web-{number}") for number in range(10)))
    with pytest.raises(errors.Malformed) as told:
        names.find(now, "web/main")
    assert str(told.value).endswith("test/web-6/main, test/web-7/main and 2 more")


def test_claims_on_cpus_say_whose_they_are_and_which_of_them() -> None:
    now = nodes.node(nodes.DB, nodes.LISTED, nodes.NEAR)
    assert names.claims_on(now, samples.cpus("3-5")) == [
        {"cpus": "3", "pod": "test/db", "container": "main", "class": "integer", "exclusive": True},
        {
            "cpus": "4-5",
            "pod": "test/listed",
            "container": None,
            "class": "annotated-exclusive",
            "exclusive": True,
        },
    ]
    assert names.claims_on(now, samples.cpus("0-1,7")) == []
