"""Whatever comes, and wherever the agent is killed: after every write partitions are whole, and nobody gets
onto exclusive CPUs; after a whole pass they are as wanted, and nothing else is left.
"""

# covers: PRD-4.2, PRD-4.10, PRD-4.11

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from reconciler.config import schema
from tests.daemon import partitioned, pods

FAST = "/dev/shm" if os.path.isdir("/dev/shm") else None
SOME = settings(deadline=None, max_examples=60, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
LEVELS = st.sampled_from(["", "cpuset", "partition", "isolated"])
CONFIGS = st.builds(
    schema.Config,
    isolation=st.sampled_from(["cpuset", "partition", "isolated"]),
    isolation_namespaces=st.sampled_from([(), ("default",)]),
    annotated_overlap=st.sampled_from(["refuse", "refuse", "allow"]),
)
NAMES = st.sampled_from(["a", "b", "c", "d"])
LISTS = st.sampled_from(["2-3", "3", "4-6", "6-7", "1,5"])
SIZES = st.sampled_from([0, 1, 1, 2, 3])
Step = tuple[str, tuple[object, ...]]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("create"), st.tuples(NAMES, LEVELS, st.one_of(st.just(""), LISTS), SIZES)),
        st.tuples(st.just("beside"), st.tuples(NAMES, SIZES)),
        st.tuples(st.just("resize"), st.tuples(NAMES, SIZES)),
        st.tuples(st.just("end"), st.tuples(NAMES)),
        st.tuples(st.just("configure"), st.tuples(CONFIGS)),
        st.tuples(st.just("restart"), st.just(())),
    ),
    min_size=3,
    max_size=10,
)


@contextlib.contextmanager
def ground(config: schema.Config) -> Iterator[partitioned.Ground]:
    """A node in a folder of its own."""
    with tempfile.TemporaryDirectory(dir=FAST) as folder:
        made = partitioned.Ground(folder, config)
        with contextlib.closing(made):
            yield made


def step(made: partitioned.Ground, what: str, how: tuple[object, ...]) -> None:
    """Let something happen, without a pass."""
    match what, how:
        case "create", (str(name), str(level), str(cores), int(size)):
            if name not in made.pods:
                pod = partitioned.isolated(name, level, cores=cores)
                made.create(pod, pods.container(pod, whole=size))
        case "beside", (str(name), int(size)):
            if name in made.pods:
                made.create(made.pods[name], pods.container(made.pods[name], "side", whole=size))
        case "resize", (str(name), int(size)):
            if size:
                made.resize(f"{name}-main-1", size)
        case "end", (str(name),):
            if name in made.pods:
                made.end(name)
        case "configure", (schema.Config() as config,):
            made.configure(config)
        case _:
            made.begin()


@given(CONFIGS, STEPS)
@SOME
def test_after_every_write_partitions_are_whole_and_after_every_pass_they_are_as_wanted(
    config: schema.Config, steps: list[Step]
) -> None:
    with ground(config) as made:
        for what, how in steps:
            step(made, what, how)
            made.run()
            made.check_converged()


@given(CONFIGS, STEPS)
@SOME
def test_several_changes_at_once_are_carried_out_in_one_pass(
    config: schema.Config, steps: list[Step]
) -> None:
    with ground(config) as made:
        for at, (what, how) in enumerate(steps):
            step(made, what, how)
            if at % 3 == 2:
                made.run()
                made.check_converged()


@given(CONFIGS, STEPS, st.lists(st.integers(0, 9), min_size=10, max_size=10))
@SOME
def test_killed_after_any_write_the_next_start_goes_on_from_what_it_finds(
    config: schema.Config, steps: list[Step], writes: list[int]
) -> None:
    with ground(config) as made:
        for (what, how), count in zip(steps, writes, strict=False):
            step(made, what, how)
            made.killed_after(count)
        made.run()
        made.check_converged()


@given(CONFIGS, STEPS)
@SOME
def test_a_second_pass_writes_nothing(config: schema.Config, steps: list[Step]) -> None:
    with ground(config) as made:
        for what, how in steps:
            step(made, what, how)
        made.run()
        made.kernel.written.clear()
        made.run()
        assert made.kernel.written == []


OVERLAPPED = [
    ("create", ("a", "", "2-3", 0)),
    ("create", ("b", "", "2-3", 1)),
    ("create", ("a", "", "", 0)),
    ("configure", (schema.Config(isolation="partition"),)),
]
"""Lists that overlap, from a time in which they might."""


@given(CONFIGS, STEPS)
@example(schema.Config(annotated_overlap="allow"), OVERLAPPED)
@SOME
def test_what_is_switched_off_leaves_nothing_behind(config: schema.Config, steps: list[Step]) -> None:
    with ground(config) as made:
        for what, how in steps:
            step(made, what, how)
            made.run()
        made.configure(schema.Config())
        made.begin()
        made.run()
        assert made.host.partitions.valid() == {}
        made.check_converged()
