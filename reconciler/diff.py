"""Stage 6: Desired against observed. Pure.

The comparison is with what the kernel says now, `effective` included, never with what was last written.
What was last confirmed serves one purpose: telling drift, which nobody asked for, from a change of ours
that is still to be carried out.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reconciler import errors, events, observed
from reconciler.cpu import bandwidth
from reconciler.cpu.idset import CpuSet, NodeSet
from reconciler.policy import desired


class Cause(enum.Enum):
    """Why desired and observed differ."""

    PENDING = "pending"
    """Desired has changed, or the container was never seen in order: carry it out."""
    DRIFT = "drift"
    """Someone else changed what was in order: report and repair it."""
    NARROWED = "narrowed"
    """The files say what they should and the kernel grants other CPUs: an ancestor is to blame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """One file that says `have` and should say `want`, both as the kernel prints them.

    `expected`: its owner says so, and it is no drift.
    """

    file: str
    want: str
    have: str
    expected: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One container whose cgroup is not as desired; no `files` when `cause` is NARROWED."""

    container: events.ContainerId
    cause: Cause
    want: desired.Placement
    look: observed.Present
    files: tuple[Mismatch, ...]


def compare(
    wanted: desired.Desired,
    looks: observed.Observed,
    confirmed: Mapping[events.ContainerId, desired.Placement],
    online: CpuSet,
) -> tuple[Difference, ...]:
    """The differences among the containers that were looked at, in the order of the looks."""
    found = []
    for id_, look in looks.items():
        want = wanted.get(id_)
        if want is None or not isinstance(look, observed.Present):
            continue
        if not in_order(want, look, online):
            is_placed = placed(want, look, online) and _has_memory(want, look)
            was_in_order = confirmed.get(id_) == want
            found.append(_difference(id_, want, look, is_placed=is_placed, was_in_order=was_in_order))
    return tuple(found)


def _difference(
    id_: events.ContainerId,
    want: desired.Placement,
    look: observed.Present,
    *,
    is_placed: bool,
    was_in_order: bool,
) -> Difference:
    files = tuple(mismatches(want, look))
    drifted = was_in_order and not all(file.expected for file in files)
    cause = Cause.DRIFT if drifted else Cause.PENDING
    if not files and not is_placed:
        cause = Cause.NARROWED
    return Difference(container=id_, cause=cause, want=want, look=look, files=files)


def in_order(want: desired.Placement, look: observed.Present, online: CpuSet) -> bool:
    """Whether the kernel both was asked for and grants what is wanted, and quotas are as they should be."""
    is_settled = not want.quotas or settled(want, look)
    return is_settled and placed(want, look, online) and _has_memory(want, look)


def placed(want: desired.Placement, look: observed.Present, online: CpuSet) -> bool:
    """Whether CPUs are as wanted, and memory was asked for as wanted, whatever is with quotas."""
    inner = look.inner
    return (
        look.outer.cpus == want.cpus
        and granted(look) == want.cpus & online
        and (want.mems is None or look.outer.mems == want.mems)
        and (inner is None or next(_inner_mismatches(want, inner), None) is None)
    )


def _has_memory(want: desired.Placement, look: observed.Present) -> bool:
    """Whether the kernel grants the memory that is wanted."""
    return want.mems is None or granted_mems(look) == want.mems


def settled(want: desired.Placement, look: observed.Present) -> bool:
    """Whether quotas are as they should be, and could be read."""
    return unread(want, look) is None and next(_quota_mismatches(want, look), None) is None


def granted(look: observed.Present) -> CpuSet:
    """The CPUs that the kernel grants to the container's processes, wherever the runtime keeps them."""
    return look.outer.effective_cpus if look.inner is None else look.inner.effective_cpus


def granted_mems(look: observed.Present) -> NodeSet:
    """The memory nodes that the kernel grants to the container's processes."""
    return look.outer.effective_mems if look.inner is None else look.inner.effective_mems


def mismatches(want: desired.Placement, look: observed.Present) -> Iterator[Mismatch]:
    """The files to write, in an order that never takes memory away before CPUs have moved."""
    cpus = []
    if look.outer.cpus != want.cpus:
        cpus.append(Mismatch(file=observed.CPUS, want=str(want.cpus), have=str(look.outer.cpus)))
    mems = []
    if want.mems is not None and look.outer.mems != want.mems:
        mems.append(Mismatch(file=observed.MEMS, want=str(want.mems), have=str(look.outer.mems)))
    widens = want.mems is None or look.outer.mems <= want.mems
    yield from [*mems, *cpus] if widens else [*cpus, *mems]
    if look.inner is not None:
        yield from _inner_mismatches(want, look.inner)
    yield from _quota_mismatches(want, look)


def unread(want: desired.Placement, look: observed.Present) -> errors.HostFileError | None:
    """Why a quota could not be read, the first of those that are wanted otherwise."""
    says = (look.says(wish.file) for wish in want.quotas)
    return next((its for its in says if isinstance(its, errors.HostFileError)), None)


def _quota_mismatches(want: desired.Placement, look: observed.Present) -> Iterator[Mismatch]:
    for wish in want.quotas:
        says = look.says(wish.file)
        if isinstance(says, bandwidth.Bandwidth) and (instead := wish.instead(says)) != says:
            yield Mismatch(file=wish.file, want=str(instead), have=str(says), expected=wish.expects(says))


def _inner_mismatches(want: desired.Placement, inner: observed.Cpuset) -> Iterator[Mismatch]:
    """The inner group inherits unless it was given a set of its own, which then has to follow."""
    if inner.cpus and inner.cpus != want.cpus:
        yield Mismatch(file=f"{observed.INNER}/{observed.CPUS}", want=str(want.cpus), have=str(inner.cpus))
    if want.mems is not None and inner.mems and inner.mems != want.mems:
        yield Mismatch(file=f"{observed.INNER}/{observed.MEMS}", want=str(want.mems), have=str(inner.mems))
