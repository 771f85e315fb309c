"""Very many wrong writes: each that anybody looked at is a drift that was told of, and nothing stays wrong.

A witness stands between the agent and the cgroups. It counts how often a look found a container wrong that
the look before had found right: so many drifts there are, whatever was written in between without a look.
"""

# covers: PRD-7.22

from __future__ import annotations

import itertools
import pathlib
import random
import threading
from collections.abc import Callable, Sequence

import pytest

from reconciler import events, fights, observed, report
from reconciler.config import schema
from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import history, logs, telling, walk
from reconciler.policy import lifecycle, state
from reconciler.sim import machine
from tests.daemon import kernels, node, pods

COUNT = 25
DB = pods.guaranteed("db")
INTEGER = pods.container(DB, whole=2)
WEB = pods.pod("web")
SHARED = [pods.container(WEB, f"c{number}") for number in range(COUNT)]
WRONG = ["0", "1-2", "0-6", "2", "3,5", "7", "1,3,5,7", "0-2"]
"""None of them is the shared pool, or what the integer container has."""


class Witness(kernels.Kernel):
    """Counts what looks find. `meanwhile` is done after each look and each write, as by somebody else."""

    def __init__(self, root: str, topology: topologies.Topology) -> None:
        super().__init__(root, topology)
        self.seen = 0
        self.meanwhile: Callable[[], object] = lambda: None
        self.right: dict[str, CpuSet] = {}
        """What each group should say: what the agent has written last."""
        self._wrong: set[str] = set()

    def look(self, path: str, quotas: Sequence[str] = ()) -> observed.Look:
        """As `Cgroupfs.look`."""
        look = super().look(path, quotas)
        if isinstance(look, observed.Present) and path in self.right:
            if look.outer.cpus == self.right[path]:
                self._wrong.discard(path)
            elif path not in self._wrong:
                self._wrong.add(path)
                self.seen += 1
        self.meanwhile()
        return look

    def write(self, path: str, file: str, text: str) -> None:
        """As `Cgroupfs.write`."""
        super().write(path, file, text)
        if file == observed.CPUS:
            self.right[path] = CpuSet.parse(text, what=file)
        self.meanwhile()


def _chance(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311  situations, no secrets


def spoil(root: str, chance: random.Random) -> events.Container:
    """Somebody writes a wrong list to somebody."""
    container = chance.choice([INTEGER, *SHARED])
    file = pathlib.Path(root, str(container.cgroup), "cpuset.cpus")
    with open(file, "r+", encoding="ascii") as stream:
        stream.write(chance.choice(WRONG).ljust(40) + "\n")
    return container


def drifts(rows: history.History) -> int:
    """How many drifts all rows tell of. They are as they are now."""
    return sum(row.drifts for row in rows.take())


class Agent:
    """A walker over a witness, with a clock of its own."""

    def __init__(self, folder: pathlib.Path) -> None:
        machine.write(str(folder), machine.vm())
        topology = topologies.parse(machine.vm())
        root = folder / "sys/fs/cgroup"
        root.mkdir(parents=True)
        self.kernel = Witness(str(root), topology)
        self.now = state.State(terms=state.terms(topology, schema.Config()))
        for pod, container in ((DB, INTEGER), *((WEB, its) for its in SHARED)):
            self.now, _, _ = lifecycle.admit(self.now, events.ContainerCreating(pod=pod, container=container))
            self.kernel.make(str(container.cgroup), "0-7")
        self.seconds = 0.0
        self.tell = telling.Teller(logs.configure("json", None))
        self.book = report.Book(fights=fights.Fights(draw=_chance(7).random))
        self.walker = walk.Walker(self.kernel, self.book, self.tell, clock=lambda: self.seconds)

    def passes(self, *ids: events.ContainerId) -> None:
        """A pass over these, or over all."""
        self.walker.run(self.now, walk.Request(scope=frozenset(ids) or None))

    def is_right(self) -> bool:
        """Whether everyone has what it should."""
        texts = {its.id: self.kernel.look(str(its.cgroup)) for its in (INTEGER, *SHARED)}
        wanted = {its.id: CpuSet.parse("0-1,4-7", what="") for its in SHARED}
        wanted[INTEGER.id] = CpuSet.parse("2-3", what="")
        return all(
            isinstance(look, observed.Present) and look.outer.cpus == wanted[id_]
            for id_, look in texts.items()
        )


@pytest.mark.parametrize("seed", range(4))
def test_each_wrong_list_that_was_looked_at_is_told_of_and_none_stays(
    tmp_path: pathlib.Path, seed: int
) -> None:
    chance = _chance(seed)
    its = Agent(tmp_path)
    its.passes()
    assert its.is_right()
    touched: set[events.ContainerId] = set()

    def somebody() -> None:
        if chance.random() < 0.05:
            touched.add(spoil(its.kernel.root, chance).id)

    its.kernel.meanwhile = somebody
    for _ in range(400):
        its.seconds += chance.choice([0.0, 0.01, 0.2, 1.5])
        for _ in range(chance.randrange(8)):
            touched.add(spoil(its.kernel.root, chance).id)
        ids, touched = touched, set()
        its.passes(*(() if chance.random() < 0.1 else ids))
    its.kernel.meanwhile = lambda: None
    for _ in range(3):
        its.seconds += 2.0
        its.passes()
    counters = its.book.counters
    assert its.is_right()
    assert its.kernel.seen > 400
    assert drifts(its.tell.history) == counters.found == counters.repaired == its.kernel.seen
    assert (counters.unrepaired, its.tell.history.lost) == (0, 0)


def test_what_was_overwritten_before_anybody_looked_is_one_drift(tmp_path: pathlib.Path) -> None:
    its = Agent(tmp_path)
    its.passes()
    for text in itertools.islice(itertools.cycle(WRONG), 50):
        its.kernel.write(str(INTEGER.cgroup), "cpuset.cpus", text)
    its.kernel.write(str(INTEGER.cgroup), "cpuset.cpus", "2-3")
    its.passes()
    assert its.book.counters.found == 0
    its.kernel.write(str(INTEGER.cgroup), "cpuset.cpus", WRONG[0])
    its.passes()
    assert drifts(its.tell.history) == its.book.counters.found == 1


async def test_the_same_holds_for_writes_of_which_inotify_tells(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "Kernel", Witness)
    rules = schema.Fights(longest_pause_seconds=0.1)
    async with node.running(tmp_path, schema.Config(fights=rules), watch=True) as made:
        witness = made.kernel
        assert isinstance(witness, Witness)
        await made.run(DB, INTEGER)
        for container in SHARED:
            await made.run(WEB, container)
        await made.quiet()
        # They were born as they should be, and nobody has written to them.
        for container in (INTEGER, *SHARED):
            witness.right[str(container.cgroup)] = CpuSet.parse(made.cpus(container), what="")
        stop = threading.Event()

        def vandal() -> None:
            chance = _chance(1)
            while not stop.wait(0.0005):
                spoil(made.host.root, chance)

        thread = threading.Thread(target=vandal)
        thread.start()
        try:
            await node.until(lambda: witness.seen > 300)
        finally:
            stop.set()
            thread.join()
        await node.until(lambda: {made.cpus(its) for its in SHARED} == {"0-1,4-7"})
        await node.until(lambda: made.cpus(INTEGER) == "2-3")
        await made.quiet()
        counters = made.book.counters
        assert drifts(made.tell.history) == counters.found == counters.repaired == witness.seen
        assert (counters.unrepaired, made.status()["converged"]) == (0, True)
