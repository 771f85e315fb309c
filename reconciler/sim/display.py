"""Puts the demo's lines and maps on standard output, or another stream. I/O.

Plain here: a log that can be kept, with a new map where it changed. `display_live` is the one for terminals.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Protocol, TextIO

from reconciler.sim import frame as frames
from reconciler.sim import screen


class Display(Protocol):
    """Somewhere to show the demo, `width` columns wide."""

    @property
    def width(self) -> int:
        """Columns that a line may have."""

    def say(self, lines: Iterable[screen.Line]) -> None:
        """Add lines to the story."""

    def draw(self, frame: frames.Frame) -> None:
        """Show the map as it is now, at a point of the story where it matters."""

    def follow(self, frame: frames.Frame) -> None:
        """Show the map as it is now, if this display can be drawn anew."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class Plain:
    """Lines one after the other, without colour."""

    width = screen.WIDTH

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._drawn: list[str] = []

    def say(self, lines: Iterable[screen.Line]) -> None:
        """As `Display.say`."""
        for line in lines:
            self._stream.write(screen.plain(line) + "\n")
        self._stream.flush()

    def draw(self, frame: frames.Frame) -> None:
        """As `Display.draw`; nothing where the map is the one drawn last."""
        drawn = [screen.plain(line) for line in screen.compact(frame)]
        if drawn == self._drawn:
            return
        self._drawn = drawn
        note = [f"    {frame.note}:"] if frame.note else []
        self._stream.write("\n".join([*note, *drawn]) + "\n")
        self._stream.flush()

    def follow(self, frame: frames.Frame) -> None:
        """As `Display.follow`: not for a log."""

    def close(self) -> None:
        """As `Display.close`: there is nothing to restore."""


def choose(stream: TextIO, *, plain: bool) -> Display:
    """The display for this stream: drawn anew on a terminal that can and where rich is installed (the extra
    `cli`), plain lines everywhere else and where NO_COLOR (no-color.org) or `plain` ask for them."""
    dumb = os.environ.get("TERM", "dumb") == "dumb"
    if plain or os.environ.get("NO_COLOR") or dumb or not stream.isatty():
        return Plain(stream)
    try:
        from reconciler.sim import display_live  # noqa: PLC0415  rich is an extra
    except ModuleNotFoundError:
        return Plain(stream)
    return display_live.Live(stream)
