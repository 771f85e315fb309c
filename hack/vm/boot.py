"""Boots the node in QEMU, shows what the tests print, and brings their results back. I/O: a process.

The machine is what `fixtures/machines/vm.yaml` describes: 8 CPUs in 2 sockets, each with 2 cores of 2
threads and a NUMA node of its own. Processors are emulated in software, in one thread: with more, guests
have crashed in the emulator, and hardware help is not there on every host.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass

import image  # noqa: TC002  beside this module, not a third party's
import trouble

ATTEMPTS = 3
"""A boot that fails is tried twice more; a test that fails is not."""
BOOT_SECONDS = 300
"""From power-on to the first test; 40 to 60 is usual."""
TEST_SECONDS = 2400
_RESULTS_BYTES = 64 << 20
_MEGABYTES_A_NODE = 1536
_POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended: pytest's exit code, None where none came back; `failed_boots` came before."""

    code: int | None
    failed_boots: int
    boot_seconds: float
    test_seconds: float


def run(image_: image.Image, payload: pathlib.Path, folder: pathlib.Path) -> Outcome:
    """Boot until the tests have begun, then wait for their end. Raises TroubleError if no boot works.

    Leaves `console.log`, `pytest.txt` and the unpacked results in `folder`.
    """
    for attempt in range(ATTEMPTS):
        machine = _Machine(image_, payload, folder)
        began = time.monotonic()
        try:
            if machine.wait_for_boot(began + BOOT_SECONDS):
                up = time.monotonic()
                print(f"booted in {up - began:.0f} s", flush=True)
                machine.follow(up + TEST_SECONDS)
                return Outcome(
                    code=_results(folder),
                    failed_boots=attempt,
                    boot_seconds=up - began,
                    test_seconds=time.monotonic() - up,
                )
        finally:
            machine.end()
        print(f"boot {attempt + 1} failed after {time.monotonic() - began:.0f} s; {_last_words(folder)}")
    raise trouble.TroubleError(f"the node did not boot in {ATTEMPTS} attempts; see {folder}/console.log")


class _Machine:
    def __init__(self, image_: image.Image, payload: pathlib.Path, folder: pathlib.Path) -> None:
        self._live = folder / "pytest.txt"
        self._live.write_bytes(b"")
        results = folder / "results.img"
        with results.open("wb") as disk:
            disk.truncate(_RESULTS_BYTES)
        self._shown = 0
        command = _command(image_, payload, folder)
        with (folder / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait_for_boot(self, until: float) -> bool:
        """Wait for the first output on the live port."""
        while self._running(until):
            if self._live.stat().st_size:
                return True
        return False

    def follow(self, until: float) -> None:
        """Print what the tests print until the machine is off."""
        while self._running(until):
            self._show()
        self._show()

    def end(self) -> None:
        """Switch off, if it is on."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _running(self, until: float) -> bool:
        time.sleep(_POLL_SECONDS)
        return self._process.poll() is None and time.monotonic() < until

    def _show(self) -> None:
        with self._live.open("rb") as live:
            live.seek(self._shown)
            news = live.read()
        self._shown += len(news)
        sys.stdout.write(news.decode(errors="replace"))
        sys.stdout.flush()


def _command(image_: image.Image, payload: pathlib.Path, folder: pathlib.Path) -> list[str]:
    nodes = [
        option
        for node, cpus in enumerate(("0-3", "4-7"))
        for option in (
            *("-object", f"memory-backend-ram,id=memory{node},size={_MEGABYTES_A_NODE}M"),
            *("-numa", f"node,nodeid={node},cpus={cpus},memdev=memory{node}"),
        )
    ]
    return [
        *(trouble.find("qemu-system-x86_64"), "-machine", "q35", "-accel", "tcg,thread=single"),
        *("-cpu", "max", "-smp", "8,sockets=2,cores=2,threads=2"),
        *("-m", f"{2 * _MEGABYTES_A_NODE}M", *nodes),
        *("-nodefaults", "-display", "none", "-no-reboot", "-device", "virtio-rng-pci"),
        *("-serial", f"file:{folder / 'console.log'}"),
        *("-device", "virtio-serial-pci", "-chardev", f"file,id=live,path={folder / 'pytest.txt'}"),
        *("-device", "virtserialport,chardev=live,name=live"),
        *_disk("root", image_.disk, "snapshot=on"),
        *_disk("payload", payload, "readonly=on"),
        *_disk("results", folder / "results.img", "cache=writethrough"),
        *("-kernel", str(image_.kernel), "-initrd", str(image_.initrd)),
        # panic=-1 with -no-reboot ends QEMU at once where the guest's kernel gives up.
        *("-append", "root=/dev/vda rw console=ttyS0 quiet panic=-1 mitigations=off systemd.show_status=no"),
    ]


def _disk(name: str, path: pathlib.Path, option: str) -> list[str]:
    drive = f"file={path},format=raw,if=none,id={name},{option}"
    return ["-drive", drive, "-device", f"virtio-blk-pci,drive={name},serial={name}"]


def _results(folder: pathlib.Path) -> int | None:
    """Unpack the results disk; pytest's exit code."""
    target = folder / "results"
    try:
        with tarfile.open(folder / "results.img") as archive:
            archive.extractall(target, filter="data")
    except tarfile.TarError:
        return None
    return int((target / "code").read_text())


def _last_words(folder: pathlib.Path) -> str:
    lines = (folder / "console.log").read_text(errors="replace").split("\n")
    words = [line.strip() for line in lines if line.strip()]
    return f"the console ends with: {words[-1]}" if words else "the console is empty"
