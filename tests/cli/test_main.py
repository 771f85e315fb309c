"""Commands, options and exit codes."""

from __future__ import annotations

import os
import pathlib
import subprocess

import pytest

import reconciler
from reconciler import errors
from reconciler.cli import main
from tests.cli import program

COMMANDS = ["run", "status", "explain", "whatif", "drifts", "plan", "topology", "check-config", "demo"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param([], "arguments are required: COMMAND", id="no command"),
        pytest.param(["fly"], "invalid choice: 'fly'", id="unknown command"),
        pytest.param(["run", "--fly"], "unrecognized arguments: --fly", id="unknown option"),
        pytest.param(["run", "--dry"], "unrecognized arguments: --dry", id="abbreviated option"),
        pytest.param(
            ["--verbose", "run"], "unrecognized arguments: --verbose", id="option before the command"
        ),
        pytest.param(["run", "--source", "cloud"], "invalid choice: 'cloud'", id="unknown choice"),
        pytest.param(["run", "--config"], "--config: expected one argument", id="option without its value"),
        pytest.param(["status", "--output", "xml"], "invalid choice: 'xml'", id="unknown output"),
        pytest.param(["topology", "extra"], "unrecognized arguments: extra", id="an argument too many"),
        pytest.param(["explain"], "name a CONTAINER, or a CPU with --cpu", id="nothing to explain"),
        pytest.param(
            ["explain", "web/main", "--cpu", "5"], "name a CONTAINER, or a CPU", id="both to explain"
        ),
        pytest.param(["explain", "--cpu", "-1"], "--cpu: '-1' is not a CPU from 0 to 8191", id="no CPU"),
        pytest.param(["explain", "--cpu", "8192"], "is not a CPU from 0 to 8191", id="a CPU too high"),
        pytest.param(["explain", "--cpu", "٣"], "is not a CPU from 0 to 8191", id="a CPU in other digits"),
        pytest.param(["whatif"], "name at least one of --cpus, --cores-ids and", id="no pod to ask about"),
        pytest.param(["whatif", "--cpus", "0"], "'0' is not a number from 1 to 8192", id="no CPUs"),
        pytest.param(["whatif", "--cpus", "1.5"], "'1.5' is not a number from 1 to 8192", id="half a CPU"),
        pytest.param(
            ["whatif", "--cpus", "9" * 5000], "is not a number from 1 to 8192", id="CPUs without end"
        ),
        pytest.param(["whatif", "--cores-ids", "1," * 50_000], "a request of ", id="a list without end"),
        pytest.param(
            ["whatif", "--cpus", "1", "--namespace", ""], "a namespace has 1 to 63", id="no namespace"
        ),
        pytest.param(["check-config"], "name a FILE, or use --schema", id="no file"),
    ],
)
def test_a_bad_command_line_is_told_in_one_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main.main(arguments)
    except SystemExit as end:
        code = int(str(end.code))
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert program.is_one_sentence(captured.err), captured.err
    assert words in captured.err


@pytest.mark.parametrize(
    "arguments", [["--help"], *([command, "--help"] for command in COMMANDS)], ids=" ".join
)
def test_help_is_on_standard_output(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main.main(arguments)
    captured = capsys.readouterr()
    assert (end.value.code, captured.err) == (0, "")
    assert captured.out.startswith("usage: cpuset-reconciler")


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.main(["--help"])
    out = capsys.readouterr().out
    assert [command for command in COMMANDS if f"\n    {command}" not in out] == []


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"cpuset-reconciler {reconciler.__version__}\n"


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (errors.Usage("minSharedCpus: too small"), 2, "minSharedCpus: too small"),
        (errors.Unsuitable("cgroup v1"), 3, "cgroup v1"),
        (errors.Retryable("no agent answers"), 1, "no agent answers"),
        (errors.Malformed("online", "is\nnot a list"), 1, "online: is not a list"),
        (KeyboardInterrupt(), 1, "interrupted"),
        (ZeroDivisionError("by zero"), 1, "unexpected ZeroDivisionError: by zero; set"),
    ],
    ids=["usage", "unsuitable", "retryable", "malformed", "interrupted", "a mistake"],
)
def test_every_error_is_an_exit_code_and_one_sentence(error: BaseException, code: int, sentence: str) -> None:
    assert main._code(error) == code
    assert main._sentence(error).startswith(sentence)
    assert "\n" not in main._sentence(error)


@pytest.fixture
def config(tmp_path: pathlib.Path) -> str:
    """A configuration file that is fine."""
    path = tmp_path / "config.yaml"
    path.write_text("minSharedCpus: 2\n")
    return str(path)


@pytest.mark.parametrize("arguments", [["check-config", "FILE"], ["--help"]], ids=["a result", "help"])
def test_a_reader_that_has_seen_enough_is_no_error(arguments: list[str], config: str) -> None:
    read, write = os.pipe()
    os.close(read)
    given = [config if argument == "FILE" else argument for argument in arguments]
    done = subprocess.run(
        [*program.COMMAND, *given],
        env=program.ENVIRONMENT,
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
        timeout=program.PATIENCE,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


def test_an_output_that_is_full_is_told_in_one_sentence(config: str) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*program.COMMAND, "check-config", config],
            env=program.ENVIRONMENT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=program.PATIENCE,
        )
    assert done.returncode == 1
    assert program.is_one_sentence(done.stderr), done.stderr
    assert "No space left on device" in done.stderr


def test_a_traceback_is_shown_to_who_asks_for_it(tmp_path: pathlib.Path) -> None:
    done = subprocess.run(
        [*program.COMMAND, "check-config", str(tmp_path / "missing.yaml")],
        env={**program.ENVIRONMENT, main.TRACEBACK: "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=program.PATIENCE,
    )
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert "missing.yaml: No such file or directory" in done.stderr


def test_a_command_counts_though_a_runtime_may_have_set_its_variables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NRI_PLUGIN_SOCKET", "none")
    assert main.main(["check-config", "--schema"]) == 0
    assert capsys.readouterr().out.startswith("{")
    assert main.main([]) == 2
    assert "NRI_PLUGIN_SOCKET=none" in capsys.readouterr().err
