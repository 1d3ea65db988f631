"""One MMseqs2 search of FASTA against FASTA as a table of alignments.

The search runs with `--min-seq-id 0` and the identity threshold is applied afterwards, because the histograms need the
alignments below it too. The hits are exactly those of a search with `--min-seq-id`: MMseqs2 applies that option to
finished alignments only, and truncates identities to three decimals, while thresholds here have two.
"""

import shutil
from pathlib import Path

import polars as pl

from unirefine.config import Search
from unirefine.tools import run_tool

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


def align(
    mmseqs: str, query: Path, target: Path, settings: Search, *, work: Path, threads: int, exhaustive: bool = False
) -> pl.DataFrame:
    """Search `query` against `target`: every alignment that passes all thresholds but that of identity, as in SCHEMA.

    query, target: FASTA; an empty file gives an empty frame. work: directory for MMseqs2's files, which are deleted.
    exhaustive: align every query with every target, without a prefilter. Raises UserError when MMseqs2 fails.
    """
    if query.stat().st_size == 0 or target.stat().st_size == 0:
        return pl.DataFrame(schema=SCHEMA)
    work = work / "mmseqs"
    work.mkdir()
    quiet = ["-v", "1"]
    for name, fasta in (("query", query), ("target", target)):
        # --dbtype 1: amino acids; MMseqs2 would guess nucleotides from letters like ACGT
        run_tool([mmseqs, "createdb", str(fasta), str(work / name), "--dbtype", "1", "--shuffle", "0", *quiet])
    names = [str(work / name) for name in ("query", "target", "result")]
    run_tool([mmseqs, "search", *names, str(work / "tmp"), *_flags(settings, threads, exhaustive), *quiet])
    table = work / "result.tsv"
    run_tool([mmseqs, "convertalis", *names, str(table), "--format-output", _OUTPUT, "--threads", str(threads), *quiet])
    found = _parse(table)
    shutil.rmtree(work)
    return found


def _flags(settings: Search, threads: int, exhaustive: bool) -> list[str]:
    flags = {
        "--min-seq-id": 0,
        "--alignment-mode": settings.alignment_mode,
        "--max-seqs": settings.max_seqs,
        "-s": settings.sensitivity,
        "-c": settings.coverage,
        "--cov-mode": settings.coverage_mode,
        "-e": settings.evalue,
        "--threads": threads,
    }
    if exhaustive:
        flags["--prefilter-mode"] = 2
    return [str(word) for pair in flags.items() for word in pair]


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
