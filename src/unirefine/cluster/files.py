"""The files of the stage: what curate kept, and the two tables that cluster writes."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unirefine.cluster.index import KeyIndex
from unirefine.core.ids import keys_of
from unirefine.core.tables import Parts, iterate_file, numbers, read_column, strings_at, table_writer
from unirefine.errors import UserError
from unirefine.files.atomic import read_json

CLUSTERS = pa.schema([("key", pa.uint64()), ("row", pa.uint32()), ("length", pa.int32()), ("size", pa.uint32())])
MEMBERSHIP = pa.schema([("cluster", pa.uint32()), ("row", pa.uint32()), ("key", pa.uint64()), ("length", pa.int32())])
_BLOCK = 1 << 20


def read_kept(curated: Path | str, parts: Parts) -> np.ndarray:
    """Which records curate kept: bool[records]. Raises UserError when its files are not of these records."""
    curated = Path(curated)
    counts = read_json(curated / "counts.json")["levels"].get(parts.level)
    path = curated / f"{parts.level}.parquet"
    if counts is None:
        raise UserError(f"curate did not see {parts.level}", where=curated, fix="run the curate stage again")
    kept, rows = np.zeros(parts.rows, bool), 0
    for _first, batch in iterate_file(path, ["row"], "curate", batch_rows=_BLOCK):
        at = numbers(batch.column(0))
        rows += len(at)
        if counts["in"] != parts.rows or at.max(initial=0) >= parts.rows:
            raise UserError(
                f"made from {counts['in']} records, but there are {parts.rows}", where=path, fix="run curate again"
            )
        kept[at] = True
    if rows != counts["kept"]:
        raise UserError(f"{rows} rows, but counts.json says {counts['kept']}", where=path, fix="run curate again")
    return kept


def index_records(parts: Parts) -> KeyIndex:
    """The records of a level by key. Raises UserError when two have the same."""
    index = KeyIndex(read_column(parts, "key", np.uint64))
    rows = index.duplicate()
    if rows is not None:
        names = strings_at(parts, "id", np.array(rows)).to_pylist()
        raise UserError(
            f"records {rows[0]} and {rows[1]} have one key: {names[0]} and {names[1]}",
            where=parts.paths[0].parent,
            fix="an entry is there twice, or two ids collide: drop or rename one and run the records stage again",
        )
    return index


def read_lengths(curated: Path | str, parts: Parts) -> np.ndarray:
    """Sequence length of each record that curate kept: int32[records], 0 for the others."""
    lengths = np.zeros(parts.rows, np.int32)
    for _first, batch in iterate_file(
        Path(curated) / f"{parts.level}.parquet", ["row", "length"], "curate", batch_rows=_BLOCK
    ):
        lengths[numbers(batch.column(0))] = numbers(batch.column(1))
    return lengths


def removed_keys(path: Path | str, level: str) -> np.ndarray:
    """Keys of what an earlier stage removed at a level, sorted: uint64[n]. Empty when it wrote no such file."""
    found = [keys for keys, _reasons in _removed(Path(path), level)]
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.uint64)


def removal_reasons(paths: Iterable[Path], level: str, keys: np.ndarray) -> dict[int, str]:
    """Key to the reason for which an earlier stage removed it, by its removed.parquet. keys: uint64[n]."""
    reasons: dict[int, str] = {}
    for path in paths:
        for found, why in _removed(path, level):
            at = np.flatnonzero(np.isin(found, keys))
            reasons.update(zip(found[at].tolist(), why.take(pa.array(at)).to_pylist(), strict=True))
    return reasons


def _removed(path: Path, level: str) -> Iterator[tuple[np.ndarray, pa.Array]]:
    """Keys and reasons of one level in a removed.parquet, in batches: uint64[n], n strings."""
    if not path.exists():
        return
    for _first, batch in iterate_file(path, ["level", "id", "reason"], "records"):
        batch = batch.filter(pc.equal(batch.column(0), level))
        if batch.num_rows:
            ids = pc.replace_substring_regex(batch.column(1).cast(pa.large_string()), r"^UniRef\d+_", "")
            _validity, offsets, data = ids.buffers()
            ends = np.frombuffer(offsets, np.int64)[ids.offset : ids.offset + len(ids) + 1]
            yield keys_of(np.frombuffer(data, np.uint8), ends), batch.column(2)


def write_clusters(
    path: Path | str, level: str, *, keys: np.ndarray, rows: np.ndarray, lengths: np.ndarray, sizes: np.ndarray
) -> None:
    """Write clusters.parquet: n clusters in the order of their keys.

    level: where the representatives' records are. keys: uint64[n]; rows, sizes: uint32[n]; lengths: int32[n].
    """
    with table_writer(path, CLUSTERS, {"representative_level": level}) as writer:
        for start in range(0, len(keys), _BLOCK):
            piece = slice(start, start + _BLOCK)
            writer.write(
                {"key": keys[piece], "row": rows[piece], "length": lengths[piece], "size": sizes[piece]},
            )


def write_membership(
    path: Path | str, *, order: np.ndarray, cluster_of: np.ndarray, keys: np.ndarray, lengths: np.ndarray
) -> None:
    """Write membership.parquet: the n members in the order of (cluster, key).

    order: uint32[n], record rows; cluster_of: uint32[records]; keys: uint64[records]; lengths: int32[records].
    """
    with table_writer(path, MEMBERSHIP) as writer:
        for start in range(0, len(order), _BLOCK):
            rows = order[start : start + _BLOCK]
            writer.write(
                {"cluster": cluster_of[rows], "row": rows, "key": keys[rows], "length": lengths[rows]},
            )
