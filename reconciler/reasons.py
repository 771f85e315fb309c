"""Stage 8, below the report: why a container is not in order, as a sentence. Pure."""

from __future__ import annotations

from reconciler import observed
from reconciler.cpu.idset import CpuSet
from reconciler.diff import Difference, Mismatch, granted, mismatches, unread
from reconciler.policy import desired


def drifted(difference: Difference, online: CpuSet) -> tuple[Mismatch, ...]:
    """The files that nobody asked to change; where an ancestor is to blame, what the kernel grants."""
    found = tuple(file for file in difference.files if not file.expected)
    return found or (narrowed(difference, online),)


def narrowed(difference: Difference, online: CpuSet) -> Mismatch:
    """What the kernel grants instead of what the files say."""
    return Mismatch(
        file=observed.EFFECTIVE_CPUS,
        want=str(difference.want.cpus & online),
        have=str(granted(difference.look)),
    )


def why(want: desired.Placement, look: observed.Present | observed.Unreadable) -> str:
    """Why a container is not in order though no write to it failed."""
    if isinstance(look, observed.Unreadable):
        return str(look.error)
    for its in mismatches(want, look):
        again = f"{its.file} is {its.have or 'empty'} again after {its.want} was written"
        return f"{again}: someone else writes it too"
    if error := unread(want, look):
        return str(error)
    return (
        f"cpuset.cpus is {look.outer.cpus} and the kernel grants {granted(look)}: "
        f"an ancestor's cpuset is narrower, or CPUs are offline or in another partition"
    )
