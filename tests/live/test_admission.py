"""A real API server judges annotations as the interpreter does, in which `tests/deploy` judges them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

import pytest

from reconciler import intent
from tests.deploy import admission
from tests.live import kubernetes
from tests.pipeline import cpu_lists

# covers: PRD-13.3
NAMESPACE = "judged"
LISTS = cpu_lists.lists()
POLICY = admission.policy()
TEXTS = [*(its.text for its in LISTS.good), *LISTS.empty, *LISTS.bad]
KEYS = (intent.CORES, f"{intent.CORES}.main", f"{intent.CORES}.mian", intent.FORBID)
_DENIED = re.compile(r'pods "(\S+)" is (?:invalid|forbidden): .*?denied request: (.*)', re.DOTALL)
_EACH = re.compile(r"^(?=The pods |Error from server )", re.MULTILINE)


@pytest.fixture(scope="module")
def judged() -> Iterator[str]:
    """A namespace whose pods are judged by the policy as it is delivered."""
    folder = str(kubernetes.ROOT / "deploy/admission")
    kubernetes.kubectl("create", "namespace", NAMESPACE)
    before = kubernetes.pod("before", namespace=NAMESPACE, annotations={intent.CORES: "a"})
    kubernetes.kubectl("create", "--filename=-", text=json.dumps(before))
    kubernetes.kubectl("apply", "--kustomize", folder)
    try:
        # It takes the server a moment to compile what it was given.
        kubernetes.until("a bad list is refused", lambda: bool(refusals({"bad": {intent.CORES: "a"}})))
        yield NAMESPACE
    finally:
        kubernetes.kubectl("delete", "--kustomize", folder)
        kubernetes.kubectl("delete", "namespace", NAMESPACE, kubernetes.LIMIT)


def refusals(pods: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """What is said of the pods that are refused, by name, among pods with these annotations."""
    made = [
        kubernetes.pod(name, namespace=NAMESPACE, annotations=annotations)
        for name, annotations in pods.items()
    ]
    text = "\n".join(json.dumps(each) for each in made)
    done = kubernetes.attempt("kubectl", "create", "--dry-run=server", "--filename=-", text=text)
    found = [match for match in map(_DENIED.search, _EACH.split(done.stderr)) if match]
    assert len(done.stdout.splitlines()) + len(found) == len(pods), done.stderr[-2000:]
    return {match[1]: match[2].strip() for match in found}


def test_the_server_judges_every_list_as_the_interpreter_does(judged: str) -> None:
    pods = {
        f"pod-{number}": {key: text}
        for number, (key, text) in enumerate((key, text) for key in KEYS for text in TEXTS)
    }
    wanted = {}
    for name, said_of_it in pods.items():
        its = kubernetes.pod(name, namespace=judged, annotations=said_of_it)
        if said := POLICY.refusals(its, namespace=judged):
            wanted[name] = said[0].strip()
    assert len(wanted) > len(LISTS.bad)
    assert len(pods) - len(wanted) > len(LISTS.good)
    assert refusals(pods) == wanted


def test_a_pod_that_had_its_bad_list_before_can_be_changed_and_get_no_other(judged: str) -> None:
    own = ("kubectl", "--namespace", judged, "annotate", "--overwrite", "pod", "before")
    kubernetes.run(*own, "more=1")
    refused = kubernetes.attempt(*own, f"{intent.CORES}=b")
    assert (refused.returncode, "not a list of CPUs" in refused.stderr) == (1, True)
    kubernetes.run(*own, f"{intent.CORES}=1")
