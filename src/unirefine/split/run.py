"""The split stage: clusters.parquet in, split.parquet, counts.json and lineage.json out, in blocks."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unirefine.config import Split
from unirefine.core.idlist import accession_in, entry_name_in, some, spellings
from unirefine.core.ids import keys_of
from unirefine.core.levels import LEVELS, SIDES, VALIDATION
from unirefine.core.rows import NONE
from unirefine.core.tables import (
    iterate,
    iterate_file,
    numbers,
    open_parquet,
    record_parts,
    string_buffers,
    table_writer,
)
from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.files.atomic import write_text
from unirefine.files.counts import level_counts, write_counts
from unirefine.files.hashes import sha256_file
from unirefine.files.written import delete_stale
from unirefine.split.assign import exact_floor, sides_by_hash
from unirefine.split.given import given_sides
from unirefine.split.idlist import IdList, read_ids

SCHEMA = pa.schema([("side", pa.uint8())])
BLOCK_ROWS = 1 << 20
_NAMED = 5


@dataclass(frozen=True)
class Counts:
    """Clusters and members of each side, in the order of `SIDES`."""

    clusters: tuple[int, ...]
    members: tuple[int, ...]
    missing: list[str]
    """Listed ids that are no clusters here (method `ids`)."""
    listed: int
    """Different ids in the list."""


def run(config: Split, clusters: Path, output: Path, *, records: Path | None = None) -> Counts:
    """Write `split.parquet` (uint8 `side` per cluster, in cluster order), counts.json and lineage.json to `output`.

    clusters: directory of the cluster stage. With method `ids` also `missing_ids.txt`: listed ids that no cluster has.
    records: directory of the records stage, to find listed accessions in ids like `sp|P12345|AATM_RABIT` and names of
    entries; without it those are not found. With method `given` it has the sides.
    Memory: a few times the number of validation and test clusters, and one block.
    Raises UserError when a side would be empty, when nothing would be left to train on, or when the list does not fit.
    """
    path = clusters / "clusters.parquet"
    total = _count_clusters(path)
    test = exact_floor(config.test_fraction, total)
    facts: dict[str, object] = {"method": config.method, "seed": config.seed}
    thresholds: dict[str, int] = {}
    missing: list[str] = []
    if config.method == "ids":
        assert config.ids is not None
        listed = read_ids(config.ids)
        chosen, found = _listed_clusters(listed, path, total, records)
        missing = [str(name) for name in listed.ids[~found]]
        if not found.any():
            raise UserError(
                f"none of its {len(found):,} ids is a cluster here, {some(missing)}",
                where=config.ids,
                fix="give ids of clusters, which are those of their representatives, of this release",
            )
        _check_sizes(config, total, int(chosen.sum()), test)
        sides, thresholds = _sides_by_list(chosen, path, config.seed, test)
        write_text(output / "missing_ids.txt", "".join(f"{name}\n" for name in missing))
        facts["list"] = {
            "sha256": sha256_file(config.ids),
            "listed": listed.listed,
            "distinct": len(listed.ids),
            "found": int(found.sum()),
            "missing": len(missing),
            "first_missing": missing[:_NAMED],
        }
    elif config.method == "given":
        if records is None:
            raise UserError("split.method is 'given': the sides are in the records", fix="give --records")
        sides = given_sides(clusters, records, total, with_test=config.given_test)
    else:
        validation = config.validation_count or exact_floor(config.validation_fraction, total)
        _check_sizes(config, total, validation, test)
        sides, thresholds = sides_by_hash(lambda: _keys(path), config.seed, validation, test)
    facts["largest_hash"] = {side: f"{threshold:016x}" for side, threshold in thresholds.items()}
    n_clusters, n_members = _write(output / "split.parquet", sides, path)
    counts = {
        name: {"clusters": n, "members": members} for name, n, members in zip(SIDES, n_clusters, n_members, strict=True)
    }
    levels = {level: level_counts(n, n, {}) for level, n in zip(LEVELS, (total, sum(n_members)), strict=True)}
    write_counts(output / "counts.json", "split", levels, sides=counts, **facts)
    step = lineage.step("split", config, counts=counts, inputs=[config.ids] if config.ids else [])
    lineage.write(output, step, [clusters])
    listed_ids = ["missing_ids.txt"] if config.method == "ids" else []
    delete_stale(output, "split", ["split.parquet", "counts.json", "lineage.json", *listed_ids])
    return Counts(n_clusters, n_members, missing, len(listed.ids) if config.method == "ids" else 0)


def _count_clusters(path: Path) -> int:
    """Number of clusters. Raises UserError unless their keys ascend."""
    with open_parquet(path, "cluster") as file:
        total = file.metadata.num_rows
    last = -1
    for keys in _keys(path):
        if len(keys) and (int(keys[0]) <= last or not bool((keys[1:] > keys[:-1]).all())):
            raise UserError("its keys are not strictly ascending", where=path, fix="run the cluster stage again")
        last = int(keys[-1]) if len(keys) else last
    return total


def _keys(path: Path) -> Iterator[np.ndarray]:
    """Blocks of the clusters' keys: uint64."""
    for _row, batch in iterate_file(path, ["key"], "cluster", batch_rows=BLOCK_ROWS):
        yield numbers(batch.column(0))


def _check_sizes(config: Split, total: int, validation: int, test: int) -> None:
    """Raise UserError when a side would be empty."""
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


def _listed_clusters(listed: IdList, path: Path, total: int, records: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Which of the clusters are listed, bool[total], and which of the listed ids are clusters, bool[n]."""
    chosen, found = np.zeros(total, bool), np.zeros(len(listed.ids), bool)
    first = 0
    for keys in _keys(path):
        at = listed.find(keys)
        chosen[first : first + len(keys)] = at >= 0
        found[at[at >= 0]] = True
        first += len(keys)
    if records is not None and not found.all():
        for clusters, names in _names(path, records, [str(name) for name in listed.ids[~found]]):
            at = listed.find(keys_of(*string_buffers(names)))
            at = np.where((at >= 0) & ~found[np.maximum(at, 0)], at, -1)  # an id that is a cluster's means that one
            chosen[clusters[at >= 0]] = True
            found[at[at >= 0]] = True
    return chosen, found


def _names(path: Path, records: Path, missing: list[str]) -> Iterator[tuple[np.ndarray, pa.Array]]:
    """Further names of clusters, n strings, with their numbers, int64[n]: of the records of the representatives.

    Accession and name of an entry in a header of UniProtKB, and the name of a UniRef's representative. Nothing where
    none of the missing ids could be one of these.
    """
    with open_parquet(path, "cluster") as file:
        level = (file.schema_arrow.metadata or {}).get(b"representative_level", LEVELS[1].encode()).decode()
    if not any(entry_name_in(name) or (level == LEVELS[1] and accession_in(spellings(name)[-1])) for name in missing):
        return
    parts = record_parts(records, level)
    cluster_of_row = np.full(parts.rows, NONE, np.uint32)
    first = 0
    for _row, batch in iterate_file(path, ["row"], "cluster", batch_rows=BLOCK_ROWS):
        cluster_of_row[numbers(batch.column(0))] = np.arange(first, first + batch.num_rows, dtype=np.uint32)
        first += batch.num_rows
    for first, batch in iterate(parts, ["id", "representative"]):
        clusters = cluster_of_row[first : first + batch.num_rows]
        kept = pa.array(clusters != NONE)
        clusters = clusters[clusters != NONE].astype(np.int64)
        ids, names = (batch.column(name).filter(kept) for name in ("id", "representative"))
        inner = pc.extract_regex(ids, r"^(?:sp|tr)\|(?P<accession>[^|.]+)(?:\.[0-9]+)?\|(?P<name>\S*)")
        known = np.flatnonzero(inner.is_valid().to_numpy(zero_copy_only=False))
        for field in ("accession", "name"):
            yield clusters[known], pc.struct_field(inner, field).take(pa.array(known))
        yield clusters, names.fill_null("")


def _sides_by_list(chosen: np.ndarray, path: Path, seed: int, test: int) -> tuple[Iterator[np.ndarray], dict[str, int]]:
    """Listed clusters validate; of the others, those with the `test` smallest hashes test. As `sides_by_hash`.

    chosen: bool[clusters].
    """

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        first = 0
        for keys in _keys(path):
            yield keys, chosen[first : first + len(keys)]
            first += len(keys)

    other_sides, thresholds = sides_by_hash(lambda: (keys[~ours] for keys, ours in blocks()), seed, 0, test)

    def sides() -> Iterator[np.ndarray]:
        for (keys, ours), other in zip(blocks(), other_sides, strict=True):
            side = np.full(len(keys), VALIDATION, np.uint8)
            side[~ours] = other
            yield side

    return sides(), thresholds


def _write(path: Path, sides: Iterator[np.ndarray], clusters: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Write the sides; returns clusters and members of each side."""
    n_clusters, n_members = [0] * len(SIDES), [0] * len(SIDES)
    with table_writer(path, SCHEMA) as writer:
        sizes = iterate_file(clusters, ["size"], "cluster", batch_rows=BLOCK_ROWS)
        for side, (_row, batch) in zip(sides, sizes, strict=True):
            size = numbers(batch.column(0)).astype(np.int64)
            for number in range(len(SIDES)):
                chosen = side == number
                n_clusters[number] += int(chosen.sum())
                n_members[number] += int(size[chosen].sum())
            writer.write({"side": side})
    return tuple(n_clusters), tuple(n_members)
