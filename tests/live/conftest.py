"""Fixtures of the tests on a real cluster. Refuses to run elsewhere, for the agent is deployed on a node."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from hack.e2e import cluster
from tests.live import kubernetes, shells


def pytest_configure() -> None:
    """Raises UsageError off the cluster."""
    if kubernetes.NAMED not in os.environ:
        raise pytest.UsageError("tests/live runs on the cluster that it makes only: make e2e-cluster")


@pytest.fixture
def pods() -> Iterator[kubernetes.Pods]:
    """A namespace for pods beside the agent's, which is deleted afterwards."""
    kubernetes.kubectl("create", "namespace", kubernetes.NAMESPACE)
    try:
        yield kubernetes.Pods()
    finally:
        kubernetes.kubectl("delete", "namespace", kubernetes.NAMESPACE, kubernetes.LIMIT)


@pytest.fixture
def shell() -> Iterator[shells.Shell]:
    """A pod that may do everything on the node, deleted afterwards."""
    made = shells.Shell()
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def taken_away() -> Iterator[None]:
    """Nothing of the agent is left afterwards, whatever failed."""
    yield
    kubernetes.attempt("helm", "uninstall", "cpuset-reconciler", "--namespace", kubernetes.AGENTS)
    for label in (cluster.AGENT, kubernetes.RESTORER):
        for kinds in ("daemonset,configmap,serviceaccount", "clusterrole,clusterrolebinding"):
            own = ("kubectl", "--namespace", kubernetes.AGENTS, "delete", kinds, "--selector", label)
            kubernetes.attempt(*own, "--cascade=foreground", kubernetes.LIMIT)
    kubernetes.attempt("kubectl", "taint", "node", kubernetes.node(), f"{kubernetes.TAINT}-")
