"""`demo`: the agent on a simulated node, with a script that ends by itself. I/O.

Exit codes: 0 if everything came out as expected, 1 if not, or if it was interrupted before its end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator

from reconciler import errors
from reconciler.sim import display, play

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FASTEST = 1000.0


class StoppedError(errors.ReconcilerError):
    """A signal ended the demo before its script was through."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `demo`."""
    parser.add_argument(
        "--interactive",
        action="store_true",
        help="keep the node after the script, to play with, until Ctrl-C",
    )
    parser.add_argument(
        "--plain", action="store_true", help="lines without colour (also: NO_COLOR, or no terminal)"
    )
    parser.add_argument(
        "--speed",
        type=_speed,
        default=1.0,
        metavar="FACTOR",
        help=f"shorten the pauses for reading, up to {_FASTEST:.0f} times (default: 1)",
    )


def run(given: argparse.Namespace) -> int:
    """Play the script. Raises a typed error, whose text is the sentence for standard error, for any other end
    than the expected one."""
    shown_on = display.choose(sys.stdout, plain=given.plain)
    try:
        asyncio.run(_perform(given, shown_on))
    except asyncio.CancelledError:
        raise StoppedError(
            "demo: stopped before its end; the agent is stopped and its folder removed"
        ) from None
    finally:
        shown_on.close()
    return 0


async def _perform(given: argparse.Namespace, shown_on: display.Display) -> None:
    with _cancelled_by_signals():
        await play.perform(shown_on, play.Manner(speed=given.speed, interactive=given.interactive))


@contextlib.contextmanager
def _cancelled_by_signals() -> Iterator[None]:
    """The first signal cancels this task; later ones are ignored, so that they do not cut the tidying up."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    signals = []

    def on_signal(number: signal.Signals) -> None:
        signals.append(number)
        if len(signals) == 1 and task is not None:
            task.cancel()

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed <= _FASTEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a factor above 0 and up to {_FASTEST:.0f}")
    return speed
