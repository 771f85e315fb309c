"""What an administrator does on the node itself, from a pod that may do everything there. Blocks."""

from __future__ import annotations

import json
import tomllib

from tests.live import kubernetes

NAME = "node-shell"
REQUIRED = kubernetes.ROOT / "deploy/containerd/required-plugin.toml"


class Shell:
    """A pod that has the node's root, and the annotation without which a runtime may insist on the agent."""

    def start(self) -> None:
        """Make it."""
        its = kubernetes.pod(NAME, namespace="default", annotations={tolerated(): "true"})
        (container,) = its["spec"]["containers"]
        container["securityContext"] = {"privileged": True, "runAsUser": 0}
        container["volumeMounts"] = [{"name": "root", "mountPath": "/node"}]
        its["spec"]["volumes"] = [{"name": "root", "hostPath": {"path": "/"}}]
        kubernetes.kubectl("create", "--filename=-", text=json.dumps(its))
        kubernetes.kubectl("wait", "--for=condition=Ready", "--timeout=300s", f"pod/{NAME}")

    def stop(self) -> None:
        """Delete it."""
        kubernetes.kubectl("delete", "pod", NAME, "--timeout=300s")

    def run(self, *command: str, text: str = "") -> str:
        """Run a command in the node's root; its output."""
        return kubernetes.kubectl("exec", "--stdin", NAME, "--", "chroot", "/node", *command, text=text)

    def restart(self, unit: str) -> None:
        """Have systemd restart a unit, and wait until it has: the command may run by way of that unit."""
        before = self._invocation(unit)
        self.run("systemctl", "--no-block", "restart", unit)
        kubernetes.until(f"{unit} has restarted", lambda: self._invocation(unit) not in ("", before))

    def _invocation(self, unit: str) -> str:
        """What systemd calls the unit's present run, or "" where nobody answers."""
        shown = ("systemctl", "show", "--property=InvocationID", unit)
        return kubernetes.attempt("kubectl", "exec", NAME, "--", "chroot", "/node", *shown).stdout.strip()


def tolerated() -> str:
    """The key of that annotation, as the delivered option of the runtime has it."""
    options = tomllib.loads(REQUIRED.read_text())["plugins"]["io.containerd.nri.v1.nri"]["default_validator"]
    return str(options["tolerate_missing_plugins_annotation"])
