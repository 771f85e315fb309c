"""Evaluates the admission policy as the API server does. I/O: reads the policy.

The interpreter lacks Kubernetes' functions on strings: those that the policy calls are added here.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import cel
import yaml

FILE = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "admission" / "policy.yaml"
_FUNCTIONS: dict[str, Callable[..., object]] = {
    "split": lambda text, by: text.split(by),
    "trim": lambda text: text.strip(),
    "replace": lambda text, before, after: text.replace(before, after),
}
_Object = Mapping[str, Any]


class Policy:
    """A ValidatingAdmissionPolicy whose expressions are compiled once."""

    def __init__(self, spec: _Object) -> None:
        self.spec = spec
        self._compiled: dict[str, Any] = {}

    def refusals(
        self, pod: _Object, before: _Object | None = None, *, namespace: str = "default"
    ) -> list[str]:
        """The messages of what does not hold for a pod that is made, or changed from `before`; none where the
        conditions leave it out. Raises ValueError or RuntimeError for an expression that fails, and
        TypeError for one that is no condition."""
        known: dict[str, Any] = {}
        context = cel.Context(
            {
                "object": pod,
                "oldObject": before,
                "request": {"operation": "UPDATE" if before else "CREATE", "namespace": namespace},
                "variables": known,
            }
        )
        for name, function in _FUNCTIONS.items():
            context.add_function(name, function)
        if not all(
            self._holds(condition["expression"], context) for condition in self.spec["matchConditions"]
        ):
            return []
        for variable in self.spec["variables"]:
            known[variable["name"]] = self._value(variable["expression"], context)
            context.add_variable("variables", known)
        return [
            str(self._value(rule["messageExpression"], context))
            for rule in self.spec["validations"]
            if not self._holds(rule["expression"], context)
        ]

    def _holds(self, expression: str, context: cel.Context) -> bool:
        value = self._value(expression, context)
        if not isinstance(value, bool):
            raise TypeError(f"{expression} is {value!r}")
        return value

    def _value(self, expression: str, context: cel.Context) -> Any:
        if expression not in self._compiled:
            self._compiled[expression] = cel.compile(expression)
        return self._compiled[expression].execute(context)


def policy(namespaces: str | None = None) -> Policy:
    """The policy of the file, with these namespaces, a list in CEL, in the place of all."""
    spec = yaml.load(FILE.read_text(), Loader=yaml.CSafeLoader)["spec"]
    if namespaces is not None:
        (its,) = (variable for variable in spec["variables"] if variable["name"] == "namespaces")
        its["expression"] = namespaces
    return Policy(spec)
