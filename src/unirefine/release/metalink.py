"""RELEASE.metalink: which release a directory holds, and size and md5 of its files."""

import re
from dataclasses import dataclass
from xml.etree import ElementTree

NAMESPACE = "{http://www.metalinker.org/}"
_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Listed:
    """What a metalink says about one file."""

    size: int
    md5: str


@dataclass(frozen=True)
class Metalink:
    """A parsed metalink 3.0."""

    release: str
    files: dict[str, Listed]


def parse(data: bytes) -> Metalink:
    """Parse a metalink 3.0 document. Raises ValueError, with a message for users, for anything else."""
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise ValueError(f"is not a metalink but {_kind(data)} ({error})") from None
    if root.tag != f"{NAMESPACE}metalink":
        raise ValueError(f"is not a metalink 3.0: its root is <{root.tag}>")
    release = (root.findtext(f"{NAMESPACE}version") or "").strip()
    if not release:
        raise ValueError("names no release (<version> is missing)")
    files = {}
    for entry in root.iterfind(f"{NAMESPACE}files/{NAMESPACE}file"):
        name, size = entry.get("name", ""), (entry.findtext(f"{NAMESPACE}size") or "").strip()
        hashes = entry.iterfind(f"{NAMESPACE}verification/{NAMESPACE}hash")
        md5 = next(((h.text or "").strip().lower() for h in hashes if h.get("type") == "md5"), "")
        if not size.isdigit() or not _MD5.fullmatch(md5):
            raise ValueError(f"has no usable size or md5 for {name!r} (size {size!r}, md5 {md5!r})")
        files[name] = Listed(int(size), md5)
    if not files:
        raise ValueError("lists no files")
    return Metalink(release, files)


def _kind(data: bytes) -> str:
    start = data[:200].lstrip().lower()
    if not start:
        return "an empty file"
    return "an HTML page" if start.startswith((b"<!doctype html", b"<html")) else "something else"
