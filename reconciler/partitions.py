"""Stage 7, beside the plan: ordered writes that make partitions and take them back. Pure. ADR 0026.

A remote partition takes its CPUs from the root of the tree, through `cpuset.cpus.exclusive` of every group
above it (cgroup-v2.rst). A pass makes the `first` writes before those of the cpusets and the `last` ones
after them, so that after every write each partition in force has its CPUs in all groups above, lies on CPUs
that its container is on and everybody else has left, and no siblings have an exclusive CPU in common.
"""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from reconciler import events, observed, plan
from reconciler.cpu.idset import CpuSet

NOBODY = events.ContainerId("")
"""For whom a group is written that has no container of ours below it any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """What one container's cgroup is to be: a partition of this `kind` (`root`, `isolated`) on these CPUs."""

    container: events.ContainerId
    kind: str
    cpus: CpuSet

    def is_had(self, look: observed.Partition | None) -> bool:
        """Whether it is in force."""
        return look is not None and (look.state, look.exclusive) == (self.kind, self.cpus)


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """The writes before those of the cpusets, which give back, and those after them, which take."""

    first: plan.Plan = ()
    last: plan.Plan = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is wanted, and what is there.

    `wants` are by the containers' cgroups. `looks` has these, all groups above them, and whatever else was
    made here. `own` are the exclusive CPUs of groups above that were written here: what others have put
    there stays. `waiting` are containers' cgroups that are not to be made partitions now.
    """

    wants: Mapping[str, Want]
    looks: Mapping[str, observed.Partition]
    own: Mapping[str, CpuSet]
    waiting: Collection[str] = frozenset()


def above(path: str) -> Iterator[str]:
    """The groups above one, the nearest first; the root of the tree is not among them."""
    while path := posixpath.dirname(path):
        yield path


def wanted_below(wants: Mapping[str, Want]) -> dict[str, CpuSet]:
    """The CPUs that each group above a wanted partition has to have: those of all below it together."""
    found: dict[str, CpuSet] = {}
    for path, want in wants.items():
        for group in above(path):
            found[group] = found.get(group, CpuSet()) | want.cpus
    return found


def order(its: Situation) -> Steps:
    """The writes that turn what is there into what is wanted. Linear in the groups."""
    below = wanted_below(its.wants)
    left = dict(its.looks)
    first = [*_demote(its, below, left), *_shrink(its, below, left)]
    return Steps(first=tuple(first), last=(*_grow(its, left), *_promote(its, left)))


def _demote(
    its: Situation, below: Mapping[str, CpuSet], left: dict[str, observed.Partition]
) -> Iterator[plan.Write]:
    """Partitions that are to end or to be elsewhere: members first, then without exclusive CPUs."""
    for path in sorted(its.looks):
        look, want = its.looks[path], its.wants.get(path)
        is_above = path in below or path in its.own
        if is_above or look.is_plain or (want is not None and look.exclusive in (want.cpus, CpuSet())):
            continue
        owner = NOBODY if want is None else want.container
        cpus = look.exclusive
        if look.state != observed.MEMBER:
            yield _write(path, owner, observed.PARTITION, observed.MEMBER, plan.Phase.LEAVE, vacates=cpus)
        if cpus:
            yield _write(path, owner, observed.EXCLUSIVE, "", plan.Phase.LEAVE, needs=cpus, vacates=cpus)
        left[path] = observed.Partition(exclusive=CpuSet(), state=observed.MEMBER)


def _shrink(
    its: Situation, below: Mapping[str, CpuSet], left: dict[str, observed.Partition]
) -> Iterator[plan.Write]:
    """Groups above give back what nobody below them wants any more, the lowest groups first."""
    for path in sorted(its.own, key=_depth, reverse=True):
        look = left.get(path)
        if look is None:
            continue
        spare = look.exclusive & (its.own[path] - below.get(path, CpuSet()))
        if spare:
            rest = look.exclusive - spare
            yield _write(
                path, NOBODY, observed.EXCLUSIVE, str(rest), plan.Phase.LEAVE, needs=spare, vacates=spare
            )
            left[path] = dataclasses.replace(look, exclusive=rest)


def _grow(its: Situation, left: Mapping[str, observed.Partition]) -> Iterator[plan.Write]:
    """Groups above take what partitions below them are to have, the highest groups first."""
    going_on = {path: want for path, want in its.wants.items() if path in left and path not in its.waiting}
    now = wanted_below(going_on)
    for path in sorted(now, key=_depth):
        look = left.get(path)
        if look is None or now[path] <= look.exclusive:
            continue
        new = now[path] - look.exclusive
        for_whom = next(want.container for leaf, want in going_on.items() if _is_for(leaf, path, want, new))
        text = str(look.exclusive | new)
        yield _write(path, for_whom, observed.EXCLUSIVE, text, plan.Phase.SETTLE, needs=new, vacates=new)


def _promote(its: Situation, left: dict[str, observed.Partition]) -> Iterator[plan.Write]:
    for path in sorted(its.wants):
        want, look = its.wants[path], left.get(path)
        if look is None or path in its.waiting or want.is_had(look):
            continue
        cpus = want.cpus
        if look.exclusive != cpus:
            phase = plan.Phase.SETTLE
            yield _write(path, want.container, observed.EXCLUSIVE, str(cpus), phase, needs=cpus, vacates=cpus)
        yield _write(path, want.container, observed.PARTITION, want.kind, plan.Phase.SETTLE, needs=cpus)


def _is_for(leaf: str, group: str, want: Want, new: CpuSet) -> bool:
    return leaf.startswith(f"{group}/") and not want.cpus.isdisjoint(new)


def _depth(path: str) -> tuple[int, str]:
    return path.count("/"), path


def _write(  # noqa: PLR0913  one write has as many parts
    group: str,
    container: events.ContainerId,
    file: str,
    text: str,
    phase: plan.Phase,
    *,
    needs: CpuSet = CpuSet(),
    vacates: CpuSet = CpuSet(),
) -> plan.Write:
    return plan.Write(
        container=container, group=group, file=file, text=text, phase=phase, needs=needs, vacates=vacates
    )
