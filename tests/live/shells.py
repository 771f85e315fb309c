"""What an administrator does on the node itself, from a pod that may do everything there. Blocks."""

from __future__ import annotations

import json
import tomllib

from tests.live import kubernetes

NAME = "node-shell"
ENTER = ("nsenter", "--target", "1", "--mount", "--")
REQUIRED = kubernetes.ROOT / "deploy/containerd/required-plugin.toml"


class Shell:
    """A pod that may enter the node's namespaces. Its annotation exempts it where the runtime insists on the
    agent."""

    def start(self) -> None:
        """Make it."""
        its = kubernetes.pod(NAME, namespace="default", annotations={tolerated(): "true"})
        (container,) = its["spec"]["containers"]
        container["securityContext"] = {"privileged": True, "runAsUser": 0}
        its["spec"]["hostPID"] = True
        kubernetes.kubectl("create", "--filename=-", text=json.dumps(its))
        kubernetes.kubectl("wait", "--for=condition=Ready", kubernetes.LIMIT, f"pod/{NAME}")

    def stop(self) -> None:
        """Delete it."""
        kubernetes.kubectl("delete", "pod", NAME, kubernetes.LIMIT)

    def run(self, *command: str, text: str = "") -> str:
        """Run a command among the node's own files; its output."""
        return kubernetes.kubectl("exec", "--stdin", NAME, "--", *ENTER, *command, text=text)

    def restart(self, unit: str) -> None:
        """Have systemd restart a unit, and wait until it has. The command may run by way of that unit, and
        not hear of its own success."""
        before = self._invocation(unit)
        assert before != ""
        restart = ("systemctl", "--no-block", "restart", unit)
        kubernetes.attempt("kubectl", "exec", NAME, "--", *ENTER, *restart)
        kubernetes.until(f"{unit} has restarted", lambda: self._invocation(unit) not in ("", before))

    def _invocation(self, unit: str) -> str:
        """What systemd calls the unit's present run, or "" where nobody answers."""
        shown = ("systemctl", "show", "--property=InvocationID", unit)
        return kubernetes.attempt("kubectl", "exec", NAME, "--", *ENTER, *shown).stdout.strip()


def tolerated() -> str:
    """The key of that annotation, as the delivered option of the runtime has it."""
    options = tomllib.loads(REQUIRED.read_text())["plugins"]["io.containerd.nri.v1.nri"]["default_validator"]
    return str(options["tolerate_missing_plugins_annotation"])
