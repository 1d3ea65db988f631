"""Which sequences are similar across a split: the nearest train sequence, leaks, an exact check."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from unirefine.config import Finetune
from unirefine.core import parquet
from unirefine.core.exact import Limits, align_all
from unirefine.core.smith_waterman import as_residues
from unirefine.files.atomic import atomic_path
from unirefine.similarity.interval import interval
from unirefine.similarity.linkage import EVALUE, search_all

CELLS = 3_000_000_000
"""Pairs of residues that the exact check aligns at most, some seconds."""
SAMPLE = 1000
"""Train sequences that it takes at most."""
GROUP = 1 << 20


def search(sequences: Sequence[str], output: Path, *, threads: int, mmseqs: str | None) -> pl.DataFrame:
    """`search_all`, once: the pairs are kept in `output/pairs.parquet`, so a resumed run does not search again."""
    kept = output / "pairs.parquet"
    if kept.exists():
        with parquet.File(kept, "delete it and start again") as file:
            return pl.DataFrame(pl.from_arrow(file.read()))
    pairs = search_all(sequences, output / "search", "finetune", threads=threads, mmseqs=mmseqs)
    with atomic_path(kept) as temporary:
        parquet.write_table(pairs.to_arrow(), temporary, row_group_size=GROUP)
    return pairs


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
