"""A host whose cpusets cannot be managed is recognised by its mounts, and told in one sentence why."""

# covers: PRD-10.2

from __future__ import annotations

import os
import pathlib
import subprocess

import pytest

from reconciler import errors
from reconciler.host import cgroupmount

UNIFIED = "30 23 0:26 / {root} rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = """\
31 23 0:28 / {root} ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,mode=755
34 31 0:31 / {root}/cpuset rw,relatime shared:15 - cgroup cgroup rw,cpuset
35 31 0:32 / {root}/memory rw,relatime shared:16 - cgroup cgroup rw,memory
"""
HYBRID = V1 + "41 31 0:38 / {root}/unified rw,relatime shared:10 - cgroup2 cgroup2 rw\n"
OTHERS = """\
23 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw
25 23 0:5 / /proc rw,nosuid,nodev,noexec,relatime shared:5 - proc proc rw
26 23 0:22 / /sys rw,relatime shared:6 master:1 propagate_from:2 - sysfs sysfs rw
"""
ALL = "cpuset cpu io memory hugetlb pids rdma misc"


class Host:
    """A directory to be the mount, and a file that says what is mounted."""

    def __init__(self, folder: pathlib.Path, name: str = "cgroup") -> None:
        self.root = folder / name
        self.root.mkdir()
        self.mountinfo = folder / "mountinfo"
        self.mount(OTHERS)

    def mount(self, lines: str, root: pathlib.Path | None = None) -> None:
        """Say that this is mounted. `{root}` stands for the mount as the kernel writes it."""
        written = str(root or self.root)
        for character in ("\\", " ", "\t", "\n"):
            written = written.replace(character, f"\\{ord(character):03o}")
        with self.mountinfo.open("a") as file:
            file.write(lines.replace("{root}", written))

    def controllers(self, names: str) -> None:
        """What the root of cgroup2 offers."""
        (self.root / "cgroup.controllers").write_text(f"{names}\n")

    def refusal(self) -> str:
        """Why the host is not suitable, in one sentence."""
        with pytest.raises(errors.Unsuitable) as caught:
            cgroupmount.check(str(self.root), str(self.mountinfo))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def is_suitable(self) -> bool:
        try:
            cgroupmount.check(str(self.root), str(self.mountinfo))
        except errors.Unsuitable:
            return False
        return True


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Host:
    return Host(tmp_path)


def test_cgroup2_with_the_cpuset_controller_is_suitable(host: Host) -> None:
    host.mount(UNIFIED)
    host.controllers(ALL)
    assert host.is_suitable()


@pytest.mark.parametrize(
    "offered", ["cpu io memory pids", "cpusets", ""], ids=["others", "a-longer-word", "none"]
)
def test_cgroup2_without_the_cpuset_controller_is_not(host: Host, offered: str) -> None:
    host.mount(UNIFIED)
    host.controllers(offered)
    assert "is cgroup v2 without the cpuset controller" in host.refusal()


def test_cgroup2_whose_controllers_cannot_be_read_is_not(host: Host) -> None:
    host.mount(UNIFIED)
    assert "without the cpuset controller" in host.refusal()


def test_cgroup2_whose_cpuset_a_mount_of_v1_took_is_not(host: Host) -> None:
    host.mount(UNIFIED)
    host.mount("44 30 0:40 / /mnt/cpuset rw - cgroup cgroup rw,cpuset\n")
    host.controllers("cpu io memory pids")
    assert "a cgroup v1 mount has taken" in host.refusal()


@pytest.mark.parametrize(
    ("lines", "layout"),
    [
        pytest.param(V1, "has cgroup v1, and", id="v1"),
        pytest.param(HYBRID, "has the hybrid layout of cgroup v1 and v2", id="hybrid"),
        pytest.param(
            "34 23 0:31 / {root} rw - cgroup cgroup rw,cpuset\n", "has cgroup v1, and", id="v1-itself"
        ),
    ],
)
def test_cgroup_v1_is_not_and_the_sentence_says_what_to_do(host: Host, lines: str, layout: str) -> None:
    host.mount(lines)
    refusal = host.refusal()
    assert refusal.startswith(str(host.root))
    assert layout in refusal
    assert "boot with systemd.unified_cgroup_hierarchy=1" in refusal


def test_cgroup_v1_is_known_by_its_directory_where_the_mount_is_not_seen(host: Host) -> None:
    (host.root / "cpuset").mkdir()
    assert "has cgroup v1" in host.refusal()


def test_the_unified_part_of_a_hybrid_host_is_not(host: Host) -> None:
    unified = host.root / "unified"
    host.mount(HYBRID)
    unified.mkdir()
    host.root = unified
    host.controllers("")
    assert "without the cpuset controller" in host.refusal()


@pytest.mark.parametrize(
    "lines", ["", "30 23 0:26 / {root} rw - ext4 /dev/sda rw\n"], ids=["nothing", "a-disk"]
)
def test_a_plain_directory_is_not_and_the_sentence_names_the_way_out(host: Host, lines: str) -> None:
    host.mount(lines)
    assert host.refusal() == (
        f"{host.root} is not a cgroup2 mount; mount the host's there, or use --simulated"
    )


def test_a_directory_below_the_mount_is_not_the_mount(host: Host) -> None:
    host.mount(UNIFIED)
    host.controllers(ALL)
    host.root /= "kubepods.slice"
    host.root.mkdir()
    assert "is not a cgroup2 mount" in host.refusal()


def test_a_root_that_does_not_exist_is_not(host: Host) -> None:
    host.root.rmdir()
    assert "is not a cgroup2 mount" in host.refusal()


@pytest.mark.parametrize("name", ["with space", "back\\slash", "a\ttab", "end\nof-line", "\\040"], ids=ascii)
def test_characters_that_the_kernel_escapes_are_read_back(tmp_path: pathlib.Path, name: str) -> None:
    host = Host(tmp_path, name)
    host.mount(UNIFIED)
    host.controllers(ALL)
    assert host.is_suitable()


def test_names_that_are_no_utf8_do_not_matter(host: Host) -> None:
    with host.mountinfo.open("ab") as file:
        file.write(b"29 23 8:1 / /media/\xff\xfe rw - vfat /dev/sdb1 rw\n")
    host.mount(UNIFIED)
    host.controllers(ALL)
    assert host.is_suitable()


def test_the_last_mount_on_a_directory_is_the_one_that_counts(host: Host) -> None:
    host.controllers(ALL)
    host.mount(V1)
    host.mount(UNIFIED)
    assert host.is_suitable()
    host.mount("50 30 0:50 / {root} rw - tmpfs tmpfs rw\n")
    assert not host.is_suitable()


def test_a_link_to_the_mount_is_as_good_as_the_mount(host: Host) -> None:
    host.mount(UNIFIED)
    host.controllers(ALL)
    link = host.root.with_name("link")
    link.symlink_to(host.root)
    host.root = link
    assert host.is_suitable()


def test_a_slash_too_many_does_not_matter(host: Host) -> None:
    host.mount(UNIFIED)
    host.controllers(ALL)
    cgroupmount.check(f"{host.root}//", str(host.mountinfo))
    assert host.is_suitable()


@pytest.mark.parametrize(
    "line", ["\n", "garbage\n", "1 2 3 - cgroup2\n", "30 23 0:26 / {root} rw -\n"], ids=ascii
)
def test_lines_that_are_no_mounts_are_passed_over(host: Host, line: str) -> None:
    host.mount(line)
    assert "is not a cgroup2 mount" in host.refusal()
    host.mount(UNIFIED)
    host.controllers(ALL)
    assert host.is_suitable()


def test_a_system_without_a_list_of_mounts_is_no_linux_host(host: Host) -> None:
    host.mountinfo.unlink()
    assert host.refusal() == f"{host.mountinfo}: No such file or directory: this is not a Linux host"


def test_this_machine_is_judged_as_statfs_and_its_controllers_say() -> None:
    root = "/sys/fs/cgroup"
    kind = subprocess.run(
        ["stat", "--file-system", "--format=%T", root], capture_output=True, text=True, check=False
    ).stdout.strip()
    offered = pathlib.Path(root, "cgroup.controllers")
    if kind == "cgroup2fs" and "cpuset" in offered.read_text().split():
        cgroupmount.check(root)
        return
    with pytest.raises(errors.Unsuitable) as caught:
        cgroupmount.check(root)
    assert str(caught.value).startswith(root)
    if kind != "cgroup2fs" and os.path.isdir(f"{root}/cpuset"):
        assert "cgroup v1" in str(caught.value)
