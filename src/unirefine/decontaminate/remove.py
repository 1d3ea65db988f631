"""Remove every train cluster with a hit: the final split, the list of what was removed, the counts, the lineage."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from unirefine.config import Decontaminate
from unirefine.core.levels import REMOVED, SIDES, TEST, TRAIN
from unirefine.core.removed import Removed, removed_writer
from unirefine.core.tables import record_parts, strings_at, table_writer
from unirefine.decontaminate.benchmarks import Benchmarks, read_benchmarks, target_names
from unirefine.decontaminate.inputs import (
    OPTIONS,
    SEARCHED,
    Clusters,
    names_of,
    open_result,
    read_clusters,
    read_giants,
    read_results,
)
from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.files.counts import level_counts, write_counts

REASONS = {"validation": "similar_to_validation", "test": "similar_to_test"}
SPLIT_SCHEMA = pa.schema([("side", pa.uint8())])


@dataclass(frozen=True)
class Removal:
    """What was removed and what is left."""

    removed: int
    """Train clusters removed."""
    removed_members: int
    """Their members."""
    by_audit: int
    """Removed clusters that only the audit's search found (`audit_failures: remove`)."""
    train: int
    """Train clusters left."""


def run(config: Decontaminate, *, directory: Path, records: Path, clusters: Path, split: Path) -> Removal:
    """Collect the hits of all parts; write the final `split.parquet`, `removed.parquet`, counts and lineage.

    directory: of this stage; records, clusters, split: of those stages. A cluster is removed as a whole, whichever of
    its sequences has the hit. Raises UserError when a part is missing, when parts were searched differently, or when
    the hits are of another split.
    """
    mmseqs, whole = read_searched(config, directory)
    known = read_clusters(clusters, split)
    benchmarks = read_benchmarks(config, directory, len(known.side))
    best = _best_hits(config, directory, known, benchmarks)
    dropped = best["cluster"].to_numpy()
    side = known.side.copy()
    side[dropped] = REMOVED
    size = known.column("size").astype(np.int64)
    with removed_writer(directory / "removed.parquet") as removed:
        names = _add_clusters(removed, known, benchmarks, best, records)
        _add_members(removed, known, dropped, names, records)
    kept = side != REMOVED
    levels = {
        "uniref50": level_counts(len(side), int(kept.sum()), removed.counts.get("uniref50", {})),
        "uniref90": level_counts(int(size.sum()), int(size[kept].sum()), removed.counts.get("uniref90", {})),
    }
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
        giants=read_giants(config, directory),
    )
    with table_writer(directory / "split.parquet", SPLIT_SCHEMA) as writer:
        writer.write({"side": side})
    inputs = [benchmark.file for benchmark in config.against]
    step = lineage.step("decontaminate", whole, counts=levels, inputs=inputs, tools={"mmseqs": mmseqs})
    lineage.write(directory, step, [split])
    return Removal(len(dropped), int(size[dropped].sum()), by_audit, int((side == TRAIN).sum()))


def read_searched(config: Decontaminate, directory: Path) -> tuple[str, Decontaminate]:
    """How the parts were searched: MMseqs2's version, and `config` with the options of the searches.

    This step is not given those options: each part's `hits` file records them (see SEARCHED). Raises UserError when a
    part is missing, when parts were searched differently, or when they are of another level than `config`.
    """
    found = set()
    for part in range(config.parts):
        with open_result(config, directory, "hits", part) as file:
            found.add((file.schema_arrow.metadata or {}).get(SEARCHED.encode()))
    if len(found) > 1 or None in found:
        raise UserError(
            "the parts were searched with different options or versions of MMseqs2"
            if len(found) > 1
            else "the parts do not record how they were searched",
            where=directory / "hits",
            fix="run `snakemake -R decontaminate_search`",
        )
    try:
        searched = json.loads(found.pop())
        options = {name: searched[name] for name in OPTIONS}
        level, mmseqs, share = searched["level"], str(searched["mmseqs"]), float(searched["audit_share"])
        if config.audit_failures == "remove" and share < 1:
            raise UserError(
                f"audit_failures is remove, but the audit has searched a share of {share:g} of the clusters",
                where=directory / "hits", fix="search again with decontaminate.audit_share: 1",
            )  # fmt: skip
        known = Decontaminate.model_validate(config.model_dump() | options)
    except (ValueError, KeyError, TypeError) as error:  # ValueError: of json and of pydantic
        raise UserError(
            f"the parts do not record how they were searched ({type(error).__name__})",
            where=directory / "hits",
            fix="run `snakemake -R decontaminate_search`",
        ) from None
    if level not in (None, config.level):
        raise UserError(
            f"level is {config.level}, but {level} were searched",
            where=directory / "hits",
            fix="run prepare and search again, or give remove and audit the level of prepare",
        )
    return mmseqs, known


def check_hits(hits: pl.DataFrame, known: Clusters, benchmarks: Benchmarks, directory: Path) -> None:
    """Raise UserError unless all hits are of train clusters against held-out clusters of this split or benchmarks."""
    clusters, targets = hits["cluster"].to_numpy(), hits["target"].to_numpy()
    if len(hits) and (
        int(clusters.max()) >= len(known.side)
        or int(targets.max()) >= benchmarks.end
        or not np.isin(known.side[clusters], (TRAIN, REMOVED)).all()
        or not known.held_out[targets[targets < benchmarks.first]].all()
    ):
        raise UserError(
            "the hits are of another split", where=directory, fix="run prepare and search again, with this split"
        )


def _best_hits(config: Decontaminate, directory: Path, known: Clusters, benchmarks: Benchmarks) -> pl.DataFrame:
    """The best hit of each cluster to remove, with columns `audit`, whether only the audit found it, and `reason`."""
    hits = read_results(config, directory, "hits").with_columns(audit=pl.lit(False))
    if config.audit_failures == "remove":
        hits = pl.concat([hits, read_results(config, directory, "audit").with_columns(audit=pl.lit(True))])
    check_hits(hits, known, benchmarks, directory)
    best = (
        benchmarks.removing(hits)
        .sort("cluster", "identity", "bits", "target", descending=[False, True, True, False])
        .unique("cluster", keep="first", maintain_order=True)
    )
    targets = best["target"].to_numpy()
    own = targets < benchmarks.first
    reasons = np.full(len(best), REASONS["validation"], object)
    reasons[np.flatnonzero(own)[known.side[targets[own]] == TEST]] = REASONS["test"]
    for benchmark in config.against:
        reasons[np.isin(targets, benchmarks.numbers(benchmark.name))] = benchmark.reason
    return best.with_columns(reason=pl.Series(reasons.tolist(), dtype=pl.String))


def _add_clusters(
    removed: Removed, known: Clusters, benchmarks: Benchmarks, best: pl.DataFrame, records: Path
) -> list[str]:
    """Add the clusters of the k rows of `best` to `removed`; return their k names."""
    names = names_of(known, best["cluster"].to_numpy(), records)
    targets = target_names(known, benchmarks, best["target"].to_numpy(), records)
    evidence = [
        f"identity {identity:.3f} to {target}" + (" (found by the audit)" if audit else "")
        for identity, target, audit in zip(best["identity"], targets, best["audit"], strict=True)
    ]
    listed = pl.DataFrame({"id": names, "evidence": evidence, "reason": best["reason"]})
    for (reason,), group in listed.group_by("reason", maintain_order=True):
        removed.add("uniref50", str(reason), group["id"].to_list(), group["evidence"].to_list())
    return names


def _add_members(removed: Removed, known: Clusters, dropped: np.ndarray, names: list[str], records: Path) -> None:
    """Add the members of removed clusters to `removed`. dropped: uint32[k], ascending; names: their k names."""
    if not len(dropped):
        return
    blocks = []
    is_dropped = np.zeros(len(known.side), bool)
    is_dropped[dropped] = True
    for cluster, row in known.members("row"):
        chosen = is_dropped[cluster]
        blocks.append(np.stack([row[chosen], cluster[chosen]]))
    row, cluster = np.concatenate(blocks, axis=1)
    order = np.argsort(row, kind="stable")
    ids = strings_at(record_parts(records, "uniref90"), "id", row[order])
    cluster_names = np.array(names, object)[np.searchsorted(dropped, cluster[order])]
    removed.add("uniref90", "cluster_removed", ids, cluster_names.tolist())
