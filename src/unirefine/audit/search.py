"""The two searches of decontamination, of train sequences of any number, in parts of a fixed size."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl
import pyarrow as pa

from unirefine.audit.held_out import AUDIT, FOUND, SEARCH, HeldOut, Identical, bytes_of, write_numbered
from unirefine.audit.sources import Source
from unirefine.config import Decontaminate, Search
from unirefine.core.hashing import keyed_hash
from unirefine.core.ids import keys_of
from unirefine.core.tables import string_buffers
from unirefine.errors import UserError
from unirefine.files.atomic import delete
from unirefine.progress import meter
from unirefine.similarity.align import align, hits_among
from unirefine.similarity.giants import Giants, align_giants, with_giants

PART = 8_000_000
"""Train sequences that are searched at a time: 24 parts are a whole UniRef90, as decontaminate.parts has it."""
_SEED = 0x5A3B1E


@dataclass
class Train:
    """What was read of train so far."""

    sequences: int = 0
    residues: int = 0
    similar: int = 0
    """Train sequences with a hit of either search."""
    giants: dict[str, int] = field(default_factory=lambda: {"train": 0, "held_out": 0, "pairs": 0})
    sample_hash: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    sample: list[tuple[str, str]] = field(default_factory=list)
    """(id, sequence) of the train sequences with the smallest hashes."""


def search_parts(
    config: Decontaminate,
    sources: list[Source],
    held_out: HeldOut,
    train: Train,
    *,
    binary: str | Path,
    work: Path,
    threads: int,
    memory_mb: int | None,
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Yield (pairs, hits) of each part of train, as in FOUND; fills `train`.

    pairs: all alignments; hits: those with the identity of a leak. The first search is of all held-out sequences, the
    more sensitive one of those in which no search of this or an earlier part has found a leak. work: directory for
    files that are deleted.
    """
    identical = Identical(held_out)
    leaks = np.zeros(len(held_out.lengths), bool)
    every = np.arange(len(leaks))
    for number, (names, path, same) in enumerate(_parts(sources, train, identical, config.audit_sample, work)):
        options = {"work": work, "threads": threads, "memory_mb": memory_mb}
        found, hits = [same], [same]
        leaks[same["target"].to_numpy()] = True
        for check, settings in ((SEARCH, config.search), (AUDIT, config.audit)):
            chosen = every if check == SEARCH else np.flatnonzero(~leaks)
            targets = work / "target.fasta"
            held_out.write(targets, chosen)
            title = f"audit: {check} of part {number}"
            giants = align_giants(path, targets, settings, threads=threads)
            pairs = with_giants(align(binary, path, targets, settings, title=title, **options), giants.alignments)
            if check == SEARCH:
                _count(train, giants)
            found.append(_as_found(pairs, names, check))
            hits.append(_as_found(hits_among(pairs, settings), names, check))
            leaks[hits[-1]["target"].to_numpy()] = True
        delete(path)
        every_hit = pl.concat(hits)
        train.similar += every_hit["train"].n_unique()
        yield pl.concat(found), every_hit


def _count(train: Train, giants: Giants) -> None:
    train.giants["train"] += giants.train
    train.giants["held_out"] = max(train.giants["held_out"], giants.held_out)
    train.giants["pairs"] += giants.pairs


def _as_found(pairs: pl.DataFrame, names: pa.Array, check: str) -> pl.DataFrame:
    """Alignments of numbered train sequences as in FOUND. names: of the part's n sequences."""
    ids = names.take(pa.array(pairs["cluster"].to_numpy()))
    return pairs.with_columns(pl.Series("train", ids, dtype=pl.String), pl.lit(check).alias("check")).select(*FOUND)


def _parts(
    sources: list[Source], train: Train, identical: Identical, sample: int, work: Path
) -> Iterator[tuple[pa.Array, Path, pl.DataFrame]]:
    """Yield (names, FASTA with numbers for names, identical pairs) of each part of train."""
    path = work / "train.fasta"
    names: list[pa.Array] = []
    same: list[pl.DataFrame] = []
    count, file = 0, path.open("wb")
    with meter("audit: train sequences", unit="sequences") as done:
        for source in sources:
            before = train.sequences
            for block in source.blocks():
                same.append(identical.find(block.names, block.sequences))
                _draw(train, block.names, block.sequences, sample)
                write_numbered(file, np.arange(count, count + len(block.names)), block.sequences)
                names.append(block.names)
                count += len(block.names)
                train.sequences += len(block.names)
                train.residues += bytes_of(block.sequences)
                done.advance(len(block.names))
                if count >= PART:
                    yield _closed(file, names), path, pl.concat(same)
                    names, same, count, file = [], [], 0, path.open("wb")
            if train.sequences == before:
                raise UserError("no train sequences in it", where=source.path, fix="give another --train")
    if count:
        yield _closed(file, names), path, pl.concat(same)
    file.close()


def _closed(file: BinaryIO, names: list[pa.Array]) -> pa.Array:
    file.close()
    return pa.concat_arrays(names)


def _draw(train: Train, names: pa.Array, sequences: pa.Array, count: int) -> None:
    """Keep the `count` train sequences with the smallest keyed hash of their ids, whatever their order."""
    if count == 0:
        return
    hashes = keyed_hash(_SEED, keys_of(*string_buffers(names)))
    bound = train.sample_hash.max() if len(train.sample) >= count else np.uint64(2**64 - 1)
    new = np.flatnonzero(hashes <= bound)
    joined = np.concatenate([train.sample_hash, hashes[new]])
    kept = np.argsort(joined, kind="stable")[:count]
    drawn = [*train.sample, *((names[at].as_py(), sequences[at].as_py()) for at in new)]
    train.sample, train.sample_hash = [drawn[at] for at in kept], joined[kept]


def limit_identity(config: Decontaminate, identity: float | None) -> Decontaminate:
    """The config with another smallest identity of a hit. Raises UserError where MMseqs2 has no such threshold."""
    if identity is None:
        return config
    changed = {name: getattr(config, name).model_dump() | {"min_seq_id": identity} for name in ("search", "audit")}
    try:
        Search.model_validate(changed["search"])
    except ValueError:
        raise UserError(
            f"--max-identity {identity:g}", fix="give a fraction between 0 and 1 with two decimals, as in 0.5"
        ) from None
    return Decontaminate.model_validate(config.model_dump() | changed)
