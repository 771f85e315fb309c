"""`cpuset-reconciler`: chooses the command, and turns errors into exit codes. I/O: standard error.

Exit codes: 0 fine, 2 usage or configuration, 3 host unsuitable, 1 anything else; always one sentence on
standard error.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import reconciler
from reconciler import errors

PROGRAM = "cpuset-reconciler"
TRACEBACK = "CPUSET_RECONCILER_TRACEBACK"
"""Environment variable with which an error is shown whole."""

_LAUNCHED = "NRI_PLUGIN_SOCKET"
"""What a runtime sets for the plugins that it starts itself, to which it gives no arguments."""

_COMMANDS = {
    "run": ("run", "run the agent on this node"),
    "status": ("status", "show what every container has and should have"),
    "explain": ("explain", "say why a container has its CPUs, or who may run on a CPU"),
    "whatif": ("whatif", "say what the creation of a pod would bring, and change nothing"),
    "drifts": ("drifts", "list the drifts of this node, those of former runs too"),
    "metrics": ("metrics", "print the metrics of the running agent"),
    "plan": ("plan", "show what would be written, and write nothing"),
    "topology": ("topology", "show sockets, NUMA nodes, caches, cores and threads"),
    "check-config": ("check_config", "check a configuration file, or print its JSON Schema"),
    "restore": ("restore", "give containers back the cpusets that the runtime has on record"),
    "demo": ("demo", "run the agent on a simulated node and watch it work"),
}
"""Command to (module, help). A module is imported only when its command is asked for."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    return exit_code(lambda: _run(given))


def exit_code(command: Callable[[], int]) -> int:
    """The exit code of what is run; one sentence on standard error if it raises."""
    try:
        try:
            return command()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        _discard_output()
        return 1
    except (Exception, KeyboardInterrupt) as error:
        if TRACEBACK in os.environ:
            raise
        _discard_output()
        print(f"{PROGRAM}: {_sentence(error)}", file=sys.stderr)
        return _code(error)


def _run(given: Sequence[str]) -> int:
    if not given and _LAUNCHED in os.environ:
        launched = importlib.import_module("reconciler.cli.launched")
        ended: int = launched.run(os.environ)
        return ended
    options = _parse(given)
    module = importlib.import_module(f"reconciler.cli.{_COMMANDS[options.command][0]}")
    code: int = module.run(options)
    return code


def _discard_output() -> None:
    """Leave nothing in standard output that cannot be written: the interpreter would try again at its end."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _sentence(error: BaseException) -> str:
    match error:
        case errors.ReconcilerError():
            return " ".join(str(error).split())
        case KeyboardInterrupt():
            return "interrupted"
        case _:
            return f"unexpected {type(error).__name__}: {error}; set {TRACEBACK}=1 to see where"


def _code(error: BaseException) -> int:
    match error:
        case errors.Usage():
            return 2
        case errors.Unsuitable():
            return 3
        case _:
            return 1


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, and leaves the list of options to `--help`."""

    def error(self, message: str) -> NoReturn:
        """As `ArgumentParser.error`."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parse(given: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog=PROGRAM, description=reconciler.__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"%(prog)s {reconciler.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    wanted = next((argument for argument in given if argument in _COMMANDS), None)
    for name, (module, help_) in _COMMANDS.items():
        command = commands.add_parser(name, help=help_, description=help_, allow_abbrev=False)
        if name == wanted:
            importlib.import_module(f"reconciler.cli.{module}").add_arguments(command)
    return parser.parse_args(given)


if __name__ == "__main__":
    sys.exit(main())
