"""Judge a split: search what is trained on against what is held out, and write tables, a figure and a page."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from unirefine.audit import tables
from unirefine.audit.held_out import CHECKS, EXACT, FOUND, HeldOut, nearest_of, read_held_out
from unirefine.audit.page import histogram, page
from unirefine.audit.search import Train, search_parts
from unirefine.audit.sources import Source, open_sources
from unirefine.config import Decontaminate
from unirefine.core.exact import align_all
from unirefine.core.smith_waterman import as_residues
from unirefine.core.tables import table_writer
from unirefine.files.atomic import temporary_directory, write_json, write_text
from unirefine.files.code import versions
from unirefine.files.outputs import refuse_overwriting
from unirefine.report.style import standalone
from unirefine.similarity.align import hits_among
from unirefine.similarity.giants import limits_of, to_frame
from unirefine.similarity.interval import interval
from unirefine.tools import find_mmseqs, tool_version

BINS = 50
WORST = 20
"""Leaks that audit.json and the page name."""


@dataclass
class Findings:
    """What is known of the held-out sequences."""

    nearest: pl.DataFrame
    """The best pair of each that has one, as in FOUND."""
    leaks: pl.DataFrame
    """The best hit of each leak, as in FOUND."""
    similar: np.ndarray
    """int64[n]: train sequences with a hit to each."""


def run(
    train: list[Path],
    against: list[Path],
    output: Path,
    config: Decontaminate,
    *,
    records: Path | None = None,
    max_leaks: float = 0,
    threads: int = 1,
    memory_mb: int | None = None,
    mmseqs: str | None = None,
) -> dict[str, Any]:
    """Write the files of `tables.FILES` to `output` and return what is in audit.json (docs/audit.md).

    train, against: what `open_sources` takes. records: directory of the records stage, for lists of ids. max_leaks: how
    many held-out sequences may be leaks; below 1 their share. Raises UserError, and writes nothing, for a source that
    cannot be read, an `output` with files of somebody else's, and when MMseqs2 fails.
    """
    sources, held_out_sources = open_sources(train, "train", records), open_sources(against, "against", records)
    refuse_overwriting(tables.outputs(output), [*train, *against])
    binary = find_mmseqs(mmseqs)
    output.mkdir(parents=True, exist_ok=True)
    with temporary_directory(output / "search") as work:
        held_out, read = read_held_out(held_out_sources), Train()
        parts = search_parts(
            config, sources, held_out, read, binary=binary, work=work, threads=threads, memory_mb=memory_mb
        )
        findings = Findings(*(pl.DataFrame(schema=FOUND) for _ in range(2)), np.zeros(len(held_out.lengths), np.int64))
        sampled = pl.DataFrame(schema=FOUND)
        with table_writer(output / "hits.parquet", tables.HITS_SCHEMA) as table:
            for pairs, hits in parts:
                tables.write_hits(table, hits, held_out)
                _add(findings, pairs, hits)
                names = pl.Series([name for name, _sequence in read.sample], dtype=pl.String)
                sampled = pl.concat([sampled, hits.filter(pl.col("train").is_in(names.implode()))])
            exact, aligned = _align_sample(config, read, held_out, threads)
            new = hits_among(exact, config.audit).join(sampled, on=["train", "target"], how="anti")
            sample = _sample(read, exact, sampled, config, aligned, findings)
            tables.write_hits(table, new, held_out)
            # several alignments of a pair may be best: of one that a search has found, the search's stays
            other = exact.join(findings.nearest, on=["train", "target"], how="anti")
            _add(findings, other, new)
    leaks = len(findings.leaks)
    allowed = int(max_leaks * len(held_out.lengths)) if max_leaks < 1 else int(max_leaks)
    result = {
        "train": {"sources": _described(sources), "sequences": read.sequences, "residues": read.residues},
        "against": _per_source(held_out, findings),
        "leaks": leaks,
        "held_out": len(held_out.lengths),
        "allowed": allowed,
        "clean": leaks <= allowed,
        "similar_train": read.similar,
        "found_by": {check: int((findings.leaks["check"] == check).sum()) for check in CHECKS},
        "threshold": config.search.min_seq_id,
        "coverage": config.search.coverage,
        "coverage_mode": config.search.coverage_mode,
        "evalue": config.search.evalue,
        "search": config.search.model_dump(mode="json"),
        "audit": config.audit.model_dump(mode="json"),
        "sample": sample,
        "giants": read.giants,
        "edges": [round(i / BINS, 4) for i in range(BINS + 1)],
        "worst": tables.worst(findings.nearest, findings.leaks, held_out, WORST),
        "mmseqs": tool_version(binary),
        "versions": versions(),
    }
    tables.write_nearest(output, held_out, findings.nearest, findings.leaks, findings.similar)
    write_text(output / "identity.svg", standalone(histogram(result)))
    write_text(output / "audit.html", page(result))
    write_json(output / "audit.json", result)
    return result


def _add(findings: Findings, pairs: pl.DataFrame, hits: pl.DataFrame) -> None:
    counted = hits.group_by("target").agg(pl.col("train").n_unique())
    findings.similar[counted["target"].to_numpy()] += counted["train"].to_numpy()
    findings.nearest = nearest_of(pl.concat([findings.nearest, pairs]))
    findings.leaks = nearest_of(pl.concat([findings.leaks, hits]))


def _align_sample(config: Decontaminate, read: Train, held_out: HeldOut, threads: int) -> tuple[pl.DataFrame, int]:
    """Pairs of the sample that pass coverage and E-value, as in FOUND, and how many pairs were aligned."""
    if not read.sample:
        return pl.DataFrame(schema=FOUND), 0
    queries = [as_residues(sequence) for _name, sequence in read.sample]
    # with fewest identical residues: MMseqs2 reports any of several best alignments, and its choice is no miss
    found, aligned = align_all(
        queries, held_out.residues(), limits_of(config.audit), most=False, threads=threads, title="audit: exact sample"
    )
    numbers = [str(number) for number in range(len(queries))]
    frame = to_frame(found, numbers, [str(number) for number in range(len(held_out.lengths))])
    names = pl.Series([read.sample[at][0] for at in frame["cluster"]], dtype=pl.String)
    return frame.with_columns(train=names, check=pl.lit(EXACT)).select(*FOUND), aligned


def _sample(
    read: Train, exact: pl.DataFrame, sampled: pl.DataFrame, config: Decontaminate, aligned: int, findings: Findings
) -> dict[str, Any] | None:
    """What audit.json says of the sample; None without one. sampled: hits of the searches."""
    if not read.sample:
        return None
    names = {name for name, _sequence in read.sample}
    hits = hits_among(exact, config.audit)
    similar = set(hits["train"])
    missed = similar - set(sampled["train"])
    low, high = interval(len(missed), len(read.sample), read.sequences)
    known = findings.leaks["target"].implode()
    return {
        "train": len(read.sample),
        "pairs": aligned,
        "similar": len(similar | (set(sampled["train"]) & names)),
        "missed": len(missed),
        "missed_low": low,
        "missed_high": high,
        "new_leaks": hits.filter(~pl.col("target").is_in(known))["target"].n_unique(),
    }


def _described(sources: list[Source]) -> list[dict[str, str]]:
    return [{"path": str(source.path), "kind": source.kind} for source in sources]


def _per_source(held_out: HeldOut, findings: Findings) -> list[Mapping[str, Any]]:
    """For each source: its sequences, how many are leaks, how many are like nothing in train, and the histogram."""
    best = np.full(len(held_out.lengths), np.nan)
    best[findings.nearest["target"].to_numpy()] = findings.nearest["identity"].cast(pl.Float64).to_numpy()
    leak = np.zeros(len(best), bool)
    leak[findings.leaks["target"].to_numpy()] = True
    rows = []
    for number, described in enumerate(_described(held_out.sources)):
        own = held_out.source == number
        thousandths = np.round(best[own & ~np.isnan(best)] * 1000).astype(np.int64)
        counts = np.bincount(np.minimum(thousandths * BINS // 1000, BINS - 1), minlength=BINS)
        rows.append(
            {
                **described,
                "sequences": int(own.sum()),
                "leaks": int((own & leak).sum()),
                "none": int(np.isnan(best[own]).sum()),
                "counts": counts.tolist(),
            }
        )
    return rows
