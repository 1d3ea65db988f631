"""The tables of an audit: the nearest train sequence of each held-out one, and all hits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from unirefine.audit.held_out import HeldOut
from unirefine.core import parquet
from unirefine.core.tables import TableWriter, table_writer
from unirefine.errors import UserError
from unirefine.files.atomic import atomic_path
from unirefine.files.outputs import json_of

_ALIGNMENT = {
    "identity": ("identity", pa.float32()),
    "train_coverage": ("query_coverage", pa.float32()),
    "held_out_coverage": ("target_coverage", pa.float32()),
    "evalue": ("evalue", pa.float64()),
    "bits": ("bits", pa.float32()),
    "check": ("check", pa.string()),
}
"""Columns of both tables: the column of FOUND that each is, and its type."""
_TYPES = [(name, kind) for name, (_found, kind) in _ALIGNMENT.items()]
NEAREST_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("length", pa.int32()),
        ("leak", pa.bool_()),
        ("similar", pa.int64()),
        ("nearest", pa.string()),
        *_TYPES,
    ]
)
"""A row for each held-out sequence, in their order. similar: train sequences with a hit to it, as far as they were
searched; nearest: the train sequence of the highest identity, null where no alignment passes coverage and E-value."""
HITS_SCHEMA = pa.schema([("id", pa.string()), ("source", pa.string()), ("train", pa.string()), *_TYPES])
"""A row for each pair of a held-out and a train sequence that makes the held-out one a leak."""


def outputs(directory: Path) -> dict[Path, Callable[[Path], bool]]:
    """The files that are written to a directory, each with a function that tells whether an audit has written it."""
    found = {
        "nearest.parquet": _is_table(NEAREST_SCHEMA),
        "hits.parquet": _is_table(HITS_SCHEMA),
        "nearest.tsv": _begins("\t".join(NEAREST_SCHEMA.names)),
        "audit.json": lambda path: json_of(path, ("leaks", "against", "worst")),
        "audit.html": _begins("<!DOCTYPE html>"),
        "identity.svg": _begins("<?xml"),
    }
    return {directory / name: ours for name, ours in found.items()}


def _is_table(schema: pa.Schema) -> Callable[[Path], bool]:
    def ours(path: Path) -> bool:
        try:
            with parquet.File(path, "") as file:
                return file.schema_arrow.names == schema.names
        except (UserError, OSError):
            return False

    return ours


def _begins(text: str) -> Callable[[Path], bool]:
    def ours(path: Path) -> bool:
        with path.open("rb") as file:
            return file.read(len(text)) == text.encode()

    return ours


def write_hits(writer: TableWriter, hits: pl.DataFrame, held_out: HeldOut) -> None:
    """Append hits, as in FOUND, ordered by held-out sequence, identity and id."""
    ordered = hits.sort("target", "identity", "train", "check", descending=[False, True, False, False])
    numbers = ordered["target"].to_numpy()
    columns = {name: ordered[found].to_arrow() for name, (found, _kind) in _ALIGNMENT.items()}
    ids = held_out.names.take(pa.array(numbers))
    writer.write({"id": ids, "source": _sources(held_out, numbers), "train": ordered["train"].to_arrow(), **columns})


def _sources(held_out: HeldOut, numbers: np.ndarray) -> pa.Array:
    paths = pa.array([str(source.path) for source in held_out.sources])
    return paths.take(pa.array(held_out.source[numbers]))


def write_nearest(
    directory: Path, held_out: HeldOut, nearest: pl.DataFrame, leaks: pl.DataFrame, similar: np.ndarray
) -> None:
    """Write nearest.parquet and nearest.tsv. nearest, leaks: best pairs as in FOUND; similar: int64[n]."""
    every = np.arange(len(held_out.lengths))
    leak = np.zeros(len(every), bool)
    leak[leaks["target"].to_numpy()] = True
    joined = pl.DataFrame({"target": pl.Series(every, dtype=pl.UInt32)}).join(
        nearest, on="target", how="left", maintain_order="left"
    )
    columns: dict[str, Any] = {
        "id": held_out.names,
        "source": _sources(held_out, every),
        "length": held_out.lengths.astype(np.int32),
        "leak": pa.array(leak),
        "similar": similar,
        "nearest": joined["train"].to_arrow(),
        **{name: joined[found].to_arrow() for name, (found, _kind) in _ALIGNMENT.items()},
    }
    with table_writer(directory / "nearest.parquet", NEAREST_SCHEMA) as writer:
        writer.write(columns)
    text = pl.DataFrame({name: pl.Series(name, columns[name]) for name in NEAREST_SCHEMA.names})
    with atomic_path(directory / "nearest.tsv") as path:
        # tabs and line ends in ids would make other columns of them
        clean = [pl.col(name).str.replace_all(r"[\t\r\n]", " ") for name in ("id", "source", "nearest")]
        text.with_columns(*clean, pl.col("identity").round(3)).write_csv(path, separator="\t", quote_style="never")


def worst(nearest: pl.DataFrame, leaks: pl.DataFrame, held_out: HeldOut, count: int) -> list[dict[str, Any]]:
    """The nearest pairs of highest identity, leaks or not, as they stand in audit.json. nearest, leaks: as in FOUND."""
    first = nearest.sort("identity", "target", descending=[True, False]).head(count)
    ids = held_out.names.take(pa.array(first["target"].to_numpy())).to_pylist()
    known = set(leaks["target"])
    return [
        {"id": name, "train": train, "identity": round(identity, 3), "leak": target in known, "check": check}
        for name, target, train, identity, check in zip(
            ids, first["target"], first["train"], first["identity"], first["check"], strict=True
        )
    ]
