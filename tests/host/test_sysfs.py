"""A topology is read from a host's files: fixtures on a fake file system, and this machine's own."""

# covers: PRD-9.4, PRD-10.1

from __future__ import annotations

import errno
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pytest
import yaml

from reconciler import errors
from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet
from reconciler.host import sysfs
from reconciler.sim import machine

if TYPE_CHECKING:
    from pyfakefs.fake_filesystem import FakeFilesystem

MACHINES = pathlib.Path(__file__).resolve().parents[2] / "fixtures" / "machines"
TEXTS: dict[str, dict[str, str]] = {
    path.stem: yaml.load(path.read_text(), Loader=yaml.CSafeLoader)
    for path in sorted(MACHINES.glob("*.yaml"))
}
ROOT = "/host"


def lay(fs: FakeFilesystem, files: Mapping[str, str]) -> None:
    """Put the files below the root of the fake host."""
    for path, text in files.items():
        fs.create_file(f"{ROOT}/{path}", contents=text)


@pytest.mark.parametrize("name", TEXTS)
def test_exactly_the_files_of_a_machine_are_read(name: str, fs: FakeFilesystem) -> None:
    lay(fs, TEXTS[name])
    assert sysfs.read(ROOT) == TEXTS[name]


@pytest.mark.parametrize("name", TEXTS)
def test_the_topology_is_that_of_the_files(name: str, tmp_path: pathlib.Path) -> None:
    machine.write(str(tmp_path), TEXTS[name])
    assert sysfs.topology(str(tmp_path)) == topologies.parse(TEXTS[name])


def test_the_name_of_before_linux_5_3_is_read_where_there_is_no_other(fs: FakeFilesystem) -> None:
    files = machine.vm()
    for cpu in range(8):
        today, before = topologies.siblings_paths(cpu)
        files[before] = files.pop(today)
    lay(fs, files)
    assert sysfs.topology(ROOT) == topologies.parse(machine.vm())


def test_an_offline_cpu_has_no_directories_and_is_offline(fs: FakeFilesystem) -> None:
    files = {path: text for path, text in machine.vm().items() if "/cpu7/" not in path}
    lay(fs, files | {topologies.ONLINE: "0-6\n"})
    assert str(sysfs.topology(ROOT).offline) == "7"


def test_a_list_longer_than_a_page_is_read_whole(tmp_path: pathlib.Path) -> None:
    odd = CpuSet(range(1, 8192, 2))
    machine.write(str(tmp_path), {topologies.ONLINE: "0\n", topologies.PRESENT: f"0,{odd}\n"})
    assert sysfs.topology(str(tmp_path)).offline == odd


def test_a_folder_that_is_no_host_is_unsuitable(fs: FakeFilesystem) -> None:
    for ask in (sysfs.read, sysfs.topology, sysfs.fingerprint):
        with pytest.raises(errors.Unsuitable, match="/host/sys/devices/system/cpu/online is missing"):
            ask(ROOT)


def test_a_file_that_cannot_be_read_is_named(tmp_path: pathlib.Path) -> None:
    machine.write(str(tmp_path), {topologies.ONLINE: "0\n"})
    path = f"{tmp_path}/{topologies.NODES_ONLINE}"
    os.makedirs(path)
    with pytest.raises(errors.HostFileError) as caught:
        sysfs.topology(str(tmp_path))
    assert caught.value.path == path
    assert caught.value.errno == errno.EISDIR


def test_bytes_that_are_no_text_are_a_malformed_list(fs: FakeFilesystem) -> None:
    fs.create_file(f"{ROOT}/{topologies.ONLINE}", contents="0\n")
    fs.create_file(f"{ROOT}/{topologies.PRESENT}", contents=b"\xff\x00\xfe")
    with pytest.raises(errors.Malformed, match=topologies.PRESENT):
        sysfs.topology(ROOT)


@pytest.mark.parametrize(
    "path", [topologies.ONLINE, topologies.ISOLATED], ids=["a-cpu-goes-offline", "a-cpu-is-isolated"]
)
def test_the_fingerprint_changes_with_what_it_stands_for(path: str, fs: FakeFilesystem) -> None:
    machine.write(ROOT, {topologies.ONLINE: "0-7\n", topologies.ISOLATED: "\n"})
    before = sysfs.fingerprint(ROOT)
    assert sysfs.fingerprint(ROOT) == before
    machine.write(ROOT, {path: "0-6\n"})
    assert sysfs.fingerprint(ROOT) != before


def test_a_host_without_isolation_has_a_fingerprint(fs: FakeFilesystem) -> None:
    machine.write(ROOT, {topologies.ONLINE: "0\n"})
    assert sysfs.fingerprint(ROOT) == ("0\n", "")


def test_a_cpu_that_goes_while_sysfs_is_read_makes_it_be_read_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(tmp_path)
    machine.write(root, machine.vm())
    reads: list[dict[str, str]] = []

    def read_and_lose_a_cpu(root: str, read: Callable[[str], dict[str, str]] = sysfs.read) -> dict[str, str]:
        files = read(root)
        if not reads:
            machine.write(root, {topologies.ONLINE: "0-6\n"})
        reads.append(files)
        return files

    monkeypatch.setattr(sysfs, "read", read_and_lose_a_cpu)
    assert str(sysfs.topology(root).online) == "0-6"
    assert len(reads) == 2


def test_this_machine_is_read_and_has_the_cpus_that_the_kernel_says() -> None:
    parsed = sysfs.topology("/")
    said = pathlib.Path("/sys/devices/system/cpu/online").read_text().strip()
    assert str(parsed.online) == said
    assert os.sched_getaffinity(0) <= set(parsed.online)
    assert sorted(cpu for node in parsed.nodes for cpu in node.cpus) == list(parsed.online)
    assert parsed == topologies.parse(sysfs.read("/"))
