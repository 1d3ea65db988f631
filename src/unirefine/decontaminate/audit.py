"""The audit of the final split: remaining hits, an exact check of a sample, and the identity histograms.

There are two checks of the clusters that are left in train. One is for hits of the audit's searches, which are more
sensitive than the search was. The other is for what MMseqs2 itself can miss, by its prefilter or its aligner: a sample
of train clusters is aligned with all held-out sequences by another aligner (`sample`). Where only representatives were
searched, the sample also counts the members that train and are similar to a held-out sequence.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from unirefine.config import Decontaminate
from unirefine.core.levels import TEST, TRAIN, VALIDATION
from unirefine.core.tables import table_writer
from unirefine.decontaminate.benchmarks import Benchmarks, read_benchmarks, target_names
from unirefine.decontaminate.inputs import Clusters, audited, read_clusters, read_giants, read_results
from unirefine.decontaminate.remove import check_hits, read_searched
from unirefine.decontaminate.sample import Sample, align_sample
from unirefine.decontaminate.search import HIT_SCHEMA
from unirefine.errors import UserError
from unirefine.files.atomic import read_json, write_json
from unirefine.similarity.interval import interval

BINS = 50
_NAMED = 3


@dataclass(frozen=True)
class Audit:
    """What the audit found among the train clusters that are left."""

    hits: int
    """Hits of either check, at the level that was searched."""
    clusters: int
    """Clusters with such a hit."""
    sample: Sample
    """What the exact check aligned."""
    similar: int
    """Clusters with a hit of the audit's search."""
    sample_missed: int
    """Clusters of the sample with a hit that both searches missed."""
    similar_members: int
    """Members of the sample that are similar to a held-out sequence."""
    clusters_of_similar_members: int
    """Clusters that these are in."""


def run(
    config: Decontaminate,
    *,
    directory: Path,
    records: Path,
    clusters: Path,
    split: Path,
    threads: int = 1,
) -> Audit:
    """Write `audit.parquet` and `identity.json` to `directory`, which holds the final `split.parquet`.

    split: directory of the split stage, for the sides before removal. Raises UserError when a cluster left in train has
    a hit and `audit_failures` is `error`, when a part is missing or of another level, or when the final split does not
    follow from the hits.
    """
    _mmseqs, searched = read_searched(config, directory)  # of the level of this config
    before, final = read_clusters(clusters, split), read_clusters(clusters, directory)
    benchmarks = read_benchmarks(config, directory, len(before.side))
    every_hit = read_results(config, directory, "hits")
    check_hits(every_hit, before, benchmarks, directory)
    hits = benchmarks.removing(every_hit)
    if (final.side[hits["cluster"].to_numpy()] == TRAIN).any():
        raise UserError(
            "a cluster with a hit is still in train", where=directory / "split.parquet", fix="run remove again"
        )
    found = read_results(config, directory, "audit")
    check_hits(found, before, benchmarks, directory)
    every_hit = _left(pl.concat([every_hit, found]), final)
    found = benchmarks.removing(_left(found, final))
    sample = align_sample(config, final, benchmarks, records, threads=threads)
    every_hit = pl.concat([every_hit, sample.hits, sample.member_hits])
    reported = every_hit.filter(pl.Series(benchmarks.is_reported(every_hit["target"].to_numpy()), dtype=pl.Boolean))
    missed = benchmarks.removing(sample.hits).filter(~pl.col("cluster").is_in(found["cluster"].unique().implode()))
    left = pl.concat([found.with_columns(check=pl.lit("search")), missed.with_columns(check=pl.lit("exact"))])
    result = Audit(
        hits=len(left),
        clusters=left["cluster"].n_unique(),
        sample=sample,
        similar=found["cluster"].n_unique(),
        sample_missed=missed["cluster"].n_unique(),
        similar_members=sample.similar_members,
        clusters_of_similar_members=benchmarks.removing(pl.concat([sample.hits, sample.member_hits]))[
            "cluster"
        ].n_unique(),
    )
    if result.hits and config.audit_failures == "error":
        raise _failure(result, left, final, benchmarks, records, directory)
    members = benchmarks.removing(sample.member_hits).with_columns(check=pl.lit("member"))
    reported = reported.unique(["query", "target"], keep="first", maintain_order=True)
    left = pl.concat([left, members, reported.with_columns(check=pl.lit("report"))])
    left = left.sort("cluster", "query", "target", "check")
    with table_writer(directory / "audit.parquet", HIT_SCHEMA.append(pa.field("check", pa.string()))) as writer:
        writer.write({name: left[name].to_arrow() for name in left.columns})
    facts = _identity(config, directory, before, final, benchmarks, result, reported, searched.audit_share)
    write_json(directory / "identity.json", facts)
    return result


def _left(hits: pl.DataFrame, final: Clusters) -> pl.DataFrame:
    """The hits of clusters that are in train."""
    return hits.filter(pl.Series(final.side[hits["cluster"].to_numpy()] == TRAIN, dtype=pl.Boolean))


def _failure(
    result: Audit, left: pl.DataFrame, final: Clusters, benchmarks: Benchmarks, records: Path, directory: Path
) -> UserError:
    """The error that names the most similar pairs."""
    worst = left.sort("identity", "cluster", descending=[True, False]).unique(
        ["cluster", "target"], keep="first", maintain_order=True
    )
    first = worst.head(_NAMED)
    both = np.concatenate([first["cluster"].to_numpy(), first["target"].to_numpy()])
    names = target_names(final, benchmarks, both, records)
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


def _identity(
    config: Decontaminate,
    directory: Path,
    before: Clusters,
    final: Clusters,
    benchmarks: Benchmarks,
    result: Audit,
    reported: pl.DataFrame,
    share: float,
) -> dict[str, object]:
    """identity.json: histograms of each held-out cluster's best identity to train, before and after removal."""
    nearest = read_results(config, directory, "nearest").group_by("target").agg(pl.exclude("target").max())
    after = "audited" if config.audit_failures == "remove" else "searched"
    sides = {}
    of_clusters = nearest.filter(pl.col("target") < benchmarks.first)
    for side in (VALIDATION, TEST):
        best = of_clusters.filter(pl.Series(before.side[of_clusters["target"].to_numpy()] == side, dtype=pl.Boolean))
        clusters = int((before.side == side).sum())
        histograms = {"before": _histogram(best["all"], clusters), "after": _histogram(best[after], clusters)}
        sides[side] = {"clusters": clusters, **histograms}
    sample = result.sample
    return {
        "level": config.level,
        "threshold": config.search.min_seq_id,
        "coverage": config.search.coverage,
        "evalue": config.search.evalue,
        "validation_clusters": sides[VALIDATION].pop("clusters"),
        "edges": [round(i / BINS, 4) for i in range(BINS + 1)],
        **sides[VALIDATION],
        "test": sides[TEST] if sides[TEST]["clusters"] else None,
        **_of_benchmarks(config, benchmarks, nearest, after, reported, directory),
        "search": config.search.model_dump(mode="json"),
        "audit": {
            "policy": config.audit_failures,
            "settings": config.audit.model_dump(mode="json"),
            "sample": config.audit_sample,
            "hits": result.hits,
            "clusters": result.clusters,
            "searched": _searched(final, result, share),
            "sampled_clusters": sample.clusters,
            "sampled_clusters_missed": result.sample_missed,
            "sampled_sequences": sample.sequences,
            "sampled_against": sample.targets,
            "sampled_pairs": sample.pairs,
            "members_left": _members_left(final, result),
        },
        "giants": read_giants(config, directory),
    }


def _of_benchmarks(
    config: Decontaminate,
    benchmarks: Benchmarks,
    nearest: pl.DataFrame,
    after: str,
    reported: pl.DataFrame,
    directory: Path,
) -> dict[str, object]:
    """For each file of decontaminate.against what became of it; nothing where there is none.

    removed: train clusters whose best hit is with the file; similar: train clusters that are left with a hit to it.
    """
    if not config.against:
        return {}
    removed = read_json(directory / "counts.json")["levels"]["uniref50"]["removed"]
    rows = []
    for benchmark in config.against:
        numbers = pl.Series(benchmarks.numbers(benchmark.name), dtype=pl.UInt32).implode()
        best = nearest.filter(pl.col("target").is_in(numbers))
        proteins = len(benchmarks.numbers(benchmark.name))
        rows.append(
            benchmark.model_dump()
            | {
                "proteins": proteins,
                "removed": removed.get(benchmark.reason, 0),
                "similar": reported.filter(pl.col("target").is_in(numbers))["cluster"].n_unique(),
                "before": _histogram(best["all"], proteins),
                "after": _histogram(best[after], proteins),
            }
        )
    return {"benchmarks": rows}


def _searched(final: Clusters, result: Audit, share: float) -> dict[str, object]:
    """Train clusters that the audit's search took, those with a hit, and the 95% interval of all with one."""
    train = np.flatnonzero(final.side == TRAIN)
    taken = int(audited(share, train).sum())
    low, high = interval(result.similar, taken, len(train)) if taken else (0, len(train))
    return {"share": share, "clusters": taken, "similar": result.similar, "train": len(train), "low": low, "high": high}


def _members_left(final: Clusters, result: Audit) -> dict[str, object] | None:
    """Members of the sample that are similar to a held-out sequence, and what that makes of all train; None without a
    sample. low, high: the 95% interval of the train clusters that have such a member.
    """
    sample, train = result.sample, final.side == TRAIN
    if not sample.clusters:
        return None
    low, high = interval(result.clusters_of_similar_members, sample.clusters, int(train.sum()))
    return {
        "sampled": sample.members,
        "similar": result.similar_members,
        "train": int(final.column("size").astype(np.int64)[train].sum()),
        "clusters": {
            "sampled": sample.clusters,
            "similar": result.clusters_of_similar_members,
            "train": int(train.sum()),
            "low": low,
            "high": high,
        },
    }


def _histogram(identity: pl.Series, clusters: int) -> dict[str, object]:
    """Counts in BINS equal bins of [0, 1], the last of which includes 1; `none`: clusters without an alignment."""
    thousandths = (identity.drop_nulls().cast(pl.Float64).to_numpy() * 1000).round().astype(np.int64)
    counts = np.bincount(np.minimum(thousandths * BINS // 1000, BINS - 1), minlength=BINS)
    return {"counts": counts.tolist(), "none": clusters - int(counts.sum())}
