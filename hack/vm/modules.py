"""Programs that are built from the Go modules which the files hack/requirements/*.mod name. I/O: Go.

Kubernetes, etcd and Helm are in no package index, and not in Debian but for kubectl; its containerd is older.
Built once, and kept beside the images of the nodes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
import re
import shutil
import tempfile

import trouble

REQUIREMENTS = pathlib.Path(__file__).resolve().parents[1] / "requirements"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One of the files, by its name. `variables` are set in the programs: in their texts `{}` stands for the
    version of `module`, such as `v1.37.2`, and `{0}` for its first number, `{1}` for its second."""

    name: str
    module: str
    variables: dict[str, str]

    @property
    def version(self) -> str:
        """The version that is built. Raises TroubleError."""
        found = re.search(rf"^\s*(?:require )?{re.escape(self.module)} (v\S+)", self._text(), re.MULTILINE)
        if found is None:
            raise trouble.TroubleError(f"hack/requirements/{self.name}.mod does not name {self.module}")
        return found[1]

    def programs(self, cache: pathlib.Path) -> pathlib.Path:
        """The folder with the programs, built where they are not there yet. Raises TroubleError."""
        sums = (REQUIREMENTS / f"{self.name}.sum").read_text()
        digest = hashlib.sha256(f"{self._text()}{sums}{self.variables}".encode()).hexdigest()[:12]
        folder = cache / f"{self.name}-{digest}"
        if not folder.exists():
            self._build(folder, cache / f"{self.name}.log")
        return folder

    def _text(self) -> str:
        return (REQUIREMENTS / f"{self.name}.mod").read_text()

    def _build(self, folder: pathlib.Path, log: pathlib.Path) -> None:
        log.unlink(missing_ok=True)
        numbers = self.version.removeprefix("v").split(".")
        told = {
            name: text.replace("{}", self.version).format(*numbers) for name, text in self.variables.items()
        }
        linker = " ".join(f"-X {name}={value}" for name, value in told.items())
        with tempfile.TemporaryDirectory(prefix=f"{self.name}-", dir=folder.parent) as scratch:
            for kind in ("mod", "sum"):
                shutil.copy(REQUIREMENTS / f"{self.name}.{kind}", f"{scratch}/go.{kind}")
            made = pathlib.Path(scratch, "made")
            made.mkdir()
            flags = ["-C", scratch, "build", "-mod=readonly", "-trimpath", "-ldflags", f"-s -w {linker}"]
            call = ["env", "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "go", *flags, "-o", f"{made}/", "tool"]
            trouble.call(call, log=log)
            made.rename(folder)


_KUBERNETES = "k8s.io/component-base/version"
KUBERNETES = Source(
    name="kubernetes",
    module="k8s.io/kubernetes",
    variables={
        f"{_KUBERNETES}.gitVersion": "{}",
        f"{_KUBERNETES}.gitMajor": "{0}",
        f"{_KUBERNETES}.gitMinor": "{1}",
    },
)
"""kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, helm, and etcd by the name of `server`:
ten minutes on two cores."""
CONTAINERD = Source(
    name="containerd",
    module="github.com/containerd/containerd/v2",
    variables={"github.com/containerd/containerd/v2/version.Version": "{}"},
)
"""containerd and containerd-shim-runc-v2."""
