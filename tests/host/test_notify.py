"""What systemd is told, and where."""

from __future__ import annotations

import pathlib
import socket

import pytest

from reconciler import errors
from reconciler.host import notify


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_readiness_is_one_datagram_with_a_status_of_one_line(tmp_path: pathlib.Path, abstract: bool) -> None:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}" if abstract else name)
        listener.setblocking(False)
        notifier = notify.from_environment({"NOTIFY_SOCKET": f"@{name}" if abstract else name})
        notifier.ready("by nri:\ncontainerd 2.1.9")
        assert listener.recv(4096) == b"READY=1\nSTATUS=by nri: containerd 2.1.9\n"
        with pytest.raises(BlockingIOError):
            listener.recv(4096)


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}], ids=["unset", "empty"])
def test_where_nobody_wants_to_know_nobody_is_told(environment: dict[str, str]) -> None:
    notify.from_environment(environment).ready("fine")


def test_a_service_manager_that_does_not_listen_is_an_error_with_its_path(tmp_path: pathlib.Path) -> None:
    address = str(tmp_path / "nobody")
    with pytest.raises(errors.HostFileError, match=r"notify .*nobody: No such file or directory"):
        notify.Notifier(address).ready("fine")
