"""ProteinGym as it is published: a reference file, and a directory with a CSV of each assay."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unirefine.core.delimited import Row, number, read_table
from unirefine.errors import UserError, no_directory
from unirefine.evaluate.edits import Edited, check_letters
from unirefine.evaluate.mutants import Variant, Variants, read_variants
from unirefine.evaluate.variants import WINDOW

MEASURED, BINARY = "DMS_score", "DMS_score_bin"
NEEDED = ("DMS_id", "DMS_filename", "target_seq", "UniProt_ID", "coarse_selection_type")
AXES = {"msa_depth": "MSA_Neff_L_category", "taxon": "taxon"}
"""Columns that a reference may lack; their breakdown is then empty."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", re.ASCII)


@dataclass(frozen=True)
class Assay:
    """A row of the reference."""

    name: str
    file: Path
    target: str
    """The wild type."""
    uniprot: str
    selection: str
    msa_depth: str
    taxon: str


@dataclass(frozen=True)
class Measured:
    """An assay's variants."""

    indels: bool
    """Whether any changes the length. All are then scored by whole sequences."""
    read: Variants
    values: np.ndarray
    """float64[rows]: DMS_score, NaN for none."""
    positive: np.ndarray | None
    """bool[rows]: DMS_score_bin; None when a row has none."""
    depth: np.ndarray
    """int64[rows]: changes of a variant."""


def read_reference(path: Path, assays: Path) -> list[Assay]:
    """The assays of a reference, in its order. Raises UserError for what is missing, twice, or no name of a file."""
    if not assays.is_dir():
        raise UserError(no_directory(assays), where=assays, fix="check --assays")
    table = read_table(path, "--reference")
    header = table.rows[0].cells if table.rows else []
    for column in NEEDED:
        if header.count(column) != 1:
            raise UserError(
                f"{'two columns' if column in header else 'no column'} {column!r}", where=path,
                fix="give ProteinGym's reference file, such as DMS_substitutions.csv",
            )  # fmt: skip
    found: dict[str, Assay] = {}
    for row in table.rows[1:]:
        where = table.where(row)
        if len(row.cells) < len(header):
            raise UserError(f"{len(row.cells)} columns, the first line has {len(header)}", where=where)
        cells = dict(zip(header, row.cells, strict=False))
        name, file, target = cells["DMS_id"], cells["DMS_filename"], cells["target_seq"]
        for column in ("DMS_id", "DMS_filename"):
            if not _NAME.fullmatch(cells[column]):
                raise UserError(f"{column} {cells[column]!r} is no name of a file", where=where)
        if name in found:
            raise UserError(f"{name} is there twice", where=where, fix="give each assay one row")
        for column in NEEDED:
            if not cells[column]:
                raise UserError(f"no {column}", where=where)
        check_letters(target.upper(), f"target_seq of {name}", where)
        depth, taxon = (cells.get(column, "") for column in AXES.values())
        depth = "" if depth.casefold() in ("nan", "na") else depth[:1].upper() + depth[1:]
        found[name] = Assay(
            name, assays / file, target.upper(), cells["UniProt_ID"], cells["coarse_selection_type"], depth, taxon
        )
    if not found:
        raise UserError("no assay in it", where=path)
    return list(found.values())


def read_assay(assay: Assay, *, skip: bool) -> Measured:
    """The variants of an assay. skip: rows that cannot be scored are listed instead of an error. Raises UserError."""
    header = next(iter(read_table(assay.file, "--assays").rows), Row(1, [])).cells
    if header.count(MEASURED) != 1:
        raise UserError(f"no column {MEASURED}", where=assay.file, fix="give ProteinGym's files as they are published")
    read = read_variants(assay.file, {assay.name: assay.target}, measured=MEASURED, skip=skip)
    table = read_table(assay.file, "--assays")
    rows = table.rows[1:]
    indels = any(variant.edited.changes is None for variant in read.scored())
    if indels:
        longest = max(len(variant.edited.sequence) for variant in read.scored())
        if max(longest, len(assay.target)) > WINDOW:
            raise UserError(
                f"sequences of {max(longest, len(assay.target)):,} residues with insertions or deletions",
                where=assay.file, fix=f"ESM-2 knows {WINDOW:,}: leave the assay out of the reference",
            )  # fmt: skip
        read.rows = [_whole(row) for row in read.rows]
    at, name = header.index(MEASURED), next((i for i, cell in enumerate(header) if cell == "mutant"), None)
    values = [number(row.cells[at], table.delimiter, table.where(row)) for row in rows]
    binary = None
    if BINARY in header:
        column = header.index(BINARY)
        marks = [number(row.cells[column], table.delimiter, table.where(row)) for row in rows]
        if wrong := next((row for row, mark in zip(rows, marks, strict=True) if mark not in (None, 0.0, 1.0)), None):
            raise UserError(f"{BINARY} is neither 0 nor 1", where=table.where(wrong))
        binary = None if None in marks else np.array(marks) == 1
    depth = [1 if name is None else row.cells[name].count(":") + 1 for row in rows]
    return Measured(
        indels, read, np.array([np.nan if value is None else value for value in values]), binary, np.array(depth)
    )


def _whole(row: object) -> object:
    """The variant, to be scored as a whole sequence."""
    if not isinstance(row, Variant):
        return row
    return Variant(row.protein, row.name, Edited(row.edited.sequence, None), row.measured, row.line)
