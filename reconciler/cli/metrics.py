"""`metrics`: asks the running agent for its metrics, as Prometheus text. I/O."""

from __future__ import annotations

import argparse
import asyncio

from reconciler.daemon import api, options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `metrics`."""
    parser.add_argument(
        "--api-socket", metavar="PATH", default=options.API_SOCKET, help="default: %(default)s"
    )


def run(given: argparse.Namespace) -> int:
    """Print the metrics. Raises Retryable where no agent answers."""
    print(asyncio.run(api.ask(given.api_socket, {"request": "metrics"}))["text"], end="")
    return 0
