"""The stage: proteins in, Parquet files of vectors out, in the order of the input."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unirefine.megatron import platform

import torch

from unirefine import progress
from unirefine.config import Embed
from unirefine.core.fasta import Protein
from unirefine.embed.files import Chunks, schemas, tables
from unirefine.embed.source import Source
from unirefine.embed.vectors import embed_chunk
from unirefine.model.inference import Engine, open_huggingface, open_megatron


@dataclass(frozen=True)
class Result:
    """What was done."""

    sequences: int
    residues: int
    """Embedded residues."""
    truncated: int
    """Sequences of which residues were left out."""
    hidden: int
    resumed: int
    """Chunks that an earlier, stopped job had finished."""
    files: list[str]


def embed(source: Source, model: Path, output: Path, config: Embed) -> Result:
    """Write `output/sequences.parquet` and, if asked, `residues.parquet`.

    model: `final/` or a Hugging Face directory. Stopped and started again with the same input, model and config, it
    goes on after the last finished chunk. Under torchrun the processes share the chunks. Raises UserError.
    """
    engine: Engine
    if config.engine == "megatron":
        engine = open_megatron(model, config.precision, config.parallel)
    else:
        engine = open_huggingface(model, config.precision)
    settings = config.model_dump(mode="json", exclude={"fasta", "sequences", "arrays", "parallel"})
    facts = {"layers": engine.layers, "hidden": engine.hidden, **settings}
    made = schemas(engine.hidden, cls=config.cls, facts=facts)
    chunks = Chunks(output, {"source": source.digest, "model": fingerprint(model), "config": settings})
    if platform.rank() == 0:
        chunks.open()
    _barrier()
    finished = chunks.finished()
    _barrier()  # everyone has looked before anyone writes
    embedded = source.lengths
    if config.long_sequences == "truncate":
        embedded = embedded.clip(max=config.max_residues)
    residues = int(embedded.sum())
    count = 0
    with progress.meter("embed", total=residues, unit="residues") as done:
        for count, proteins in enumerate(_grouped(source, config.chunk_residues), 1):
            chunk = count - 1
            if chunk in finished or chunk % engine.share.of != engine.share.number:
                continue
            vectors = embed_chunk(engine, proteins, config, done.advance)
            if engine.share.leads:
                chunks.write(chunk, tables(proteins, vectors, made))
    _barrier()
    forms = ["parquet", *(["npy"] if config.arrays else [])]
    kinds = ["sequences", *(["residues"] if config.per_residue else [])]
    if platform.rank() == 0:
        chunks.join(count, made, kinds, arrays=config.arrays)
    return Result(
        sequences=len(source.lengths),
        residues=residues,
        truncated=int((embedded < source.lengths).sum()),
        hidden=engine.hidden,
        resumed=len(finished),
        files=[str(output / f"{kind}.{form}") for kind in kinds for form in forms],
    )


def fingerprint(model: Path) -> list[Any]:
    """What identifies the files of a model: relative path, size and time of change of each."""
    files = sorted(path for path in model.rglob("*") if path.is_file())
    return [[str(path.relative_to(model)), path.stat().st_size, path.stat().st_mtime_ns] for path in files]


def summary(result: Result) -> str:
    """One line of what was done."""
    text = f"embedded {result.sequences:,} sequences, {result.residues:,} residues, {result.hidden} dimensions"
    if result.truncated:
        text += (
            f"; {result.truncated:,} truncated (column `truncated`; embed.long_sequences: windows embeds them whole)"
        )
    if result.resumed:
        text += f"; went on after {result.resumed} finished chunks"
    return text


def _grouped(source: Source, size: int) -> Iterator[list[Protein]]:
    """Chunks of at least `size` residues (the last one: what is left)."""
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
