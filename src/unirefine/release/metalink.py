"""RELEASE.metalink: which release a directory holds, and size and md5 of its files. A server sends it: not trusted."""

import re
from dataclasses import dataclass
from xml.etree import ElementTree

from unirefine.release.outside import kind_of, whole_number
from unirefine.terminal import brief

NAMESPACE = "{http://www.metalinker.org/}"
_MD5 = re.compile(r"[0-9a-f]{32}")
_RELEASE = re.compile(r"[0-9]{4}_[0-9]{2}")


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
    kind = kind_of(data[:200])
    try:
        text = data.decode("utf-8")  # a text is parsed as UTF-8, whatever encoding it declares
        # a metalink has no document type, and only there could entities be declared that hold each other
        if kind == "an HTML page" or "<!DOCTYPE" in text:
            raise ValueError(f"is not a metalink but {kind}")
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise ValueError(f"is not a metalink but {kind} ({error})") from None
    if root.tag != f"{NAMESPACE}metalink":
        raise ValueError(f"is not a metalink 3.0: its root is <{brief(root.tag)}>")
    release = (root.findtext(f"{NAMESPACE}version") or "").strip()
    if not release:
        raise ValueError("names no release (<version> is missing)")
    if not _RELEASE.fullmatch(release):
        raise ValueError(f"names {brief(release)!r} as its release, which is no release of UniProt (as 2024_03 is)")
    files = {}
    for entry in root.iterfind(f"{NAMESPACE}files/{NAMESPACE}file"):
        name, stated = entry.get("name", ""), (entry.findtext(f"{NAMESPACE}size") or "").strip()
        size = whole_number(stated)
        hashes = entry.iterfind(f"{NAMESPACE}verification/{NAMESPACE}hash")
        md5 = next(((h.text or "").strip().lower() for h in hashes if h.get("type") == "md5"), "")
        if size is None or not _MD5.fullmatch(md5):
            raise ValueError(
                f"has no usable size or md5 for {brief(name)!r} (size {brief(stated)!r}, md5 {brief(md5)!r})"
            )
        if name in files:
            raise ValueError(f"lists {brief(name)!r} twice")
        files[name] = Listed(size, md5)
    if not files:
        raise ValueError("lists no files")
    return Metalink(release, files)
