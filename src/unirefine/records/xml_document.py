"""The document around UniRef's entries: its head, which says what it is, and its end."""

import re
from pathlib import Path

import numpy as np

from unirefine.errors import UserError
from unirefine.terminal import brief

_WHITE = b" \t\r\n\v\f"
_ROOT_NAME = re.compile(rb"<([^\s/>!?]+)")
_ENCODINGS = {"iso-8859-1", "latin-1", "latin1", "utf-8", "us-ascii", "ascii"}
HEAD_BYTES = 1 << 16


def read_head(head: bytes, level_name: str, path: Path) -> tuple[int, str | None]:
    """(length of the document's head, release that it states) from the stream's first HEAD_BYTES.

    level_name: as in `UniRef50`. Raises UserError for another root element or an encoding that is no superset of ASCII.
    """
    start, declaration = len(head) - len(head.lstrip(_WHITE)), b""
    if head.startswith(b"<?xml", start):
        end = head.find(b">", start) + 1
        declaration, start = head[start:end], end
    start = _skip_misc(head, start)
    # no entities are declared between [ and ]
    while head.startswith(b"<!DOCTYPE", start) and b"[" not in head[start : (end := head.find(b">", start) + 1)]:
        start = _skip_misc(head, max(end, start + 1))
    name, end = _ROOT_NAME.match(head, start), head.find(b">", start) + 1
    if name is None or end == 0:
        raise UserError("no UniRef root element at the start", where=path, fix="check that it is UniRef XML")
    root = name[1].decode("latin-1")
    if root != level_name:
        raise UserError(
            f"the root element is {brief(root)}, not {level_name}", where=path, fix="give the file of this --level"
        )
    encoding = _attribute(declaration, b"encoding")
    if encoding and encoding.lower() not in _ENCODINGS:
        raise UserError(f"encoding {brief(encoding)}", where=path, fix="UniRef XML is ISO-8859-1")
    return end, _attribute(head[start:end], b"version")


def _skip_misc(data: bytes, i: int) -> int:
    """Position of what is neither white space nor a comment, from i on. A comment without end is not skipped."""
    while True:
        while i < len(data) and data[i] in _WHITE:
            i += 1
        if not data.startswith(b"<!--", i) or (end := data.find(b"-->", i + 4)) < 0:
            return i
        i = end + 3


def _attribute(tag: bytes, name: bytes) -> str | None:
    """Value of an attribute in the text of a tag."""
    found = re.search(rb"\b%s\s*=\s*[\"']([^\"']+)" % name, tag)
    return found[1].decode("latin-1") if found else None


def check_end(tail: np.ndarray, level_name: str, offset: int, path: Path) -> None:
    """Raise UserError unless `tail`, uint8[n], is the root's end tag, and after it white space and comments only."""
    text = tail.tobytes()
    end_tag = re.match(rb"</%s\s*>" % level_name.encode(), text)
    if end_tag is None or _skip_misc(text, end_tag.end()) < len(text):
        found = text[:40].decode("latin-1")
        what = f"truncated: no </{level_name}> at byte {offset:,}" if not found else f"{found!r} at byte {offset:,}"
        raise UserError(
            f"{what}, where an entry or </{level_name}> is expected", where=path, fix="fetch the file again"
        )
