"""The table of sequences and labels: CSV, TSV or Parquet, with the sequences in it or in a FASTA beside it."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from unirefine.core import parquet
from unirefine.core.delimited import read_table
from unirefine.core.fasta import read_fasta
from unirefine.core.fasta_faults import RawEntry, check, refuse_nucleotides
from unirefine.errors import UserError
from unirefine.files.hashes import sha256_json
from unirefine.files.inputs import require_file
from unirefine.terminal import brief

SEQUENCE = ("sequence", "mutated_sequence")
ID = ("id", "name", "accession", "entry", "mutant")
LABELS = ("label", "labels", "target", "DMS_score")
"""Columns that are labels when nothing is said."""


@dataclass(frozen=True)
class Data:
    """n labelled sequences."""

    path: Path
    ids: list[str]
    sequences: list[str]
    columns: dict[str, list[str]]
    """Every other column as text, without white space around it."""
    decimal: str
    """What separates the columns: only where it is no comma, numbers may have a decimal comma."""
    rows: list[str]
    """Where each row is, for messages."""

    @property
    def digest(self) -> str:
        """Hex SHA-256 of ids, sequences and columns."""
        return sha256_json([self.ids, self.sequences, self.columns])


def read(path: Path, fasta: Path | None = None) -> Data:
    """The table at `path`, joined with `fasta` by id where given.

    Raises UserError for what is no table, for a sequence with other letters than residues, for a repeated id, for an id
    without a sequence, and for a table without rows.
    """
    header, rows, places, decimal = _parquet(path) if _is_parquet(path) else _text(path)
    repeated = [name for name, times in Counter(header).items() if times > 1]
    if repeated:
        raise UserError(f"column {repeated[0]!r} is there twice", where=path, fix="rename one of them")
    if not rows:
        raise UserError("no row below the header", where=path, fix="give a table with a header and rows")
    columns = {name: [row[at] for row in rows] for at, name in enumerate(header)}
    id_column = next((name for name in ID if name in columns), None)
    if fasta is None:
        column = next((name for name in SEQUENCE if name in columns), None)
        if column is None:
            fix = "name a column `sequence`, or give a column `id` and --fasta"
            raise UserError(f"no column `sequence`; it has {', '.join(map(repr, header))}", where=path, fix=brief(fix))
        sequences = _checked(columns.pop(column), places, path)
        ids = columns.pop(id_column) if id_column else [f"row-{number}" for number in range(1, len(rows) + 1)]
    else:
        if id_column is None:
            raise UserError("no column `id` by which --fasta could be joined", where=path, fix="name a column `id`")
        ids = columns.pop(id_column)
        known = {protein.name: protein.sequence for protein in read_fasta(fasta)}
        missing = [(name, place) for name, place in zip(ids, places, strict=True) if name not in known]
        if missing:
            text = f"id {brief(missing[0][0])!r} is not in {fasta}" + (
                f" (and {len(missing) - 1:,} more)" if missing[1:] else ""
            )
            raise UserError(text, where=missing[0][1], fix="ids end at the first space of a FASTA's header")
        sequences = _checked([known[name] for name in ids], places, path)
        for name in SEQUENCE:
            columns.pop(name, None)
    _refuse_ids(ids, places)
    return Data(path, ids, sequences, columns, decimal, places)


def _is_parquet(path: Path) -> bool:
    require_file(path, "check --table", "table")
    with path.open("rb") as file:
        return file.read(4) == b"PAR1" or path.suffix == ".parquet"


def _text(path: Path) -> tuple[list[str], list[list[str]], list[str], str]:
    table = read_table(path, "--table")
    if not table.rows:
        raise UserError("an empty file", where=path, fix="give a table with a header and rows")
    header, *rows = table.rows
    for row in rows:
        if len(row.cells) != len(header.cells):
            text = f"{len(row.cells)} cells under a header of {len(header.cells)}"
            raise UserError(text, where=table.where(row), fix="put text with separators in quotes")
    return header.cells, [row.cells for row in rows], [table.where(row) for row in rows], table.delimiter


def _parquet(path: Path) -> tuple[list[str], list[list[str]], list[str], str]:
    with parquet.File(path, "write it again") as file:
        found = file.read()
    columns = []
    for field, column in zip(found.schema, found.columns, strict=True):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_nested(kind) or pa.types.is_binary(kind):
            raise UserError(f"column {field.name!r} is {kind}", where=path, fix="give text, numbers or true and false")
        values = column.cast(kind).to_pylist()
        columns.append(["" if value is None else _written(value) for value in values])
    rows = [list(row) for row in zip(*columns, strict=True)] if columns else []
    return found.schema.names, rows, [f"{path}, row {number}" for number in range(1, len(rows) + 1)], ","


def _written(value: object) -> str:
    if isinstance(value, bool):
        return str(int(value))
    return repr(value) if isinstance(value, float) else str(value).strip()


def _checked(sequences: list[str], places: list[str], path: Path) -> list[str]:
    """The sequences in capital letters. Raises UserError for what `read_fasta` refuses, with the row."""
    letters = np.zeros(256, np.int64)
    checked = []
    for sequence, place in zip(sequences, places, strict=True):
        raw = sequence.encode("utf-8")
        if (fault := check(RawEntry(b"sequence", [raw], 1), lambda _name: None, inner_stops=False)) is not None:
            raise UserError(fault.what, where=place, fix=fault.fix)
        checked.append(sequence.rstrip("*").upper())
        letters += np.bincount(np.frombuffer(checked[-1].encode(), np.uint8), minlength=256)
    refuse_nucleotides(letters, path, None)
    return checked


def _refuse_ids(ids: list[str], places: list[str]) -> None:
    first: dict[str, str] = {}
    for name, place in zip(ids, places, strict=True):
        if not name:
            raise UserError("no id", where=place, fix="give each row an id")
        if first.setdefault(name, place) is not place:
            text = f"id {brief(name)!r} is there twice, first in {first[name]}"
            raise UserError(text, where=place, fix="give each row its own id, or leave the column out")
