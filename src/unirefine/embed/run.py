"""Run the stage: embed proteins and write Parquet files of vectors in the order of the input."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unirefine.megatron import platform

import torch

from unirefine import progress
from unirefine.config import Embed
from unirefine.core.fasta import Protein
from unirefine.embed.files import Chunks, final_files, is_ours, schemas, tables
from unirefine.embed.source import Source
from unirefine.embed.vectors import embed_chunk
from unirefine.files.outputs import refuse_overwriting
from unirefine.model.inference import Engine, open_huggingface, open_megatron
from unirefine.model.source import find


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


def run(source: Source, model: Path, output: Path, config: Embed) -> Result:
    """Write `output/sequences.parquet` and, with `config.per_residue`, `output/residues.parquet`.

    model: what `model.source.find` takes. Run again with the same input, model and config, an interrupted job
    reuses its finished chunks. Under torchrun the processes divide the chunks. Raises UserError.
    """
    kinds = ["sequences", *(["residues"] if config.per_residue else [])]
    forms = ["parquet", *(["npy"] if config.arrays else [])]
    refuse_overwriting(dict.fromkeys(final_files(output, kinds, forms), is_ours), source.files)
    engine: Engine
    model = find(model).directory
    if config.engine == "megatron":
        engine = open_megatron(model, config.precision, config.parallel)
    else:
        engine = open_huggingface(model, config.precision)
    settings = config.model_dump(mode="json", exclude={"fasta", "allow_nucleotides", "sequences", "arrays", "parallel"})
    facts = {"layers": engine.layers, "hidden": engine.hidden, **settings}
    schema_of = schemas(engine.hidden, cls=config.cls, facts=facts)
    chunks = Chunks(output, {"source": source.digest, "model": fingerprint(model), "config": settings})
    if platform.rank() == 0:
        chunks.open()
    _barrier()
    finished = chunks.finished()
    _barrier()  # every process has listed the chunks before one writes
    embedded = source.lengths
    if config.long_sequences == "truncate":
        embedded = embedded.clip(max=config.max_residues)
    residues = int(embedded.sum())
    count = 0
    with progress.meter("embed", total=residues, unit="residues") as done:
        for count, proteins in enumerate(grouped(source, config.chunk_residues), 1):
            chunk = count - 1
            if chunk in finished or chunk % engine.share.of != engine.share.number:
                continue
            vectors = embed_chunk(engine, proteins, config, done.advance)
            if engine.share.leads:
                chunks.write(chunk, tables(proteins, vectors, schema_of))
    _barrier()
    if platform.rank() == 0:
        chunks.join(count, schema_of, kinds, arrays=config.arrays)
    return Result(
        sequences=len(source.lengths),
        residues=residues,
        truncated=int((embedded < source.lengths).sum()),
        hidden=engine.hidden,
        resumed=len(finished),
        files=[str(path) for path in final_files(output, kinds, forms)],
    )


def fingerprint(model: Path) -> list[Any]:
    """Relative path, size and modification time of each file of a model: chunks of a changed model are not reused."""
    files = sorted(path for path in model.rglob("*") if path.is_file())
    return [[str(path.relative_to(model)), path.stat().st_size, path.stat().st_mtime_ns] for path in files]


def summary(result: Result) -> str:
    """The line that the command prints."""
    text = f"embedded {result.sequences:,} sequences, {result.residues:,} residues, {result.hidden} dimensions"
    if result.truncated:
        text += (
            f"; {result.truncated:,} truncated (column `truncated`; embed.long_sequences: windows embeds them whole)"
        )
    if result.resumed:
        text += f"; reused {result.resumed} finished chunks"
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
