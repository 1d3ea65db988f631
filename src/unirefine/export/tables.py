"""Parquet and BioNeMo's files: tables."""

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unirefine.core import parquet
from unirefine.export.blocks import Block
from unirefine.export.plan import File

PARQUET_SCHEMA = pa.schema([("sequence", pa.string()), ("ur50_id", pa.string()), ("ur90_id", pa.string())])
"""The columns of the set that NVIDIA has published."""
MEMBERS_SCHEMA = pa.schema([("ur90_id", pa.list_(pa.string())), ("ur50_id", pa.string())])
HELD_OUT_SCHEMA = pa.schema([("ur50_id", pa.string())])
_OPTIONS = {"compression": "zstd", "compression_level": 1}
_PROBE = 1 << 16
_PAGE = 1 << 14
"""Bytes of a page of a database. SQLite's 4,096 hold eight proteins, and each is a write of its own."""
_ROWS = 16
"""Rows that one statement inserts. To run a statement costs more than to add a row to it."""


def write_parquet(_file: File, path: Path, blocks: Iterable[Block]) -> None:
    """Sequence and ids, a row group a block.

    ur90_id is null where a sequence represents a whole UniRef50 cluster: the shards have no UniRef90 id for it.
    """
    with parquet.Writer(path, PARQUET_SCHEMA, use_dictionary=["ur50_id"], **_OPTIONS) as writer:
        for block in blocks:
            nothing = pa.scalar(None, pa.string())
            members = pc.if_else(pc.starts_with(block.ids, "UniRef50_"), nothing, block.ids)
            table = pa.table([block.letters, block.clusters, members], schema=PARQUET_SCHEMA)
            writer.write_table(table, row_group_size=len(table))


def write_members(file: File, path: Path, blocks: Iterable[Block]) -> None:
    """BioNeMo's train_clusters.parquet: a row a cluster, `ur90_id`, the list of its members, and `ur50_id`, its own id.

    BioNeMo reads `ur90_id` alone; the other column keeps the names of the clusters.
    """
    pieces, ends, done, written = iter(file.pieces), np.empty(0, np.int64), 0, 0
    ids = clusters = pa.array([], pa.string())
    with parquet.Writer(path, MEMBERS_SCHEMA, use_dictionary=False, **_OPTIONS) as writer:
        for block in blocks:
            if written == len(ends):  # neither blocks nor clusters span shards
                ends, done, written = next(pieces).shard.index.documents[1:], 0, 0
            ids, clusters = pa.concat_arrays([ids, block.ids]), pa.concat_arrays([clusters, block.clusters])
            last = int(np.searchsorted(ends, done + len(ids), "right"))
            if last > written:
                offsets = np.concatenate([[0], ends[written:last] - done]).astype(np.int32)
                count = int(offsets[-1])
                rows = pa.ListArray.from_arrays(pa.array(offsets), ids.slice(0, count))
                table = pa.table([rows, clusters.take(pa.array(offsets[:-1]))], schema=MEMBERS_SCHEMA)
                writer.write_table(table, row_group_size=len(table))
                ids, clusters, done, written = ids.slice(count), clusters.slice(count), int(ends[last - 1]), last
    assert written == len(ends) and len(ids) == 0, (file.name, written, len(ends))


def write_held_out(_file: File, path: Path, blocks: Iterable[Block]) -> None:
    """BioNeMo's valid_clusters.parquet: `ur50_id`, the id of each sequence of the database."""
    with parquet.Writer(path, HELD_OUT_SCHEMA, **_OPTIONS) as writer:
        for block in blocks:
            writer.write_table(pa.table([block.ids], schema=HELD_OUT_SCHEMA), row_group_size=len(block.ids))


def write_database(_file: File, path: Path, blocks: Iterable[Block]) -> None:
    """A SQLite database with the table `protein`: `id` and `sequence`, with an index over `id`.

    The index is made at the end, by sorting on disk: one that is kept up to date while rows come in random order would
    outgrow the memory. A row that is there twice is an error of ours.
    """
    with _explained(path), contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        os.environ["SQLITE_TMPDIR"] = str(path.parent)  # /var/tmp may be small
        # the file is a temporary one until it is complete and on disk
        for pragma in (
            *(f"page_size = {_PAGE}", "cache_size = -65536"),
            *("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE"),
        ):
            database.execute(f"PRAGMA {pragma}")
        database.execute("CREATE TABLE protein (id TEXT NOT NULL, sequence TEXT NOT NULL)")
        database.execute("BEGIN")
        for block in blocks:
            _insert(database, *(column.to_numpy(zero_copy_only=False) for column in (block.ids, block.letters)))
        database.execute("COMMIT")
        database.execute("CREATE UNIQUE INDEX protein_id ON protein (id)")


def _insert(database: sqlite3.Connection, ids: np.ndarray, letters: np.ndarray) -> None:
    """Append rows to the table, in their order."""
    whole = len(ids) // _ROWS * _ROWS
    columns = [column[row:whole:_ROWS] for row in range(_ROWS) for column in (ids, letters)]
    many = ", ".join(["(?, ?)"] * _ROWS)
    database.executemany(f"INSERT INTO protein VALUES {many}", zip(*columns, strict=True))
    database.executemany("INSERT INTO protein VALUES (?, ?)", zip(ids[whole:], letters[whole:], strict=True))


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors of a disk into the OSError behind them, which SQLite does not tell."""
    try:
        yield
    except sqlite3.OperationalError as error:
        kind = error.sqlite_errorcode & 0xFF
        if kind not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise
        with path.open("ab", buffering=0) as handle:  # a quota, for example, fails again
            handle.write(bytes(_PROBE))
            os.fsync(handle.fileno())
        number = errno.ENOSPC if kind == sqlite3.SQLITE_FULL else errno.EIO
        raise OSError(number, os.strerror(number), str(path)) from error
