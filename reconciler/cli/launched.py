"""The agent as a plugin that the runtime started from its plugin directory. I/O.

There is no command line and no standard stream, and it must be registered within five seconds of its start.
It ends with its connection: the runtime starts another one when it starts itself.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Mapping

from reconciler import errors
from reconciler.cli import run as run_command
from reconciler.daemon import logs, options, supervisor
from reconciler.host import journal
from reconciler.runtime.nri import dial

CONFIG = "/etc/cpuset-reconciler/config.yaml"
"""Read if it is there."""
IDENTIFIER = "cpuset-reconciler"
"""By which the journal knows its records."""


def run(
    environ: Mapping[str, str],
    defaults: options.Options | None = None,
    *,
    config: str = CONFIG,
    to: journal.Journal | None = None,
) -> int:
    """Serve the connection that the runtime left open until it closes. What ends it otherwise is logged, and
    raised."""
    to = to or journal.Journal(IDENTIFIER)
    log = logs.configure("json", to)
    try:
        chosen = dataclasses.replace(
            defaults or options.Options(),
            config=config if os.path.exists(config) else None,
            source="nri",
            launch=dial.inherited(environ),
        )
        _make_folder(os.path.dirname(chosen.api_socket))
        asyncio.run(supervisor.run(chosen, run_command.tree(chosen), log))
    except Exception as error:
        _tell(log, error)
        raise
    finally:
        to.close()
    return 0


def _tell(log: logs.Log, error: Exception) -> None:
    if isinstance(error, errors.ReconcilerError):
        log.error("agent.ended", reason=" ".join(str(error).split()))
    else:
        log.error("agent.ended", reason=f"unexpected {type(error).__name__}: {error}", exc_info=error)


def _make_folder(path: str) -> None:
    """The folder of the API's socket, which a service manager would have made."""
    try:
        os.makedirs(path, mode=0o755, exist_ok=True)
    except OSError as error:
        raise errors.Usage(f"folder of the API socket {path}: {error.strerror}") from error
