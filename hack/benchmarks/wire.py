"""A runtime's side of NRI in blocking sockets: a yardstick must cost less than what it measures. I/O."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from reconciler.runtime.nri import envelope, mux, nri_pb2, ttrpc

if TYPE_CHECKING:
    from google.protobuf import message

_PLUGIN = "nri.pkg.api.v1alpha1.Plugin"
_HEADER = struct.Struct(">II")
_PATIENCE = 30.0
_CHUNK = 500


class Peer:
    """One registered plugin. Every method raises TimeoutError when it stays silent for 30 s."""

    def __init__(self, listener: socket.socket) -> None:
        """Accept a plugin from `listener`, and let it register."""
        listener.settimeout(_PATIENCE)
        self._sock, _ = listener.accept()
        self._sock.settimeout(_PATIENCE)
        self._calls = ttrpc.Client()
        self._serve = ttrpc.Server()
        request = None
        while request is None:
            connection, payload = self._frame()
            if connection == mux.RUNTIME_SERVICE:
                self._serve.receive_data(payload)
                request = self._serve.next_event()
        answer = ttrpc.Server.reply(request.stream, envelope.reply(b""))
        self._sock.sendall(mux.encode(mux.RUNTIME_SERVICE, answer))

    def call(self, method: str, request: message.Message) -> envelope.Reply:
        """Make one call and wait for its reply."""
        self._sock.sendall(self._encoded(method, request))
        return self._reply()

    def timed(self, method: str, request: message.Message) -> float:
        """The seconds from sending a call to having its reply whole. Encoding and decoding do not count.

        Raises RuntimeError where the plugin answers with an error: that would measure something else.
        """
        data = self._encoded(method, request)
        begin = time.perf_counter()
        self._sock.sendall(data)
        received = self._sock.recv(65536)
        end = time.perf_counter()
        reply = self._parse(received)
        if reply is None:
            raise RuntimeError(f"the reply to {method} came in pieces")
        if reply.code:
            raise RuntimeError(f"{method}: {reply.text}")
        return end - begin

    def introduce(self, pods: Sequence[nri_pb2.PodSandbox], containers: Sequence[nri_pb2.Container]) -> None:
        """Configure, and Synchronize in parts."""
        self.call(
            "Configure",
            nri_pb2.ConfigureRequest(
                runtime_name="containerd", runtime_version="v2.1.9", request_timeout=2000
            ),
        )
        for start in range(0, max(len(pods), len(containers), 1), _CHUNK):
            part = slice(start, start + _CHUNK)
            more = start + _CHUNK < max(len(pods), len(containers))
            self.call(
                "Synchronize",
                nri_pb2.SynchronizeRequest(pods=pods[part], containers=containers[part], more=more),
            )

    def close(self) -> None:
        """Hang up."""
        self._sock.close()

    def _encoded(self, method: str, request: message.Message) -> bytes:
        body = envelope.call(_PLUGIN, method, request.SerializeToString(), timeout=2.0)
        return mux.encode(mux.PLUGIN_SERVICE, self._calls.call(body)[1])

    def _reply(self) -> envelope.Reply:
        while True:
            reply = self._parse(self._sock.recv(65536))
            if reply is not None:
                return reply

    def _parse(self, received: bytes) -> envelope.Reply | None:
        if not received:
            raise RuntimeError("the plugin hung up")
        connection, length = _HEADER.unpack_from(received)
        if connection != mux.PLUGIN_SERVICE or length != len(received) - _HEADER.size:
            raise RuntimeError("the plugin sent more or less than one frame")
        self._calls.receive_data(received[_HEADER.size :])
        response = self._calls.next_event()
        return None if response is None else envelope.parse_reply(response.stream, response.body)

    def _frame(self) -> tuple[int, bytes]:
        header = self._exactly(_HEADER.size)
        connection, length = _HEADER.unpack(header)
        return connection, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += self._sock.recv(count - len(data)) or b""
        return data
