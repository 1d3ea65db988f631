"""Run the stage: embed proteins and write Parquet files of vectors in the order of the input."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unirefine.megatron import platform

import pyarrow as pa
import torch

from unirefine import progress
from unirefine.config import Embed
from unirefine.core.fasta import Protein
from unirefine.embed.files import Chunks, delete_others, final_files, is_ours, schemas, tables
from unirefine.embed.source import Source
from unirefine.embed.vectors import budget, embed_chunk
from unirefine.files.atomic import read_json, write_json
from unirefine.files.hashes import first_change, is_record, recorded, sha256_json
from unirefine.files.outputs import json_of, refuse_overwriting
from unirefine.model.inference import Engine, Share, open_huggingface, open_megatron
from unirefine.model.source import Source as Model
from unirefine.model.source import find

DONE = ".embedded.json"
"""Which job wrote the tables, and their hashes; written where they are used again, for a map."""


@dataclass(frozen=True)
class Result:
    """Counts of a run, and its files."""

    sequences: int
    residues: int
    """Embedded residues."""
    truncated: int
    """Sequences of which only the first residues were embedded."""
    hidden: int
    resumed: int
    """Finished chunks of an interrupted job that were reused."""
    files: list[str]
    kept: bool = False
    """The tables of an earlier job, which is the same, were there."""


def run(source: Source, model: Path, output: Path, config: Embed, *, again: bool = True) -> Result:
    """Write `output/sequences.parquet` and, with `config.per_residue`, `output/residues.parquet`.

    model: what `model.source.find` takes. Run again with the same input, model and config, an interrupted job
    reuses its finished chunks. Under torchrun the processes divide the chunks. again: compute the vectors also when the
    tables of just this job are there, complete; without it they are kept. Raises UserError.
    """
    kinds = ["sequences", *(["residues"] if config.per_residue else [])]
    forms = ["parquet", *(["npy"] if config.arrays else [])]
    files = final_files(output, kinds, forms)
    refuse_overwriting(dict.fromkeys(files, is_ours), source.files)
    found = find(model, head=False)
    settings = config.model_dump(mode="json", exclude={"fasta", "allow_nucleotides", "sequences", "arrays", "parallel"})
    settings["batch_tokens"] = budget(config)
    identity = {"source": source.digest, "model": found.identity(), "config": settings}
    embedded = source.lengths
    if config.long_sequences == "truncate":
        embedded = embedded.clip(max=config.max_residues)
    facts: dict[str, Any] = {
        "sequences": len(source.lengths),
        "residues": int(embedded.sum()),
        "truncated": int((embedded < source.lengths).sum()),
        "files": [str(path) for path in files],
    }
    job = sha256_json({"identity": identity, "files": [path.name for path in files]})
    if not again and (hidden := _hidden_of(output, job)) is not None:
        return Result(**facts, hidden=hidden, resumed=0, kept=True)
    engine: Engine
    if config.engine == "megatron":
        engine = open_megatron(found.directory, config.precision, config.parallel, head=False)
    else:
        engine = open_huggingface(found.directory, config.precision, head=False)
    say(found, engine.name, config)
    metadata = {"layers": engine.layers, "hidden": engine.hidden, **settings}
    if found.hub is not None:
        metadata["model"] = found.hub
    schema_of = schemas(engine.hidden, cls=config.cls, facts=metadata)
    chunks = Chunks(output, identity)

    def compute(proteins: list[Protein], advance: Callable[[int], None]) -> dict[str, pa.Table]:
        return tables(proteins, embed_chunk(engine, proteins, config, advance), schema_of)

    count, resumed = in_chunks(source, embedded, chunks, config.chunk_residues, engine.share, compute)
    if platform.rank() == 0:
        delete_others(output, [f"{kind}.parquet" for kind in kinds])
        chunks.join(count, schema_of, kinds, arrays=config.arrays)
        if not again:
            record = {"job": job, "hidden": engine.hidden, "files": recorded(output, [path.name for path in files])}
            write_json(output / DONE, record)
    return Result(**facts, hidden=engine.hidden, resumed=resumed)


def in_chunks(
    source: Source,
    embedded: Any,
    chunks: Chunks,
    size: int,
    share: Share,
    compute: Callable[[list[Protein], Callable[[int], None]], dict[str, pa.Table]],
) -> tuple[int, int]:
    """Compute and write the chunks that are not there yet. Returns their number, and how many were there.

    embedded: int[n], residues of each protein that are embedded. size: of a chunk, in residues. share: which chunks are
    this process's. Collective: every process returns when all chunks are written.
    """
    if platform.rank() == 0:
        chunks.open()
    _barrier()
    finished = chunks.finished()
    _barrier()  # every process has listed the chunks before one writes
    parts = [(number, proteins) for number, proteins in _bounds(source, size) if number not in finished]
    mine = {number: rows for number, rows in parts if number % share.of == share.number}
    count = 0
    with progress.meter(
        "embed", total=sum(int(embedded[rows].sum()) for rows in mine.values()), unit="residues"
    ) as done:
        for count, proteins in enumerate(grouped(source, size), 1):
            if count - 1 in mine:
                rows = compute(proteins, done.advance)
                if share.leads:
                    chunks.write(count - 1, rows)
    _barrier()
    return count, len(finished)


def _bounds(source: Source, size: int) -> Iterator[tuple[int, slice]]:
    """(number of a chunk, its proteins), as `grouped` divides them."""
    number = start = residues = 0
    for end, length in enumerate(source.lengths.tolist(), 1):
        residues += length
        if residues >= size or end == len(source.lengths):
            yield number, slice(start, end)
            number, start, residues = number + 1, end, 0


def _hidden_of(output: Path, job: str) -> int | None:
    """Hidden size of the vectors when the tables in a directory are, complete and unchanged, those of a job."""
    path = output / DONE
    record = read_json(path) if json_of(path, ("job", "hidden", "files")) else {}
    if record.get("job") != job or not is_record(record["files"]):
        return None
    return None if first_change(output, record["files"], threads=torch.get_num_threads()) else record["hidden"]


def say(model: Model, engine: str, config: Embed) -> None:
    """Print on stderr what runs where."""
    if platform.rank() == 0:
        place = str(platform.device()) if platform.on_gpu() else f"CPU, {torch.get_num_threads()} threads"
        preset = model.model().preset or "ESM-2 of its own size"
        where = model.hub or model.directory
        print(f"embed: {preset} ({where}) by {engine}, {config.precision}, on {place}", file=sys.stderr, flush=True)


def summary(result: Result) -> str:
    """The line that the command prints."""
    text = f"embedded {result.sequences:,} sequences, {result.residues:,} residues, {result.hidden} dimensions"
    if result.truncated:
        text += (
            f"; {result.truncated:,} truncated (column `truncated`; embed.long_sequences: windows embeds them whole)"
        )
    if result.resumed:
        text += f"; reused {result.resumed} finished chunks"
    if result.kept:
        text += "; all of it was there"
    return text


def grouped(source: Source, size: int) -> Iterator[list[Protein]]:
    """Chunks of at least `size` residues; the last one may have fewer."""
    chunk: list[Protein] = []
    residues = 0
    for protein in source.proteins():
        chunk.append(protein)
        residues += len(protein.sequence)
        if residues >= size:
            yield chunk
            chunk, residues = [], 0
    if chunk:
        yield chunk


def _barrier() -> None:
    if platform.world_size() > 1:
        torch.distributed.barrier()
