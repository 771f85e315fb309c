"""Inputs by hand for every target: what peers really send, and what somebody hostile would."""

from __future__ import annotations

import json
import pathlib
import struct
from collections.abc import Mapping

from reconciler.runtime.cri import cri_pb2 as cri
from reconciler.runtime.nri import envelope, mux, nri_pb2
from tests.cri import lists
from tests.fuzz import calls, cri_lists, pieces

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_PARENT = "kubepods-pod1.slice"
_HUGE = (1 << 64) - 1


def _frame(connection: int, payload: bytes, *, said: int | None = None) -> bytes:
    return struct.pack(">II", connection, len(payload) if said is None else said) + payload


def _message(stream: int, body: bytes, *, kind: int = 1, said: int | None = None) -> bytes:
    return struct.pack(">IIBB", len(body) if said is None else said, stream, kind, 0) + body


_TWO = _frame(1, b"one") + _frame(2, b"") + _frame(1, b"three" * 6)
_MULTIPLEXER = (
    b"",
    pieces.streamed(b""),
    pieces.streamed(_TWO),
    pieces.streamed(_TWO, b"\1" * 8),
    pieces.streamed(_TWO[:-1]),
    pieces.streamed(_TWO * 10, b"\xff" * 8),
    pieces.streamed(_TWO + _frame(7, b"", said=33) + _TWO),
    pieces.streamed(_frame(1, b"", said=mux.MAX_PAYLOAD)),
    pieces.streamed(_frame(1, b"", said=mux.MAX_PAYLOAD + 1)),
    pieces.streamed(_frame(0xFFFFFFFF, b"x", said=0xFFFFFFFF)),
    pieces.streamed(b"\0" * 200),
    pieces.streamed(b"\xff" * 200),
)


def _pod(**changes: object) -> nri_pb2.PodSandbox:
    made = nri_pb2.PodSandbox(
        id="s", name="web", uid="u", namespace="default", annotations={"weka.io/cores-ids": "2-3", "a": "b"}
    )
    made.linux.cgroup_parent = _PARENT
    made.linux.cgroups_path = f"{_PARENT}:cri-containerd:s"
    for key, its in changes.items():
        setattr(made, key, its)
    return made


def _plain_pod() -> nri_pb2.PodSandbox:
    """A pod without annotations: its containers are judged by their limits."""
    made = _pod()
    made.annotations.clear()
    return made


def _container(*, quota: int = 200_000, shares: int = 2048, **changes: object) -> nri_pb2.Container:
    made = nri_pb2.Container(id="c", pod_sandbox_id="s", name="main", state=nri_pb2.CONTAINER_RUNNING)
    made.linux.cgroups_path = f"{_PARENT}:cri-containerd:c"
    cpu = made.linux.resources.cpu
    cpu.quota.value, cpu.period.value, cpu.shares.value, cpu.cpus = quota, 100_000, shares, "2-3"
    for key, its in changes.items():
        setattr(made, key, its)
    return made


def _create(pod: nri_pb2.PodSandbox, container: nri_pb2.Container) -> bytes:
    request = nri_pb2.CreateContainerRequest(pod=pod, container=container)
    return calls.called("CreateContainer", request.SerializeToString())


def _update() -> bytes:
    request = nri_pb2.UpdateContainerRequest(pod=_pod(), container=_container())
    request.linux_resources.cpu.quota.value = 300_000
    request.linux_resources.cpu.cpus = "1"
    return calls.called("UpdateContainer", request.SerializeToString())


def _change(event: nri_pb2.Event | str, **changes: object) -> bytes:
    request = nri_pb2.StateChangeEvent(event=event, pod=_pod(**changes), container=_container())
    return calls.called("StateChange", request.SerializeToString())


def _own(method: str) -> bytes:
    request = nri_pb2.Lifecycle(pod=_pod(), container=_container())
    return calls.called(method, request.SerializeToString())


def _synchronize(*containers: nri_pb2.Container, more: bool = False) -> bytes:
    request = nri_pb2.SynchronizeRequest(pods=[_pod()], containers=containers, more=more)
    return calls.called("Synchronize", request.SerializeToString())


def _configure(**said: object) -> bytes:
    request = nri_pb2.ConfigureRequest(runtime_name="containerd", runtime_version="v2.1.9")
    for key, its in said.items():
        setattr(request, key, its)
    return calls.called("Configure", request.SerializeToString())


_REQUEST = envelope.call("s", "StartContainer", nri_pb2.Lifecycle(pod=_pod()).SerializeToString())
_CALL = _frame(1, _message(1, _REQUEST))
_REFUSED = _message(1, envelope.failure(envelope.Code.UNKNOWN, "no\nroom"), kind=2)
_TTRPC = (
    b"",
    calls.raw(_CALL),
    calls.raw(_frame(1, _message(1, _REQUEST)[:9]) + _frame(1, _message(1, _REQUEST)[9:])),
    calls.raw(_CALL + _frame(2, _REFUSED) + _frame(2, _REFUSED) + _frame(3, _REFUSED)),
    calls.raw(_frame(1, _message(2, _REQUEST)) + _CALL + _CALL),
    calls.raw(_frame(1, _message(1, b"\xff\xff")) + _frame(2, _message(3, b"\x08", kind=2))),
    calls.raw(_frame(1, _message(1, b"", said=(16 << 20) + 1)) + _CALL),
    calls.raw(_frame(1, b"", said=0xFFFFFFFF)),
    calls.raw(_frame(1, _message(0xFFFFFFFF, b"")) + _CALL),
    calls.whole(_configure(), _synchronize(_container(), more=True), _synchronize(_container(id="d"))),
    calls.whole(_configure(request_timeout=-1, registration_timeout=1 << 62, NRI_version="v0.12.1")),
    calls.whole(_own("RunPodSandbox"), _create(_pod(), _container()), _own("StartContainer"), _update()),
    calls.whole(
        *(_change(name) for name in nri_pb2.Event.keys()),  # noqa: SIM118  no dict
        calls.called("StateChange", b"\x08\x63"),
    ),
    calls.whole(_create(_pod(id=""), _container()), _create(_pod(), _container(id=""))),
    calls.whole(_create(_pod(id="other"), _container()), _own("RemovePodSandbox")),
    calls.whole(_create(_pod(), _container()), _create(_pod(id="t"), _container(pod_sandbox_id="t"))),
    calls.whole(_create(_pod(), _container(id="s")), _change(nri_pb2.STOP_POD_SANDBOX, id="s")),
    calls.whole(_create(_pod(), _container(shares=_HUGE))),
    calls.whole(_create(_pod(), _container(quota=1 << 62))),
    calls.whole(_create(_plain_pod(), _container(quota=100_000 * 10**12))),
    calls.whole(_create(_pod(), _container(quota=-(1 << 62), shares=0))),
    calls.whole(*(_own(method) for method in calls.METHODS)),
    calls.whole(calls.called("Other", b"\xff"), calls.called("CreateContainer", b"\xff", connection=3)),
)


def _info(parent: str = _PARENT, **cpu: object) -> bytes:
    linux = {"cgroupsPath": f"{parent}:cri-containerd:c", "resources": {"cpu": cpu}}
    return json.dumps({"pid": 7, "runtimeSpec": {"linux": linux}}).encode()


def _sandboxes(*its: cri.PodSandbox) -> bytes:
    return cri.ListPodSandboxResponse(items=its).SerializeToString()


def _containers(*its: cri.Container) -> bytes:
    return cri.ListContainersResponse(containers=its).SerializeToString()


def _poll(*its: cri.Container, pods: bytes | None = None, info: bytes = b"", plain: bool = False) -> bytes:
    return cri_lists.polled(
        _sandboxes(lists.sandbox("s", cores_ids="2-3")) if pods is None else pods,
        _containers(*its),
        lists.pod_status().SerializeToString(),
        lists.status("c", plain=plain).SerializeToString(),
        info,
    )


_A = lists.container("a")
_CRI = (
    b"",
    _poll(_A),
    pieces.joined(_poll(_A), _poll(lists.container("a", state=cri.CONTAINER_EXITED)), _poll()),
    pieces.joined(_poll(), _poll(lists.container("a", state=cri.CONTAINER_CREATED)), _poll(_A)),
    pieces.joined(_poll(_A, plain=True), _poll(_A, plain=True), _poll(_A, pods=b"")),
    pieces.joined(_poll(_A), _poll(lists.container("a", "t"), pods=_sandboxes(lists.sandbox("t")))),
    _poll(_A, lists.container("s"), lists.container("s", "s"), lists.container("", "")),
    _poll(*(lists.container(f"c{number}", age=-number) for number in range(70))),
    _poll(_A, pods=_sandboxes(lists.sandbox("s", handler="kata-qemu"), lists.sandbox("s", ready=False))),
    _poll(_A, info=_info(shares=2048, quota=200_000, period=100_000, cpus="0-3")),
    _poll(_A, info=_info(shares=_HUGE)),
    _poll(_A, info=_info(shares=10**30, quota=10**30)),
    _poll(_A, info=_info(shares=-1, quota=-(10**30), period=0)),
    _poll(_A, info=_info(quota=10**15, period=1), pods=_sandboxes(lists.sandbox("s"))),
    _poll(_A, info=_info("../../..", cpus="x")),
    _poll(_A, info=_info("/kubepods/../../etc")),
    _poll(_A, info=b'{"pid": "seven"}'),
    _poll(_A, info=b'{"runtimeSpec": {"annotations": {"io.kubernetes.cri-o.CgroupParent": "/a"}}}'),
    _poll(_A, info=b'{"config": {"linux": {"cgroup_parent": "/kubepods/burstable/pod1"}}}'),
    _poll(_A, info=b"[" * 3000),
    _poll(_A, info=b'{"a":' * 700),
    _poll(_A, info=b'{"pid": 1e999, "runtimeSpec": null}'),
    _poll(_A, info=b'"\\ud800"'),
    cri_lists.polled(b"\xff", b"\xff"),
    cri_lists.COMPACT
    + cri_lists.compact(b"\4\5", b"\0\4\1\5", _PARENT.encode(), struct.pack("<qq", 2048, 200_000)),
    cri_lists.COMPACT
    + pieces.joined(
        cri_lists.compact(b"\4", b"\0\0\1\4", b"/kubepods/pod1"),
        cri_lists.compact(b"\4\1", b"\0\4\1\x08", b"/kubepods/burstable/pod1"),
        cri_lists.compact(b"\0\5", b"\0\5\x08\1", b"", b"\1" * 16),
        cri_lists.compact(b"\7\x0f", b"\x0f\x03", b"kubepods.slice", b"\xff" * 16, b"{}"),
    ),
    cri_lists.polled(b"", b"", b"", b"", b"\xff"),
)

_CPU_LISTS = (
    *(b"", b"0", b"0-3,8", b" 0 , 2-3\n", b"8191", b"8192", b"0-8191", b"0-8192", b"3-1", b"1-", b"-1"),
    *(
        b",",
        b"0,",
        b",0",
        b"0,,1",
        b"1 2",
        b"1- 2",
        b"1-2-3",
        b"  x",
        b"1, \t3-2",
        b"0-99999999999999999999",
        b"000000000",
    ),
    *(
        b"0000000000",
        b"1,1,1",
        b"5-7,6",
        b"\t\n",
        b"\x0b",
        b"\x0c1",
        b"0\x00",
        b"\xff",
        b"0x1",
        b"+1",
        b"1_0",
    ),
    *(
        "\u0661".encode(),
        "\u00a0".encode(),
        "1\u20132".encode(),
        "\u00b2".encode(),
        b"0-3:1/2",
        b"all",
        b"\t\n" + b"\x0b" * 90,
    ),
)

_BOMB = "a: &a [x, x]\n" + "".join(
    f"{after}: &{after} [*{before}, *{before}]\n"
    for before, after in zip("abcdefghijklmnop", "bcdefghijklmnopq", strict=True)
)
_MERGES = "a: &a {x: 1}\n" + "".join(
    f"{after}: &{after} {{<<: [*{before}, *{before}]}}\n"
    for before, after in zip("abcdefghijklmnop", "bcdefghijklmnopq", strict=True)
)
_WHOLE = """\
minSharedCpus: 2
reservedCpus: 0-1
isolatedCpus: use
integerMemory: pin
cfsQuota: lift
onGuard: admit
annotatedNamespaces: [storage, "team-*"]
annotatedOverlap: allow
maxExclusiveCpus: {"*": 8, team-a: 4}
unmanagedNamespaces: &a [kube-system]
optOutNamespaces: *a
passIntervalSeconds: 2.5
nri: {pluginName: x, pluginIndex: "05"}
"""
_CONFIGURATION = tuple(
    text.encode()
    for text in (
        *(
            "",
            "{}",
            "~",
            "[]",
            "0",
            "# nothing",
            _WHOLE,
            _BOMB,
            _MERGES,
            "\ufeffminSharedCpus: 1",
            "\0",
            "\t",
        ),
        *("minSharedCpus: 010", "minSharedCpus: 1_0", "minSharedCpus: 1:30", "minSharedCpus: 0x"),
        *("minSharedCpus: !!int ''", "minSharedCpus: !!float ''", "minSharedCpus: !!bool x"),
        *("a: !!timestamp x", "a: 2001-99-99", "a: 2001-01-01 00:00:00 +99:00", "a: !!binary \u00e9"),
        *("a: 1" + ":0" * 300 + ".5", "a: 1" + ":1" * 1000, "a: " + "9" * 5000, "a: 0x" + "f" * 2000),
        *("passIntervalSeconds: .nan", "passIntervalSeconds: .inf", "passIntervalSeconds: -.inf"),
        *("&a [*a]", "&a {a: *a}", "? &a {? *a}\n: 1", "? [x]\n: 1", "? {x: 1}\n: 1", "? !!set {x}\n: 1"),
        *("<<: {a: 1}", "<<: *a", "=: 1", "- - - -", "[" * 2000, "{" * 2000, "- " * 1000, "? " * 900),
        *('"a\\nb": 1', '"a\\u2028b": 1', "a: 1\na: 2", "1: 2", "~: 1", "1.0: a\n1: b\ntrue: c"),
        *(
            "--- a\n--- b",
            "%YAML 9.9\n---\n",
            "!!python/object:os.system {}",
            "!!omap [a: 1]",
            "!!pairs [a: 1]",
        ),
        *("nri: {pluginIndex: 90}", 'nri: {pluginName: "x\\n"}', "reservedCpus: 1-0", "reservedCpus: 99999"),
        *(
            "!!map [a:0 1]",
            "!!map ab",
            "!!seq {a: 1}",
            "!!set [a]",
            "!!str [a]",
            "!!null [a]",
            "!!omap {a: 1}",
        ),
        *('maxExclusiveCpus: {"a": true}', "maxExclusiveCpus: {team-: 1}", "annotatedNamespaces: x"),
    )
)
_LATIN = "minSharedCpus: 1 # \u00e9".encode("latin-1")

_SAVED = (_ROOT / "fixtures" / "checkpoints").glob("*.json")


def _document(**changes: object) -> bytes:
    """A document of the first version with other values."""
    its = json.loads((_ROOT / "fixtures" / "checkpoints" / "version-1.json").read_text())
    return json.dumps({**its, **changes}).encode()


def _claim(**changes: object) -> dict[str, object]:
    return {"uid": "u", "kind": "integer", "cpus": "2-3", "pod": "a/b", "holders": ["main"], **changes}


_CHECKPOINT = (
    *(b"", b"{}", b"[]", b"\0" * 64, b"[" * 3000, b'{"a":' * 600, b'{"version":1}', b'{"version":true}'),
    *(b'{"version":-1}', b'{"version":1e0}', b'{"version":99999999999999999999}', b"\xff", b'"\\ud800"'),
    *(path.read_bytes() for path in sorted(_SAVED)),
    _document(claims=[_claim(), _claim(uid="v")]),
    _document(claims=[_claim(), _claim()]),
    _document(claims=[_claim(cpus="")]),
    _document(claims=[_claim(cpus="8192")]),
    _document(claims=[_claim(cpus="0-8191", forbidden="0-8191", holders=["a", "a", ""])]),
    _document(claims=[_claim(kind="shared")]),
    _document(claims=[_claim(name="x\u0000\ud7ff\n", uid="")]),
    _document(former=[{"pod": "a", "name": "b", "cpus": "1"}] * 2),
    _document(containers={"c": {"kind": "integer", "why": "", "count": 8193}}),
    _document(containers={"": {"kind": "integer", "why": "", "count": 0, "shares": (1 << 63) - 1}}),
    _document(containers={"c": {"kind": "shared", "why": "", "shares": -1}}),
    _document(containers={"c" * 200: {"kind": "shared", "why": "", "cpus": "x"}}),
    _document(machine="\u2028", boot="", online=""),
    _document(online="1-0"),
    _document(more=1),
)

SEEDS: Mapping[str, tuple[bytes, ...]] = {
    "multiplexer": _MULTIPLEXER,
    "ttrpc": _TTRPC,
    "cri": _CRI,
    "cpu-lists": _CPU_LISTS,
    "checkpoint": _CHECKPOINT,
    "configuration": (*_CONFIGURATION, _LATIN),
}
