"""The split stage: clusters.parquet in, split.parquet and counts.json out, in blocks."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from unirefine.config import Split
from unirefine.core.levels import SIDES, TRAIN, VALIDATION
from unirefine.core.tables import iterate_file, numbers, open_parquet, table_writer
from unirefine.errors import UserError
from unirefine.files.atomic import write_text
from unirefine.files.counts import level_counts, write_counts
from unirefine.files.hashes import sha256_file
from unirefine.split.assign import exact_floor, sides_by_hash
from unirefine.split.idlist import IdList, read_ids

SCHEMA = pa.schema([("side", pa.uint8())])
BLOCK_ROWS = 1 << 20
_NAMED = 5


@dataclass(frozen=True)
class Counts:
    """What a split came to, per side in the order of `SIDES`."""

    clusters: tuple[int, ...]
    members: tuple[int, ...]
    missing: int
    """Ids of the list that are no clusters here (method `ids`)."""


def run_split(config: Split, clusters: Path, output: Path) -> Counts:
    """Write `split.parquet` (uint8 `side` per cluster, in cluster order) and `counts.json` to `output`.

    clusters: directory of the cluster stage. With method `ids` also `missing_ids.txt`: what the list has and the
    clusters have not. Memory: a few times the number of validation and test clusters, and one block.
    Raises UserError when a side would be empty, when nothing would be left to train on, or when the list does not fit.
    """
    path = clusters / "clusters.parquet"
    with open_parquet(path, "cluster") as file:
        total = file.metadata.num_rows
    _check_sorted(path)
    facts: dict[str, object] = {"method": config.method, "seed": config.seed}
    missing = 0
    if config.method == "ids":
        assert config.ids is not None
        listed = read_ids(config.ids)
        missing_ids, found = _absent(listed, path)
        missing = len(missing_ids)
        _check_sizes(config, total, found)
        sides, thresholds = _sides_from_list(listed, path, config.seed, exact_floor(config.test_fraction, total))
        write_text(output / "missing_ids.txt", "".join(f"{name}\n" for name in missing_ids))
        facts["list"] = {
            "sha256": sha256_file(config.ids),
            "listed": listed.listed,
            "distinct": len(listed.keys),
            "found": found,
            "missing": missing,
            "first_missing": missing_ids[:_NAMED],
        }
    else:
        validation = config.validation_count or exact_floor(config.validation_fraction, total)
        _check_sizes(config, total, validation)
        test = exact_floor(config.test_fraction, total)
        sides, thresholds = sides_by_hash(lambda: _keys(path), config.seed, validation, test)
    facts["largest_hash"] = {side: f"{threshold:016x}" for side, threshold in thresholds.items()}
    n_clusters, n_members = _write(output / "split.parquet", sides, path)
    write_counts(
        output / "counts.json",
        "split",
        {
            "uniref50": level_counts(total, total, {}),
            "uniref90": level_counts(sum(n_members), sum(n_members), {}),
        },
        sides={name: {"clusters": n_clusters[side], "members": n_members[side]} for side, name in enumerate(SIDES)},
        **facts,
    )
    return Counts(n_clusters, n_members, missing)


def _keys(path: Path) -> Iterator[np.ndarray]:
    for _row, batch in iterate_file(path, ["key"], "cluster", batch_rows=BLOCK_ROWS):
        yield numbers(batch.column(0))


def _check_sorted(path: Path) -> None:
    last = -1
    for keys in _keys(path):
        if len(keys) and (int(keys[0]) <= last or not bool((keys[1:] > keys[:-1]).all())):
            raise UserError("its keys are not strictly ascending", where=path, fix="run the cluster stage again")
        last = int(keys[-1]) if len(keys) else last


def _check_sizes(config: Split, total: int, validation: int) -> None:
    test = exact_floor(config.test_fraction, total)
    if validation == 0:
        raise UserError(
            f"split.validation_fraction {config.validation_fraction} of {total} clusters is less than one cluster",
            fix="raise it, or set split.validation_count",
        )
    if config.test_fraction and test == 0:
        raise UserError(f"split.test_fraction {config.test_fraction} of {total} clusters is less than one cluster")
    if validation + test >= total:
        raise UserError(
            f"{validation} validation and {test} test clusters of {total} leave nothing to train on",
            fix="lower split.validation_count, split.validation_fraction or split.test_fraction",
        )


def _absent(listed: IdList, path: Path) -> tuple[list[str], int]:
    """Ids of the list that no cluster has, and the number of those that one has."""
    found = np.zeros(len(listed.keys), bool)
    for keys in _keys(path):
        found[np.searchsorted(listed.keys, keys[_member(keys, listed.keys)])] = True
    if not found.any():
        raise UserError(
            f"none of its {len(found)} ids is a cluster here, {listed.ids[0]} for one",
            where="split.ids",
            fix="use a list of UniRef50 ids of this release",
        )
    return [str(name) for name in listed.ids[~found]], int(found.sum())


def _member(keys: np.ndarray, listed: np.ndarray) -> np.ndarray:
    position = np.minimum(np.searchsorted(listed, keys), len(listed) - 1)
    return listed[position] == keys


def _sides_from_list(listed: IdList, path: Path, seed: int, test: int) -> tuple[Iterator[np.ndarray], dict[str, int]]:
    """Listed clusters validate; of the others, the `test` smallest hashes test."""

    def others() -> Iterator[np.ndarray]:
        for keys in _keys(path):
            yield keys[~_member(keys, listed.keys)]

    other_sides, thresholds = sides_by_hash(others, seed, 0, test)

    def sides() -> Iterator[np.ndarray]:
        for keys, other in zip(_keys(path), other_sides, strict=True):
            side = np.full(len(keys), VALIDATION, np.uint8)
            side[~_member(keys, listed.keys)] = other
            yield side

    return sides(), thresholds


def _write(path: Path, sides: Iterator[np.ndarray], clusters: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Write the sides; returns clusters and members per side."""
    n_clusters, n_members = [0] * len(SIDES), [0] * len(SIDES)
    with table_writer(path, SCHEMA) as writer:
        sizes = iterate_file(clusters, ["size"], "cluster", batch_rows=BLOCK_ROWS)
        for side, (_row, batch) in zip(sides, sizes, strict=True):
            size = numbers(batch.column(0)).astype(np.int64)
            for number in range(TRAIN, len(SIDES)):
                chosen = side == number
                n_clusters[number] += int(chosen.sum())
                n_members[number] += int(size[chosen].sum())
            writer.write({"side": side})
    return tuple(n_clusters), tuple(n_members)
