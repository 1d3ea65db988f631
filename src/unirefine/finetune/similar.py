"""Which sequences are similar: a search of all against all, the clusters that follow, an exact check of a split."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from unirefine.config import Finetune, Search
from unirefine.core import parquet
from unirefine.core.exact import Limits, align_all
from unirefine.core.smith_waterman import as_residues
from unirefine.files.atomic import atomic_path, temporary_directory
from unirefine.similarity.align import align
from unirefine.similarity.giants import align_giants, with_giants
from unirefine.similarity.interval import interval
from unirefine.tools import find_mmseqs

SENSITIVITY = 7.5
"""That of the audit of the main split."""
COVERED = 0.5
"""Alignments that cover less of either sequence are not looked at: those of one domain."""
EVALUE = 1e-3
CELLS = 3_000_000_000
"""Pairs of residues that the exact check aligns at most, some seconds."""
SAMPLE = 1000
"""Train sequences that it takes at most."""
GROUP = 1 << 20


def search(sequences: Sequence[str], output: Path, *, threads: int, mmseqs: str | None) -> pl.DataFrame:
    """Every pair of different sequences with an alignment, in both directions: `query`, `target` (UInt32), `identity`,
    `coverage` (the smaller one), `bits`; sorted.

    The pairs are kept in `output/pairs.parquet`, so a resumed run does not search again. Raises UserError when MMseqs2
    fails.
    """
    kept = output / "pairs.parquet"
    if kept.exists():
        with parquet.File(kept, "delete it and start again") as file:
            return pl.DataFrame(pl.from_arrow(file.read()))
    binary = find_mmseqs(mmseqs)
    settings = Search(sensitivity=SENSITIVITY, coverage=COVERED, coverage_mode=0, evalue=EVALUE)
    with temporary_directory(output / "search") as work:
        fasta = work / "all.fasta"
        fasta.write_text("".join(f">{number}\n{sequence}\n" for number, sequence in enumerate(sequences)))
        found = align(binary, fasta, fasta, settings, work=work, threads=threads, title="finetune")
        found = with_giants(found, align_giants(fasta, fasta, settings, threads=threads).alignments)
    pairs = _both_ways(found)
    with atomic_path(kept) as temporary:
        parquet.write_table(pairs.to_arrow(), temporary, row_group_size=GROUP)
    return pairs


def _both_ways(found: pl.DataFrame) -> pl.DataFrame:
    """One row for each direction of a pair: that of the alignment with the higher identity."""
    one = found.select(
        pl.col("cluster").alias("query"), "target", "identity",
        pl.min_horizontal("query_coverage", "target_coverage").alias("coverage"), "bits",
    ).filter(pl.col("query") != pl.col("target"))  # fmt: skip
    other = one.select(pl.col("target").alias("query"), pl.col("query").alias("target"), "identity", "coverage", "bits")
    order = ["query", "target", "identity", "bits", "coverage"]
    both = pl.concat([one, other]).sort(order, descending=[False, False, True, True, True])
    return both.unique(["query", "target"], keep="first", maintain_order=True)


def clusters(sequences: Sequence[str], pairs: pl.DataFrame, config: Finetune) -> np.ndarray:
    """Cluster of each sequence, numbered by first appearance: int64[n].

    Single linkage: any two sequences with a pair of `identity` over `coverage`, or with the same letters, are in one.
    """
    parent = list(range(len(sequences)))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = parent[at]
        return at

    def join(first: int, second: int) -> None:
        first, second = root(first), root(second)
        parent[max(first, second)] = min(first, second)

    alike = pairs.filter(
        (pl.col("identity") >= config.identity - 1e-6) & (pl.col("coverage") >= config.coverage - 1e-6)
    )
    for query, target in alike.select("query", "target").iter_rows():
        join(query, target)
    same: dict[str, int] = {}
    for at, sequence in enumerate(sequences):
        join(at, same.setdefault(sequence, at))
    _, numbers = np.unique([root(at) for at in range(len(sequences))], return_inverse=True)
    return numbers.astype(np.int64)


def nearest(sequences: Sequence[str], pairs: pl.DataFrame, train: np.ndarray, asked: np.ndarray) -> tuple:
    """(row of the nearest train sequence, its identity) of each row of `asked`: int64[k], -1 for none, and float64[k].

    train, asked: rows. Equal letters are identity 1, however short; else the pair of the highest identity, then bits.
    """
    best = np.full(len(sequences), -1, np.int64)
    identity = np.full(len(sequences), np.nan)
    inside = np.zeros(len(sequences), bool)
    inside[train] = True
    among = pairs.filter(pl.Series(inside[pairs["target"].to_numpy()], dtype=pl.Boolean))
    first = among.sort(["query", "identity", "bits", "target"], descending=[False, True, True, False]).unique(
        "query", keep="first", maintain_order=True
    )
    best[first["query"].to_numpy()] = first["target"].to_numpy()
    identity[first["query"].to_numpy()] = first["identity"].to_numpy()
    letters = {sequences[row]: int(row) for row in train[::-1]}
    for row in asked:
        if (same := letters.get(sequences[row])) is not None:
            best[row], identity[row] = same, 1.0
    return best[asked], identity[asked]


def leaks(sequences: Sequence[str], pairs: pl.DataFrame, train: np.ndarray, asked: np.ndarray, config: Finetune) -> int:
    """How many of the rows `asked` have a train sequence of `identity` over `coverage`, or of the same letters."""
    close = pairs.filter(pl.col("coverage") >= config.coverage - 1e-6)
    _, identity = nearest(sequences, close, train, asked)
    return int((np.nan_to_num(identity) >= config.identity - 1e-6).sum())


def exact_check(
    sequences: Sequence[str], pairs: pl.DataFrame, train: np.ndarray, asked: np.ndarray, config: Finetune, threads: int
) -> dict:
    """Align a sample of the train sequences with all held-out ones exactly, without MMseqs2.

    Returns `{train, pairs, similar, missed, missed_low, missed_high}`: sampled sequences, pairs aligned, sequences
    similar to a held-out one, those of them that the search has missed, and the 95% interval for all of train.
    """
    rng = np.random.Generator(np.random.Philox(config.seed))
    residues = sum(len(sequences[row]) for row in asked)
    order, cells = [], 0
    for row in rng.permutation(train):
        cells += len(sequences[row]) * residues
        if len(order) == SAMPLE or (order and cells > CELLS):
            break
        order.append(int(row))
    targets = [as_residues(sequences[row]) for row in asked]
    limits = Limits(config.coverage, 0, EVALUE)
    found, aligned = align_all([as_residues(sequences[row]) for row in order], targets, limits, threads=threads)
    hits = {order[at] for at in found.query[found.identity >= config.identity - 1e-6].tolist()}
    held = np.zeros(len(sequences), bool)
    held[asked] = True
    known = pairs.filter(
        pl.Series(held[pairs["target"].to_numpy()], dtype=pl.Boolean)
        & (pl.col("identity") >= config.identity - 1e-6)
        & (pl.col("coverage") >= config.coverage - 1e-6)
    )["query"]
    missed = len(hits - set(known.to_list()))
    low, high = interval(missed, len(order), len(train))
    return {
        "train": len(order), "pairs": aligned, "similar": len(hits), "missed": missed,
        "missed_low": low, "missed_high": high,
    }  # fmt: skip
