"""`removed.parquet`: every removed record with its reason and evidence, sorted, in bounded memory.

Rows arrive in any order and number. When the buffer is full it is sorted and written to temporary files, one for each
(level, reason); in the end these sorted runs are merged. Removing ten million sequences takes no more memory than
removing one buffer of them.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa

from unirefine.core import parquet
from unirefine.core.tables import TableWriter, table_writer
from unirefine.files.atomic import temporary_directory

SCHEMA = pa.schema([("level", pa.string()), ("id", pa.string()), ("reason", pa.string()), ("evidence", pa.string())])
RUN_ROWS = 1 << 20
_MERGE_ROWS = 1 << 16


class Removed:
    """Collects removals; `counts[level][reason]` is their number."""

    def __init__(self, directory: Path, run_rows: int = RUN_ROWS) -> None:
        self.counts: dict[str, Counter[str]] = {}
        self._directory, self._run_rows = directory, run_rows
        self._buffers: dict[tuple[str, str], list[pl.DataFrame]] = {}
        self._runs: dict[tuple[str, str], list[Path]] = {}
        self._buffered = 0

    def add(self, level: str, reason: str, ids: Sequence[str] | pa.Array, evidence: Sequence[str] | pa.Array) -> None:
        """Add n removals with one reason. ids, evidence: n strings each."""
        if len(ids) == 0:
            return
        frame = pl.DataFrame({"id": pl.Series(ids, dtype=pl.String), "evidence": pl.Series(evidence, dtype=pl.String)})
        self.counts.setdefault(level, Counter())[reason] += len(frame)
        self._buffers.setdefault((level, reason), []).append(frame)
        self._buffered += len(frame)
        if self._buffered >= self._run_rows:
            self._spill()

    def _spill(self) -> None:
        for group, frames in self._buffers.items():
            runs = self._runs.setdefault(group, [])
            path = self._directory / f"{sum(map(len, self._runs.values()))}.parquet"
            table = pl.concat(frames).sort("id", "evidence").to_arrow()
            parquet.write_table(table, path, compression="zstd", compression_level=1, row_group_size=_MERGE_ROWS)
            runs.append(path)
        self._buffers, self._buffered = {}, 0

    def write_to(self, writer: TableWriter) -> None:
        """Write all removals, sorted by (level, reason, id, evidence)."""
        for group in sorted({*self._buffers, *self._runs}):
            level, reason = group
            sources = [_run_blocks(path) for path in self._runs.get(group, [])]
            if group in self._buffers:
                sources.append(iter([pl.concat(self._buffers[group]).sort("id", "evidence")]))
            for block in _merge(sources):
                writer.write(
                    {
                        "level": pa.repeat(level, len(block)),
                        "id": block["id"].to_arrow(),
                        "reason": pa.repeat(reason, len(block)),
                        "evidence": block["evidence"].to_arrow(),
                    }
                )


def _run_blocks(path: Path) -> Iterator[pl.DataFrame]:
    with parquet.File(path, "run the stage again") as file:
        for batch in file.iter_batches(_MERGE_ROWS):
            yield pl.DataFrame(pl.from_arrow(batch))


def _merge(sources: list[Iterator[pl.DataFrame]]) -> Iterator[pl.DataFrame]:
    """Merge sorted runs block by block: all rows up to the smallest of the blocks' last ids are complete."""
    heads = {number: block for number, source in enumerate(sources) if (block := next(source, None)) is not None}
    while heads:
        bound = min(head["id"][-1] for head in heads.values())
        ready = []
        for number, head in list(heads.items()):
            taken = int(head["id"].search_sorted(bound, side="right"))
            ready.append(head.head(taken))
            rest = head.slice(taken) if taken < len(head) else next(sources[number], None)
            if rest is None:
                del heads[number]
            else:
                heads[number] = rest
        yield pl.concat(ready).sort("id", "evidence")


@contextlib.contextmanager
def removed_writer(path: Path | str, *, run_rows: int = RUN_ROWS) -> Iterator[Removed]:
    """Collect removals inside the block; on success write them to `path`, sorted and atomically.

    run_rows: rows in memory; more are written to a temporary directory beside `path`.

    >>> with removed_writer("curate/removed.parquet") as removed:
    ...     removed.add("uniref50", "too_short", ["UniRef50_P12345"], ["12 residues; min_length is 30"])
    """
    path = Path(path)
    with temporary_directory(path, "runs") as directory:
        removed = Removed(directory, run_rows)
        yield removed
        with table_writer(path, SCHEMA) as writer:
            removed.write_to(writer)
