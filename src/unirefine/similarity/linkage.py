"""Groups without a similar pair across them: a search of all proteins against all, and single linkage over its pairs.

MMseqs2's own clusters do not give that: it compares a member with its representative, not with other clusters' members.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from unirefine.config import Search
from unirefine.files.atomic import temporary_directory
from unirefine.similarity.align import align
from unirefine.similarity.giants import align_giants, with_giants
from unirefine.tools import find_mmseqs

SENSITIVITY = 7.5
"""That of the audit of the main split."""
COVERED = 0.5
"""Alignments that cover less of either sequence are not looked at: those of one domain."""
EVALUE = 1e-3


def search_all(
    sequences: Sequence[str], place: Path, title: str, *, threads: int = 1, mmseqs: str | None = None
) -> pl.DataFrame:
    """Every pair of different sequences with an alignment, in both directions: `query`, `target` (UInt32), `identity`,
    `coverage` (the smaller one), `bits`; sorted.

    place: a temporary directory is made beside this path. title: begins the lines on stderr. Raises UserError when
    MMseqs2 fails.
    """
    binary = find_mmseqs(mmseqs)
    settings = Search(sensitivity=SENSITIVITY, coverage=COVERED, coverage_mode=0, evalue=EVALUE)
    with temporary_directory(place) as work:
        fasta = work / "all.fasta"
        fasta.write_text("".join(f">{number}\n{sequence}\n" for number, sequence in enumerate(sequences)))
        found = align(binary, fasta, fasta, settings, work=work, threads=threads, title=title)
        found = with_giants(found, align_giants(fasta, fasta, settings, threads=threads).alignments)
    return _both_ways(found)


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


def single_linkage(sequences: Sequence[str], pairs: pl.DataFrame, identity: float, coverage: float) -> np.ndarray:
    """Group of each sequence, numbered by first appearance: int64[n].

    Any two sequences with a pair of `identity` over `coverage` of both, or with the same letters, are in one.
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

    alike = pairs.filter((pl.col("identity") >= identity - 1e-6) & (pl.col("coverage") >= coverage - 1e-6))
    for query, target in alike.select("query", "target").iter_rows():
        join(query, target)
    same: dict[str, int] = {}
    for at, sequence in enumerate(sequences):
        join(at, same.setdefault(sequence, at))
    _, numbers = np.unique([root(at) for at in range(len(sequences))], return_inverse=True)
    return numbers.astype(np.int64)
