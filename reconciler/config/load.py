"""Reads YAML files, the configuration above all. I/O; what may stand in it is `schema`'s."""

from __future__ import annotations

from collections.abc import Hashable

import yaml

from reconciler import errors
from reconciler.config import schema

LARGEST_BYTES = 1 << 20
"""A configuration is a page; a larger file is a mistake and is not read."""

_LONGEST_NUMBER = 100
"""Characters. PyYAML reads `1:30` as a number to the base of 60, in a time that grows with its square."""
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


class _Loader(yaml.CSafeLoader):
    """CSafeLoader that refuses keys which cannot be a dict's, and duplicate ones: YAML 1.2 forbids these and
    PyYAML lets them pass. Of a text that is not of its tag it says where that stands."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> object:
        if node.tag in _NUMBERS and len(node.value) > _LONGEST_NUMBER:
            raise yaml.MarkedYAMLError(problem="a number is too long", problem_mark=node.start_mark)
        try:
            return super().construct_object(node, deep=deep)
        except (ArithmeticError, AttributeError, LookupError, ValueError) as error:
            # What PyYAML's constructors happen to raise at `!!int ""`, `!!bool x`, `!!timestamp x`.
            why = str(error) if isinstance(error, ValueError) else "it is not written as one"
            kind = node.tag.rpartition(":")[2]
            raise yaml.MarkedYAMLError(problem=f"no {kind}: {why}", problem_mark=node.start_mark) from error

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Hashable, object]:
        if not isinstance(node, yaml.MappingNode):
            raise yaml.MarkedYAMLError(problem="this is no mapping", problem_mark=node.start_mark)
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.MarkedYAMLError(
                    problem="a key is a list or a mapping", problem_mark=key_node.start_mark
                )
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key!r} stands twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def read(path: str) -> schema.Config:
    """The configuration in the file at `path`. Raises Usage for any reason it cannot be used."""
    return parse(text(path, LARGEST_BYTES), what=path)


def parse(text_: str, *, what: str) -> schema.Config:
    """The configuration that the YAML `text_` means. Raises Usage naming `what`, the key and why."""
    document = tree(text_, what=what)
    try:
        return schema.convert(document)
    except errors.Usage as error:
        raise errors.Usage(f"{what}: {_line(error)}") from error


def tree(text_: str, *, what: str) -> object:
    """The YAML document, whatever it means. Raises Usage naming `what`, the place and why."""
    try:
        document: object = yaml.load(text_, Loader=_Loader)  # noqa: S506  a CSafeLoader, made stricter
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise errors.Usage(f"{what}: {_line(error)}") from error
    return document


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def text(path: str, largest: int) -> str:
    """The text of the file at `path`, of at most `largest` bytes. Raises Usage."""
    try:
        with open(path, "rb") as file:
            raw = file.read(largest + 1)
    except OSError as error:
        raise errors.Usage(f"{path}: {error.strerror} (errno {error.errno})") from error
    if len(raw) > largest:
        raise errors.Usage(f"{path}: larger than {largest} bytes")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise errors.Usage(f"{path}: not UTF-8 at byte {error.start}") from error
