"""Pairs of proteins that are too long for MMseqs2's alignment (core.giants), aligned apart."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from unirefine.config import Search
from unirefine.core.exact import Limits, Pairs, align_all
from unirefine.core.giants import SHORTEST, is_giant
from unirefine.core.smith_waterman import as_residues
from unirefine.similarity.align import SCHEMA, hits_among


class Giants(NamedTuple):
    """What was aligned apart, and what came of it."""

    alignments: pl.DataFrame
    """As `align` returns them: all thresholds but that of identity are passed."""
    train: int
    """Train sequences too long for MMseqs2."""
    held_out: int
    """Held-out sequences too long for it."""
    pairs: int
    """Pairs of the two that were aligned: those whose lengths allow the coverage."""


def align_giants(query: Path, target: Path, settings: Search, *, threads: int) -> Giants:
    """Align the giants of two FASTA files of two lines a record, whose names begin with numbers."""
    names, queries, _residues = _read(query)
    target_names, targets, residues = _read(target)
    if not queries or not targets:
        return Giants(pl.DataFrame(schema=SCHEMA), len(queries), len(targets), 0)
    found, aligned = align_all(
        queries, targets, limits_of(settings), residues=residues, threads=threads, title="proteins too long for MMseqs2"
    )
    return Giants(to_frame(found, names, target_names), len(queries), len(targets), aligned)


def _read(path: Path) -> tuple[list[str], list[bytes], int]:
    """Names and residues of the giants in a FASTA of two lines a record, and the residues of all its records."""
    names, sequences, total = [], [], 0
    with path.open("rb") as lines:
        for header in lines:
            sequence = next(lines).strip()
            total += len(sequence)
            if len(sequence) >= SHORTEST and is_giant(residues := as_residues(sequence)):
                names.append(header[1:].strip().decode())
                sequences.append(residues)
    return names, sequences, total


def limits_of(settings: Search) -> Limits:
    """The limits of a search beside that of identity."""
    return Limits(settings.coverage, settings.coverage_mode, settings.evalue)


def to_frame(found: Pairs, queries: list[str], targets: list[str]) -> pl.DataFrame:
    """Pairs as a frame of SCHEMA, sorted as `align` sorts. queries, targets: names of the FASTA records."""
    clusters = np.array([int(name.partition("_")[0]) for name in queries], np.uint32)
    target_clusters = np.array([int(name.partition("_")[0]) for name in targets], np.uint32)
    columns = {
        "cluster": clusters[found.query],
        "query": [queries[at] for at in found.query],
        "target": target_clusters[found.target],
        # cut to thousandths, as MMseqs2 does
        "identity": np.floor(found.identity * 1000 + 1e-9) / 1000,
        "query_coverage": found.query_coverage,
        "target_coverage": found.target_coverage,
        "evalue": found.evalue,
        "bits": found.bits,
    }
    frame = pl.DataFrame({name: pl.Series(name, columns[name], dtype=SCHEMA[name], strict=False) for name in SCHEMA})
    return sort(frame)


def sort(alignments: pl.DataFrame) -> pl.DataFrame:
    """Alignments in the order of `align`."""
    return alignments.sort("cluster", "query", "target", "bits", descending=[False, False, False, True])


def with_giants(alignments: pl.DataFrame, giants: pl.DataFrame) -> pl.DataFrame:
    """MMseqs2's alignments with those of the giants instead of its own of the same sequences."""
    if giants.is_empty():
        return alignments
    return sort(pl.concat([alignments.join(giants, on=["query", "target"], how="anti"), giants]))


def counts(giants: Giants, settings: Search) -> dict[str, int]:
    """What the counts of all parts add up: sequences of train and held out, pairs aligned, and hits among them."""
    hits = len(hits_among(giants.alignments, settings))
    return {"train": giants.train, "held_out": giants.held_out, "pairs": giants.pairs, "hits": hits}
