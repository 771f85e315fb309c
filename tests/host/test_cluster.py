"""The start-up taint is taken off over HTTPS, with the pod's token, and only that one."""

from __future__ import annotations

import copy
import http.server
import json
import pathlib
import ssl
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler import errors
from reconciler.host import cluster

KEY = "weka.io/cpus-not-ready"
OTHER = {"key": "other", "effect": "NoSchedule"}
TAINT = {"key": KEY, "value": "true", "effect": "NoSchedule"}
ALSO = {"key": KEY, "effect": "NoExecute", "timeAdded": "2026-01-02T03:04:05Z"}


class ApiServer:
    """Has one node. Applies JSON patches of tests and removals, as the real one does."""

    def __init__(self, *taints: dict[str, str]) -> None:
        self.node: dict[str, Any] = {
            "kind": "Node",
            "metadata": {"name": "n 1"},
            "spec": {"taints": [*taints]},
        }
        self.expects = "Bearer of-the-pod"
        self.seen: list[tuple[str, str]] = []
        self.answers: list[tuple[int, bytes]] = []
        """Given in the place of its own, the first one first."""
        self.before_patch: list[dict[str, str]] = []
        """Taints that somebody else puts before the others, between the two calls."""

    def answer(self, method: str, path: str, token: str, body: bytes) -> tuple[int, bytes]:
        """Status and text."""
        self.seen.append((method, path))
        if self.answers:
            return self.answers.pop(0)
        if token != self.expects:
            return _status(401, "Unauthorized")
        if path != "/api/v1/nodes/n%201":
            return _status(404, f"{path} not found")
        if method == "PATCH":
            self.node["spec"]["taints"] = [*self.before_patch, *self.node["spec"]["taints"]]
            taints = copy.deepcopy(self.node["spec"]["taints"])
            for step in json.loads(body):
                place = int(step["path"].removeprefix("/spec/taints/"))
                if step["op"] == "test" and (place >= len(taints) or taints[place] != step["value"]):
                    return _status(422, "the server rejected our request due to an error in our request")
                if step["op"] == "remove":
                    del taints[place]
            self.node["spec"]["taints"] = taints
        return 200, json.dumps(self.node).encode()


def _status(code: int, message: str) -> tuple[int, bytes]:
    return code, json.dumps({"kind": "Status", "message": message, "code": code}).encode()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with certificates and their keys: an authority's, which says of itself no more than it has to,
    one that it has signed, and those of two who sign for themselves."""
    folder = tmp_path_factory.mktemp("certificates")
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for name, subject in (("ca", "127.0.0.1"), ("stranger", "127.0.0.1"), ("elsewhere", "127.0.0.2")):
        subprocess.run(
            [
                *new,
                *("-keyout", f"{name}.key", "-out", f"{name}.crt", "-days", "2", "-subj", f"/CN={name}"),
                *("-addext", f"subjectAltName=IP:{subject}"),
            ],
            cwd=folder,
            check=True,
            capture_output=True,
        )
    (folder / "signed.ext").write_text("subjectAltName=IP:127.0.0.1\n")
    for command in (
        [*new[:2], *new[3:], "-keyout", "signed.key", "-out", "signed.csr", "-subj", "/CN=signed"],
        [
            *("openssl", "x509", "-req", "-in", "signed.csr", "-out", "signed.crt", "-days", "2"),
            *("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "signed.ext"),
        ],
    ):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def serving(
    certificates: pathlib.Path, tmp_path: pathlib.Path, request: pytest.FixtureRequest
) -> Iterator[tuple[ApiServer, cluster.Server]]:
    """An API server with the certificate of that name, and what a pod would know of it."""
    name = getattr(request, "param", "ca")
    its = ApiServer(OTHER, TAINT, OTHER, ALSO)

    class Handler(http.server.BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if self.command == "PATCH":
                assert self.headers["Content-Type"] == "application/json-patch+json"
            code, text = its.answer(
                self.command, self.path, self.headers["Authorization"], self.rfile.read(length)
            )
            self.send_response(code)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_PATCH = _serve  # noqa: N815  the library's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / f"{name}.crt", certificates / f"{name}.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    account = tmp_path / "account"
    account.mkdir()
    (account / "token").write_text("of-the-pod\n")
    # Whom the pod trusts: the authority, but where the certificate is right and the name is wrong.
    trusted = "elsewhere" if name == "elsewhere" else "ca"
    (account / "ca.crt").write_bytes((certificates / f"{trusted}.crt").read_bytes())
    environ = {cluster.HOST: "127.0.0.1", cluster.PORT: str(server.server_port), cluster.NODE: "n 1"}
    try:
        yield its, cluster.from_environment(environ, str(account))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


Serving = tuple[ApiServer, cluster.Server]


def test_every_taint_of_the_key_is_taken_off_and_the_others_stay(serving: Serving) -> None:
    its, server = serving
    assert server.untaint(KEY)
    assert its.node["spec"]["taints"] == [OTHER, OTHER]
    assert not server.untaint(KEY)
    assert [method for method, _ in its.seen] == ["GET", "PATCH", "GET"]


def test_where_somebody_was_faster_nothing_is_changed_and_the_next_attempt_does(serving: Serving) -> None:
    its, server = serving
    its.before_patch = [{"key": "new", "effect": "NoSchedule"}]
    with pytest.raises(errors.Retryable, match="422"):
        server.untaint(KEY)
    assert its.node["spec"]["taints"] == [*its.before_patch, OTHER, TAINT, OTHER, ALSO]
    its.before_patch = []
    assert server.untaint(KEY)
    assert [taint["key"] for taint in its.node["spec"]["taints"]] == ["new", "other", "other"]


def test_a_token_that_was_renewed_is_taken(serving: Serving) -> None:
    its, server = serving
    its.expects = "Bearer another"
    with pytest.raises(errors.Usage, match="401 Unauthorized"):
        server.untaint(KEY)
    pathlib.Path(server.account, "token").write_text("another")
    assert server.untaint(KEY)


@pytest.mark.parametrize("serving", ["signed"], indirect=True)
def test_an_authority_whose_certificate_is_older_than_the_rules_for_them_is_trusted(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = ssl.create_default_context

    def of_python_3_13(*, cafile: str) -> ssl.SSLContext:
        context = usual(cafile=cafile)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", of_python_3_13)
    _, server = serving
    assert server.untaint(KEY)


@pytest.mark.parametrize("serving", ["stranger", "elsewhere"], indirect=True)
def test_a_server_whose_certificate_is_not_trusted_gets_no_token(serving: Serving) -> None:
    its, server = serving
    with pytest.raises(errors.Retryable, match="certificate verify failed"):
        server.untaint(KEY)
    assert its.seen == []


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        pytest.param(403, b'{"message": "nodes is forbidden"}', errors.Usage, id="forbidden"),
        pytest.param(404, b"{}", errors.Usage, id="no such node"),
        pytest.param(429, b"busy", errors.Retryable, id="busy"),
        pytest.param(500, b"", errors.Retryable, id="fault"),
        pytest.param(200, b"<html>", errors.Retryable, id="no JSON"),
        pytest.param(200, b"[" * 100_000, errors.Retryable, id="deep"),
        pytest.param(200, b'{"spec": 3}', errors.Retryable, id="no node"),
        pytest.param(301, b"", errors.Usage, id="elsewhere"),
    ],
)
def test_an_answer_that_is_no_node_is_an_error_in_words(
    serving: Serving, status: int, text: bytes, error: type[errors.ReconcilerError]
) -> None:
    its, server = serving
    its.answers = [(status, text)]
    with pytest.raises(error):
        server.untaint(KEY)
    assert [method for method, _ in its.seen] == ["GET"]


def test_a_server_that_is_not_there_may_come(serving: Serving, tmp_path: pathlib.Path) -> None:
    _, server = serving
    gone = cluster.Server(host="127.0.0.1", port=1, node="n", account=server.account)
    with pytest.raises(errors.Retryable, match="refused"):
        gone.untaint(KEY)


@pytest.mark.parametrize("missing", ["token", "ca.crt"])
def test_a_pod_without_its_account_is_told_which_file_is_missing(serving: Serving, missing: str) -> None:
    _, server = serving
    pathlib.Path(server.account, missing).unlink()
    with pytest.raises(errors.Usage, match=missing):
        server.untaint(KEY)


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({}, "KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT, NODE_NAME not set"),
        ({cluster.HOST: "h", cluster.PORT: "1"}, "NODE_NAME not set"),
        ({cluster.HOST: "h", cluster.PORT: "https", cluster.NODE: "n"}, "not a port"),
    ],
    ids=["nothing", "no node", "no port"],
)
def test_a_process_that_is_in_no_pod_is_told_what_is_missing(environ: dict[str, str], why: str) -> None:
    with pytest.raises(errors.Usage, match=why):
        cluster.from_environment(environ)


@pytest.mark.parametrize("spec", [{}, {"taints": []}, {"taints": None}, {"taints": [3, OTHER]}])
def test_a_node_without_the_taint_needs_no_patch(spec: dict[str, Any]) -> None:
    assert cluster.without({"spec": spec}, KEY) == []
