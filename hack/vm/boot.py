"""Boots a node in QEMU, shows what its tests print, and brings their results back. I/O: a process.

The machine is what `fixtures/machines/vm.yaml` describes: 8 CPUs in 2 sockets, each with 2 cores of 2
threads and a NUMA node of its own. Processors are emulated in software, in one thread: with more, guests
have crashed in the emulator, and hardware help is not there on every host. The model is an old one: with
all that the emulator can do (`-cpu max`) the same work took it 1.7 times as long.
"""

from __future__ import annotations

import pathlib
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import image  # noqa: TC002  beside this module, not a third party's
import trouble

ATTEMPTS = 3
"""A boot that fails is tried twice more; a test that fails is not."""
BOOT_SECONDS = 600
"""From power-on to the first test. 40 to 100 are usual, more on a host that is busy with other things; a
kernel that gives up ends the machine at once."""
TEST_SECONDS = 4500
_RESULTS_BYTES = 64 << 20
_MEGABYTES_A_NODE = 1536
_POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One machine of `machines` for a suite. `root`, its root disk, stays as it is. `say` is given lines
    to show, `stop` ends it early. `devices` are options of QEMU and `words` of the kernel, besides."""

    image: image.Image
    root: pathlib.Path
    payload: pathlib.Path
    folder: pathlib.Path
    suite: str
    number: int
    machines: int
    long: bool
    say: Callable[[str], None]
    stop: threading.Event
    devices: Sequence[str] = ()
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended: pytest's exit code, None where none came back; `failed_boots` came before."""

    code: int | None
    failed_boots: int
    boot_seconds: float
    test_seconds: float


def run(plan: Plan) -> Outcome:
    """Boot until the tests have begun, then wait for their end. Raises TroubleError if no boot works.

    Leaves `console.log`, `pytest.txt` and the unpacked results in the plan's folder.
    """
    for attempt in range(ATTEMPTS):
        machine = _Machine(plan)
        began = time.monotonic()
        try:
            if machine.wait_for_boot(began + BOOT_SECONDS):
                up = time.monotonic()
                plan.say(f"booted in {up - began:.0f} s")
                machine.follow(up + TEST_SECONDS)
                return Outcome(
                    code=_results(plan.folder),
                    failed_boots=attempt,
                    boot_seconds=up - began,
                    test_seconds=time.monotonic() - up,
                )
        finally:
            machine.end()
        if plan.stop.is_set():
            raise trouble.TroubleError("stopped while the node was booting")
        seconds = time.monotonic() - began
        plan.say(f"boot {attempt + 1} failed after {seconds:.0f} s; {_last_words(plan.folder)}")
    raise trouble.TroubleError(f"the node did not boot in {ATTEMPTS} attempts; see {plan.folder}/console.log")


class _Machine:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._live = plan.folder / "pytest.txt"
        self._live.write_bytes(b"")
        self._shown = 0
        with (plan.folder / "results.img").open("wb") as disk:
            disk.truncate(_RESULTS_BYTES)
        with (plan.folder / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(_command(plan), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait_for_boot(self, until: float) -> bool:
        """Wait for the first output on the live port."""
        while self._running(until):
            if self._live.stat().st_size:
                return True
        return False

    def follow(self, until: float) -> None:
        """Show what the tests print until the machine is off."""
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
        return self._process.poll() is None and time.monotonic() < until and not self._plan.stop.is_set()

    def _show(self) -> None:
        """Whole lines only: another machine may print between them."""
        with self._live.open("rb") as live:
            live.seek(self._shown)
            news = live.read()
        news = news[: news.rfind(b"\n") + 1]
        self._shown += len(news)
        for line in news.decode(errors="replace").splitlines():
            self._plan.say(line)


def _command(plan: Plan) -> list[str]:
    nodes = [
        option
        for node, cpus in enumerate(("0-3", "4-7"))
        for option in (
            *("-object", f"memory-backend-ram,id=memory{node},size={_MEGABYTES_A_NODE}M"),
            *("-numa", f"node,nodeid={node},cpus={cpus},memdev=memory{node}"),
        )
    ]
    # panic=-1 with -no-reboot ends QEMU at once where the guest's kernel gives up.
    kernel = (
        "root=/dev/vda rw console=ttyS0 quiet panic=-1 systemd.show_status=no"
        " mitigations=off nowatchdog transparent_hugepage=never"
    )
    told = f"e2e.suite={plan.suite} e2e.long={int(plan.long)} e2e.share={plan.number}/{plan.machines}"
    return [
        *(trouble.find("setpriv"), "--pdeathsig", "TERM"),  # no machine outlives this program
        *(trouble.find("qemu-system-x86_64"), "-machine", "q35,sata=off,smbus=off"),
        *("-accel", "tcg,thread=single"),
        *("-cpu", "Nehalem", "-smp", "8,sockets=2,cores=2,threads=2"),
        *("-m", f"{2 * _MEGABYTES_A_NODE}M", *nodes),
        *("-nodefaults", "-display", "none", "-no-reboot", "-device", "virtio-rng-pci"),
        *("-serial", f"file:{plan.folder / 'console.log'}"),
        *("-device", "virtio-serial-pci", "-chardev", f"file,id=live,path={plan.folder / 'pytest.txt'}"),
        *("-device", "virtserialport,chardev=live,name=live"),
        *disk("root", plan.root, "snapshot=on"),
        *disk("payload", plan.payload, "readonly=on"),
        *disk("results", plan.folder / "results.img", "cache=writethrough"),
        *("-kernel", str(plan.image.kernel), "-initrd", str(plan.image.initrd)),
        *plan.devices,
        *("-append", f"{kernel} {told} {plan.words}"),
    ]


def disk(name: str, path: pathlib.Path, option: str) -> list[str]:
    """The options of a disk, which the guest sees as /dev/disk/by-id/virtio-NAME."""
    drive = f"file={path},format=raw,if=none,id={name},{option}"
    return ["-drive", drive, "-device", f"virtio-blk-pci,drive={name},serial={name}"]


def _results(folder: pathlib.Path) -> int | None:
    """Unpack the results disk; pytest's exit code."""
    target = folder / "results"
    try:
        with tarfile.open(folder / "results.img") as archive:
            archive.extractall(target, filter="data")
        return int((target / "code").read_text())
    except (tarfile.TarError, FileNotFoundError):
        return None


def _last_words(folder: pathlib.Path) -> str:
    console = folder / "console.log"
    lines = console.read_text(errors="replace").split("\n") if console.exists() else []
    words = [line.strip() for line in lines if line.strip()]
    return f"the console ends with: {words[-1]}" if words else "the console is empty"
