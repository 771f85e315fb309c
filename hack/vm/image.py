"""The emulated node's root disk: Debian with systemd, containerd and Python, built once and reused. I/O.

Not what is tested: that comes on a disk of its own (`payload.py`), so a change of the code under test does
not build this again. A change of this file, of the files in `guest/` or of the suite does.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import shutil
import tempfile
from dataclasses import dataclass

import container_image
import disks
import trouble

GUEST = pathlib.Path(__file__).with_name("guest")
PACKAGES = (
    *("systemd", "systemd-sysv", "udev", "dbus", "kmod", "util-linux", "procps"),
    *("linux-image-cloud-amd64", "initramfs-tools", "busybox-static"),
    *("containerd", "containernetworking-plugins", "runc"),
    "python3",  # the full one: python3-minimal lacks modules that the agent needs
)
CONFIGURATIONS = {"bookworm": "containerd-v2.toml", "trixie": "containerd-v2.toml"}
"""By suite; containerd before 2.0 reads version 2, everything newer version 3."""
IDLE_UNITS = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer"),
    *("fstrim.timer", "systemd-tmpfiles-clean.timer", "getty@tty1.service", "serial-getty@ttyS0.service"),
    *("systemd-pstore.service", "systemd-firstboot.service", "ldconfig.service"),
    *("systemd-hwdb-update.service", "systemd-journal-catalog-update.service", "systemd-networkd.service"),
    *("systemd-logind.service", "systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount"),
    *("systemd-sysusers.service", "systemd-user-sessions.service", "modprobe@drm.service"),
)
"""Units that would take the emulator's time, or write, while tests run."""
DISK_BYTES = 2 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A built image. `python` is the guest's Python, such as `3.14`."""

    folder: pathlib.Path
    python: str

    @property
    def disk(self) -> pathlib.Path:
        """The root disk, ext4."""
        return self.folder / "root.img"

    @property
    def kernel(self) -> pathlib.Path:
        """The kernel that the root disk's modules belong to."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> pathlib.Path:
        """That kernel's initial file system."""
        return self.folder / "initrd"

    @property
    def root(self) -> pathlib.Path:
        """The root file system as a directory, for programs of the guest that are run on the host."""
        return self.folder / "root"


def get(suite: str, cache: pathlib.Path, mirror: str | None) -> tuple[Image, bool]:
    """The image of a Debian suite, and whether it had to be built. Raises TroubleError."""
    folder = cache / f"{suite}-{digest(suite)}"
    built = not (folder / "image.json").exists()
    if built:
        _build(suite, folder, mirror)
    facts = json.loads((folder / "image.json").read_text())
    return Image(folder=folder, python=facts["python"]), built


def digest(suite: str) -> str:
    """What the image depends on, but for the date."""
    state = hashlib.sha256(suite.encode())
    for path in (pathlib.Path(__file__), pathlib.Path(container_image.__file__), *sorted(GUEST.iterdir())):
        state.update(path.name.encode())
        state.update(path.read_bytes())
    return state.hexdigest()[:12]


def _build(suite: str, folder: pathlib.Path, mirror: str | None) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = folder.parent / f"{suite}.log"
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="image-", dir=folder.parent) as scratch:
        root = pathlib.Path(scratch, "root")
        made = pathlib.Path(scratch, "made")
        made.mkdir()
        trouble.call(_bootstrap(suite, root, mirror), log=log)
        configure(root, CONFIGURATIONS.get(suite, "containerd-v3.toml"))
        shutil.copy(next((root / "boot").glob("vmlinuz-*")), made / "vmlinuz")
        shutil.copy(next((root / "boot").glob("initrd.img-*")), made / "initrd")
        disks.write(made / "root.img", root, f"{DISK_BYTES >> 10}k", log=log, label="root")
        root.rename(made / "root")
        (made / "image.json").write_text(json.dumps({"python": _python(made / "root")}))
        made.rename(folder)
    for old in folder.parent.glob(f"{suite}-*"):
        if old != folder:
            shutil.rmtree(old)


def _bootstrap(suite: str, root: pathlib.Path, mirror: str | None) -> list[str]:
    """mmdebstrap's command line; the initrd holds only what finds the root disk, which halves its time."""
    modules = "usr/share/initramfs-tools/modules.d"
    only = (
        f'mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/{modules}"'
        ' && echo MODULES=list >"$1/etc/initramfs-tools/conf.d/node"'
        f' && printf "virtio_pci\\nvirtio_blk\\next4\\n" >"$1/{modules}/node"'
    )
    return [
        # Mounts of its own: one that it cannot undo must not be left on the host, nor be deleted into.
        *("unshare", "--mount", "--propagation", "private"),
        *("mmdebstrap", "--variant=minbase", "--mode=root", f"--include={','.join(PACKAGES)}"),
        # The release file of a suite may be past its date on a mirror that is rarely synchronised.
        """--aptopt=Acquire::Check-Valid-Until "false";""",
        """--aptopt=Acquire::Retries "3";""",
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale", "info")),
        f"--essential-hook={only}",
        *(suite, str(root)),
        *([mirror] if mirror else []),
    ]


def configure(root: pathlib.Path, containerd: str) -> None:
    """Lay the node's own files into the root file system."""
    etc = root / "etc"
    units = etc / "systemd/system"
    (etc / "hostname").write_text("node\n")
    (etc / "machine-id").write_text("6e6f64652d6f662d746865652d746573\n")
    (etc / "fstab").write_text("")
    (root / "opt/payload").mkdir(parents=True)
    _lay(GUEST / containerd, etc / "containerd/config.toml")
    _lay(GUEST / "loopback.conflist", etc / "cni/net.d/10-loopback.conflist")
    _lay(GUEST / "system.conf", etc / "systemd/system.conf.d/node.conf")
    _lay(GUEST / "journald.conf", etc / "systemd/journald.conf.d/node.conf")
    _lay(GUEST / "containerd.conf", units / "containerd.service.d/node.conf")
    _lay(GUEST / "udev.conf", units / "systemd-udev-trigger.service.d/node.conf")
    _lay(GUEST / "tests.service", units / "tests.service")
    wanted = units / "multi-user.target.wants/tests.service"
    wanted.symlink_to("/etc/systemd/system/tests.service")
    for name in IDLE_UNITS:
        unit = units / name
        unit.unlink(missing_ok=True)
        unit.symlink_to("/dev/null")
    busybox = (root / "usr/bin/busybox").read_bytes()
    container_image.write(root / "opt/image.tar", busybox)


def _lay(source: pathlib.Path, target: pathlib.Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def _python(root: pathlib.Path) -> str:
    """The version that `python3` stands for, read from its link: `python3.14` gives `3.14`."""
    return (root / "usr/bin/python3").readlink().name.removeprefix("python")
