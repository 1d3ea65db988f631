"""One part: the search whose hits are removed, then the audit's search among the clusters that it leaves.

All sequences of a cluster are in one part, so the part alone decides which of its clusters have a hit. The results are
three small tables. `hits` is written last: where it exists, the other two are complete.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from unirefine.config import Decontaminate
from unirefine.core.tables import table_writer
from unirefine.decontaminate.benchmarks import read_benchmarks
from unirefine.decontaminate.inputs import (
    COUNTED,
    OPTIONS,
    SEARCHED,
    audited,
    level_of,
    query_path,
    result_path,
    target_path,
)
from unirefine.errors import UserError
from unirefine.files.atomic import temporary_directory
from unirefine.files.names import search_part
from unirefine.similarity.align import SCHEMA, align, hits_among
from unirefine.similarity.giants import align_giants, counts, with_giants
from unirefine.tools import find_mmseqs, tool_version

_ARROW = {
    pl.UInt32: pa.uint32(),
    pl.String: pa.string(),
    pl.Float32: pa.float32(),
    pl.Float64: pa.float64(),
}
HIT_SCHEMA = pa.schema([(name, _ARROW[kind]) for name, kind in SCHEMA.items()])
NEAREST_SCHEMA = pa.schema(
    [("target", pa.uint32()), ("all", pa.float32()), ("searched", pa.float32()), ("audited", pa.float32())]
)
"""The best identity of a held-out cluster (`target`) to this part's clusters: to `all`, to those without a hit of the
search (`searched`), and to those without a hit of the audit either (`audited`); null without an alignment."""


@dataclass(frozen=True)
class Found:
    """Numbers of hits, and of clusters that have one, in the search of a part and in the audit's search of the rest."""

    hits: int
    clusters: int
    audit_hits: int
    audit_clusters: int


def run(
    config: Decontaminate,
    *,
    directory: Path,
    part: int,
    threads: int = 1,
    memory_mb: int | None = None,
    mmseqs: str | None = None,
) -> Found:
    """Search one part; write `hits/`, `audit/` and `nearest/part-*.parquet` to `directory`, which prepare has filled.

    part: its number, from 0. memory_mb: what the prefilter may take, by default all of the machine's memory. mmseqs:
    the MMseqs2 binary, found by itself by default. Raises UserError when the part does not exist, or when MMseqs2 is
    missing or fails.
    """
    if not 0 <= part < config.parts:
        raise UserError(f"--part {part}: parts are 0 to {config.parts - 1}", fix="see decontaminate.parts")
    query, target = query_path(directory, part, config.parts), target_path(directory)
    for path in (query, target):
        if not path.exists():
            raise UserError("no such file", where=path, fix="run `unirefine decontaminate prepare` with this config")
    benchmarks = read_benchmarks(config, directory)
    binary = find_mmseqs(mmseqs)
    with temporary_directory(directory / f"search-{search_part(part, config.parts)}") as work:
        options = {"work": work, "threads": threads, "memory_mb": memory_mb}
        giants = align_giants(query, target, config.search, threads=threads)
        searched = align(binary, query, target, config.search, **options, title=f"search of part {part}")
        searched = with_giants(searched, giants.alignments)
        hits = hits_among(searched, config.search)
        left = work / "left.fasta"
        copy_left(query, left, benchmarks.removing(hits)["cluster"].unique(), config.audit_share)
        again = align(binary, left, target, config.audit, **options, title=f"audit of part {part}")
        again = with_giants(again, align_giants(left, target, config.audit, threads=threads).alignments)
        # clusters with hits that are only reported are searched twice
        audit = hits_among(again, config.audit).join(hits, on=["query", "target"], how="anti", maintain_order="left")
    write_hits(result_path(directory, "audit", part, config.parts), audit)
    write_nearest(
        result_path(directory, "nearest", part, config.parts),
        searched,
        again,
        benchmarks.removing(hits),
        benchmarks.removing(audit),
    )
    settings = config.model_dump(mode="json", include=set(OPTIONS))
    metadata = {
        SEARCHED: {"mmseqs": tool_version(binary), "level": level_of(target), **settings},
        COUNTED: counts(giants, config.search),
    }
    write_hits(result_path(directory, "hits", part, config.parts), hits, metadata)
    return Found(len(hits), hits["cluster"].n_unique(), len(audit), audit["cluster"].n_unique())


def copy_left(source: Path, copy: Path, dropped: Iterable[int], share: float) -> None:
    """Copy what the audit's search takes: a FASTA as prepare writes it, two lines a record, without some clusters.

    share: of the others that is drawn.
    """
    without, cluster, taken = set(dropped), None, False
    with source.open("rb") as lines, copy.open("wb") as out:
        for header in lines:
            sequence = next(lines)
            number = int(header[1:].strip().partition(b"_")[0])
            if number != cluster:  # the members of a cluster follow each other
                cluster = number
                taken = number not in without and bool(audited(share, np.array([number]))[0])
            if taken:
                out.write(header)
                out.write(sequence)


def write_hits(path: Path, hits: pl.DataFrame, metadata: dict[str, Any] | None = None) -> None:
    """Write hits, a frame of align.SCHEMA. metadata: of the file, to be written as JSON (see SEARCHED and COUNTED)."""
    text = {key: json.dumps(value) for key, value in metadata.items()} if metadata else None
    with table_writer(path, HIT_SCHEMA, text) as writer:
        writer.write({name: hits[name].to_arrow() for name in HIT_SCHEMA.names})


def write_nearest(
    path: Path, searched: pl.DataFrame, again: pl.DataFrame, hits: pl.DataFrame, audit: pl.DataFrame
) -> None:
    """Write the best identities of each held-out cluster in any alignment (see NEAREST_SCHEMA).

    searched, again: all alignments of the two searches; hits, audit: those that are hits.
    """
    found = pl.concat([searched, again]).select(
        "target",
        "identity",
        pl.col("cluster").is_in(hits["cluster"].unique().implode()).alias("hit"),
        pl.col("cluster").is_in(audit["cluster"].unique().implode()).alias("audit_hit"),
    )
    best = (
        found.group_by("target")
        .agg(
            pl.col("identity").max().alias("all"),
            pl.col("identity").filter(~pl.col("hit")).max().alias("searched"),
            pl.col("identity").filter(~pl.col("hit") & ~pl.col("audit_hit")).max().alias("audited"),
        )
        .sort("target")
    )
    with table_writer(path, NEAREST_SCHEMA) as writer:
        writer.write({name: best[name].to_arrow() for name in NEAREST_SCHEMA.names})
