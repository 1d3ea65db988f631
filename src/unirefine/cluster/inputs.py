"""What the stage reads of its levels: the records, what curate kept of them, and what was removed before."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unirefine.cluster.blocks import BLOCK_ROWS
from unirefine.core.ids import keys_of
from unirefine.core.levels import LEVELS
from unirefine.core.tables import Parts, iterate_file, numbers, read_column, record_parts
from unirefine.errors import UserError
from unirefine.files.atomic import read_json


@dataclass(frozen=True)
class Level:
    """The n records of one level, in row order."""

    parts: Parts
    keys: np.ndarray
    """uint64[n]."""
    kept: np.ndarray
    """bool[n]: whether curate kept the record."""
    removed: np.ndarray
    """uint64[m], ascending: keys of the entries that the records stage removed, which are no records."""


def curated_levels(curated: Path) -> tuple[str, ...]:
    """Levels that curate has seen: both of UniRef, or `uniref90` alone for a FASTA of your own."""
    seen = read_json(curated / "counts.json")["levels"]
    return tuple(level for level in LEVELS if level in seen)


def open_level(records: Path, curated: Path, level: str) -> Level:
    """Read a level. Raises UserError when files are missing, or when curate's files are not of these records."""
    parts = record_parts(records, level)
    kept = _read_kept(curated, parts)
    removed = [keys for keys, _reasons in _removed(records / level / "removed.parquet", level)]
    return Level(
        parts=parts,
        keys=read_column(parts, "key", np.uint64),
        kept=kept,
        removed=np.unique(np.concatenate(removed)) if removed else np.empty(0, np.uint64),
    )


def _read_kept(curated: Path, parts: Parts) -> np.ndarray:
    """Which records curate kept: bool[records]."""
    counts = read_json(curated / "counts.json")["levels"].get(parts.level)
    path = curated / f"{parts.level}.parquet"
    if counts is None:
        raise UserError(f"curate did not see {parts.level}", where=curated, fix="run the curate stage again")
    kept, total = np.zeros(parts.rows, bool), 0
    for _first, batch in iterate_file(path, ["row"], "curate", batch_rows=BLOCK_ROWS):
        rows = numbers(batch.column(0))
        total += len(rows)
        if counts["in"] != parts.rows or rows.max(initial=0) >= parts.rows:
            raise UserError(
                f"made from {counts['in']} records, but there are {parts.rows}", where=path, fix="run curate again"
            )
        kept[rows] = True
    if total != counts["kept"]:
        raise UserError(f"{total} rows, but counts.json says {counts['kept']}", where=path, fix="run curate again")
    return kept


def read_lengths(curated: Path, level: Level) -> np.ndarray:
    """Sequence lengths of the records that curate kept: int32[records], 0 for the others."""
    lengths = np.zeros(level.parts.rows, np.int32)
    path = curated / f"{level.parts.level}.parquet"
    for _first, batch in iterate_file(path, ["row", "length"], "curate", batch_rows=BLOCK_ROWS):
        lengths[numbers(batch.column(0))] = numbers(batch.column(1))
    return lengths


def removal_reasons(directories: Iterable[Path], level: str, keys: np.ndarray) -> list[str]:
    """For which reason each key of a level was removed, by the removed.parquet of earlier stages. keys: uint64[n]."""
    reasons: dict[int, str] = {}
    for directory in directories:
        for found, why in _removed(directory / "removed.parquet", level):
            at = np.flatnonzero(np.isin(found, keys))
            reasons.update(zip(found[at].tolist(), why.take(pa.array(at)).to_pylist(), strict=True))
    return [reasons[key] for key in keys.tolist()]


def _removed(path: Path, level: str) -> Iterator[tuple[np.ndarray, pa.Array]]:
    """Batches of one level in a removed.parquet: keys uint64[n] and n reasons. None when there is no such file."""
    if not path.exists():
        return
    for _first, batch in iterate_file(path, ["level", "id", "reason"], "records"):
        batch = batch.filter(pc.equal(batch.column(0), level))
        if batch.num_rows:
            ids = pc.replace_substring_regex(batch.column(1).cast(pa.large_string()), r"^UniRef\d+_", "")
            _validity, offsets, data = ids.buffers()
            ends = np.frombuffer(offsets, np.int64)[ids.offset : ids.offset + len(ids) + 1]
            yield keys_of(np.frombuffer(data, np.uint8), ends), batch.column(2)
