"""The node's object in the API server, as far as a taint needs it. I/O: one HTTPS connection a call; blocks.

No client of Kubernetes: two requests in the agent's life need none. ADR 0030. The pod's service account says
where the server is, by whom its certificate is signed, and who asks.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reconciler import errors

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where kubelet mounts the token, and the certificate of the authority (Kubernetes: "Accessing the Kubernetes
API from a Pod")."""
HOST, PORT, NODE = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "NODE_NAME"
"""Environment variables. The first two are every pod's; the node's name is given by the manifest."""
_SECONDS = 10.0
_MOST_BYTES = 8 << 20
_AGAIN = frozenset({409, 422, 429})
"""Somebody else was faster, or the server is busy; 422 is what a JSON patch gives whose test fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where the API server is. The token is read at each call, because kubelet renews it."""

    host: str
    port: int
    node: str
    account: str = ACCOUNT

    def untaint(self, key: str) -> bool:
        """Remove every taint of that key from the node; whether there was one.

        Raises Retryable where the server does not answer, or the node has changed meanwhile, Usage where it
        refuses or what the pod should have is not there.
        """
        path = f"/api/v1/nodes/{urllib.parse.quote(self.node, safe='')}"
        steps = without(self._call("GET", path), key)
        if steps:
            self._call("PATCH", path, json.dumps(steps), "application/json-patch+json")
        return bool(steps)

    def _call(self, method: str, path: str, body: str | None = None, kind: str = "") -> object:
        headers = {"Authorization": f"Bearer {self._token()}", "Accept": "application/json"}
        if kind:
            headers["Content-Type"] = kind
        what = f"{method} {path} of {self.host}:{self.port}"
        connection = http.client.HTTPSConnection(
            self.host, self.port, timeout=_SECONDS, context=self._trusted()
        )
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read(_MOST_BYTES)
            status = answer.status
        except (OSError, http.client.HTTPException) as error:
            raise errors.Retryable(f"{what}: {str(error) or type(error).__name__}") from error
        finally:
            connection.close()
        return _understood(what, status, text)

    def _token(self) -> str:
        path = os.path.join(self.account, "token")
        try:
            with open(path, encoding="ascii") as file:
                return file.read().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise errors.Usage(f"no token of a service account in {path}: {error}") from error

    def _trusted(self) -> ssl.SSLContext:
        path = os.path.join(self.account, "ca.crt")
        try:
            context = ssl.create_default_context(cafile=path)
        except OSError as error:
            raise errors.Usage(f"no certificate of the API server's authority in {path}: {error}") from error
        # Python 3.13 asks for all that RFC 5280 does, and many a cluster's own authority lacks an extension
        # (key usage, or an authority key identifier). Who signed and the name are checked as ever.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context


def from_environment(environ: Mapping[str, str], account: str = ACCOUNT) -> Server:
    """The server as a pod is told of it. Raises Usage, naming the variable that is missing or wrong."""
    missing = [name for name in (HOST, PORT, NODE) if not environ.get(name)]
    if missing:
        raise errors.Usage(f"{', '.join(missing)} not set: the API server is asked from within a pod alone")
    if not environ[PORT].isdecimal():
        raise errors.Usage(f"{PORT}={environ[PORT]}: not a port")
    return Server(host=environ[HOST], port=int(environ[PORT]), node=environ[NODE], account=account)


def without(node: object, key: str) -> list[dict[str, object]]:
    """The JSON patch (RFC 6902) that removes the taints of that key, and fails if they are others by then;
    empty where there are none. Raises Retryable for what is no node."""
    match node:
        case {"spec": {"taints": list(taints)}}:
            known: list[Any] = taints
        case {"spec": dict()}:
            known = []
        case _:
            raise errors.Retryable("the API server's answer is no node")
    steps: list[dict[str, object]] = []
    # From the last one on, so that the others' places hold.
    for place in reversed(range(len(known))):
        taint = known[place]
        if isinstance(taint, dict) and taint.get("key") == key:
            path = f"/spec/taints/{place}"
            steps += [{"op": "test", "path": path, "value": taint}, {"op": "remove", "path": path}]
    return steps


def _understood(what: str, status: int, text: bytes) -> object:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if status == 200 and document is not None:
        return document
    said = document.get("message") if isinstance(document, dict) else None
    why = f"{what}: {status} {said or 'without a reason'}"
    if status == 200 or status in _AGAIN or status >= 500:
        raise errors.Retryable(why)
    raise errors.Usage(why)
