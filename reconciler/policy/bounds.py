"""What no claim may break: the floor under the shared pool, and the ceiling of a namespace. Pure.

Neither is held against what runs already: CPUs that go offline, or a configuration that changes, can leave
less than the floor, and then only what makes it worse is refused. PRD 4.4 and 2.14.
"""

from __future__ import annotations

from reconciler import events
from reconciler.cpu.idset import CpuSet
from reconciler.policy import state


def broken(now: state.State, after: state.Ledger, pod: events.Pod) -> str:
    """What the claims of `pod` in the ledger `after` would do that is not allowed, or "".

    A clause that continues "... would", with what would help. Constant cost without a ceiling, else linear
    in the claims.
    """
    left = len(now.terms.poolable - after.exclusive)
    if left < now.terms.min_shared and left < len(now.pool):
        return (
            f"leave {left} CPUs in the shared pool, below the minimum of {now.terms.min_shared} "
            f"(pool now: {now.pool or 'empty'}); request fewer CPUs"
        )
    most = now.terms.config.most_exclusive(pod.namespace)
    if most is not None:
        total = held_by(after, pod.namespace)
        if len(total) > most and len(total) > len(held_by(now.ledger, pod.namespace)):
            return (
                f"give namespace {pod.namespace} {len(total)} exclusive CPUs, above its maximum of {most} "
                "(maxExclusiveCpus); request fewer CPUs or remove another of its pods"
            )
    return ""


def held_by(ledger: state.Ledger, namespace: str) -> CpuSet:
    """The CPUs that pods of a namespace hold exclusively; linear in the claims."""
    bits = 0
    for claim in ledger.claims.values():
        if claim.exclusive and claim.namespace == namespace:
            bits |= claim.cpus.bits
    return CpuSet.from_bits(bits)
