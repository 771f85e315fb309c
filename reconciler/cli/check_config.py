"""`check-config`: reads a configuration as the agent would. I/O: reads the file."""

from __future__ import annotations

import argparse

import msgspec

from reconciler import errors
from reconciler.cli import output
from reconciler.config import load, schema


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `check-config`."""
    parser.add_argument("file", nargs="?", metavar="FILE", help="YAML configuration to check")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema instead")


def run(given: argparse.Namespace) -> int:
    """Print the configuration with its defaults, or the schema. Raises Usage for what cannot be used."""
    if given.schema:
        output.print_json(schema.json_schema())
        return 0
    if given.file is None:
        raise errors.Usage("check-config: name a FILE, or use --schema")
    output.print_json(msgspec.to_builtins(load.read(given.file)))
    return 0
