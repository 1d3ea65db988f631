"""Find single rows in the files of the stages, by scanning one column."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unirefine.core.idlist import spellings
from unirefine.core.ids import key_of
from unirefine.core.levels import LEVELS
from unirefine.core.tables import find_parts, iterate, iterate_file, numbers, open_parquet

UNIREF50, UNIREF90 = LEVELS
_PREFIX = re.compile(r"^(UniRef\d+)_(.+)$", re.IGNORECASE)
_BATCH_ROWS = 1 << 21


@dataclass(frozen=True)
class Record:
    """A record of a level."""

    level: str
    row: int
    records: int
    """Records of the level."""
    columns: Mapping[str, Any]
    """All columns but the sequence."""

    @property
    def id(self) -> str:
        """Full id."""
        return self.columns["id"]


def candidates(name: str) -> list[tuple[str, str]]:
    """(level, full id) that a name may stand for, in any spelling of `core.idlist`.

    A bare name may be of either level, or of a FASTA of your own.
    """
    found = []
    for spelling in spellings(name):
        match = _PREFIX.match(spelling)
        level = match[1].lower() if match is not None else None
        if level in LEVELS:
            bare = spellings(spelling)[-1]
            return [(level, spelling), (level, f"UniRef{level.removeprefix('uniref')}_{bare}")]
        if level is None:
            found += [(UNIREF90, f"UniRef90_{spelling}"), (UNIREF90, spelling), (UNIREF50, f"UniRef50_{spelling}")]
    return found


def find_record(records: Path, level: str, name: str) -> Record | None:
    """The record with a full id, or None."""
    parts = find_parts(records, level)
    if parts is None:
        return None
    match = _PREFIX.match(name)
    key = np.uint64(key_of(match[2] if match else name))
    for first, batch in iterate(parts, ["key"], batch_rows=_BATCH_ROWS):
        for at in np.flatnonzero(numbers(batch.column(0)) == key):
            record = Record(level, int(first + at), parts.rows, record_at(records, level, int(first + at)))
            if record.id == name:
                return record
    return None


def record_at(records: Path, level: str, row: int) -> dict[str, Any]:
    """All columns but the sequence of one record."""
    parts = find_parts(records, level)
    assert parts is not None
    part = int(np.searchsorted(parts.first_row, row, side="right")) - 1
    with open_parquet(parts.paths[part], "records") as file:
        names = [name for name in file.schema_arrow.names if name != "sequence"]
        first = parts.first_row[part]
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if row < first + rows:
                return file.read_row_group(group, columns=names).slice(row - first, 1).to_pylist()[0]
            first += rows
    raise AssertionError(row)


def find_rows(path: Path, stage: str, column: str, value: int, limit: int | None = None) -> list[int]:
    """Rows in which a numeric column of a file has a value; at most the first `limit`."""
    found: list[int] = []
    for first, batch in iterate_file(path, [column], stage, batch_rows=_BATCH_ROWS):
        found += (first + np.flatnonzero(numbers(batch.column(0)) == value)).tolist()
        if limit is not None and len(found) >= limit:
            return found[:limit]
    return found


def row_of(path: Path, stage: str, row: int, columns: list[str]) -> dict[str, Any]:
    """Some columns of one row of a file."""
    with open_parquet(path, stage) as file:
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if row < rows:
                return file.read_row_group(group, columns=columns).slice(row, 1).to_pylist()[0]
            row -= rows
    raise AssertionError(row)


def removal(path: Path, level: str, name: str) -> list[tuple[str, str]]:
    """(reason, evidence) of each row for an id in a removed.parquet; none when there is no such file."""
    if not path.exists():
        return []
    rows = select(path, path.parent.name, ["reason", "evidence"], id=name, level=level)
    return [(row["reason"], row["evidence"]) for row in rows]


def select(path: Path, stage: str, columns: Sequence[str], **wanted: str | int) -> list[dict[str, Any]]:
    """Some columns, and the number `row`, of the rows of a file in which the columns `wanted` have these values."""
    found: list[dict[str, Any]] = []
    for first, batch in iterate_file(path, [*columns, *(name for name in wanted if name not in columns)], stage):
        chosen = np.ones(len(batch), bool)
        for name, value in wanted.items():
            equal = pc.equal(batch[name], pa.scalar(value, batch[name].type))
            chosen &= equal.fill_null(False).to_numpy(zero_copy_only=False)
        at = np.flatnonzero(chosen)
        rows = batch.select(list(columns)).take(pa.array(at)).to_pylist()
        found += [{**row, "row": first + int(i)} for row, i in zip(rows, at, strict=True)]
    return found
