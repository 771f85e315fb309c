"""A connection to the runtime without a socket: its bytes, its replies, and a whole session as one text."""

from __future__ import annotations

import asyncio

from reconciler.runtime.nri import connection, envelope, handler, mux, nri_pb2, session, ttrpc

PLUGIN = "nri.pkg.api.v1alpha1.Plugin"
POD = nri_pb2.PodSandbox(
    id="p",
    uid="u",
    name="db",
    namespace="default",
    linux=nri_pb2.LinuxPodSandbox(cgroup_parent="kubepods-podu.slice"),
)
CONTAINER = nri_pb2.Container(id="c", pod_sandbox_id="p", name="main")
CONFIGURE = nri_pb2.ConfigureRequest(runtime_name="containerd", runtime_version="v2.1.9").SerializeToString()
EVENTS: dict[nri_pb2.Event, str] = {
    nri_pb2.RUN_POD_SANDBOX: "pod_started",
    nri_pb2.START_CONTAINER: "start",
    nri_pb2.STOP_CONTAINER: "stopped",
    nri_pb2.REMOVE_CONTAINER: "removed",
    nri_pb2.STOP_POD_SANDBOX: "pod_stopped",
    nri_pb2.REMOVE_POD_SANDBOX: "pod_removed",
}


class Runtime:
    """The other end: encodes calls, in the order of their streams."""

    def __init__(self) -> None:
        self._client = ttrpc.Client()

    def call(self, method: str, payload: bytes = b"", granted: float = 0) -> bytes:
        """The bytes of a call."""
        body = envelope.call(PLUGIN, method, payload, timeout=granted)
        return mux.encode(mux.PLUGIN_SERVICE, self._client.call(body)[1])

    @staticmethod
    def registered() -> bytes:
        """The bytes that grant the registration."""
        return mux.encode(mux.RUNTIME_SERVICE, ttrpc.Server.reply(1, envelope.reply(b"")))


class Line(asyncio.Transport):
    """A transport that keeps what is written, decoded, with the loop's time of it."""

    def __init__(self, its_handler: handler.Handler, report: handler.Report) -> None:
        super().__init__()
        self.replies: list[tuple[float, envelope.Reply]] = []
        self.runtime = Runtime()
        self._answers, self._mux = ttrpc.Client(), mux.Decoder()
        self._loop = asyncio.get_running_loop()
        its_session = session.Session(session.Identity("test", "90"), frozenset())
        self.connection = connection.Connection(self._loop, its_session, its_handler, report)
        self.connection.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """As `Transport.write`."""
        self._mux.receive_data(bytes(data))
        while (frame := self._mux.next_event()) is not None:
            if frame.connection == mux.PLUGIN_SERVICE:
                # Any stream may be answered: the calls were encoded elsewhere.
                self._answers._open.add(int.from_bytes(frame.payload[4:8]))
                self._answers.receive_data(frame.payload)
        while (response := self._answers.next_event()) is not None:
            self.replies.append((self._loop.time(), envelope.parse_reply(response.stream, response.body)))

    def abort(self) -> None:
        """As `Transport.abort`."""
        self._loop.call_soon(self.connection.connection_lost, None)

    def receive(self, data: bytes) -> None:
        """Let these bytes come, all at once."""
        self.connection.get_buffer(-1)[: len(data)] = data
        self.connection.buffer_updated(len(data))

    def configured(self) -> None:
        """Register, and be configured and synchronized with an empty node."""
        self.receive(self.runtime.call("Configure", CONFIGURE) + self.runtime.registered())
        self.receive(self.runtime.call("Synchronize"))


def whole_session() -> list[tuple[bytes, str]]:
    """Each message of a session that has every kind of event, and what the handler hears with it."""
    its = Runtime()
    said = [
        (its.call("Configure", CONFIGURE), "connected"),
        (its.registered(), ""),
        (its.call("Synchronize", nri_pb2.SynchronizeRequest(pods=[POD], more=True).SerializeToString()), ""),
        (
            its.call("Synchronize", nri_pb2.SynchronizeRequest(containers=[CONTAINER]).SerializeToString()),
            "synchronized",
        ),
        (
            its.call(
                "CreateContainer",
                nri_pb2.CreateContainerRequest(pod=POD, container=CONTAINER).SerializeToString(),
            ),
            "create",
        ),
        (
            its.call(
                "UpdateContainer",
                nri_pb2.UpdateContainerRequest(pod=POD, container=CONTAINER).SerializeToString(),
            ),
            "update",
        ),
    ]
    for event, heard in EVENTS.items():
        message = nri_pb2.StateChangeEvent(event=event, pod=POD, container=CONTAINER)
        said.append((its.call("StateChange", message.SerializeToString()), heard))
    said.append((its.call("PostCreateContainer"), ""))
    return said
