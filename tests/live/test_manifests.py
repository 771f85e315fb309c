"""A real API server takes every object that is delivered, and would change nothing of what it was given."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
import yaml

from tests.deploy import rendering
from tests.live import kubernetes

# covers: PRD-13.1
VALUES = {**dict.fromkeys(rendering.NAMES), "everything": rendering.EVERYTHING}


def judge(text: str) -> list[dict[str, Any]]:
    """What the server would have, of objects that it must take without a word of warning."""
    command = ("kubectl", "apply", "--dry-run=server", "--validate=strict", "--output=json", "--filename=-")
    done = kubernetes.attempt(*command, text=text)
    assert (done.returncode, done.stderr) == (0, "")
    made = json.loads(done.stdout)
    its: list[dict[str, Any]] = made["items"] if made["kind"] == "List" else [made]
    return its


@pytest.mark.parametrize("deployed", [*(rendering.folder_of(name) for name in rendering.NAMES), "restore"])
def test_it_takes_a_kustomization(deployed: pathlib.Path | str) -> None:
    folder = rendering.KUSTOMIZE / deployed
    text = kubernetes.kubectl("kustomize", str(folder))
    assert len(judge(text)) == len(rendering.objects([text]))


@pytest.mark.parametrize("name", VALUES)
def test_it_takes_what_helm_makes_of_the_chart(name: str, tmp_path: pathlib.Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(VALUES[name] or rendering.values_of(name)))
    text = kubernetes.helm("template", values=[f"--values={values}"])
    assert len(judge(text)) == len(rendering.objects([text]))


@pytest.mark.parametrize("name", VALUES)
def test_helm_finds_nothing_wrong_with_the_chart(name: str, tmp_path: pathlib.Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(VALUES[name] or rendering.values_of(name)))
    said = kubernetes.run("helm", "lint", "--strict", str(kubernetes.CHART), f"--values={values}")
    assert "0 chart(s) failed" in said
