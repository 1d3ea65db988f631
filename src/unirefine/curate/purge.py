"""Purge lists: accessions and UPIs, one on each line, to be removed at both levels."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from unirefine.core.ids import ACCESSION, OTHER, key_of
from unirefine.errors import UserError

_LEVEL = re.compile(r"UniRef\d+_")
_UNIPROTKB = re.compile(r"(?:sp|tr)\|([^|]+)\|")
_WORD = re.compile(r"[^\s<>]+")
_KIND_SHIFT, _ISOFORM_MASK = np.uint64(62), np.uint64(511)


@dataclass(frozen=True)
class PurgeList:
    """The ids of all lists, by key."""

    keys: np.ndarray
    """uint64[n], ascending, no key twice."""
    names: tuple[str, ...]
    """The id of each key, as written in its list."""
    sources: tuple[str, ...]
    """`<file> line <n>`, where the id appears first."""
    duplicates: int
    """Lines that repeat an earlier id."""

    def match(self, keys: np.ndarray, ids: pa.Array) -> np.ndarray:
        """Position of the listed id that each record matches, or -1.

        keys: uint64[n]; ids: string[n], the full ids of the same records. Returns int64[n]. A record matches its own id
        and the accession of which it is an isoform: `P10636` matches the record `P10636-7`, but `P10636-7` does not
        match `P10636`. In your own FASTA the accession may be inside an id of UniProtKB, `sp|P10636|TAU_HUMAN`.
        """
        if len(self.keys) == 0:
            return np.full(len(keys), -1, np.int64)
        found = self._find(keys)
        keys = _inner_keys(keys, ids)
        found = np.where(found >= 0, found, self._find(keys))
        bases = np.where(keys >> _KIND_SHIFT == ACCESSION, keys & ~_ISOFORM_MASK, keys)
        return np.where(found >= 0, found, self._find(bases))

    def _find(self, keys: np.ndarray) -> np.ndarray:
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[at] == keys, at, -1)


def _inner_keys(keys: np.ndarray, ids: pa.Array) -> np.ndarray:
    """The keys, with the key of `P10636` in place of that of `sp|P10636|TAU_HUMAN`."""
    rows = np.flatnonzero(keys >> _KIND_SHIFT == OTHER)
    if len(rows) == 0:
        return keys
    keys = keys.copy()
    for row, name in zip(rows.tolist(), ids.take(pa.array(rows)).to_pylist(), strict=True):
        if (match := _UNIPROTKB.match(name)) is not None:
            keys[row] = key_of(match[1])
    return keys


def read_purge_lists(paths: Sequence[Path | str]) -> PurgeList:
    """Read purge lists: on a line one id (`P10636`, `P10636-7`, `UPI002E2621C6`, `UniRef90_P10636`) or a `#` comment.

    Raises UserError for a list that is missing or empty, and for a line that is not an id.
    """
    entries: dict[int, tuple[str, str]] = {}
    duplicates = 0
    for path in map(Path, paths):
        listed = 0
        for number, line in enumerate(_lines(path), 1):
            name = line.partition("#")[0].strip()
            if not name:
                continue
            if _WORD.fullmatch(name) is None:
                raise UserError(
                    f"line {number} is not one accession or UPI: {name[:60]!r}", where=path, fix="one id a line"
                )
            listed += 1
            key = key_of(_LEVEL.sub("", name, count=1) if _LEVEL.match(name) else name)
            duplicates += key in entries
            entries.setdefault(key, (name, f"{path.name} line {number}"))
        if not listed:
            raise UserError("no ids in this purge list", where=path, fix="remove it from release.purge_lists")
    keys = np.array(sorted(entries), np.uint64)
    ordered = [entries[int(key)] for key in keys]
    return PurgeList(
        keys, tuple(name for name, _source in ordered), tuple(source for _name, source in ordered), duplicates
    )


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError("no such purge list", where=path, fix="run the release stage, or check --purge-list") from None
    except UnicodeDecodeError as error:
        raise UserError(f"not text ({error.reason})", where=path, fix="a purge list is text, one id a line") from None
