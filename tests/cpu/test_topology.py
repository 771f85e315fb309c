"""A machine's topology is what its sysfs texts say, holes, offline CPUs and missing files included."""

# covers: PRD-1.7, PRD-10.1

from __future__ import annotations

import pathlib
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet, NodeSet
from reconciler.sim import machine

MACHINES = pathlib.Path(__file__).resolve().parents[2] / "fixtures" / "machines"
NAMES = sorted(path.stem for path in MACHINES.glob("*.yaml"))


def texts(name: str) -> dict[str, str]:
    """The files of a machine."""
    loaded: dict[str, str] = yaml.load((MACHINES / f"{name}.yaml").read_text(), Loader=yaml.CSafeLoader)
    return loaded


def lists(sets: tuple[CpuSet, ...]) -> list[str]:
    """The sets as the kernel prints them."""
    return [str(cpus) for cpus in sets]


def cpus(text: str) -> CpuSet:
    """A set, for short."""
    return CpuSet.parse(text, what="test")


shapes = st.builds(
    machine.Shape,
    sockets=st.integers(1, 3),
    nodes=st.integers(1, 3),
    llcs=st.integers(1, 3),
    cores=st.integers(1, 3),
    threads=st.integers(1, 2),
    adjacent=st.booleans(),
)


@pytest.mark.parametrize("name", NAMES)
def test_every_group_of_a_machine_holds_each_online_cpu_once(name: str) -> None:
    parsed = topologies.parse(texts(name))
    for groups in (parsed.llcs, parsed.cores, parsed.sockets, tuple(node.cpus for node in parsed.nodes)):
        assert sorted(cpu for group in groups for cpu in group) == list(parsed.online)


def test_a_machine_of_two_sockets() -> None:
    parsed = topologies.parse(texts("two-socket"))
    assert str(parsed.online) == "0-15"
    assert not parsed.offline
    assert not parsed.isolated
    assert [(node.id, str(node.cpus), node.has_memory) for node in parsed.nodes] == [
        (0, "0-3,8-11", True),
        (1, "4-7,12-15", True),
    ]
    assert lists(parsed.llcs) == lists(parsed.sockets) == ["0-3,8-11", "4-7,12-15"]
    assert lists(parsed.cores) == [f"{cpu},{cpu + 8}" for cpu in range(8)]


def test_a_machine_with_holes_in_every_numbering() -> None:
    parsed = topologies.parse(texts("sparse"))
    assert str(parsed.online) == "0-1,4-5,8188-8191"
    assert str(parsed.offline) == "6-7"
    assert str(parsed.isolated) == "6"
    assert [(node.id, str(node.cpus), node.has_memory) for node in parsed.nodes] == [
        (0, "0-1,4-5", True),
        (4, "8188-8191", False),
        (9, "", True),
        (12, "", True),
    ]
    assert parsed.nodes[1].distances == {0: 21, 4: 10, 9: 17, 12: 17}
    assert lists(parsed.llcs) == ["0-1,4-5", "8188-8189", "8190-8191"]
    assert lists(parsed.cores) == ["0,4", "1,5", "8188-8189", "8190-8191"]
    assert lists(parsed.sockets) == ["0-1,4-5", "8188-8191"]


def test_a_server_with_several_caches_a_node() -> None:
    parsed = topologies.parse(texts("epyc"))
    assert len(parsed.nodes) == 4
    assert lists(parsed.llcs)[:2] == ["0-1,32-33", "2-3,34-35"]
    assert len(parsed.llcs) == 16
    assert lists(parsed.sockets) == ["0-63"]


def test_a_machine_without_nodes_is_one_node_with_memory_and_one_cache() -> None:
    parsed = topologies.parse(texts("no-numa"))
    assert [(node.id, str(node.cpus), node.has_memory) for node in parsed.nodes] == [(0, "0-3", True)]
    assert lists(parsed.llcs) == lists(parsed.sockets) == ["0-3"]
    assert lists(parsed.cores) == ["0", "1", "2", "3"]
    assert parsed.memory_nodes(cpus("2")) == NodeSet([0])


def test_isolated_cpus_are_online_all_the_same() -> None:
    parsed = topologies.parse(texts("vm-isolated"))
    assert str(parsed.isolated) == "2-3"
    assert str(parsed.online) == "0-7"


def test_a_list_of_online_cpus_is_all_that_is_needed() -> None:
    parsed = topologies.parse({topologies.ONLINE: "0-1\n"})
    assert lists(parsed.cores) == ["0", "1"]
    assert lists(parsed.llcs) == ["0-1"]


@given(shapes)
def test_a_regular_machine_is_read_as_it_was_built(shape: machine.Shape) -> None:
    parsed = topologies.parse(machine.build(shape))
    assert len(parsed.online) == shape.cpus
    assert {len(core) for core in parsed.cores} == {shape.threads}
    assert {len(llc) for llc in parsed.llcs} == {shape.threads * shape.cores}
    assert len(parsed.llcs) == shape.sockets * shape.nodes * shape.llcs
    assert len(parsed.nodes) == shape.sockets * shape.nodes
    assert len(parsed.sockets) == shape.sockets
    for cpu in parsed.online:
        assert [core for core in parsed.cores if cpu in core] == [parsed.siblings(cpu)]
    for node in parsed.nodes:
        assert parsed.memory_nodes(node.cpus) == NodeSet([node.id])


@given(shapes, st.data())
def test_cpus_that_go_offline_leave_every_group(shape: machine.Shape, data: st.DataObject) -> None:
    files = machine.build(shape)
    whole = topologies.parse(files)
    keep = data.draw(st.sets(st.sampled_from(list(whole.online)), min_size=1))
    left = topologies.parse(files | {topologies.ONLINE: str(CpuSet(keep))})
    assert left.online == CpuSet(keep)
    assert left.offline == whole.online - left.online
    assert {core.bits for core in left.cores} == {(core & left.online).bits for core in whole.cores} - {0}
    assert {llc.bits for llc in left.llcs} == {(llc & left.online).bits for llc in whole.llcs} - {0}
    assert len(left.nodes) == len(whole.nodes)


def test_a_large_machine_of_512_cpus_is_read() -> None:
    parsed = topologies.parse(machine.build(machine.Shape(sockets=2, nodes=4, llcs=4, cores=8)))
    assert len(parsed.online) == 512
    assert len(parsed.nodes) == 8
    assert str(parsed.siblings(511)) == "255,511"


class Counted(dict[str, str]):
    """Files that count how often they are asked for."""

    count = 0

    def get(self, key: str, default: Any = None, /) -> Any:
        """As a dictionary's."""
        self.count += 1
        return super().get(key, default)

    def __getitem__(self, key: str) -> str:
        self.count += 1
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.count += 1
        return super().__contains__(key)


def test_twice_the_cpus_take_twice_the_look_ups() -> None:
    counts = []
    for cores in (4, 8, 16):
        files = Counted(machine.build(machine.Shape(sockets=2, nodes=4, llcs=4, cores=cores)))
        topologies.parse(files)
        counts.append(files.count)
    assert counts[1] < 2 * counts[0]
    assert counts[2] < 2 * counts[1]


def test_a_cpu_that_is_not_online_has_no_siblings() -> None:
    parsed = topologies.parse(texts("sparse"))
    assert str(parsed.siblings(6)) == "6"


@pytest.mark.parametrize(
    ("wanted", "nodes"),
    [
        pytest.param("", "", id="no-cpus"),
        pytest.param("0", "0", id="own-node"),
        pytest.param("8190", "9", id="nearest-and-lowest-of-two-as-near"),
        pytest.param("1,8188", "0,9", id="both"),
        pytest.param("6", "", id="offline"),
    ],
)
def test_memory_comes_from_the_nearest_node_that_has_some(wanted: str, nodes: str) -> None:
    assert str(topologies.parse(texts("sparse")).memory_nodes(cpus(wanted))) == nodes


def test_where_no_node_has_memory_each_stands_for_itself() -> None:
    files = machine.vm() | {topologies.NODES_WITH_MEMORY: "\n"}
    assert str(topologies.parse(files).memory_nodes(cpus("4"))) == "1"


def test_without_distances_other_nodes_are_equally_far() -> None:
    files = {path: text for path, text in machine.vm().items() if not path.endswith("/distance")}
    assert [dict(node.distances) for node in topologies.parse(files).nodes] == [
        {0: 10, 1: 20},
        {0: 20, 1: 10},
    ]


def test_a_cache_that_spans_two_nodes_counts_as_one_in_each() -> None:
    files = machine.vm()
    files |= {f"{topologies.cache_path(cpu, 3)}/shared_cpu_list": "0-7\n" for cpu in range(8)}
    assert lists(topologies.parse(files).llcs) == ["0-3", "4-7"]


def test_where_no_cache_is_known_the_cpus_of_a_node_count_as_one() -> None:
    files = {path: text for path, text in machine.vm().items() if "/cache/" not in path}
    assert lists(topologies.parse(files).llcs) == ["0-3", "4-7"]


def test_a_cpu_without_known_caches_counts_with_the_rest_of_its_node() -> None:
    files = {path: text for path, text in machine.vm().items() if "/cpu0/cache/" not in path}
    assert lists(topologies.parse(files).llcs) == ["0-3", "4-7"]


def test_an_instruction_cache_is_no_last_level_cache() -> None:
    files = machine.vm()
    files |= {f"{topologies.cache_path(cpu, 3)}/type": "Instruction\n" for cpu in range(8)}
    assert lists(topologies.parse(files).llcs) == ["0-1", "2-3", "4-5", "6-7"]


def test_equal_texts_give_equal_topologies() -> None:
    first, second = topologies.parse(machine.vm()), topologies.parse(machine.vm())
    assert first == second
    assert hash(first) == hash(second)
    assert first != topologies.parse(machine.two_sockets())
