"""Take out every train cluster with a hit: the split that training uses, the list of what went, and the counts."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from unirefine.config import Decontaminate
from unirefine.core.levels import REMOVED, SIDES, TEST, TRAIN
from unirefine.core.removed import Removed, removed_writer
from unirefine.core.tables import open_parquet, record_parts, strings_at, table_writer, take_strings
from unirefine.decontaminate.inputs import SEARCHED, Clusters, read_clusters, result_path
from unirefine.errors import UserError
from unirefine.files.counts import level_counts, write_counts

REASONS = {"validation": "similar_to_validation", "test": "similar_to_test"}
SPLIT_SCHEMA = pa.schema([("side", pa.uint8())])


@dataclass(frozen=True)
class Removal:
    """What went and what is left, in clusters."""

    removed: int
    removed_members: int
    by_audit: int
    """Of the removed: those that only the audit's search found (`audit_failures: remove`)."""
    train: int


def run_remove(config: Decontaminate, directory: Path, clusters: Path, split: Path, records: Path) -> Removal:
    """Gather the parts' hits; write `split.parquet`, `removed.parquet` and `counts.json` to `directory`.

    A cluster goes as a whole, whichever of its sequences was hit. Raises UserError when a part is missing or when the
    hits belong to another split.
    """
    known = read_clusters(clusters, split)
    best = _best_hits(config, directory, known)
    gone = best["cluster"].to_numpy()
    side = known.side.copy()
    side[gone] = REMOVED
    size = known.column("size").astype(np.int64)
    with removed_writer(directory / "removed.parquet") as removed:
        names = _add_clusters(removed, known, best, records)
        _add_members(removed, known, gone, names, records)
    counts = removed.counts
    levels = {}
    for level, total, kept in (
        ("uniref50", len(side), int((side != REMOVED).sum())),
        ("uniref90", int(size.sum()), int(size[side != REMOVED].sum())),
    ):
        levels[level] = level_counts(total, kept, counts.get(level, {}))
    by_audit = int(best["audit"].sum())
    write_counts(
        directory / "counts.json",
        "decontaminate",
        levels,
        sides={
            name: {"clusters": int((side == number).sum()), "members": int(size[side == number].sum())}
            for number, name in enumerate(SIDES)
        },
        level=config.level,
        removed_by_audit=by_audit,
    )
    with table_writer(directory / "split.parquet", SPLIT_SCHEMA) as writer:
        writer.write({"side": side})
    return Removal(len(gone), int(size[gone].sum()), by_audit, int((side == TRAIN).sum()))


def read_hits(config: Decontaminate, directory: Path, kind: str) -> pl.DataFrame:
    """The hits of all parts. kind: `hits` or `audit`. Raises UserError when a part is missing."""
    frames = []
    for part in range(config.parts):
        path = result_path(directory, kind, part, config.parts)
        with open_parquet(path, f"decontaminate search --part {part}") as file:
            frames.append(pl.DataFrame(pl.from_arrow(file.read())))
    return pl.concat(frames)


def read_searched(config: Decontaminate, directory: Path) -> dict[str, Any]:
    """`{mmseqs: version, search: options, audit: options}` of the searches, which are the same in all parts.

    Raises UserError when a part is missing, or when parts were searched differently.
    """
    found = set()
    for part in range(config.parts):
        path = result_path(directory, "hits", part, config.parts)
        with open_parquet(path, f"decontaminate search --part {part}") as file:
            found.add((file.schema_arrow.metadata or {}).get(SEARCHED.encode(), b"{}"))
    if len(found) > 1 or b"{}" in found:
        told = (
            "its parts were searched with different options or MMseqs2 versions"
            if len(found) > 1
            else ("its parts do not say what searched them")
        )
        raise UserError(told, where=directory / "hits", fix="run `snakemake -R decontaminate_search`")
    return json.loads(found.pop())


def check_hits(hits: pl.DataFrame, known: Clusters, directory: Path) -> None:
    """Raises UserError when hits are not of train clusters against held-out clusters of this split."""
    largest = max(hits["cluster"].max() or 0, hits["target"].max() or 0)  # type: ignore[type-var]
    if len(hits) and (
        int(largest) >= len(known.side)  # type: ignore[arg-type]
        or not np.isin(known.side[hits["cluster"].to_numpy()], (TRAIN, REMOVED)).all()
        or not known.held_out[hits["target"].to_numpy()].all()
    ):
        raise UserError(
            "its hits are of another split", where=directory, fix="run prepare and search again, with this split"
        )


def _best_hits(config: Decontaminate, directory: Path, known: Clusters) -> pl.DataFrame:
    """One row for each cluster that goes: its best hit, and whether only the audit has found it."""
    hits = read_hits(config, directory, "hits").with_columns(audit=pl.lit(False))
    if config.audit_failures == "remove":
        hits = pl.concat([hits, read_hits(config, directory, "audit").with_columns(audit=pl.lit(True))])
    check_hits(hits, known, directory)
    best = hits.sort("cluster", "identity", "bits", "target", descending=[False, True, True, False]).unique(
        "cluster", keep="first", maintain_order=True
    )
    tests = pl.Series(known.side[best["target"].to_numpy()] == TEST)
    return best.with_columns(
        reason=pl.when(tests).then(pl.lit(REASONS["test"])).otherwise(pl.lit(REASONS["validation"]))
    )


def names_of(known: Clusters, clusters: np.ndarray, records: Path) -> list[str]:
    """Ids of clusters, as their records have them: `UniRef50_P12345`. clusters: int[n], any order, may repeat."""
    return take_strings(known.representatives(records), "id", known.column("row")[clusters]).to_pylist()


def _add_clusters(removed: Removed, known: Clusters, best: pl.DataFrame, records: Path) -> list[str]:
    """List the clusters; returns their names."""
    names = names_of(known, best["cluster"].to_numpy(), records)
    targets = names_of(known, best["target"].to_numpy(), records)
    evidence = [
        f"identity {identity:.3f} to {target}" + (" (found by the audit)" if audit else "")
        for identity, target, audit in zip(best["identity"], targets, best["audit"], strict=True)
    ]
    listed = pl.DataFrame({"id": names, "evidence": evidence, "reason": best["reason"]})
    for (reason,), group in listed.group_by("reason", maintain_order=True):
        removed.add("uniref50", str(reason), group["id"].to_list(), group["evidence"].to_list())
    return names


def _add_members(removed: Removed, known: Clusters, gone: np.ndarray, names: list[str], records: Path) -> None:
    """List the members of removed clusters. gone: uint32[k], ascending; names: their k names."""
    if not len(gone):
        return
    blocks = []
    dropped = np.zeros(len(known.side), bool)
    dropped[gone] = True
    for cluster, row in known.members("row"):
        chosen = dropped[cluster]
        blocks.append(np.stack([row[chosen], cluster[chosen]]))
    row, cluster = np.concatenate(blocks, axis=1)
    order = np.argsort(row, kind="stable")
    ids = strings_at(record_parts(records, "uniref90"), "id", row[order])
    owners = np.array(names, object)[np.searchsorted(gone, cluster[order])]
    removed.add("uniref90", "cluster_removed", ids, owners.tolist())
