"""Stage 8, below the report: why a container is not in order, as a sentence. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reconciler import events, narrowing, observed
from reconciler.cpu.idset import CpuSet
from reconciler.diff import Difference, Mismatch, granted, granted_mems, mismatches, unread
from reconciler.policy import desired

Above = Callable[[events.ContainerId], Sequence[narrowing.Ancestor]]
"""Gives what is above a container, from the nearest on; is asked only where that may be to blame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """Why a container is not in order: a sentence, and what the kernel does not grant, where it is that."""

    text: str
    unenforceable: narrowing.Unenforceable | None = None

    def fields(self) -> dict[str, object]:
        """It, in the log."""
        what = self.unenforceable
        return {"reason": self.text, **({} if what is None else {"unenforceable": what.document()})}


HELD = Why(text="somebody changes it again and again: it is repaired in a moment")


def drifted(difference: Difference, online: CpuSet) -> tuple[Mismatch, ...]:
    """The files that nobody asked to change; where an ancestor is to blame, what the kernel grants."""
    found = tuple(file for file in difference.files if not file.expected)
    return found or (narrowed(difference, online),)


def narrowed(difference: Difference, online: CpuSet) -> Mismatch:
    """What the kernel grants instead of what the files say: CPUs, or where these are right, memory."""
    want, look = difference.want, difference.look
    if granted(look) == want.cpus & online and want.mems is not None:
        return Mismatch(file=observed.EFFECTIVE_MEMS, want=str(want.mems), have=str(granted_mems(look)))
    return Mismatch(
        file=observed.EFFECTIVE_CPUS,
        want=str(want.cpus & online),
        have=str(granted(look)),
    )


def why(
    id_: events.ContainerId,
    want: desired.Placement,
    look: observed.Present | observed.Unreadable,
    online: CpuSet,
    above: Above,
) -> Why:
    """Why a container is not in order though no write to it failed."""
    if isinstance(look, observed.Unreadable):
        return Why(text=str(look.error))
    for its in mismatches(want, look):
        again = f"{its.file} is {its.have or 'empty'} again after {its.want} was written"
        return Why(text=f"{again}: someone else writes it too")
    if error := unread(want, look):
        return Why(text=str(error))
    what = narrowing.judge(want, look, above(id_), online)
    if what is not None and what.file == observed.EFFECTIVE_MEMS:
        text = f"{observed.MEMS} is {look.outer.mems} and the kernel grants {granted_mems(look)}"
    else:
        text = f"{observed.CPUS} is {look.outer.cpus} and the kernel grants {granted(look)}"
    return Why(text=text if what is None else f"{text}: {what.because}", unenforceable=what)
