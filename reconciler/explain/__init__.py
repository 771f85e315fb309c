"""Stage 9: answers about placements, for status and people. Pure.

- `sentences`: why a container runs where it runs, in one sentence.
- `names`: what containers and claims are called, and which container a name means.
- `container`: why one container has its CPUs; `choice`: the preferences that decided.
- `cpu`: who may run on one CPU.
- `whatif`: what the creation of a pod would bring.
"""

from reconciler.explain.sentences import lingers, reason, shortfall

__all__ = ["lingers", "reason", "shortfall"]
