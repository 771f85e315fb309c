"""The log: one line a record, an event name and key-values; JSON or text. I/O: a stream, or the journal.

What libraries say through the standard library's logging, asyncio above all, comes as records too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal, TextIO

import structlog

from reconciler.daemon import outlet
from reconciler.host import journal

Log = structlog.typing.FilteringBoundLogger
Format = Literal["json", "text"]
_STAMP = structlog.processors.TimeStamper(fmt="iso", utc=True)


def configure(format_: Format, to: TextIO | journal.Journal | None = None) -> Log:
    """The agent's logger, writing to a stream (standard error by default) or to the journal."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if format_ == "json"
        else structlog.dev.ConsoleRenderer(colors=False, sort_keys=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _STAMP,
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=_factory(to, renderer),
        cache_logger_on_first_use=True,
    )
    logger: Log = structlog.get_logger()
    _hear_libraries(logger)
    return logger


def _factory(
    to: TextIO | journal.Journal | None, renderer: structlog.typing.Processor
) -> Callable[..., object]:
    if isinstance(to, journal.Journal):
        return lambda *_: to

    def lost(count: int) -> str:
        record = {"event": "log.lost", "count": count, "level": "warning"}
        return str(renderer(None, "warning", _STAMP(None, "warning", record)))

    if to is None and (to := outlet.standard_error(lost)) is None:
        return structlog.ReturnLoggerFactory()
    return structlog.WriteLoggerFactory(file=to)


class _Libraries(logging.Handler):
    """Turns a library's record, from warnings upwards, into one of ours."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """As `logging.Handler.emit`."""
        said = {"library": record.name, "reason": record.getMessage()}
        self._log.log(record.levelno, "library.said", **said, exc_info=record.exc_info)


def _hear_libraries(log: Log) -> None:
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, _Libraries):
            root.removeHandler(handler)
    root.addHandler(_Libraries(log))
