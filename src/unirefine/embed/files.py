"""Write the tables of vectors: first in chunks, which an interrupted job reuses, then joined."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from unirefine.core import parquet
from unirefine.core.fasta import Protein
from unirefine.embed.vectors import Vectors
from unirefine.errors import UserError
from unirefine.files.atomic import atomic_path, read_json, write_json
from unirefine.files.hashes import sha256_json
from unirefine.files.outputs import array_header, json_of
from unirefine.files.written import delete_stale

KINDS = ("sequences", "residues")
FORMS = ("parquet", "npy")
METADATA = "unirefine"
"""Key of the metadata of our tables."""
ARRAYS = ".arrays.json"
"""Shapes of the arrays by name. A .npy has no place for metadata."""
GENERATOR = "unirefine embed --map"
"""What a map says of itself, near its beginning."""
FORMAT = 2
_ONE_GROUP = 1 << 26
"""Rows of a row group: Arrow's maximum, more than a chunk has."""


def schemas(hidden: int, *, cls: bool, facts: dict[str, Any]) -> dict[str, pa.Schema]:
    """Schema of each file. facts: model, layer and options, stored as JSON in the schema's metadata."""
    vector = pa.list_(pa.float32(), hidden)
    sequences = [
        pa.field("id", pa.string()),
        pa.field("length", pa.int32()),
        pa.field("truncated", pa.bool_()),
        pa.field("vector", vector),
    ]
    if cls:
        sequences.append(pa.field("cls", vector))
    residues = [
        pa.field("id", pa.string()),
        pa.field("position", pa.int32()),
        pa.field("residue", pa.string()),
        pa.field("vector", vector),
    ]
    metadata = {METADATA: json.dumps(facts, sort_keys=True)}
    return {"sequences": pa.schema(sequences, metadata), "residues": pa.schema(residues, metadata)}


def tables(proteins: Sequence[Protein], vectors: Vectors, schema_of: dict[str, pa.Schema]) -> dict[str, pa.Table]:
    """The rows of one chunk: `sequences` and, when `vectors` has them, `residues`."""
    names = pa.array([protein.name for protein in proteins])
    lengths = np.array([len(protein.sequence) for protein in proteins], np.int32)
    columns = [names, pa.array(lengths), pa.array(vectors.embedded < lengths), _fixed(vectors.mean)]
    if "cls" in schema_of["sequences"].names:
        columns.append(_fixed(vectors.cls))
    result = {"sequences": pa.Table.from_arrays(columns, schema=schema_of["sequences"])}
    if vectors.residues is not None:
        owner = np.repeat(np.arange(len(proteins)), vectors.embedded)
        positions = np.concatenate([np.arange(1, count + 1, dtype=np.int32) for count in vectors.embedded])
        letters = [
            letter
            for protein, count in zip(proteins, vectors.embedded, strict=True)
            for letter in protein.sequence[:count]
        ]
        columns = [names.take(pa.array(owner)), pa.array(positions), pa.array(letters), _fixed(vectors.residues)]
        result["residues"] = pa.Table.from_arrays(columns, schema=schema_of["residues"])
    return result


def _fixed(vectors: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])


class Chunks:
    """The directory of one job's finished chunks. Its name depends on input, model and config.

    Chunks have one row group per file and no compression; the final files have one row group per chunk, because rows of
    vectors are large.
    """

    def __init__(self, output: Path, identity: dict[str, Any], kinds: Sequence[str] = KINDS) -> None:
        """kinds: names of the tables; a chunk is complete with the first of them, which is written last."""
        self.output, self.kinds = output, kinds
        self.directory = output / f".chunks-{sha256_json({'format': FORMAT, **identity})[:16]}"

    def open(self) -> None:
        """Create the directory, and delete chunks of other jobs with the same output."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for other in self.output.glob(".chunks-*"):
            if other != self.directory:
                shutil.rmtree(other)

    def path(self, chunk: int, kind: str) -> Path:
        """One file of a chunk. kind: one of `kinds`."""
        return self.directory / f"{chunk:06d}.{kind}.parquet"

    def finished(self) -> set[int]:
        """Indices of complete chunks."""
        return {int(path.name.split(".")[0]) for path in self.directory.glob(f"*.{self.kinds[0]}.parquet")}

    def write(self, chunk: int, rows: dict[str, pa.Table]) -> None:
        """Write the files of a chunk."""
        for kind in reversed(self.kinds):
            if kind in rows:
                with atomic_path(self.path(chunk, kind)) as temporary:
                    parquet.write_table(
                        rows[kind], temporary, compression="none", use_dictionary=False, row_group_size=_ONE_GROUP
                    )

    def join(self, count: int, schema_of: dict[str, pa.Schema], kinds: Sequence[str], *, arrays: bool = False) -> None:
        """Write the final files of `kinds` from `count` chunks, and delete the chunks.

        arrays: also write the vectors as `<kind>.npy`, float32[rows, hidden].
        """
        paths_of = {kind: [self.path(chunk, kind) for chunk in range(count)] for kind in kinds}
        if arrays:
            shapes = {f"{kind}.npy": _shape(paths) for kind, paths in paths_of.items()}
            write_json(self.output / ARRAYS, shapes)  # before them, so that none is without it
        for kind, paths in paths_of.items():
            if arrays:
                _join_arrays(self.output / f"{kind}.npy", paths, _shape(paths))
            _join_tables(self.output / f"{kind}.parquet", paths, schema_of[kind])
        shutil.rmtree(self.directory)


def delete_others(output: Path, keep: Sequence[str]) -> None:
    """Delete files of other options that an earlier job has written. keep: names of those that are written again."""
    others = [path for path in (*final_files(output), *map_files(output)) if path.name not in keep]
    strangers = [path.name for path in others if path.is_file() and not is_ours(path)]
    delete_stale(output, "embed", [*strangers, *keep])


def final_files(output: Path, kinds: Sequence[str] = KINDS, forms: Sequence[str] = FORMS) -> list[Path]:
    """The files that a job writes into `output`."""
    return [output / f"{kind}.{form}" for kind in kinds for form in forms]


def map_files(output: Path) -> list[Path]:
    """The files of a map: the page, the picture, the places."""
    return [output / f"map.{form}" for form in ("html", "png", "parquet")]


def is_ours(path: Path) -> bool:
    """Whether an earlier job has written a final file: tables and maps say so, of arrays there is a record beside."""
    if path.suffix in (".html", ".png"):
        with path.open("rb") as file:
            return GENERATOR.encode() in file.read(4096)
    if path.suffix == ".npy":
        record = path.with_name(ARRAYS)
        shape = read_json(record).get(path.name) if json_of(record, ()) else None
        return shape is not None and array_header(path) == (tuple(shape), np.dtype(np.float32))
    try:
        with parquet.File(path, "") as table:
            return METADATA.encode() in (table.schema_arrow.metadata or {})
    except (OSError, UserError):
        return False


def _join_tables(target: Path, paths: Sequence[Path], schema: pa.Schema) -> None:
    text = [field.name for field in schema if pa.types.is_string(field.type)]
    options = {"compression": "zstd", "compression_level": 1, "use_dictionary": text, "write_statistics": text}
    with atomic_path(target) as temporary, parquet.Writer(temporary, schema, **options) as writer:
        for path in paths:
            with _open_chunk(path) as chunk:
                writer.write_table(chunk.read(), row_group_size=_ONE_GROUP)


def _shape(paths: Sequence[Path]) -> tuple[int, int]:
    """(rows, hidden) of the vectors of all chunks."""
    rows = hidden = 0
    for path in paths:
        with _open_chunk(path) as chunk:
            rows += chunk.metadata.num_rows
            hidden = chunk.schema_arrow.field("vector").type.list_size
    return rows, hidden


def _join_arrays(target: Path, paths: Sequence[Path], shape: tuple[int, int]) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    # written, not memory-mapped: a full disk raises OSError here, but kills the process with SIGBUS in a mapping
    with atomic_path(target) as temporary, temporary.open("wb") as handle:
        np.lib.format.write_array_header_1_0(handle, header)
        for path in paths:
            with _open_chunk(path) as chunk:
                vectors = chunk.read(columns=["vector"])["vector"].combine_chunks()
            handle.write(vectors.flatten().to_numpy().astype("<f4", copy=False))


def _open_chunk(path: Path) -> parquet.File:
    return parquet.File(path, f"delete {path.parent} and start again")
