"""What kubelet's CPU manager has on record, in each version of its file, and what is no such file."""

from __future__ import annotations

import json
import pathlib

import pytest

from reconciler import errors, opponents
from reconciler.host import kubelet
from tests.pipeline.samples import cpus

# covers: PRD-7.13

V2 = (
    '{"policyName":"static","defaultCpuSet":"0,2-12",'
    '"entries":{"u1":{"main":"1,13","side":"14"}},"checksum":123}'
)
ENTRIES = {("u1", "main"): cpus("1,13"), ("u1", "side"): cpus("14")}
STATIC = opponents.Assignments(policy="static", default=cpus("0,2-12"), entries=ENTRIES)
V4 = json.dumps({"policyName": "", "defaultCpuSet": "", "checksum": 0, "data": V2, "dataChecksum": 7})


def put(root: pathlib.Path, data: bytes) -> pathlib.Path:
    """Have this file."""
    path = root / kubelet.STATE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("text", "means"),
    [
        pytest.param(V2, STATIC, id="static"),
        pytest.param(V4, STATIC, id="the newest, whose data count"),
        pytest.param(
            V2.replace('"checksum"', '"podEntries":{"u2":{"cpuSet":"3"}},"checksum"'),
            STATIC,
            id="with entries of pods",
        ),
        pytest.param(
            '{"policyName":"none","defaultCpuSet":"","checksum":1353318690}',
            opponents.Assignments(policy="none"),
            id="none",
        ),
        pytest.param(
            '{"policyName":"static","defaultCpuSet":"0-3","entries":null}',
            opponents.Assignments(policy="static", default=cpus("0-3")),
            id="nobody has any",
        ),
        pytest.param(
            '{"policyName":"static","defaultCpuSet":"0-3","entries":{"4f0c":"1-2"}}',
            opponents.Assignments(policy="static", default=cpus("0-3")),
            id="the oldest, by container id",
        ),
    ],
)
def test_each_version_is_understood(text: str, means: opponents.Assignments, tmp_path: pathlib.Path) -> None:
    put(tmp_path, text.encode())
    assert kubelet.read(str(tmp_path)) == means


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "it is no JSON"),
        (b"{", "it is no JSON"),
        (b"\xff\xfe", "it is no JSON"),
        (b"[" * 100_000, "it is no JSON"),
        (b"[]", "it is no JSON object"),
        (b"7", "it is no JSON object"),
        (b"{}", "policyName is no string"),
        (b'{"policyName":7}', "policyName is no string"),
        (b'{"policyName":"static","entries":[1]}', "entries is no object"),
        (b'{"policyName":"static","defaultCpuSet":7}', "defaultCpuSet: it is no CPU list"),
        (b'{"policyName":"static","defaultCpuSet":"0-"}', "defaultCpuSet"),
        (b'{"policyName":"static","entries":{"u":{"c":["0"]}}}', "entry u c: it is no CPU list"),
        (b'{"policyName":"static","entries":{"u":{"c":"9000"}}}', "entry u c"),
        (b'{"data":"{"}', "data: it is no JSON"),
    ],
)
def test_what_kubelet_would_not_write_is_refused_with_what_is_wrong(
    text: bytes, why: str, tmp_path: pathlib.Path
) -> None:
    put(tmp_path, text)
    with pytest.raises(errors.Malformed) as refused:
        kubelet.read(str(tmp_path))
    assert kubelet.STATE in str(refused.value)
    assert why in str(refused.value)


def test_a_file_that_has_no_end_is_not_read_to_it(tmp_path: pathlib.Path) -> None:
    put(tmp_path, b" " * (5 << 20))
    with pytest.raises(errors.Malformed, match="more than 4194304 bytes"):
        kubelet.read(str(tmp_path))


def test_without_a_file_there_is_nothing(tmp_path: pathlib.Path) -> None:
    assert (kubelet.read(str(tmp_path)), kubelet.stamp(str(tmp_path))) == (None, None)
    assert kubelet.socket(str(tmp_path)) is None


def test_what_is_there_and_is_no_file_is_an_error_with_its_path(tmp_path: pathlib.Path) -> None:
    (tmp_path / kubelet.STATE).mkdir(parents=True)
    with pytest.raises(errors.HostFileError, match="cpu_manager_state"):
        kubelet.read(str(tmp_path))


def test_the_stamp_changes_when_the_file_is_replaced(tmp_path: pathlib.Path) -> None:
    path = put(tmp_path, V2.encode())
    before = kubelet.stamp(str(tmp_path))
    assert kubelet.stamp(str(tmp_path)) == before
    other = path.with_name("new")
    other.write_bytes(V2.encode())
    other.rename(path)
    assert kubelet.stamp(str(tmp_path)) != before
