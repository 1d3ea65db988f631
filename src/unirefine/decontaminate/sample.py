"""The exact check: a sample of the train clusters that are left, aligned with every held-out sequence.

It shares nothing with the searches: the sequences are read from the records again, and the aligner is not MMseqs2 and
has no prefilter. Of a sampled cluster every sequence that trains is aligned, also where only representatives were
searched.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from unirefine.config import Decontaminate
from unirefine.core.exact import align_all
from unirefine.core.hashing import keyed_hash
from unirefine.core.levels import TRAIN
from unirefine.core.smith_waterman import as_residues
from unirefine.core.tables import Parts, record_parts, strings_at
from unirefine.decontaminate.benchmarks import Benchmarks
from unirefine.decontaminate.inputs import Clusters, fasta_names
from unirefine.similarity.align import SCHEMA, hits_among
from unirefine.similarity.giants import limits_of, to_frame

_SEED = 0x5A3B1E


@dataclass(frozen=True)
class Sample:
    """What the exact check found."""

    clusters: int
    """Clusters sampled."""
    members: int
    """Their members."""
    sequences: int
    """Sequences aligned: the members, and the representatives that are no members."""
    targets: int
    """Held-out sequences, each a candidate for each of these."""
    pairs: int
    """Pairs aligned: those whose lengths allow the coverage."""
    hits: pl.DataFrame
    """Hits of sequences of the level that was searched, as in SCHEMA."""
    member_hits: pl.DataFrame
    """Hits of members that were not searched, because the level is `representatives`."""
    similar_members: int
    """Members of the sample with a hit, searched or not."""


@dataclass(frozen=True)
class _Sequences:
    names: list[str]
    residues: list[bytes]
    members: int
    """How many belong to membership.parquet."""
    is_member: np.ndarray
    """bool[n]."""


def align_sample(
    config: Decontaminate, final: Clusters, benchmarks: Benchmarks, records: Path, *, threads: int
) -> Sample:
    """Align a sample of the train clusters, drawn by keyed hash, with all held-out sequences and benchmark proteins."""
    train = np.flatnonzero(final.side == TRAIN)
    count = min(config.audit_sample, len(train))
    nothing = pl.DataFrame(schema=SCHEMA)
    if count == 0:
        return Sample(0, 0, 0, 0, 0, nothing, nothing, 0)
    hashes = keyed_hash(_SEED, final.column("key")[train])
    sampled = np.zeros(len(final.side), bool)
    sampled[train[np.argpartition(hashes, count - 1)[:count]]] = True
    queries = _read(final, sampled, records, representatives=config.level == "representatives", members=True)
    members = config.level == "members"
    targets = _read(final, final.held_out, records, representatives=not members, members=members)
    targets.names.extend(str(number) for number in range(benchmarks.first, benchmarks.end))
    targets.residues.extend(as_residues(sequence) for sequence in benchmarks.table["sequence"])
    # with fewest identical residues: MMseqs2 reports any of several best alignments, and its choice is no miss
    limits = limits_of(config.audit)
    found, aligned = align_all(
        queries.residues, targets.residues, limits, most=False, threads=threads, title="exact sample"
    )
    hits = hits_among(to_frame(found, queries.names, targets.names), config.audit)
    similar = set(benchmarks.removing(hits)["query"])
    names = zip(queries.names, queries.is_member, strict=True)
    similar_members = sum(bool(member) and name in similar for name, member in names)
    searched = pl.lit(members) | ~pl.col("query").str.contains("_")
    return Sample(
        count,
        queries.members,
        len(queries.names),
        len(targets.names),
        aligned,
        hits.filter(searched),
        hits.filter(~searched),
        similar_members,
    )


def _read(known: Clusters, wanted: np.ndarray, records: Path, *, representatives: bool, members: bool) -> _Sequences:
    """The sequences of the clusters in `wanted` (bool[n]), named as prepare names them.

    A representative that is the same entry as a member is read once: as representative where `representatives`, else as
    member. A representative that is no member is read in any case.
    """
    keys = known.column("key")
    is_member = np.zeros(len(keys), bool)  # of each cluster's representative
    clusters, rows, same = [], [], []
    for cluster, row, key in known.members("row", "key") if members or representatives else ():
        chosen = wanted[cluster]
        clusters.append(cluster[chosen])
        rows.append(row[chosen])
        same.append(keys[clusters[-1]] == key[chosen])
        is_member[clusters[-1][same[-1]]] = True
    cluster, row, entry = (np.concatenate(blocks) for blocks in (clusters, rows, same))
    count = len(cluster)
    kept = ~entry if representatives else np.ones(count, bool)
    cluster, row = cluster[kept], row[kept]
    own = np.flatnonzero(wanted if representatives else wanted & ~is_member)
    names, residues = _strings(known.representatives(records), known.column("row")[own], fasta_names(own))
    flags = [is_member[own]]
    if members:
        more, texts = _strings(record_parts(records, "uniref90"), row, fasta_names(cluster, row))
        names, residues = names + more, residues + texts
        flags.append(np.ones(len(more), bool))
    return _Sequences(names, residues, count, np.concatenate(flags))


def _strings(parts: Parts, rows: np.ndarray, names: pa.Array) -> tuple[list[str], list[bytes]]:
    order = np.argsort(rows, kind="stable")
    found = strings_at(parts, "sequence", rows[order])
    return names.take(pa.array(order)).to_pylist(), [as_residues(text) for text in found.to_pylist()]
