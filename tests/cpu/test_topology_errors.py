"""A sysfs text that the kernel would not write is an error that names its file."""

# covers: PRD-9.4

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler import errors
from reconciler.cpu import topology as topologies
from reconciler.sim import machine

CPU0 = "sys/devices/system/cpu/cpu0"
NODE0 = "sys/devices/system/node/node0"


@pytest.mark.parametrize(
    ("path", "text", "why"),
    [
        pytest.param(topologies.ONLINE, "", "no CPU is online", id="none-online"),
        pytest.param(topologies.ONLINE, "0-7x", "'0-7x' is not a CPU or range", id="online"),
        pytest.param(topologies.ONLINE, "0-8192", "above 8191", id="more-cpus-than-can-be"),
        pytest.param(topologies.PRESENT, "(null)", "not a CPU or range", id="present"),
        pytest.param(topologies.ISOLATED, "?", "not a CPU or range", id="isolated"),
        pytest.param(f"{CPU0}/topology/core_cpus_list", "zebra", "not a CPU", id="siblings"),
        pytest.param(f"{CPU0}/topology/core_cpus_list", "1", "does not have CPU 0", id="others-siblings"),
        pytest.param(f"{CPU0}/topology/core_cpus_list", "", "does not have CPU 0", id="no-siblings"),
        pytest.param(f"{CPU0}/topology/physical_package_id", "", "not a number", id="no-package"),
        pytest.param(f"{CPU0}/topology/physical_package_id", "two", "'two' is not", id="package"),
        pytest.param(f"{CPU0}/cache/index3/level", "L3", "'L3' is not a number", id="level"),
        pytest.param(f"{CPU0}/cache/index3/level", "9" * 5000, "not a number", id="long-level"),
        pytest.param(f"{CPU0}/cache/index3/shared_cpu_list", "4-7", "does not have", id="others-cache"),
        pytest.param(topologies.NODES_ONLINE, "0-x", "not a NUMA node", id="nodes"),
        pytest.param(topologies.NODES_WITH_MEMORY, "a", "not a NUMA node", id="memory"),
        pytest.param(f"{NODE0}/cpulist", "0-", "not a CPU or range", id="cpus-of-a-node"),
        pytest.param(f"{NODE0}/distance", "10", "1 distances for the 2 online nodes", id="one-distance"),
        pytest.param(f"{NODE0}/distance", "10 far", "not a row of distances", id="distance"),
        pytest.param(f"{NODE0}/distance", "10 -20", "not a row of distances", id="negative-distance"),
    ],
)
def test_a_text_that_cannot_be_right_is_named(path: str, text: str, why: str) -> None:
    with pytest.raises(errors.Malformed) as caught:
        topologies.parse(machine.vm() | {path: text})
    assert caught.value.what == path
    assert why in caught.value.why


def test_a_distance_to_a_node_that_is_not_online_is_an_error() -> None:
    with pytest.raises(errors.Malformed, match="node0/distance: 2 distances for the 1 online nodes 0"):
        topologies.parse(machine.vm() | {topologies.NODES_ONLINE: "0"})


def test_a_cpu_of_two_nodes_is_an_error() -> None:
    files = machine.vm() | {"sys/devices/system/node/node1/cpulist": "3-7"}
    with pytest.raises(errors.Malformed, match="node1/cpulist: CPUs 3 belong to another node"):
        topologies.parse(files)


def test_a_cpu_of_no_node_is_an_error() -> None:
    files = machine.vm() | {"sys/devices/system/node/node1/cpulist": "4-6"}
    with pytest.raises(errors.Malformed, match="no node has the online CPUs 7"):
        topologies.parse(files)


def test_no_list_of_online_cpus_is_an_error() -> None:
    with pytest.raises(errors.Malformed, match=f"{topologies.ONLINE}: the list of online CPUs is missing"):
        topologies.parse({})


@given(st.sampled_from(sorted(machine.vm())), st.text(max_size=20))
def test_any_text_gives_a_topology_or_a_typed_error(path: str, text: str) -> None:
    files = machine.vm() | {path: text}
    try:
        parsed = topologies.parse(files)
    except errors.Malformed:
        return
    assert sorted(cpu for core in parsed.cores for cpu in core) == list(parsed.online)
