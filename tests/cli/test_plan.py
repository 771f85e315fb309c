"""`plan` on a captured machine, and of a running agent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import yaml

from reconciler.cli import main
from reconciler.daemon import api, status
from reconciler.sim import machine
from tests.cli import program
from tests.daemon import node, pods

CGROUPS = "sys/fs/cgroup"
WEB = "kubepods.slice/kubepods-burstable.slice/web.scope"
DB = "kubepods.slice/db.scope"
PODS = [
    {"name": "web", "uid": "1", "containers": [{"name": "nginx", "id": "web-1", "cgroup": WEB}]},
    {
        "name": "db",
        "uid": "2",
        "qos": "guaranteed",
        "containers": [{"name": "main", "id": "db-1", "cgroup": DB, "quota": 200_000, "period": 100_000}],
    },
]


def cgroup(path: str, cpus: str) -> dict[str, str]:
    """The files of a cgroup."""
    return {f"{CGROUPS}/{path}/cpuset.cpus": f"{cpus}\n", f"{CGROUPS}/{path}/cpuset.mems": "\n"}


def capture(folder: pathlib.Path, **changes: Any) -> str:
    """A captured machine of 8 CPUs: an integer pod on 4-5, and a shared one on everything."""
    document = {"files": {**machine.vm(), **cgroup(WEB, "0-7"), **cgroup(DB, "4-5")}, "pods": PODS, **changes}
    path = folder / "capture.yaml"
    path.write_text(yaml.safe_dump(document))
    return str(path)


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What `plan --output json` prints."""
    assert main.main(["plan", "--output", "json", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    document: dict[str, Any] = json.loads(captured.out)
    return document


def test_a_captured_machine_has_a_plan(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert planned(capsys, "--capture", capture(tmp_path)) == {
        "containers": 2,
        "pools": {"shared": "0-3,6-7", "exclusive": "4-5", "reserved": "", "offline": ""},
        "writes": [
            {
                "id": "web-1",
                "namespace": "default",
                "pod": "web",
                "container": "nginx",
                "file": "cpuset.cpus",
                "observed": "0-7",
                "text": "0-3,6-7",
                "phase": "leave",
            }
        ],
        "unsatisfied": [],
    }


def test_the_plan_is_a_table_for_people(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["plan", "--capture", capture(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "shared     0-3,6-7",
        "exclusive  4-5",
        "reserved   -",
        "offline    -",
        "",
        "PHASE  POD          CONTAINER  FILE         OBSERVED  WRITE",
        "leave  default/web  nginx      cpuset.cpus  0-7       0-3,6-7",
    ]


def test_a_machine_in_order_has_nothing_to_write(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {**machine.vm(), **cgroup(WEB, "0-3,6-7"), **cgroup(DB, "4-5")}
    assert main.main(["plan", "--capture", capture(tmp_path, files=files)]) == 0
    assert capsys.readouterr().out.endswith("\nnothing to write: 2 containers are in order\n")


def test_the_configuration_counts(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("minSharedCpus: 7\n")
    document = planned(capsys, "--capture", capture(tmp_path), "--config", str(config))
    assert document["pools"]["exclusive"] == ""
    [entry] = document["unsatisfied"]
    assert (entry["pod"], entry["container"]) == ("db", "main")
    assert "below the minimum of 7" in entry["reason"]


def test_the_same_capture_has_the_same_plan_and_is_not_written(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = pathlib.Path(capture(tmp_path))
    before = path.read_bytes()
    assert planned(capsys, "--capture", str(path)) == planned(capsys, "--capture", str(path))
    assert (path.read_bytes(), [each.name for each in tmp_path.iterdir()]) == (before, ["capture.yaml"])


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        pytest.param({"files": {"/tmp/evil": "x"}}, 2, "'/tmp/evil' is not a path below", id="absolute path"),
        pytest.param({"files": {"sys/../../evil": "x"}}, 2, "is not a path below", id="path that leads out"),
        pytest.param({"files": {"": "x"}}, 2, "is not a path below", id="no path"),
        pytest.param({"files": {"sys": "", "sys/a": ""}}, 2, "'sys' is a file and a folder", id="both"),
        pytest.param({"files": {"sys/a": "ü"}}, 2, "no file of the kernel has", id="not ASCII"),
        pytest.param({"files": {"sys/a": 7}}, 2, "$.files[...]", id="not a text"),
        pytest.param({"files": {}}, 3, "online is missing", id="no sysfs"),
        pytest.param({"nodes": []}, 2, "unknown field `nodes`", id="unknown key"),
        pytest.param({"pods": [{"name": "web"}]}, 2, "`uid`", id="a key is missing"),
        pytest.param(
            {"pods": [{"name": "web", "uid": "1", "cgroup": "../../etc"}]},
            2,
            "web: cgroup '../../etc' is not a path below",
            id="cgroup that leads out",
        ),
        pytest.param({"pods": [{"name": "web", "uid": "1", "qos": "fast"}]}, 2, "fast", id="unknown class"),
    ],
)
def test_a_capture_that_cannot_be_right_is_refused(
    tmp_path: pathlib.Path,
    changes: Mapping[str, object],
    code: int,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = capture(tmp_path, **changes)
    assert main.main(["plan", "--capture", path]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert program.is_one_sentence(captured.err), captured.err
    assert words in captured.err
    assert [each.name for each in tmp_path.iterdir()] == ["capture.yaml"]
    assert not pathlib.Path("/tmp/evil").exists()


@pytest.mark.parametrize("option", ["--capture", "--config"])
def test_a_file_that_is_not_there_is_named(
    tmp_path: pathlib.Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "missing.yaml")
    others = [] if option == "--capture" else ["--capture", capture(tmp_path)]
    assert main.main(["plan", *others, option, missing]) == 2
    captured = capsys.readouterr()
    assert captured.err == f"cpuset-reconciler: {missing}: No such file or directory (errno 2)\n"


def test_without_an_agent_there_is_no_plan_of_this_node(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    socket = str(tmp_path / "api.sock")
    assert main.main(["plan", "--api-socket", socket]) == 1
    assert capsys.readouterr().err == (
        f"cpuset-reconciler: no agent answers at {socket}: No such file or directory\n"
    )


@contextlib.asynccontextmanager
async def answering(folder: pathlib.Path) -> AsyncIterator[str]:
    """A dry agent that would move one container."""
    web = pods.pod("web")
    container = pods.container(web)
    async with node.running(folder, dry=True) as made:
        made.make(container, "0-3")
        await made.synchronize((web, container))

        async def plan(_: api.Request) -> api.Document:
            looks, steps = await made.passes.preview()
            return status.plan_document(made.agent.state, looks, steps)

        async with api.serving(str(folder / "api.sock"), {"plan": api.Answer(api.Request, plan)}):
            yield str(folder / "api.sock")


async def test_a_running_agent_is_asked_for_its_plan(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with answering(tmp_path) as socket:
        document = await asyncio.to_thread(planned, capsys, "--api-socket", socket)
    assert set(document) == {"containers", "pools", "writes"}
    [write] = document["writes"]
    assert (write["pod"], write["observed"], write["text"]) == ("web", "0-3", "0-7")
