"""What servers and their files say, read without trust: numbers of any length, pages in place of files."""

import re

_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_GZIP = b"\x1f\x8b"
_STARTS = {
    b"": "an empty file",
    b"\x1f\x8b": "a gzip file",
    b"PK\x03\x04": "a zip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"%PDF": "a PDF",
    b"{": "JSON",
}


def whole_number(text: str) -> int | None:
    """A number of ASCII digits that fits into 64 bits; None for anything else, also for digits like `²`."""
    return int(text) if _NUMBER.fullmatch(text) else None


def kind_of(start: bytes) -> str:
    """What a file is by its first bytes, in words: `an HTML page`, `a gzip file`, `text`, `something else`."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"<"):
        return "an HTML page" if b"<html" in text or text.startswith(b"<!doctype html") else "XML or HTML"
    for magic, name in _STARTS.items():
        if start.startswith(magic) and (magic or not text):
            return name
    return "something else" if b"\0" in start else "text"


def is_what_it_should_be(file: str, start: bytes) -> bool:
    """Whether a download begins as its name in the release directory demands: gzip, or text without markup."""
    return start.startswith(_GZIP) if file.endswith(".gz") else kind_of(start) == "text"
