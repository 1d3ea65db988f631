"""One MMseqs2 search of train FASTA against held-out FASTA as a table of alignments.

The prefilter lists candidate pairs, `align` aligns them. Each query costs the prefilter a fixed sum, so the side with
fewer sequences asks. Its answer is transposed for `align`, whose identity, coverage and E-value depend on the
direction: they are those of train against held-out, as in the published command. That command itself, `mmseqs search`,
runs where `direction: published` asks for it.

All run with `--min-seq-id 0` and the identity threshold is applied afterwards, because the histograms need the
alignments below it too. The hits are exactly those of a search with `--min-seq-id`: MMseqs2 applies that option to
finished alignments only, and truncates identities to three decimals, while thresholds here have two.
"""

import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from unirefine.config import Search
from unirefine.progress import human
from unirefine.similarity.bands import length_bands
from unirefine.similarity.memory import KMER, prefilter_bytes
from unirefine.similarity.mmseqs import Options, Workspace

SCHEMA = {
    "cluster": pl.UInt32,
    "query": pl.String,
    "target": pl.UInt32,
    "identity": pl.Float32,
    "query_coverage": pl.Float32,
    "target_coverage": pl.Float32,
    "evalue": pl.Float64,
    "bits": pl.Float32,
}
_OUTPUT = "query,target,fident,qcov,tcov,evalue,bits"
_COLUMNS = ("query", "target_name", "identity", "query_coverage", "target_coverage", "evalue", "bits")
FEW_PAIRS = 2_000_000
"""So many pairs are aligned as soon as a prefilter has found the similar ones."""
FEW_RESIDUES = 1_000_000
"""Against fewer on the held-out side alignments of 15 residues are significant, and need PUBLISHED_SENSITIVITY."""
PUBLISHED_SENSITIVITY = 7.0
UNGAPPED = (15, 45)
"""Bounds of `smallest_ungapped`: MMseqs2's own minimum; what the published limit of 300 results is at full size."""
_TURNED = {1: 2, 2: 1, 3: 4, 4: 3}
"""What a coverage mode of query and target is for target and query; 0 and 5 are the same."""


def align(
    mmseqs: str | Path,
    query: Path,
    target: Path,
    settings: Search,
    *,
    work: Path,
    threads: int,
    memory_mb: int | None = None,
    title: str = "decontaminate",
) -> pl.DataFrame:
    """Search `query` against `target`: every alignment that passes all thresholds but that of identity, as in SCHEMA.

    query, target: FASTA of train and of held-out sequences; an empty file gives an empty frame. work: directory for
    MMseqs2's files, which are deleted. memory_mb: what the prefilter may take; it goes through an index that is too
    large in pieces. title: begins the lines on stderr that say what is being done. Raises UserError when MMseqs2 fails.
    """
    if query.stat().st_size == 0 or target.stat().st_size == 0:
        return pl.DataFrame(schema=SCHEMA)
    work = work / "mmseqs"
    work.mkdir()
    tool = Workspace(mmseqs, work, threads, title)
    train, held_out = tool.createdb("query", query), tool.createdb("target", target)
    memory = _memory_limit(memory_mb)
    if settings.direction == "published":
        tool.say(f"search {train:,} train sequences against {held_out:,} held-out ones, as published")
        limits = {"--max-seqs": settings.max_seqs, "-s": settings.sensitivity} | memory
        tool.run("search", "query", "target", "result", "tmp", options=limits | _thresholds(settings))
    elif train * held_out <= FEW_PAIRS:
        tool.say(f"align {train:,} train sequences with {held_out:,} held-out ones, every pair")
        tool.run("search", "query", "target", "result", "tmp", options={"--prefilter-mode": 2} | _thresholds(settings))
    else:
        candidates = _prefilter(tool, train, held_out, settings, memory)
        tool.say(f"align {tool.entries(candidates):,} pairs")
        tool.run("align", "query", "target", candidates, "result", options=_thresholds(settings), total=train)
    tool.run("convertalis", "query", "target", "result", "result.tsv", options={"--format-output": _OUTPUT})
    found = _parse(work / "result.tsv")
    shutil.rmtree(work)
    return found


def smallest_ungapped(residues: int, evalue: float) -> int:
    """Smallest score of a candidate's best diagonal without gaps, in half bits, against held-out `residues`.

    Half of what a sequence of 40 residues needs for `evalue`: log2(40 * residues / evalue) bits (Karlin and Altschul
    1990). The more residues, the more chance pairs reach a score, and the less a low one can become a hit.
    """
    lowest, highest = UNGAPPED
    return int(min(max(math.log2(max(40 * residues / evalue, 1)), lowest), highest))


def _prefilter(tool: Workspace, train: int, held_out: int, settings: Search, memory: Options) -> str:
    """Find candidate pairs; return the name of their database, whose keys are those of the train sequences."""
    swap = held_out < train
    asks, index = ("target", "query") if swap else ("query", "target")
    fewer, more = min(train, held_out), max(train, held_out)
    lengths = [tool.lengths(name) for name in (asks, index)]
    size = prefilter_bytes(more, int(lengths[1].sum()), tool.threads)
    first, second = ("held-out", "train") if swap else ("train", "held-out")
    residues = int(lengths[0 if swap else 1].sum())
    options = {
        "-s": settings.sensitivity if residues >= FEW_RESIDUES else max(settings.sensitivity, PUBLISHED_SENSITIVITY),
        "-k": KMER,
        "--max-seqs": more,
        "--min-ungapped-score": smallest_ungapped(residues, settings.evalue),
        "--mask": 0,  # masks the index: pairs that are found from one side would not be from the other
        "-c": settings.coverage,
        "--cov-mode": _TURNED.get(settings.coverage_mode, settings.coverage_mode) if swap else settings.coverage_mode,
    } | memory
    bands = [] if settings.coverage_mode else list(length_bands(*lengths, settings.coverage))
    in_bands = f", in {len(bands)} bands of length" if len(bands) > 1 else ""
    tool.say(
        f"prefilter {fewer:,} {first} sequences against {more:,} {second} ones,"
        f" in {human(size, 'B')} of memory at most{in_bands}"
    )
    if in_bands:
        _prefilter_bands(tool, asks, index, bands, options)
    else:
        tool.run("prefilter", asks, index, "found", options=options, total=fewer)
    if not swap:
        return "found"
    # not swapresults, which crashes on large results of MMseqs2 18
    tool.run("swapdb", "found", "candidates", options=memory)
    tool.delete("found")
    return "candidates"


def _prefilter_bands(
    tool: Workspace, asks: str, index: str, bands: Sequence[tuple[np.ndarray, np.ndarray]], options: Options
) -> None:
    """Search each band with its own index; `found` gets the candidates of all."""
    parts = [f"band-{number}" for number in range(len(bands))]
    for number, (part, (asking, indexed)) in enumerate(zip(parts, bands, strict=True), start=1):
        tool.say(f"band {number} of {len(bands)}: {len(asking):,} sequences against {len(indexed):,}")
        tool.subset(asks, "band-asks", asking)
        tool.subset(index, "band-index", indexed)
        tool.run("prefilter", "band-asks", "band-index", part, options=options, total=len(asking))
    tool.run("mergedbs", asks, "found", *parts, threaded=False)
    tool.delete("band-")


def _memory_limit(memory_mb: int | None) -> Options:
    """The option that makes the prefilter go through its index in pieces, where that is less than the machine has."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if memory_mb is None or memory_mb * 1_000_000 >= machine:
        return {}
    return {"--split-memory-limit": f"{memory_mb * 1_000_000}B"}


def _thresholds(settings: Search) -> Options:
    return {
        "--min-seq-id": 0,
        "--alignment-mode": settings.alignment_mode,
        "-c": settings.coverage,
        "--cov-mode": settings.coverage_mode,
        "-e": settings.evalue,
    }


def _parse(table: Path) -> pl.DataFrame:
    if table.stat().st_size == 0:
        return pl.DataFrame(schema=SCHEMA)
    types = {name: pl.String if name in ("query", "target_name") else pl.Float64 for name in _COLUMNS}
    frame = pl.read_csv(table, separator="\t", has_header=False, schema=types, glob=False)
    return frame.select(
        pl.col("query").str.extract(r"^(\d+)").cast(pl.UInt32).alias("cluster"),
        "query",
        pl.col("target_name").str.extract(r"^(\d+)").cast(pl.UInt32).alias("target"),
        *(pl.col(name).cast(SCHEMA[name]) for name in _COLUMNS[2:]),
    ).sort("cluster", "query", "target", "bits", descending=[False, False, False, True])


def hits_among(alignments: pl.DataFrame, settings: Search) -> pl.DataFrame:
    """The alignments whose identity is at least `min_seq_id`."""
    return alignments.filter((pl.col("identity").cast(pl.Float64) * 1000).round() >= round(settings.min_seq_id * 1000))
