"""The log: one line a record, an event name and key-values; JSON or text. I/O: standard error or a stream."""

from __future__ import annotations

import logging
import sys
from typing import Literal, TextIO

import structlog

Log = structlog.typing.FilteringBoundLogger
Format = Literal["json", "text"]


def configure(format_: Format, stream: TextIO | None = None) -> Log:
    """The agent's logger, writing to `stream` (standard error by default)."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if format_ == "json"
        else structlog.dev.ConsoleRenderer(colors=False, sort_keys=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr if stream is None else stream),
        cache_logger_on_first_use=True,
    )
    logger: Log = structlog.get_logger()
    return logger
