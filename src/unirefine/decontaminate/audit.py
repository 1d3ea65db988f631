"""The audit of the final split: remaining hits, an exact check of a sample, and the identity histograms.

There are two checks of the clusters that are left in train. One is for hits of the audit's searches, which are more
sensitive than the search was. The other is for what the prefilter of any fast search can miss: a sample of train
clusters, drawn by keyed hash, is read from the records again and aligned with all held-out sequences, without a
prefilter.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl
import pyarrow as pa

from unirefine.config import Decontaminate
from unirefine.core.fasta import write_fasta
from unirefine.core.hashing import keyed_hash
from unirefine.core.levels import TEST, TRAIN, VALIDATION
from unirefine.core.tables import Parts, record_parts, strings_at, table_writer
from unirefine.decontaminate.align import align, hits_among
from unirefine.decontaminate.inputs import Clusters, fasta_names, read_clusters, read_results
from unirefine.decontaminate.remove import check_hits, names_of
from unirefine.decontaminate.search import HIT_SCHEMA
from unirefine.errors import UserError
from unirefine.files.atomic import temporary_directory, write_json
from unirefine.tools import find_mmseqs

BINS = 50
_SAMPLE_SEED = 0x5A3B1E
_NAMED = 3


@dataclass(frozen=True)
class Audit:
    """What the audit found among the train clusters that are left."""

    hits: int
    """Hits of either check."""
    clusters: int
    """Clusters with a hit."""
    sampled: int
    """Clusters aligned without a prefilter."""
    sample_missed: int
    """Clusters among them with a hit that both searches missed."""


def run(
    config: Decontaminate,
    *,
    directory: Path,
    records: Path,
    clusters: Path,
    split: Path,
    threads: int = 1,
    mmseqs: str | None = None,
) -> Audit:
    """Write `audit.parquet` and `identity.json` to `directory`, which holds the final `split.parquet`.

    split: directory of the split stage, for the sides before removal. mmseqs: the MMseqs2 binary, found by itself by
    default. Raises UserError when a cluster left in train has a hit and `audit_failures` is `error`, when a part is
    missing, or when the final split does not follow from the hits.
    """
    before, final = read_clusters(clusters, split), read_clusters(clusters, directory)
    hits = read_results(config, directory, "hits")
    check_hits(hits, before, directory)
    if (final.side[hits["cluster"].to_numpy()] == TRAIN).any():
        raise UserError(
            "a cluster with a hit is still in train", where=directory / "split.parquet", fix="run remove again"
        )
    found = read_results(config, directory, "audit")
    check_hits(found, before, directory)
    found = found.filter(pl.Series(final.side[found["cluster"].to_numpy()] == TRAIN))
    sampled, sample_hits = _sample(config, directory, final, records, threads, mmseqs)
    missed = sample_hits.filter(~pl.col("cluster").is_in(found["cluster"].unique().implode()))
    left = pl.concat([found.with_columns(check=pl.lit("search")), missed.with_columns(check=pl.lit("exhaustive"))])
    left = left.sort("cluster", "query", "target", "check")
    result = Audit(len(left), left["cluster"].n_unique(), sampled, missed["cluster"].n_unique())
    if result.hits and config.audit_failures == "error":
        raise _failure(result, left, final, records, directory)
    with table_writer(directory / "audit.parquet", HIT_SCHEMA.append(pa.field("check", pa.string()))) as writer:
        writer.write({name: left[name].to_arrow() for name in left.columns})
    write_json(directory / "identity.json", _identity(config, directory, before, result))
    return result


def _failure(result: Audit, left: pl.DataFrame, final: Clusters, records: Path, directory: Path) -> UserError:
    """The error that names the most similar pairs."""
    worst = left.sort("identity", "cluster", descending=[True, False]).unique(
        ["cluster", "target"], keep="first", maintain_order=True
    )
    first = worst.head(_NAMED)
    names = names_of(final, np.concatenate([first["cluster"].to_numpy(), first["target"].to_numpy()]), records)
    pairs = [
        f"{train} to {held_out} {identity:.3f}"
        for train, held_out, identity in zip(names[: len(first)], names[len(first) :], first["identity"], strict=True)
    ]
    more = f" and {len(worst) - len(first)} more pairs" if len(worst) > len(first) else ""
    if result.sample_missed < result.clusters:
        fix = (
            "decontaminate.audit_failures: remove removes them too, report keeps them,"
            " a higher decontaminate.search.sensitivity finds them in the first search"
        )
    else:
        fix = (
            "raise decontaminate.search.sensitivity and audit.sensitivity, or set decontaminate.audit_failures: report"
        )
    return UserError(
        f"the audit found {result.clusters} train clusters similar to held-out ones: {', '.join(pairs)}{more}",
        where=directory / "audit",
        fix=fix,
    )


def _sample(
    config: Decontaminate, directory: Path, final: Clusters, records: Path, threads: int, mmseqs: str | None
) -> tuple[int, pl.DataFrame]:
    """Align a sample of train clusters with all held-out sequences, without a prefilter: (clusters sampled, hits)."""
    train = np.flatnonzero(final.side == TRAIN)
    count = min(config.audit_sample, len(train))
    if count == 0:
        return 0, pl.DataFrame(pl.from_arrow(HIT_SCHEMA.empty_table()))
    hashes = keyed_hash(_SAMPLE_SEED, final.column("key")[train])
    sample = np.zeros(len(final.side), bool)
    sample[train[np.argpartition(hashes, count - 1)[:count]]] = True
    with temporary_directory(directory / "audit-sample") as work:
        query, target = work / "query.fasta", work / "target.fasta"
        _write_sequences(query, config, final, sample, records)
        _write_sequences(target, config, final, final.held_out, records)
        found = align(find_mmseqs(mmseqs), query, target, config.audit, work=work, threads=threads, exhaustive=True)
    return count, hits_among(found, config.audit)


def _write_sequences(path: Path, config: Decontaminate, known: Clusters, wanted: np.ndarray, records: Path) -> None:
    """Write the sequences of the clusters in `wanted` (bool[n]) as FASTA, named as prepare names them."""
    clusters = np.flatnonzero(wanted)
    with path.open("wb") as file:
        rows = known.column("row")[clusters]
        _append(file, known.representatives(records), rows, fasta_names(clusters))
        if config.level == "members":
            blocks = []
            for cluster, row in known.members("row"):
                chosen = wanted[cluster]
                blocks.append(np.stack([cluster[chosen], row[chosen]]))
            cluster, row = np.concatenate(blocks, axis=1)
            _append(file, record_parts(records, "uniref90"), row, fasta_names(cluster, row))


def _append(file: BinaryIO, parts: Parts, rows: np.ndarray, names: pa.Array) -> None:
    order = np.argsort(rows, kind="stable")
    write_fasta(file, names.take(pa.array(order)), strings_at(parts, "sequence", rows[order]))


def _identity(config: Decontaminate, directory: Path, before: Clusters, result: Audit) -> dict[str, object]:
    """identity.json: histograms of each held-out cluster's best identity to train, before and after removal."""
    nearest = read_results(config, directory, "nearest").group_by("target").agg(pl.exclude("target").max())
    after = "audited" if config.audit_failures == "remove" else "searched"
    sides = {}
    for side in (VALIDATION, TEST):
        best = nearest.filter(pl.Series(before.side[nearest["target"].to_numpy()] == side))
        clusters = int((before.side == side).sum())
        histograms = {"before": _histogram(best["all"], clusters), "after": _histogram(best[after], clusters)}
        sides[side] = {"clusters": clusters, **histograms}
    return {
        "threshold": config.search.min_seq_id,
        "coverage": config.search.coverage,
        "evalue": config.search.evalue,
        "validation_clusters": sides[VALIDATION].pop("clusters"),
        "edges": [round(i / BINS, 4) for i in range(BINS + 1)],
        **sides[VALIDATION],
        "test": sides[TEST] if sides[TEST]["clusters"] else None,
        "search": config.search.model_dump(mode="json"),
        "audit": {
            "policy": config.audit_failures,
            "settings": config.audit.model_dump(mode="json"),
            "sample": config.audit_sample,
            "hits": result.hits,
            "clusters": result.clusters,
            "sampled_clusters": result.sampled,
            "sampled_clusters_missed": result.sample_missed,
        },
    }


def _histogram(identity: pl.Series, clusters: int) -> dict[str, object]:
    """Counts in BINS equal bins of [0, 1], the last of which includes 1; `none`: clusters without an alignment."""
    thousandths = (identity.drop_nulls().cast(pl.Float64).to_numpy() * 1000).round().astype(np.int64)
    counts = np.bincount(np.minimum(thousandths * BINS // 1000, BINS - 1), minlength=BINS)
    return {"counts": counts.tolist(), "none": clusters - int(counts.sum())}
