"""Stage 3: what each container is entitled to, and why. Pure.

Decided once, when the container is first seen, and kept: its inputs change later, by our own hand too
(a lifted quota makes an integer container look shared). PRD 1 to 3.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from reconciler import errors, events
from reconciler.config import schema
from reconciler.cpu.idset import CpuSet

CORES = "weka.io/cores-ids"
FORBID = "weka.io/forbid-core-ids"

DEFAULT_PERIOD = 100_000
"""CFS period in microseconds where none is given: the kernel's and kubelet's default."""
SHARES_PER_CPU = 1024
LARGEST_SHARES = 262_144
"""The most that cpu.shares can say (MAX_SHARES in kernel/sched): above 256 CPUs it means nothing."""


class Kind(enum.Enum):
    """The container classes, under the names that status and log use."""

    ANNOTATED_EXCLUSIVE = "annotated-exclusive"
    ANNOTATED_SHARED = "annotated-shared"
    INTEGER = "integer"
    SHARED = "shared"
    UNMANAGED = "unmanaged"


CLAIMING = frozenset({Kind.ANNOTATED_EXCLUSIVE, Kind.ANNOTATED_SHARED, Kind.INTEGER})
"""The classes that are entitled to CPUs of their own, exclusively or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What one container is entitled to.

    `cpus` is the annotated list (annotated kinds only), `own_list` whether it is the container's alone,
    `count` the number of whole CPUs (integer only), `forbidden` what this pod may not run on, `why` a
    clause for people. `refusal` is "" or the sentence with which a creation is refused; a container that
    runs already is then `unsatisfied`. `warning` is "" or a sentence about input that was ignored.
    """

    kind: Kind
    cpus: CpuSet = CpuSet()
    own_list: bool = False
    count: int = 0
    forbidden: CpuSet = CpuSet()
    why: str
    refusal: str = ""
    warning: str = ""


def whole_cpus(limits: events.CpuLimits) -> int:
    """The container's CPU limit where it is a whole number of at least 1, else 0.

    With the quota switched off (absent, or below 1) the shares decide, up to 256 CPUs; kubelet's static
    CPU manager policy rules the same on the pod's resources, which NRI does not carry. A period that is
    absent or below 1 is the default one.
    """
    quota = limits.quota or 0
    if quota > 0:
        period = limits.period if limits.period is not None and limits.period > 0 else DEFAULT_PERIOD
        return 0 if quota % period else quota // period
    shares = limits.shares or 0
    if not 0 < shares < LARGEST_SHARES or shares % SHARES_PER_CPU:
        return 0
    return shares // SHARES_PER_CPU


def decide(pod: events.Pod, container: events.Container, config: schema.Config) -> Intent:
    """The intent of `container` in `pod`. Never raises: what is wrong with it is in the intent."""
    if config.leaves_alone(pod.namespace, pod.annotations):
        return _UNMANAGED
    integer = whole_cpus(container.limits) if pod.qos is events.Qos.GUARANTEED else 0
    if pod.annotations:
        for key in (f"{CORES}.{container.name}", CORES):
            if (text := pod.annotations.get(key)) is not None:
                return _annotated(key, text, integer=bool(integer))
        if (text := pod.annotations.get(FORBID)) is not None:
            forbidden, warning = _forbidden(text)
            return _plain(integer, forbidden, warning)
    return _plain(integer, CpuSet(), "") if integer else _SHARED


def pause(pod: events.Pod, config: schema.Config) -> Intent:
    """The intent of a pod's pause container, which is shared like any other."""
    return _UNMANAGED if config.leaves_alone(pod.namespace, pod.annotations) else _PAUSE


def _annotated(key: str, text: str, *, integer: bool) -> Intent:
    kind = Kind.ANNOTATED_EXCLUSIVE if integer else Kind.ANNOTATED_SHARED
    refusal = ""
    cpus = CpuSet()
    try:
        cpus = CpuSet.parse(text, what=f"annotation {key}")
        if not cpus:
            refusal = f"annotation {key}: the list is empty; name at least one CPU or remove it"
    except errors.Malformed as error:
        refusal = str(error)
    semantics = "whole CPUs with requests equal to limits" if integer else "no integer semantics"
    why = f"annotation {key}, {semantics}"
    return Intent(kind=kind, cpus=cpus, own_list=key != CORES, why=why, refusal=refusal)


def _forbidden(text: str) -> tuple[CpuSet, str]:
    """The forbidden CPUs; a list with a syntax error forbids nothing, with a warning (PRD 3)."""
    try:
        return CpuSet.parse(text, what=f"annotation {FORBID}"), ""
    except errors.Malformed as error:
        return CpuSet(), f"{error}; the list is ignored"


def _plain(integer: int, forbidden: CpuSet, warning: str) -> Intent:
    if integer:
        return Intent(
            kind=Kind.INTEGER,
            count=integer,
            forbidden=forbidden,
            why=f"Guaranteed pod with a whole CPU limit of {integer}",
            warning=warning,
        )
    return Intent(kind=Kind.SHARED, forbidden=forbidden, why=_SHARED.why, warning=warning)


_SHARED = Intent(kind=Kind.SHARED, why="no annotation and no integer semantics")
_PAUSE = Intent(kind=Kind.SHARED, why="pause container of a pod")
_UNMANAGED = Intent(kind=Kind.UNMANAGED, why="left alone by configuration")
