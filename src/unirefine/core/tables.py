"""The Parquet files between the stages: the records of a level in parts, single tables, and one writer for all.

Files are read by column and batch, so a level of any size takes little memory. They are written with fixed settings and
fixed row groups, so the bytes depend on the rows only, not on how the rows arrived or on the number of threads.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from unirefine.core import parquet
from unirefine.core.columns import check_columns
from unirefine.errors import UserError, no_directory
from unirefine.files.atomic import atomic_path
from unirefine.files.names import parse_record_part

BATCH_ROWS = 1 << 17
ROW_GROUP_ROWS = 1 << 19


@dataclass(frozen=True)
class Parts:
    """The Parquet parts of one kind (`records` or `members`) of one level, in part order."""

    level: str
    paths: tuple[Path, ...]
    first_row: tuple[int, ...]
    """Number of the first row of each part, then the number of all rows: parts + 1 numbers."""

    @property
    def rows(self) -> int:
        """Number of rows in all parts."""
        return self.first_row[-1]


def open_parquet(path: Path | str, stage: str) -> parquet.File:
    """Open a Parquet file that `stage` wrote. Raises UserError when it is missing or damaged, also while it is read."""
    path = Path(path)
    fix = f"run the {stage} stage again"
    try:
        return parquet.File(path, fix)
    except FileNotFoundError:
        if not path.parent.exists():
            fix = f"see whether this machine has lost {path.parent}/, else {fix}"
        raise UserError("no such file", where=path, fix=fix) from None


def find_parts(directory: Path | str, level: str, kind: str = "records") -> Parts | None:
    """Find the parts `<directory>/<level>/<kind>-003-of-064.parquet`; None when there is not a single one.

    Raises UserError unless the files found are exactly the parts of one set.
    """
    directory = Path(directory) / level
    found = {}
    for path in sorted(directory.glob(f"{kind}-*-of-*.parquet")):
        if parsed := parse_record_part(path.name):
            _kind, part, total = parsed
            found[(total, part)] = path
    if not found:
        return None
    totals = {total for total, _number in found}
    if len(totals) > 1 or sorted(number for _total, number in found) != list(range(min(totals))):
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
    """Find the record parts of a level.

    Raises UserError when there are none, when some are missing, or when row numbers need more than 32 bits.
    """
    parts = find_parts(directory, level)
    if parts is None:
        what = f"no {level} records" if directory.is_dir() else no_directory(directory)
        raise UserError(what, where=directory, fix="run the records stage, or check --records")
    if parts.rows >= 2**32 - 1:
        raise UserError(f"{parts.rows} {level} records; a row number has 32 bits", where=directory)
    return parts


def iterate(
    parts: Parts, columns: Sequence[str], *, batch_rows: int = BATCH_ROWS, threads: bool = True
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield (number of the first row, batch) over all parts in order.

    columns: names of the columns to read. batch_rows: the largest number of rows in a batch. threads: whether Arrow
    may decode columns in threads of its own.
    """
    for path, first in zip(parts.paths, parts.first_row, strict=False):
        for offset, batch in iterate_file(path, columns, "records", batch_rows=batch_rows, threads=threads):
            yield first + offset, batch


def iterate_file(
    path: Path | str,
    columns: Sequence[str],
    stage: str,
    *,
    batch_rows: int = BATCH_ROWS,
    threads: bool = True,
    nulls: bool = False,
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield (number of the first row, batch) of one file that `stage` wrote; see `iterate`.

    nulls: see `check_columns`. Raises UserError when the file is missing or damaged, when it lacks a column, or has one
    of another type.
    """
    with open_parquet(path, stage) as file:
        missing = [name for name in columns if name not in file.schema_arrow.names]
        if missing:
            raise UserError(f"no column {missing[0]!r}", where=path, fix=f"run the {stage} stage again")
        row = 0
        for batch in file.iter_batches(batch_rows, columns=list(columns), use_threads=threads):
            check_columns(batch, path, stage, nulls=nulls)
            yield row, batch
            row += batch.num_rows


def read_column(parts: Parts, name: str, dtype: np.typing.DTypeLike, *, null: int | None = None) -> np.ndarray:
    """Read one numeric column of all parts as dtype[rows], without a second copy. Nulls become `null`."""
    out = np.empty(parts.rows, dtype)
    for first, batch in iterate(parts, [name], batch_rows=1 << 20):
        out[first : first + batch.num_rows] = numbers(batch.column(0), null)
    return out


def numbers(column: pa.Array, null: int | None = None) -> np.ndarray:
    """A numeric Arrow column as a numpy array: a view if it has no nulls, else a copy with `null` in their place."""
    if column.null_count:
        assert null is not None, "a column that must not be null has nulls"
        column = column.fill_null(null)
    return column.to_numpy(zero_copy_only=False)


def string_buffers(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of n strings and where each one starts, without a copy: string i is raw[offsets[i] : offsets[i + 1]].

    column: `string` or `large_string` without nulls; it may be a slice of a longer array. Returns raw, uint8[bytes of
    the longer array], and offsets, int32[n + 1] for `string` or int64[n + 1] for `large_string`; offsets[0] of a slice
    need not be 0. Both are read-only.
    """
    assert column.null_count == 0, "a column that must not be null has nulls"
    dtype = {pa.string(): np.int32, pa.large_string(): np.int64}[column.type]
    _validity, offsets, data = column.buffers()
    raw = np.frombuffer(data if data is not None else b"", np.uint8)
    if offsets is None or len(column) == 0:  # Arrow may leave out the offsets of no strings
        return raw, np.zeros(1, dtype)
    return raw, np.frombuffer(offsets, dtype, len(column) + 1, column.offset * np.dtype(dtype).itemsize)


def strings_at(parts: Parts, name: str, rows: np.ndarray) -> pa.Array:
    """The strings of column `name` at rows int[n], which ascend and may repeat: large_string[n].

    Reads only the row groups that hold one of them. Memory: the strings asked for, and one row group.
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
    """Writes one Parquet file in row groups of ROW_GROUP_ROWS rows, in whatever pieces the rows arrive."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.schema, self.rows = schema, 0
        text = [field.name for field in schema if pa.types.is_string(field.type)]
        self._file = parquet.Writer(path, schema, compression="zstd", compression_level=1, use_dictionary=text)
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0

    def write(self, columns: Mapping[str, np.ndarray | pa.Array]) -> None:
        """Append n rows: an array of length n for each column of the schema."""
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
    """Yield a TableWriter; the file appears at `path` only when the block ends without an exception.

    metadata: the file's key-value metadata, which `ParquetFile.metadata.metadata` returns as bytes.
    """
    with atomic_path(path) as temporary:
        writer = TableWriter(temporary, schema.with_metadata(dict(metadata)) if metadata else schema)
        try:
            yield writer
            writer.close()
        finally:
            writer._file.close()
