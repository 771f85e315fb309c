"""The demo on a terminal: the story scrolls, the map stays below it. I/O, by rich (the extra `cli`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

from rich import box, console, live, panel, text

from reconciler.sim import frame as frames
from reconciler.sim import screen

_STYLES = {
    "text": "",
    "dim": "bright_black",
    "strong": "bold",
    "good": "green",
    "bad": "bold red",
    "pool": "white on grey30",
    "nobody": "grey50 on grey15",
    "wrong": "bold white on red",
}
_CLAIMS = (
    "black on dark_turquoise",
    "black on gold3",
    "black on medium_purple1",
    "black on dark_sea_green3",
    "black on light_salmon1",
    "black on sky_blue1",
)
_BORDER = "grey50"


class Live:
    """Standard output as a terminal of `screen.WIDTH` columns, or fewer."""

    def __init__(self, stream: TextIO) -> None:
        self._console = console.Console(file=stream, highlight=False)
        self.width = min(self._console.width, screen.WIDTH)
        self._shown: frames.Frame | None = None
        self._live = live.Live(
            console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._live.start()

    def say(self, lines: Iterable[screen.Line]) -> None:
        """As `Display.say`."""
        for line in lines:
            self._console.print(_text(line), soft_wrap=False)

    def draw(self, frame: frames.Frame) -> None:
        """As `Display.draw`."""
        if frame == self._shown:
            return
        self._shown = frame
        self._live.update(_map(frame, self.width), refresh=True)

    def follow(self, frame: frames.Frame) -> None:
        """As `Display.follow`."""
        self.draw(frame)

    def close(self) -> None:
        """As `Display.close`; the last map stays."""
        self._live.stop()


def _map(frame: frames.Frame, width: int) -> panel.Panel:
    lines = text.Text("\n").join(_text(line) for line in screen.roomy(frame))
    lines.no_wrap = True
    lines.overflow = "ellipsis"
    wrong = next(frame.intrusions(), None) is not None
    return panel.Panel(
        lines,
        box=box.ROUNDED,
        width=width,
        padding=(0, 1),
        title=frame.note or f"simulated node, {len(frame.topology.online)} CPUs",
        title_align="left",
        subtitle=frame.tally or None,
        subtitle_align="right",
        border_style="red" if wrong else _BORDER,
    )


def _text(line: screen.Line) -> text.Text:
    return text.Text.assemble(*((span.text, _style(span.style)) for span in line))


def _style(name: str) -> str:
    kind, _, number = name.partition("-")
    return _CLAIMS[int(number) % len(_CLAIMS)] if kind == "claim" else _STYLES[name]
