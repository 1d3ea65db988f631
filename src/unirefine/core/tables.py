"""The Parquet files between the stages: record parts of a level, tables that must exist, and one writer for all.

Reading is by column and batch, so a level of any size takes little memory. Writing has fixed settings and fixed row
groups: the bytes of a file depend on its rows only, not on how they arrived or on the number of threads.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from unirefine.errors import UserError
from unirefine.files.atomic import atomic_path

BATCH_ROWS = 1 << 17
ROW_GROUP_ROWS = 1 << 19
_PART = re.compile(r"(records|members)-(\d{3})-of-(\d{3})\.parquet")


@dataclass(frozen=True)
class Parts:
    """The Parquet parts of one kind (`records` or `members`) of one level, in part order."""

    level: str
    paths: tuple[Path, ...]
    first_row: tuple[int, ...]
    """Rows before each part, and in all: parts + 1 numbers."""

    @property
    def rows(self) -> int:
        """Rows of all parts."""
        return self.first_row[-1]


def open_parquet(path: Path | str, stage: str) -> pq.ParquetFile:
    """A Parquet file that `stage` wrote. Raises UserError when it is missing or torn."""
    fix = f"run the {stage} stage again"
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError:
        raise UserError("no such file", where=path, fix=fix) from None
    except pa.ArrowInvalid as error:
        raise UserError(f"not a whole Parquet file ({error})", where=path, fix=fix) from None


def find_parts(directory: Path | str, level: str, kind: str = "records") -> Parts | None:
    """The parts `<directory>/<level>/<kind>-003-of-064.parquet`; None when there is no such part at all.

    Raises UserError unless the parts found are all the parts of one set.
    """
    directory = Path(directory) / level
    found = {}
    for path in sorted(directory.glob(f"{kind}-*-of-*.parquet")):
        if (match := _PART.fullmatch(path.name)) is not None:
            found[(int(match[3]), int(match[2]))] = path
    if not found:
        return None
    totals = {total for total, _part in found}
    if len(totals) > 1 or len(found) != min(totals):
        raise UserError(
            f"{len(found)} {kind} parts, which are not the whole of one set (sets of {sorted(totals)})",
            where=directory,
            fix="delete the directory and run the records stage again",
        )
    paths = tuple(path for _key, path in sorted(found.items()))
    first = [0]
    for path in paths:
        with open_parquet(path, "records") as file:
            first.append(first[-1] + file.metadata.num_rows)
    return Parts(level, paths, tuple(first))


def record_parts(directory: Path | str, level: str) -> Parts:
    """The record parts of a level. Raises UserError when there are none, or when a row would not fit into 32 bits."""
    parts = find_parts(directory, level)
    if parts is None:
        raise UserError(f"no {level} records", where=directory, fix="run the records stage, or check --records")
    if parts.rows >= 2**32 - 1:
        raise UserError(f"{parts.rows} {level} records; a row number has 32 bits", where=directory)
    return parts


def iterate(
    parts: Parts, columns: Sequence[str], *, batch_rows: int = BATCH_ROWS, threads: bool = True
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield (first row, batch) over all parts in order; a batch has at most `batch_rows` rows."""
    for path, first in zip(parts.paths, parts.first_row, strict=False):
        for offset, batch in iterate_file(path, columns, "records", batch_rows=batch_rows, threads=threads):
            yield first + offset, batch


def iterate_file(
    path: Path | str, columns: Sequence[str], stage: str, *, batch_rows: int = BATCH_ROWS, threads: bool = True
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield (first row, batch) of one file that `stage` wrote. Raises UserError when it lacks a column."""
    with open_parquet(path, stage) as file:
        missing = [name for name in columns if name not in file.schema_arrow.names]
        if missing:
            raise UserError(f"no column {missing[0]!r}", where=path, fix=f"run the {stage} stage again")
        row = 0
        for batch in file.iter_batches(batch_rows, columns=list(columns), use_threads=threads):
            yield row, batch
            row += batch.num_rows


def read_column(parts: Parts, name: str, dtype: np.typing.DTypeLike, *, null: int | None = None) -> np.ndarray:
    """One numeric column of all parts as dtype[rows], filled in place: no second copy. `null` stands for nulls."""
    out = np.empty(parts.rows, dtype)
    for first, batch in iterate(parts, [name], batch_rows=1 << 20):
        out[first : first + batch.num_rows] = numbers(batch.column(0), null)
    return out


def numbers(column: pa.Array, null: int | None = None) -> np.ndarray:
    """A numeric Arrow column as a numpy array, without a copy where there are no nulls; else nulls become `null`."""
    if column.null_count:
        assert null is not None, "a column that must not be null has nulls"
        column = column.fill_null(null)
    return column.to_numpy(zero_copy_only=False)


def strings_at(parts: Parts, name: str, rows: np.ndarray) -> pa.Array:
    """Strings of column `name` at ascending row numbers (int[n]). Reads only the row groups that hold one of them.

    Memory: the strings asked for and one row group.
    """
    assert len(rows) < 2 or bool((rows[1:] >= rows[:-1]).all())
    found = []
    for path, begin, end in zip(parts.paths, parts.first_row, parts.first_row[1:], strict=False):
        low, high = np.searchsorted(rows, [begin, end])
        if low == high:
            continue
        with open_parquet(path, "records") as file:
            first = begin
            for group in range(file.num_row_groups):
                last = first + file.metadata.row_group(group).num_rows
                low, high = np.searchsorted(rows, [first, last])
                if low < high:
                    column = file.read_row_group(group, columns=[name]).column(0).combine_chunks()
                    found.append(column.cast(pa.large_string()).take(pa.array(np.asarray(rows[low:high]) - first)))
                first = last
    return pa.concat_arrays(found) if found else pa.array([], pa.large_string())


def take_strings(parts: Parts, name: str, rows: np.ndarray) -> pa.Array:
    """The strings of column `name` at rows int[n], in any order and with repeats: large_string[n]."""
    distinct, at = np.unique(rows, return_inverse=True)
    return strings_at(parts, name, distinct).take(pa.array(at))


class TableWriter:
    """Writes one Parquet file with row groups of exactly ROW_GROUP_ROWS rows, however the rows arrive."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.schema, self.rows = schema, 0
        text = [field.name for field in schema if pa.types.is_string(field.type)]
        self._file = pq.ParquetWriter(path, schema, compression="zstd", compression_level=1, use_dictionary=text)
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0

    def write(self, columns: Mapping[str, np.ndarray | pa.Array]) -> None:
        """Append rows: one equally long array per column of the schema."""
        arrays = [
            pa.array(columns[field.name], type=field.type)
            if isinstance(columns[field.name], np.ndarray)
            else columns[field.name].cast(field.type)
            for field in self.schema
        ]
        batch = pa.RecordBatch.from_arrays(arrays, schema=self.schema)
        self.rows += batch.num_rows
        while batch.num_rows:
            taken = batch.slice(0, ROW_GROUP_ROWS - self._waiting_rows)
            self._waiting.append(taken)
            self._waiting_rows += taken.num_rows
            batch = batch.slice(taken.num_rows)
            if self._waiting_rows == ROW_GROUP_ROWS:
                self._flush()

    def _flush(self) -> None:
        table = pa.Table.from_batches(self._waiting, schema=self.schema).combine_chunks()
        self._file.write_table(table, row_group_size=ROW_GROUP_ROWS)
        self._waiting, self._waiting_rows = [], 0

    def close(self) -> None:
        """Write the last row group and the footer."""
        if self._waiting_rows or not self.rows:
            self._flush()
        self._file.close()


@contextlib.contextmanager
def table_writer(
    path: Path | str, schema: pa.Schema, metadata: Mapping[str, str] | None = None
) -> Iterator[TableWriter]:
    """A TableWriter whose file appears at `path` only when the block ends without an exception.

    `metadata` goes into the file's key-value metadata, which `ParquetFile.metadata.metadata` gives back as bytes.
    """
    with atomic_path(path) as part:
        writer = TableWriter(part, schema.with_metadata(dict(metadata)) if metadata else schema)
        try:
            yield writer
            writer.close()
        finally:
            writer._file.close()
