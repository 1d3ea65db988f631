"""The Parquet files that shards are built from: record parts by level, and tables that must exist."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from unirefine.errors import UserError

_PART = re.compile(r"records-(\d{3})-of-(\d{3})\.parquet")


@dataclass(frozen=True)
class Level:
    """The record parts of one level, in order."""

    name: str
    parts: tuple[Path, ...]
    first_row: tuple[int, ...]
    """Rows before each part, and in all (parts + 1 numbers)."""

    @property
    def rows(self) -> int:
        """Records of the level."""
        return self.first_row[-1]


def open_parquet(path: Path, stage: str) -> pq.ParquetFile:
    """A Parquet file that `stage` writes. Raises UserError when it is missing or torn."""
    fix = f"run `snakemake -R {stage}`"
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError:
        if not path.parent.exists():
            fix = f"see whether this machine has lost {path.parent}/, else {fix}"
        raise UserError("missing", where=path, fix=fix) from None
    except pa.ArrowInvalid as error:
        raise UserError(f"not a whole Parquet file ({error})", where=path, fix=fix) from None


def open_level(records: Path, name: str) -> Level:
    """The record parts of `records/<name>`. Raises UserError unless all parts of one count are there."""
    found = {}
    for path in (records / name).glob("records-*-of-*.parquet"):
        if match := _PART.fullmatch(path.name):
            found[(int(match[2]), int(match[1]))] = path
    counts = {count for count, _part in found}
    if len(counts) != 1 or sorted(part for _count, part in found) != list(range(min(counts))):
        raise UserError(
            f"{len(found)} record parts, not the whole of one set",
            where=records / name,
            fix="run `snakemake -R records`",
        )
    parts = tuple(path for _key, path in sorted(found.items()))
    first = [0]
    for path in parts:
        first.append(first[-1] + open_parquet(path, "records").metadata.num_rows)
    return Level(name, parts, tuple(first))


def batches(path: Path, columns: list[str], stage: str, rows: int) -> Iterator[pa.RecordBatch]:
    """Record batches of at most `rows` rows; decoding stays on the calling thread."""
    with open_parquet(path, stage) as table:
        yield from table.iter_batches(batch_size=rows, columns=columns, use_threads=False)
