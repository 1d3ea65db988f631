"""BioNeMo 2's files: `train.db` and `validation.db` (SQLite), `train_clusters.parquet` and `valid_clusters.parquet`.

Table `protein` of the databases has `id` (UniRef90 in train, UniRef50 in validation) and `sequence`. A row of
train_clusters.parquet is a cluster: a list of ids in `ur90_id`. valid_clusters.parquet has the ids in `ur50_id`.

The clusters of train have no names, unless there is a column `ur50_id` too: each is named after its first member.
Proteins that no cluster lists are left out, as BioNeMo does.
"""

import contextlib
import sqlite3
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unirefine.core import parquet
from unirefine.core.levels import TRAIN, VALIDATION
from unirefine.core.published import Rows
from unirefine.errors import UserError
from unirefine.files.inputs import require_file
from unirefine.records.columns import OK
from unirefine.records.rows import keys_of

NAMES = ("train.db", "validation.db", "train_clusters.parquet", "valid_clusters.parquet")
BATCH_ROWS = 1 << 13
_FIX = "copy or download it again"


@dataclass(frozen=True)
class _Clusters:
    """The m ids that a file of clusters lists, and the cluster of each."""

    path: Path
    keys: np.ndarray
    """uint64[m], ascending."""
    of: np.ndarray
    """uint32[m]: the cluster of each."""
    names: pa.Array
    """string[clusters]."""


def files(directory: Path) -> list[tuple[Path, int]]:
    """(file, its side), of all four files. Raises UserError for a missing one."""
    for name in NAMES:
        require_file(directory / name, f"a data set of BioNeMo 2 has {', '.join(NAMES)}")
    sides = {"train.db": TRAIN, "train_clusters.parquet": TRAIN}
    return [(directory / name, sides.get(name, VALIDATION)) for name in NAMES]


def read(directory: Path, *, sequences: bool) -> Iterator[Rows]:
    """The proteins that a cluster lists, in the order of the databases. sequences: whether to read them too.

    Memory: 12 bytes a member, and the names of the clusters. Raises UserError for files that are damaged or not of this
    kind, an id in two clusters, and a listed id that its database does not have.
    """
    files(directory)
    yield from _proteins(directory / "train.db", TRAIN, _train_clusters(directory / NAMES[2]), sequences=sequences)
    held_out = _validation_clusters(directory / NAMES[3])
    yield from _proteins(directory / "validation.db", VALIDATION, held_out, sequences=sequences)


def _train_clusters(path: Path) -> _Clusters:
    keys, counts, names = [np.empty(0, np.uint64)], [np.empty(0, np.int64)], []
    row = 0
    with parquet.File(path, _FIX) as file:
        kind = _column(file.schema_arrow, "ur90_id", path)
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not _is_text(kind.value_type):
            raise UserError(f"column 'ur90_id' is {kind}, not a list of strings", where=path, fix="a row is a cluster")
        named = "ur50_id" in file.schema_arrow.names
        for batch in file.iter_batches(BATCH_ROWS, columns=["ur90_id"] + ["ur50_id"] * named, use_threads=False):
            lists = batch.column("ur90_id")
            lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
            if (lengths == 0).any():
                at = row + int(np.argmin(lengths)) + 1
                raise UserError(f"row {at:,} has no members", where=path, fix="leave the row out")
            members = lists.flatten().cast(pa.string())
            if members.null_count:
                raise UserError(
                    f"a null among the ids of rows {row + 1:,} to {row + len(batch):,}", where=path, fix=_FIX
                )
            keys.append(_checked(members, "UniRef90_", path))
            counts.append(lengths)
            if named:
                own = batch.column("ur50_id").cast(pa.string())
                if own.null_count:
                    at = row + pc.index(pc.is_null(own), True).as_py() + 1
                    raise UserError(f"row {at:,} has no ur50_id", where=path, fix=_FIX)
                _checked(own, "UniRef50_", path)
            else:
                first = members.take(pa.array(np.cumsum(lengths) - lengths))
                own = pc.replace_substring_regex(first, "^UniRef90_", "UniRef50_")
            names.append(own)
            row += len(batch)
    clusters = np.repeat(np.arange(row, dtype=np.uint32), np.concatenate(counts))
    return _sorted(path, np.concatenate(keys), clusters, names, "UniRef90_")


def _validation_clusters(path: Path) -> _Clusters:
    keys, names = [np.empty(0, np.uint64)], []
    with parquet.File(path, _FIX) as file:
        kind = _column(file.schema_arrow, "ur50_id", path)
        if not _is_text(kind):
            raise UserError(f"column 'ur50_id' is {kind}, not string", where=path, fix="a row is a UniRef50 id")
        for batch in file.iter_batches(BATCH_ROWS, columns=["ur50_id"], use_threads=False):
            ids = batch.column(0).cast(pa.string())
            if ids.null_count:
                raise UserError("a null among the ids", where=path, fix=_FIX)
            keys.append(_checked(ids, "UniRef50_", path))
            names.append(ids)
    found = np.concatenate(keys)
    return _sorted(path, found, np.arange(len(found), dtype=np.uint32), names, "UniRef50_")


def _column(schema: pa.Schema, name: str, path: Path) -> pa.DataType:
    if len(schema.get_all_field_indices(name)) != 1:
        has = ", ".join(schema.names[:20])
        raise UserError(f"no column {name!r}; it has {has}", where=path, fix=f"a data set of BioNeMo 2 has {name}")
    return schema.field(name).type


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _checked(ids: pa.Array, prefix: str, where: Path) -> np.ndarray:
    """Keys of ids, uint64[n]. Raises UserError for an id of another level or with odd characters."""
    keys, status = keys_of(ids, prefix)
    if (status != OK).any():
        name = ids[int(np.flatnonzero(status != OK)[0])].as_py()
        raise UserError(f"{name[:60]!r} is not a {prefix[:-1]} id", where=where, fix="give the file of this level")
    return keys


def _sorted(path: Path, keys: np.ndarray, clusters: np.ndarray, names: list[pa.Array], prefix: str) -> _Clusters:
    """Raises UserError when there are no clusters, or an id is listed twice."""
    if len(keys) == 0:
        raise UserError("no clusters", where=path, fix=_FIX)
    order = np.argsort(keys, kind="stable")
    keys, clusters = keys[order], clusters[order]
    twice = np.flatnonzero(keys[1:] == keys[:-1])
    all_names = pa.concat_arrays([name.cast(pa.large_string()) for name in names])
    if len(twice):
        of = [all_names[int(cluster)].as_py() for cluster in clusters[twice[0] : twice[0] + 2]]
        what = f"{len(twice):,} ids are listed twice, the first in the clusters {of[0]} and {of[1]}"
        raise UserError(what, where=path, fix=f"a {prefix[:-1]} id belongs to one cluster")
    return _Clusters(path, keys, clusters, all_names)


def _proteins(path: Path, side: int, clusters: _Clusters, *, sequences: bool) -> Iterator[Rows]:
    """The proteins of a database that the clusters list. Raises UserError when a listed one is missing."""
    seen, row = np.zeros(len(clusters.keys), bool), 0
    prefix = "UniRef90_" if side == TRAIN else "UniRef50_"
    for ids, texts in _select(path, sequences=sequences):
        found, status = keys_of(ids, prefix)
        at = np.minimum(np.searchsorted(clusters.keys, found), len(clusters.keys) - 1)
        listed = np.flatnonzero((status == OK) & (clusters.keys[at] == found))
        seen[at[listed]] = True
        if len(listed):
            chosen = pa.array(listed)
            names = clusters.names.take(pa.array(clusters.of[at[listed]])).cast(pa.string())
            members = ids.take(chosen)
            if side != TRAIN:  # the database has the representatives under their UniRef50 ids
                members = pc.replace_substring_regex(members, "^UniRef50_", "UniRef90_")
            yield Rows(path.name, row + listed, side, members, names, None if texts is None else texts.take(chosen))
        row += len(ids)
    if not seen.all():
        cluster = clusters.names[int(clusters.of[np.flatnonzero(~seen)[0]])].as_py()
        raise UserError(
            f"{int((~seen).sum()):,} ids of {clusters.path.name} are not in it, such as one of cluster {cluster}",
            where=path,
            fix="take all four files from one data set",
        )


def _select(path: Path, *, sequences: bool) -> Iterator[tuple[pa.Array, pa.Array | None]]:
    """Batches of ids and sequences, string[n] each, in the order in which the table holds them."""
    uri = f"file:{urllib.parse.quote(str(path.absolute()))}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            connection.execute("PRAGMA trusted_schema=OFF")
            connection.text_factory = bytes
            _check_table(connection, path)
            rows = connection.execute(f"SELECT id{', sequence' if sequences else ''} FROM protein ORDER BY rowid")
            first = 0
            while batch := rows.fetchmany(BATCH_ROWS):
                columns = list(zip(*batch, strict=True))
                texts = _texts(columns[1], "sequence", first, path) if sequences else None
                yield _texts(columns[0], "id", first, path), texts
                first += len(batch)
    except sqlite3.Error as error:
        raise UserError(f"not a readable SQLite database ({error})", where=path, fix=_FIX) from None


def _check_table(connection: sqlite3.Connection, path: Path) -> None:
    """Raises UserError unless `protein` is a plain table with both columns: a view could compute without end."""
    found = connection.execute("SELECT type, sql FROM sqlite_master WHERE name = 'protein'").fetchone()
    if found is None:
        raise UserError(
            "no table `protein`", where=path, fix="a data set of BioNeMo 2 has it in train.db and validation.db"
        )
    kind, sql = found
    names = [row[1].decode("utf-8", "replace") for row in connection.execute("PRAGMA table_info(protein)")]
    words = (sql or b"").upper().split()
    if kind != b"table" or b"VIRTUAL" in words[:2] or b"WITHOUT" in words:
        raise UserError("`protein` is no plain table", where=path, fix="copy the rows into a table with a rowid")
    for name in ("id", "sequence"):
        if name not in names:
            raise UserError(f"`protein` has no column {name!r}; it has {', '.join(names)[:200]}", where=path, fix=_FIX)


def _texts(values: tuple, name: str, first: int, path: Path) -> pa.Array:
    for number, value in enumerate(values):
        if not isinstance(value, bytes) or not value or not value.isascii():
            kind = "missing" if not value else "no ASCII text"
            raise UserError(
                f"{name} of row {first + number + 1:,} is {kind}", where=path, fix="complete it, or delete the row"
            )
    return pa.array([value.decode("ascii") for value in values], pa.string())
