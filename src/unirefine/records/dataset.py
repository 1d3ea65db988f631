"""One level of a data set that states clusters and sides: Parquet in NVIDIA's layout, or BioNeMo 2's files.

The records of uniref90 are all rows. Those of uniref50 are one row of each cluster: the representative's, which bears
the name of its cluster, or else that with the smallest key.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unirefine.config import Expected, Records
from unirefine.core import published
from unirefine.core.fasta_faults import refuse_nucleotides
from unirefine.core.levels import SIDES
from unirefine.core.prefetch import prefetch
from unirefine.core.published import Rows
from unirefine.core.removed import Removed
from unirefine.errors import UserError
from unirefine.progress import meter
from unirefine.records import bionemo
from unirefine.records.columns import BAD_ID, EMPTY, OK, REASONS, Parsed
from unirefine.records.duplicates import find_duplicates
from unirefine.records.parts import Parts
from unirefine.records.rows import keys_of, parse
from unirefine.records.tally import Tally, in_order, without_bad

_READERS = {"parquet": published, "bionemo": bionemo}
_PREFIXES = {"uniref50": "UniRef50_", "uniref90": "UniRef90_"}
_NAMED = 3


def kind_of(directory: Path) -> str:
    """`parquet` or `bionemo`, by the files in a directory."""
    return "bionemo" if (directory / "train.db").exists() else "parquet"


def size_of(directory: Path) -> int:
    """Bytes of a data set's files."""
    return sum(path.stat().st_size for path, _side in _READERS[kind_of(directory)].files(directory))


def stream(
    config: Records, level: str, source: Path, parts: Parts, removed: Removed, tally: Tally, *, threads: int
) -> dict[str, Any]:
    """Write the records of a level to `parts`, and return `{sides: {train: {records: n}, ...}}`.

    Memory at level uniref50: 45 bytes a row. Raises UserError for a cluster on two sides, an id that is there twice,
    other counts than `config.expected`, and for rows that `config.bad_entries` does not remove.
    """
    reader = _READERS[kind_of(source)]
    chosen = _representatives(source) if level == "uniref50" else None
    counts = np.zeros(len(SIDES), np.int64)

    def batches() -> Iterator[Rows]:
        first = 0
        for rows in reader.read(source, sequences=True):
            last = first + len(rows.members)
            if chosen is None:
                _check_ids(rows)
                yield rows
            elif chosen[first:last].any():
                yield rows.take(np.flatnonzero(chosen[first:last]))
            first = last

    with (
        meter(f"records {level}", unit="rows") as progress,
        ThreadPoolExecutor(threads, "parser") as pool,
        closing(prefetch(lambda batch: batch, batches())) as ahead,
    ):
        for rows, parsed in in_order(ahead, pool, partial(parse, level=level), threads + 1):
            counts[rows.side] += len(parsed.status)
            tally.add(parsed)
            bad = parsed.status != OK
            if bad.any():
                parsed = _without_bad(parsed, bad, rows, level, source, removed, config.bad_entries)
            tally.keep(parsed)
            parts.add(parsed)
            progress.advance(len(rows.members))
    parts.finish()
    found = {name: int(counts[side]) for side, name in enumerate(SIDES) if counts[side] or side < 2}
    _check(config, level, source, parts, tally, found)
    return {"sides": {name: {"records": count} for name, count in found.items()}}


def _check_ids(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Keys of the members and of their clusters, uint64[n] each. Raises UserError for an id that cannot be one."""
    found = []
    for ids, level in ((rows.members, "uniref90"), (rows.clusters, "uniref50")):
        keys, status = keys_of(ids, _PREFIXES[level])
        if (status != OK).any():
            at = int(np.flatnonzero(status != OK)[0])
            column = published.MEMBER if level == "uniref90" else published.CLUSTER
            what = f"{ids[at].as_py()[:60]!r} in {column}"
            why = "is no usable id" if status[at] == BAD_ID else f"is not a {_PREFIXES[level][:-1]} id"
            raise UserError(
                f"{what} {why}", where=rows.name(at), fix="ids are visible ASCII letters, of their column's level"
            )
        found.append(keys)
    return found[0], found[1]


def _representatives(source: Path) -> np.ndarray:
    """Which rows represent their cluster: bool[rows]. Raises UserError for a cluster on two sides."""
    read = [
        (*_check_ids(rows), np.full(len(rows.members), rows.side, np.uint8))
        for rows in _READERS[kind_of(source)].read(source, sequences=False)
    ]
    members, clusters, sides = (
        np.concatenate([np.empty(0, kind), *(batch[at] for batch in read)])
        for at, kind in enumerate((np.uint64, np.uint64, np.uint8))
    )
    del read
    chosen = np.zeros(len(members), bool)
    mixed = _choose(np.argsort(clusters, kind="stable"), members, clusters, sides, chosen)
    if mixed[0] >= 0:
        first, second = _names(source, mixed)
        raise UserError(
            f"cluster {first[1]} is on two sides: {first[0]} and {second[0]}",
            where=source,
            fix="a cluster is on one side; give its rows to it",
        )
    return chosen


@numba.njit(cache=True)
def _choose(order, members, clusters, sides, chosen):
    """Choose a row of each cluster. order: int64[n], rows by cluster. Returns two rows of a cluster on two sides."""
    mixed = np.full(2, -1, np.int64)
    begin = 0
    while begin < len(order):
        best = order[begin]
        end = begin
        while end < len(order) and clusters[order[end]] == clusters[best]:
            row = order[end]
            if sides[row] != sides[order[begin]] and mixed[0] < 0:
                mixed[0], mixed[1] = order[begin], row
            own, best_own = members[row] == clusters[row], members[best] == clusters[best]
            if (own and not best_own) or (own == best_own and members[row] < members[best]):
                best = row
            end += 1
        chosen[best] = True
        begin = end
    return mixed


def _names(source: Path, wanted: np.ndarray) -> list[tuple[str, str]]:
    """(row in words, its cluster) of some rows, int64[k]. Reads the ids again."""
    found: dict[int, tuple[str, str]] = {}
    first = 0
    for rows in _READERS[kind_of(source)].read(source, sequences=False):
        for row in wanted[(wanted >= first) & (wanted < first + len(rows.members))].tolist():
            found[row] = (rows.name(row - first), rows.clusters[row - first].as_py())
        first += len(rows.members)
    return [found[row] for row in wanted.tolist()]


def _without_bad(
    parsed: Parsed, bad: np.ndarray, rows: Rows, level: str, source: Path, removed: Removed, policy: str
) -> Parsed:
    def explain(i: int) -> tuple[str, str]:
        return f"{rows.file} row {int(parsed.begin[i]) + 1:,}", _evidence(parsed, i)

    for i in np.flatnonzero(bad):
        status = int(parsed.status[i])
        if policy == "error" or status not in REASONS:
            name, (row, evidence) = parsed.records.column("id")[int(i)].as_py(), explain(int(i))
            fix = "correct it, or set records.bad_entries: remove to leave such rows out"
            raise UserError(f"{name} ({row}): {evidence}", where=source, fix=fix)
    return without_bad(parsed, bad, level, removed, lambda i: ": ".join(explain(i)))


def _evidence(parsed: Parsed, i: int) -> str:
    if int(parsed.status[i]) == EMPTY:
        return "empty sequence"
    first, second = parsed.detail[i]
    shown = f"{chr(int(second))!r}" if 32 < second < 127 else f"byte 0x{int(second):02X}"
    return f"{shown} in the sequence, at residue {int(first) + 1:,}"


def _check(config: Records, level: str, source: Path, parts: Parts, tally: Tally, found: dict[str, int]) -> None:
    """Checks of the whole level."""
    if tally.kept == 0:
        what = (
            f"no row is left: records.bad_entries: remove would leave out all {tally.entries:,}"
            if tally.entries
            else "no rows"
        )
        raise UserError(what, where=source, fix="check release.dataset")
    for side in ("train", "validation"):
        if not found[side]:
            raise UserError(f"no rows of {side}", where=source, fix="a data set has both sides")
    if not config.allow_nucleotides:
        refuse_nucleotides(tally.letters, source, "records.allow_nucleotides")
    _check_expected(config.expected, level, source, found)
    if level == "uniref90" and (ids := find_duplicates(parts.paths, tally.kept)):
        names = sorted(set(ids))[:_NAMED]
        places = _places(source, names)
        listed = "; ".join(f"{name} ({' and '.join(places[name][:2])})" for name in names)
        raise UserError(f"ids that are there twice: {listed}", where=source, fix="keep one row of each, on one side")


def _places(source: Path, names: list[str]) -> dict[str, list[str]]:
    """By id, the rows that have it."""
    found: dict[str, list[str]] = {name: [] for name in names}
    for rows in _READERS[kind_of(source)].read(source, sequences=False):
        for at in np.flatnonzero(pc.is_in(rows.members, value_set=pa.array(names)).to_numpy(zero_copy_only=False)):
            found[rows.members[int(at)].as_py()].append(rows.name(int(at)))
    return found


def _check_expected(expected: Expected, level: str, source: Path, found: dict[str, int]) -> None:
    what = "clusters" if level == "uniref50" else "sequences"
    for side in ("train", "validation"):
        wanted = getattr(expected, f"{side}_{what}")
        if wanted is not None and wanted != found[side]:
            raise UserError(
                f"{found[side]:,} {what} of {side}, but records.expected.{side}_{what} is {wanted:,}",
                where=source,
                fix="it is another data set, or not the whole of it; download it again, or correct the config",
            )
