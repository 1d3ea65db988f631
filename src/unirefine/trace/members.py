"""Find the record that an id belongs to when it is none itself: as a member, or by the name of an entry."""

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import polars as pl
from isal import igzip, isal_zlib

from unirefine.core.idlist import entry_name_in, spellings
from unirefine.core.ids import key_of
from unirefine.core.levels import LEVELS
from unirefine.core.tables import Parts, find_parts, iterate_file
from unirefine.files.names import level_download
from unirefine.progress import human, meter

UNIREF50, UNIREF90 = LEVELS
LARGEST_SEARCH = 1 << 30
"""Bytes of compressed XML that are searched without being asked; more takes minutes to hours."""
_CHUNK = 1 << 22
_ENTRY = b'<entry id="'
_LONGEST_TAG = 256


def find_owners(records: Path, release: Path, name: str) -> Iterator[tuple[str, str, str]]:
    """(level, full id, how it is related) of records that an id may belong to, the most likely first.

    Looks at the names of representatives and the ids inside `sp|P12345|AATM_RABIT`, at the members whose taxon is not
    their representative's, and at the XML of the release where it is here and below LARGEST_SEARCH.
    """
    bare = spellings(name)[-1]
    entry_name = entry_name_in(name)
    levels = [parts for level in (UNIREF90, UNIREF50) if (parts := find_parts(records, level)) is not None]
    for parts in levels:
        for found in _named(parts, bare, entry_name):
            yield parts.level, found, "is the representative of" if found.startswith("UniRef") else "is inside the id"
    for parts in levels:
        for found in _with_other_taxon(parts, bare):
            yield parts.level, found, "is a member of"
    for level in (UNIREF90, UNIREF50):
        path = release / level_download(level, "xml")
        if path.exists() and path.stat().st_size <= LARGEST_SEARCH:
            for word in dict.fromkeys([bare, *([entry_name] if entry_name else [])]):
                if (found := find_in_xml(path, word)) is not None:
                    yield level, found, "is a member of"


def looked_at(records: Path, release: Path) -> str:
    """What `find_owners` has looked at and what not, for an error."""
    levels = [parts for level in (UNIREF90, UNIREF50) if (parts := find_parts(records, level)) is not None]
    seen = " and ".join(f"{parts.rows:,} records of {parts.level}" for parts in levels) or "no records"
    text = f"looked at the ids, representatives and members of another taxon of {seen}"
    paths = [path for level in (UNIREF90, UNIREF50) if (path := release / level_download(level, "xml")).exists()]
    for path in paths:
        size = path.stat().st_size
        text += f", {'and' if size <= LARGEST_SEARCH else 'not'} at all members in {path}"
        text += "" if size <= LARGEST_SEARCH else f" ({human(size, 'B')}: search it with zgrep)"
    return text if paths else f"{text}; the other members are in the release's XML, which is not here"


def _named(parts: Parts, accession: str, entry_name: str | None) -> list[str]:
    """Ids of the records with that representative, or with that accession or name inside an id of UniProtKB."""
    wanted = [accession, *([entry_name] if entry_name else [])]
    inner = pl.col("id").str.extract_groups(r"^(?:sp|tr)\|([^|.]+)(?:\.\d+)?\|(\S*)")
    matches = pl.col("representative").is_in(wanted)
    for group in ("1", "2"):
        matches = matches | inner.struct.field(group).is_in(wanted)
    return _ids(parts, matches)


def _with_other_taxon(parts: Parts, accession: str) -> list[str]:
    """Ids of the records that list the member with its taxon."""
    key = pl.lit(key_of(accession), pl.UInt64)
    return _ids(parts, pl.col("other_taxa").list.eval(pl.element().struct.field("member_key")).list.contains(key))


def _ids(parts: Parts, matches: pl.Expr) -> list[str]:
    """The id of the first record that matches, if there is one."""
    columns = list(dict.fromkeys(["id", *matches.meta.root_names()]))
    for path in parts.paths:
        for _first, batch in iterate_file(path, columns, "records"):
            found = pl.DataFrame(pl.from_arrow(batch)).filter(matches)["id"].head(1)
            if len(found):
                return found.to_list()
    return []


def find_in_xml(path: Path, word: str) -> str | None:
    """The id of the first entry of a UniRef XML that has an attribute with that value; None when there is none."""
    needle, entry, rest = f'"{word}"'.encode(), None, b""
    with (
        igzip.open(path, "rb") as stream,
        meter(f"members in {path.name}", unit="B") as progress,
        contextlib.suppress(EOFError, gzip.BadGzipFile, isal_zlib.error, zlib.error),  # as far as it goes
    ):
        while chunk := stream.read(_CHUNK):
            data = rest + chunk
            at = data.find(needle)
            begin = data.rfind(_ENTRY, 0, at if at >= 0 else max(len(data) - _LONGEST_TAG, 0) + len(_ENTRY))
            if begin >= 0:
                entry = data[begin + len(_ENTRY) :][:_LONGEST_TAG].partition(b'"')[0]
            if at >= 0:
                return entry.decode("latin-1") if entry is not None else None
            rest = data[-_LONGEST_TAG:]
            progress.advance(len(chunk))
    return None
