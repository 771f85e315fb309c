"""`run` where it cannot run: exit codes, one sentence, and nothing left behind."""

from __future__ import annotations

import pathlib

import pytest

from reconciler.sim import machine
from tests.cli import program

CGROUP_ROOT = "/sys/fs/cgroup"


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder with a machine of 8 CPUs."""
    machine.write(str(tmp_path / "host"), machine.vm())
    (tmp_path / "host" / "sys/fs/cgroup").mkdir(parents=True)
    return tmp_path


def run(folder: pathlib.Path, *options: str, simulated: bool = True) -> tuple[int, str]:
    """The exit code and what stands on standard error; later options override."""
    done = program.run(
        *("run", "--host-root", str(folder / "host"), "--nri-socket", str(folder / "nri.sock")),
        *("--state-dir", str(folder / "state"), "--api-socket", str(folder / "api.sock")),
        *(["--simulated"] if simulated else []),
        *options,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("minSharedCpus: none\n", "$.minSharedCpus", id="wrong type"),
        pytest.param("sharedCpus: 1\n", "sharedCpus", id="unknown key"),
        pytest.param(None, "No such file or directory", id="no file"),
    ],
)
def test_a_configuration_that_cannot_be_used_ends_it_with_2(
    folder: pathlib.Path, text: str | None, words: str
) -> None:
    config = folder / "config.yaml"
    if text is not None:
        config.write_text(text)
    code, err = run(folder, "--config", str(config))
    assert code == 2
    assert program.is_one_sentence(err), err
    assert str(config) in err
    assert words in err
    assert not (folder / "api.sock").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(["--state-dir", "{host}/state"], "state directory ", id="state in no folder"),
        pytest.param(["--api-socket", "{folder}/none/api.sock"], "API socket ", id="socket in no folder"),
        pytest.param(["--api-socket", "{folder}/precious"], "API socket ", id="socket where a file is"),
    ],
)
def test_an_option_that_cannot_be_used_ends_it_with_2(
    folder: pathlib.Path, options: list[str], words: str
) -> None:
    precious = folder / "precious"
    precious.write_text("precious")
    given = [option.format(host=precious, folder=folder) for option in options]
    code, err = run(folder, *given)
    assert code == 2
    assert program.is_one_sentence(err), err
    assert words in err
    assert precious.read_text() == "precious"


def test_a_folder_without_a_sysfs_is_an_unsuitable_host(folder: pathlib.Path) -> None:
    code, err = run(folder, "--host-root", str(folder / "elsewhere"))
    assert code == 3
    assert program.is_one_sentence(err), err
    assert "this is not the sysfs of a Linux host" in err


def test_a_folder_that_is_no_mount_is_an_unsuitable_host_unless_simulated(folder: pathlib.Path) -> None:
    before = sorted(folder.rglob("*"))
    code, err = run(folder, simulated=False)
    assert code == 3
    assert program.is_one_sentence(err), err
    assert "is not a cgroup2 mount" in err
    assert sorted(folder.rglob("*")) == before


def is_unified() -> bool:
    """Whether this machine has cgroup2, and nothing else, where the agent looks for it."""
    mounts = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    kinds = [line.split(" - ")[1].split()[0] for line in mounts if line.split()[4] == CGROUP_ROOT]
    return kinds[-1:] == ["cgroup2"]


@pytest.mark.skipif(is_unified(), reason="this machine has cgroup v2, on which the agent would run")
def test_this_machine_without_cgroup_v2_is_an_unsuitable_host(folder: pathlib.Path) -> None:
    before = sorted(folder.rglob("*"))
    code, err = run(folder, "--host-root", "/", simulated=False)
    assert code == 3
    assert program.is_one_sentence(err), err
    assert CGROUP_ROOT in err
    assert sorted(folder.rglob("*")) == before
