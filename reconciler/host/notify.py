"""Tells systemd that a service is ready: sd_notify(3). I/O: one datagram."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from reconciler import errors


class Notifier:
    """Tells whoever started the service, if anyone wants to know."""

    def __init__(self, address: str | None) -> None:
        """`address` is a path, or with `@` before it a name in the abstract namespace; None tells nobody."""
        self._address = address

    def ready(self, status: str) -> None:
        """The service does its work from now on; `status` is shown by `systemctl status`. May be said again,
        with another status. Raises HostFileError."""
        if self._address is None:
            return
        path = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        text = f"READY=1\nSTATUS={' '.join(status.split())}\n"
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.sendto(text.encode(), path)
        except OSError as error:
            why = error.strerror or str(error)
            raise errors.HostFileError(self._address, "notify", error.errno or 0, why) from error


def from_environment(environ: Mapping[str, str]) -> Notifier:
    """The notifier that the environment asks for."""
    return Notifier(environ.get("NOTIFY_SOCKET") or None)
