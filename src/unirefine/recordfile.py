"""Record parts for later stages in three calls: which files, all of them in order, and chosen rows.

>>> parts = record_parts("results/demo/records", "uniref50")
>>> table = gather("results/demo/records", "uniref50", np.array([0, 7], np.uint32), ["id", "sequence"])
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from unirefine import tables
from unirefine.tables import BATCH_ROWS, open_parquet


def record_parts(records_dir: Path | str, level: str) -> list[Path]:
    """The record parts of a level, in part order. Raises UserError unless they are the whole of one -of-N set."""
    return list(tables.record_parts(records_dir, level).paths)


def iter_records(
    records_dir: Path | str, level: str, columns: Sequence[str], batch_rows: int = BATCH_ROWS
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield (first row, batch of at most `batch_rows` rows) over a level, in row order, in bounded memory."""
    return tables.iterate(tables.record_parts(records_dir, level), columns, batch_rows=batch_rows)


def gather(records_dir: Path | str, level: str, rows: np.ndarray, columns: Sequence[str]) -> pa.Table:
    """The records at ascending row numbers, as a table in their order.

    rows: uint32[n]. Only row groups that hold one of them are read, one at a time: memory is that of the result and
    of one row group. Raises ValueError for rows that do not ascend or lie beyond the last record.
    """
    parts = tables.record_parts(records_dir, level)
    wanted = np.asarray(rows, np.int64)
    if len(wanted) and (np.any(np.diff(wanted) < 0) or wanted[-1] >= parts.rows):
        raise ValueError(f"rows must ascend and lie below {parts.rows}")
    pieces: list[pa.Table] = []
    for path, begin, end in zip(parts.paths, parts.first_row, parts.first_row[1:], strict=False):
        if np.searchsorted(wanted, begin) == np.searchsorted(wanted, end) and path != parts.paths[0]:
            continue
        with open_parquet(path, "records") as file:
            if path == parts.paths[0]:  # gives the schema of a result without rows
                pieces.append(file.schema_arrow.empty_table().select(list(columns)))
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                low, high = np.searchsorted(wanted, [begin, begin + count])
                if low < high:
                    table = file.read_row_group(group, columns=list(columns), use_threads=False)
                    pieces.append(table.take(pa.array(wanted[low:high] - begin)))
                begin += count
    return pa.concat_tables(pieces).combine_chunks()
