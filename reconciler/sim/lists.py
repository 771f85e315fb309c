"""Lists of CPUs and memory nodes by the kernel's own grammar (lib/bitmap-str.c, bitmap_parselist). Pure."""

from __future__ import annotations

import errno
import os
import re

_REGION = re.compile(
    r"(?P<only>\d+|N)|"
    r"(?:(?P<all>[Aa][Ll][Ll])|(?P<first>\d+|N)-(?P<last>\d+|N))(?::(?P<used>\d+)/(?P<group>\d+))?",
    re.ASCII,
)
_LONGEST_NUMBER = 10


def parse(text: str, limit: int) -> set[int]:
    """The ids in a list, below `limit`, as the kernel takes it.

    That takes more than Kubernetes does: strides, `all`, `N` for the last id, commas and spaces too many.
    Raises OSError: ERANGE for an id that is too large, EOVERFLOW for one that no int of the kernel's holds,
    EINVAL for anything else.
    """
    ids: set[int] = set()
    for piece in text.replace(",", " ").split():
        found = _REGION.fullmatch(piece)
        if found is None:
            raise refusal(errno.EINVAL)
        first, last = _bounds(found, limit - 1)
        used, group = (_number(found[part] or "1") for part in ("used", "group"))
        if first > last or not used <= group or not group:
            raise refusal(errno.EINVAL)
        if last >= limit:
            raise refusal(errno.ERANGE)
        ids.update(id_ for id_ in range(first, last + 1) if (id_ - first) % group < used)
    return ids


def _bounds(region: re.Match[str], last_id: int) -> tuple[int, int]:
    """The first and the last id of a region of a list."""
    if region["all"]:
        return 0, last_id
    texts = (region["only"], region["only"]) if region["only"] else (region["first"], region["last"])
    first, last = (last_id if text == "N" else _number(text) for text in texts)
    return first, last


def _number(digits: str) -> int:
    """A number that an unsigned int of the kernel's holds. Raises OSError, EOVERFLOW, for any other."""
    digits = digits.lstrip("0") or "0"
    if len(digits) > _LONGEST_NUMBER or int(digits) >= 1 << 32:
        raise refusal(errno.EOVERFLOW)
    return int(digits)


def refusal(number: int) -> OSError:
    """The error that the kernel ends a call with."""
    return OSError(number, os.strerror(number))
