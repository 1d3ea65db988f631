"""Purge lists: accessions, UPIs, UniRef ids, names of entries or ids of your own, to be removed at both levels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from unirefine.core.idlist import entry_name_in, inner_keys, read_lines, some, spellings
from unirefine.core.ids import ACCESSION, key_of, keys_of
from unirefine.core.tables import string_buffers
from unirefine.errors import UserError
from unirefine.files.inputs import require_file

_KIND_SHIFT, _ISOFORM_MASK = np.uint64(62), np.uint64(511)


@dataclass(frozen=True)
class Index:
    """Keys of ids, and the listed id that each belongs to."""

    keys: np.ndarray
    """uint64[m], ascending, no key twice."""
    entries: np.ndarray
    """int64[m]: position of the listed id of each key."""

    @classmethod
    def of(cls, entries: dict[int, int]) -> "Index":
        """entries: position of the listed id by key."""
        keys = np.array(sorted(entries), np.uint64)
        return cls(keys, np.array([entries[int(key)] for key in keys], np.int64))

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Position of the listed id of each key, or -1: int64[n]. keys: uint64[n]."""
        if len(self.keys) == 0:
            return np.full(len(keys), -1, np.int64)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[at] == keys, self.entries[at], -1)


@dataclass(frozen=True)
class PurgeList:
    """The n different ids of all lists."""

    names: tuple[str, ...]
    """The ids as written in their lists."""
    sources: tuple[str, ...]
    """`<file> line <n>`, where each id appears first."""
    ids: Index
    """All spellings of the ids."""
    entry_names: Index
    """The ids that may be names of entries, as in `AATM_RABIT`."""
    lists: tuple[tuple[Path, frozenset[int]], ...]
    """Each list with the positions of its ids."""
    duplicates: int
    """Lines that repeat an earlier id."""

    def match(self, keys: np.ndarray, ids: pa.Array, representatives: pa.Array | None = None) -> np.ndarray:
        """Position of the listed id that each record matches, or -1.

        keys: uint64[n]; ids: string[n], the full ids of the same records; representatives: string[n], names of their
        representatives, with nulls. Returns int64[n]. A record matches its own id, the accession of which it is an
        isoform (`P10636` matches the record `P10636-7`, but `P10636-7` does not match `P10636`), and the name of its
        representative. In your own FASTA accession and name may be in an id of UniProtKB, `sp|P10636|TAU_HUMAN`.
        """
        found = self.ids.find(keys)
        if len(self.names) == 0:
            return found
        inner, names = inner_keys(keys, ids)
        bases = np.where(inner >> _KIND_SHIFT == ACCESSION, inner & ~_ISOFORM_MASK, inner)
        for index, wanted in ((self.ids, inner), (self.ids, bases), (self.entry_names, names)):
            found = np.where(found >= 0, found, index.find(wanted))
        if representatives is not None:
            by_name = self.entry_names.find(keys_of(*string_buffers(representatives.fill_null(""))))
            found = np.where(found >= 0, found, by_name)
        return found

    def missing(self, found: set[int]) -> list[tuple[str, str]]:
        """(id, source) of the ids that matched nothing. found: positions of those that did."""
        return [
            (name, source)
            for position, (name, source) in enumerate(zip(self.names, self.sources, strict=True))
            if position not in found
        ]

    def summary(self, found: set[int]) -> list[str]:
        """A line for each list: how many of its ids were found, and some of the others."""
        lines = []
        for path, entries in self.lists:
            missing = [self.names[position] for position in sorted(entries - found)]
            rest = f"; not found: {some(missing)}" if missing else ""
            lines.append(f"{path.name}: {len(entries & found):,} of {len(entries):,} ids found{rest}")
        return lines

    def refuse_useless(self, found: set[int]) -> None:
        """Raises UserError for a list of which no id matched."""
        useless = [(path, entries) for path, entries in self.lists if not entries & found]
        if useless:
            path, entries = useless[0]
            more = f", and {len(useless) - 1:,} more lists like it" if len(useless) > 1 else ""
            raise UserError(
                f"none of its {len(entries):,} ids is a record here: {some([self.names[i] for i in sorted(entries)])}"
                f"{more}",
                where=path,
                fix="give ids of representatives of this release, or set curate.allow_unmatched: true",
            )


def read_purge_lists(paths: Sequence[Path | str]) -> PurgeList:
    """Read purge lists: on a line one id, in any spelling of `core.idlist`, or a `#` comment.

    Raises UserError for a list that is missing or empty, and for a line that is not an id.
    """
    names: list[str] = []
    sources: list[str] = []
    position_of: dict[int, int] = {}  # by the key of the last spelling: what the id means
    spelled: dict[int, int] = {}
    entry_names: dict[int, int] = {}
    lists = []
    repeated = 0
    for path in map(Path, paths):
        require_file(path, "run the release stage, or check --purge-list", "purge list")
        listed = set()
        for number, name in read_lines(path, "a purge list is text, one id a line"):
            keys = [key_of(spelling) for spelling in spellings(name)]
            position = position_of.setdefault(keys[-1], len(names))
            if position == len(names):
                names.append(name)
                sources.append(f"{path.name} line {number}")
            else:
                repeated += 1
            listed.add(position)
            for key in keys:
                spelled.setdefault(key, position)
            if (entry_name := entry_name_in(name)) is not None:
                entry_names.setdefault(key_of(entry_name), position)
        if not listed:
            raise UserError("no ids in this purge list", where=path, fix="remove it from release.purge_lists")
        lists.append((path, frozenset(listed)))
    return PurgeList(tuple(names), tuple(sources), Index.of(spelled), Index.of(entry_names), tuple(lists), repeated)
