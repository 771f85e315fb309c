"""Makes a picture of a terminal: ANSI text on standard input, SVG on standard output.

    tmux new-session -d -s demo -x 100 -y 32 '.venv/bin/cpuset-reconciler demo'
    tmux capture-pane -t demo -e -p | .venv/bin/python hack/picture.py > docs/pictures/demo.svg

The picture refers to nothing outside itself: it is drawn in the reader's own monospace font.
"""

from __future__ import annotations

import io
import sys

from rich.console import Console
from rich.text import Text

SVG = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def main() -> None:
    """Convert standard input, 100 columns wide."""
    console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(sys.stdin.read().rstrip("\n")))
    print(
        console.export_svg(title="cpuset-reconciler demo", code_format=SVG, unique_id="demo", clear=True),
        end="",
    )


if __name__ == "__main__":
    main()
