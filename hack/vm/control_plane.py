"""The control plane of a cluster of one node, on loopback. I/O: processes, files.

Whoever talks has a certificate of the cluster's own authority. Addresses are those of a network namespace
that nobody else is in, and of the emulator's network: the guest and its pods see this loopback as `HOST`,
which is the address of the service `kubernetes`, too, so that no proxy of services is needed.
"""

from __future__ import annotations

import base64
import contextlib
import json
import pathlib
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import trouble

NETWORK = "10.0.2.0/24"
HOST = "10.0.2.1"
NODE_ADDRESS = "10.0.2.15"
PODS = ("10.0.2.100", "10.0.2.250")
SERVICES = "10.0.2.0/28"
NODE = "localhost"
"""The node's name, under which its kubelet is found: by way of the emulator, at this host's loopback."""
PORT = 443
"""The service's, which is the server's."""
KUBELET_PORT = 10250
PATIENCE = 120.0
_DAYS = "30"


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """A running one. `folder` has its logs and `member/`, which the node is to have; `kubeconfig` is an
    administrator's."""

    folder: pathlib.Path
    kubeconfig: pathlib.Path


@contextlib.contextmanager
def running(programs: pathlib.Path, folder: pathlib.Path) -> Iterator[ControlPlane]:
    """Start it, wait until its API server is ready, and end all of it afterwards. Raises TroubleError."""
    pki = _Authority(folder)
    _members(folder, pki)
    started: list[subprocess.Popen[bytes]] = []
    try:
        for name, command in _commands(programs, folder, pki).items():
            with (folder / f"{name}.log").open("wb") as log:
                one = ["setpriv", "--pdeathsig", "TERM", *command]
                started.append(subprocess.Popen(one, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        _await_ready(pki, started, folder)
        yield ControlPlane(folder=folder, kubeconfig=folder / "admin.kubeconfig")
    finally:
        for process in reversed(started):  # the API server waits for etcd in vain where that ends first
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class _Authority:
    """Makes keys and certificates below a folder. Raises TroubleError."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder / "pki"
        self._folder.mkdir()
        self._log = folder / "openssl.log"
        new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", _DAYS, "-subj", "/CN=authority"]
        self._openssl(*new, "-keyout", self["authority.key"], "-out", self["authority.crt"])
        self._openssl("genrsa", "-out", self["accounts.key"], "2048")
        self._openssl("rsa", "-in", self["accounts.key"], "-pubout", "-out", self["accounts.pub"])

    def __getitem__(self, file: str) -> str:
        return str(self._folder / file)

    def certify(self, name: str, subject: str, *names: str) -> None:
        """Make NAME.key and NAME.crt, for a client and, with names such as `DNS:x`, for a server."""
        files = {kind: self[f"{name}.{kind}"] for kind in ("key", "csr", "crt", "ext")}
        lines = ["extendedKeyUsage=clientAuth,serverAuth"]
        lines += [f"subjectAltName={','.join(names)}"] if names else []
        pathlib.Path(files["ext"]).write_text("\n".join(lines) + "\n")
        asked = ["req", "-newkey", "rsa:2048", "-nodes", "-subj", subject]
        self._openssl(*asked, "-keyout", files["key"], "-out", files["csr"])
        by = ["-CA", self["authority.crt"], "-CAkey", self["authority.key"], "-CAcreateserial"]
        signed = ["x509", "-req", "-days", _DAYS, "-in", files["csr"], *by, "-extfile", files["ext"]]
        self._openssl(*signed, "-out", files["crt"])

    def kubeconfig(self, name: str, server: str) -> str:
        """The text of a configuration that has everything in it."""

        def text(file: str) -> str:
            return base64.b64encode(pathlib.Path(self[file]).read_bytes()).decode()

        cluster = {"server": server, "certificate-authority-data": text("authority.crt")}
        user = {
            "client-certificate-data": text(f"{name}.crt"),
            "client-key-data": text(f"{name}.key"),
        }
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "here", "cluster": cluster}],
                "users": [{"name": name, "user": user}],
                "contexts": [{"name": "here", "context": {"cluster": "here", "user": name}}],
                "current-context": "here",
            }
        )

    def _openssl(self, *arguments: str) -> None:
        trouble.call(["openssl", *arguments], log=self._log)


def _members(folder: pathlib.Path, pki: _Authority) -> None:
    """Everybody's certificate and configuration; the node's in a folder of its own."""
    pki.certify("server", "/CN=kube-apiserver", f"IP:{HOST}", "IP:127.0.0.1", "DNS:kubernetes.default.svc")
    pki.certify("admin", "/O=system:masters/CN=admin")
    pki.certify("kube-controller-manager", "/CN=system:kube-controller-manager")
    pki.certify("kube-scheduler", "/CN=system:kube-scheduler")
    pki.certify("kubelet", f"/O=system:nodes/CN=system:node:{NODE}", f"DNS:{NODE}")
    for name in ("admin", "kube-controller-manager", "kube-scheduler"):
        (folder / f"{name}.kubeconfig").write_text(pki.kubeconfig(name, f"https://127.0.0.1:{PORT}"))
    member = folder / "member"
    member.mkdir()
    (member / "kubelet.kubeconfig").write_text(pki.kubeconfig("kubelet", f"https://{HOST}:{PORT}"))
    for file in ("kubelet.crt", "kubelet.key", "authority.crt"):
        (member / file).write_bytes(pathlib.Path(pki[file]).read_bytes())


def _commands(programs: pathlib.Path, folder: pathlib.Path, pki: _Authority) -> dict[str, list[str]]:
    etcd = "http://127.0.0.1:2379"
    one = ["--bind-address=127.0.0.1", "--leader-elect=false"]
    return {
        "etcd": [
            *(str(programs / "server"), f"--data-dir={folder / 'etcd'}", "--unsafe-no-fsync"),
            *(f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}"),
        ],
        "kube-apiserver": [
            *(str(programs / "kube-apiserver"), f"--etcd-servers={etcd}"),
            *("--bind-address=127.0.0.1", f"--secure-port={PORT}", f"--advertise-address={HOST}"),
            f"--service-cluster-ip-range={SERVICES}",
            *("--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction"),
            *(f"--tls-cert-file={pki['server.crt']}", f"--tls-private-key-file={pki['server.key']}"),
            f"--client-ca-file={pki['authority.crt']}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={pki['accounts.pub']}",
            f"--service-account-signing-key-file={pki['accounts.key']}",
            f"--kubelet-certificate-authority={pki['authority.crt']}",
            f"--kubelet-client-certificate={pki['admin.crt']}",
            f"--kubelet-client-key={pki['admin.key']}",
            "--kubelet-preferred-address-types=Hostname",
            "--allow-privileged",
        ],
        "kube-controller-manager": [
            *(str(programs / "kube-controller-manager"), *one, "--use-service-account-credentials"),
            f"--kubeconfig={folder / 'kube-controller-manager.kubeconfig'}",
            f"--service-account-private-key-file={pki['accounts.key']}",
            f"--root-ca-file={pki['authority.crt']}",
            "--node-monitor-grace-period=5m",  # an emulated node is slow, which is no failure
        ],
        "kube-scheduler": [
            *(str(programs / "kube-scheduler"), *one, f"--kubeconfig={folder / 'kube-scheduler.kubeconfig'}"),
        ],
    }


def _await_ready(pki: _Authority, started: list[subprocess.Popen[bytes]], folder: pathlib.Path) -> None:
    context = ssl.create_default_context(cafile=pki["authority.crt"])
    context.verify_flags &= (
        ~ssl.VERIFY_X509_STRICT
    )  # as in many a cluster, the authority says little of itself
    context.load_cert_chain(pki["admin.crt"], pki["admin.key"])
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        for process in started:
            if process.poll() is not None:
                raise trouble.TroubleError(f"{process.args} has ended; see {folder}")
        with contextlib.suppress(OSError, urllib.error.URLError):
            urllib.request.urlopen(f"https://127.0.0.1:{PORT}/readyz", context=context, timeout=10)
            return
        time.sleep(0.5)
    raise trouble.TroubleError(f"the API server is not ready within {PATIENCE:.0f} s; see {folder}")
