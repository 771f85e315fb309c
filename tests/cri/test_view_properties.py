"""Whatever lists come one after the other, the events between them add up to the last list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reconciler import errors, events, inventory
from reconciler.runtime.cri import cri_pb2 as cri
from reconciler.runtime.cri import info
from tests.cri import lists

_SANDBOXES = ("s0", "s1", "s2")
_CONTAINERS = ("a", "b", "c", "d", "e")
_STATES = (cri.CONTAINER_CREATED, cri.CONTAINER_RUNNING, cri.CONTAINER_EXITED, cri.CONTAINER_UNKNOWN)

Look = tuple[list[cri.PodSandbox], list[cri.Container]]


@st.composite
def looks(draw: st.DrawFn) -> list[Look]:
    """Lists of a runtime in which things only go forward: a container that has exited stays so."""
    found: list[Look] = []
    owners = {id_: draw(st.sampled_from(_SANDBOXES)) for id_ in _CONTAINERS}
    ended: set[str] = set()
    for _ in range(draw(st.integers(1, 6))):
        sandboxes, containers = [], []
        for id_ in draw(st.sets(st.sampled_from(_SANDBOXES))) - ended:
            ready = draw(st.booleans())
            sandboxes.append(lists.sandbox(id_, uid=id_, ready=ready))
        for id_ in draw(st.sets(st.sampled_from(_CONTAINERS))) - ended:
            state = draw(st.sampled_from(_STATES))
            containers.append(lists.container(id_, owners[id_], state, name=id_))
            if state == cri.CONTAINER_EXITED:
                ended.add(id_)
        found.append((draw(st.permutations(sandboxes)), draw(st.permutations(containers))))
    return found


def alive(of: inventory.Inventory) -> tuple[set[str], set[str]]:
    """The pods, and the containers that run or may run; pause containers are their pods'."""
    return set(of.pods), {
        id_
        for id_, container in of.containers.items()
        if container.name != inventory.PAUSE and container.phase is not events.Phase.STOPPED
    }


@given(looks())
def test_events_one_by_one_lead_to_what_the_last_list_says(seen: list[Look]) -> None:
    node = lists.Node()
    now = inventory.Inventory()
    for sandboxes, containers in seen:
        for event in node.poll(sandboxes, containers):
            now = inventory.reduce(now, event)  # type: ignore[arg-type]
        fresh = inventory.Inventory()
        for event in lists.Node().poll(sandboxes, containers):
            fresh = inventory.reduce(fresh, event)  # type: ignore[arg-type]
        assert alive(now) == alive(fresh)
        assert node.poll(sandboxes, containers) == []


@given(st.binary(max_size=200))
def test_any_text_is_info_or_malformed(data: bytes) -> None:
    try:
        said = info.parse({"info": data.decode(errors="replace")})
    except errors.Malformed:
        return
    assert isinstance(said.cgroup_parent, str)
    assert isinstance(said.cgroups_path, str)


def test_fields_that_are_not_known_are_skipped() -> None:
    # Field 99 of each, and of the container in the list.
    unknown = b"\x9a\x06\x03new"
    listed = cri.ListContainersResponse(containers=[lists.container("a")])
    inner = listed.containers[0].SerializeToString() + unknown
    data = b"\x0a" + bytes([len(inner)]) + inner + unknown
    containers = list(cri.ListContainersResponse.FromString(data).containers)
    news = lists.Node().poll(
        [cri.PodSandbox.FromString(lists.sandbox("s").SerializeToString() + unknown)], containers
    )
    (event,) = news
    assert isinstance(event, events.Synchronized)
    assert [container.id for container in event.containers] == ["a"]
