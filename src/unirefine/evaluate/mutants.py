"""Read variants of proteins from a CSV in ProteinGym's format, or from a FASTA, or make all substitutions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from unirefine.core.alphabet import AMINO_ACIDS
from unirefine.core.delimited import Row, Table, number, read_table
from unirefine.core.fasta import Protein, read_entries, read_fasta
from unirefine.errors import UserError
from unirefine.evaluate.edits import LETTERS, RARE, Edited, Substitution, between, parse_mutant

MEASURED = ("DMS_score", "score", "measured")
"""Names of the column of measured values, in order of preference."""
MUTANT, MUTATED, ID = "mutant", "mutated_sequence", "id"
_SHOWN = 8


@dataclass(frozen=True)
class Variant:
    """One variant of a protein."""

    protein: str
    name: str
    """`A42G` or `A42G:C50D` from a CSV; the sequence's name from a FASTA."""
    edited: Edited
    measured: float | None = None
    line: int | None = None
    """Of the file."""


@dataclass(frozen=True)
class Unscored:
    """A row that cannot be scored."""

    protein: str
    name: str
    reason: str
    line: int | None = None


@dataclass
class Variants:
    """What was read."""

    rows: list[Variant | Unscored]
    """In input order."""
    column: str | None = None
    """Of measured values."""
    notes: list[str] = field(default_factory=list)

    def scored(self) -> list[Variant]:
        """The variants that can be scored."""
        return [row for row in self.rows if isinstance(row, Variant)]

    def unscored(self) -> list[Unscored]:
        """The rows that cannot."""
        return [row for row in self.rows if isinstance(row, Unscored)]


def read_variants(
    csv_path: Path, proteins: dict[str, str], *, offset: int = 0, measured: str | None = None, skip: bool = False
) -> Variants:
    """Variants of a CSV: column `mutant`, see `edits.parse_mutant`, or `mutated_sequence`, or both, which must agree.

    proteins: wild types by name; column `id` says whose variant it is, and may be missing when there is only one.
    offset: number of the first residue, minus 1. measured: column of measured values; default: the first of MEASURED
    that exists, if any. Raises UserError, with the line, when a row does not fit; skip: such a row is an Unscored.
    """
    table = read_table(csv_path, "--csv")
    if not table.rows:
        raise UserError("nothing in it", where=csv_path, fix="give a CSV of variants")
    columns = _Columns(table)
    if columns.find(MUTANT) is None and columns.find(MUTATED) is None:
        raise UserError(
            f"no column `{MUTANT}` among {columns.listed}", where=csv_path, fix="name the columns in the first line"
        )
    if measured is not None and columns.find(measured) is None:
        raise UserError(f"no column {measured!r}", where=csv_path, fix=f"it has {columns.listed}")
    if len(proteins) > 1 and columns.find(ID) is None:
        raise UserError(f"no column `{ID}`, but the FASTA has several proteins", where=csv_path)
    if len(table.rows) == 1:
        raise UserError("no rows after the names of the columns", where=csv_path, fix="give at least one variant")
    column = measured or next((name for name in MEASURED if columns.find(name) is not None), None)
    found = Variants([], column)
    for row in table.rows[1:]:
        name = columns.value(row, MUTANT) or columns.value(row, MUTATED)
        protein = columns.value(row, ID)
        if not protein and len(proteins) == 1:
            protein = next(iter(proteins))

        def read(row: Row = row, protein: str = protein, name: str = name) -> Variant:
            where = table.where(row)
            columns.check_width(row)
            if protein not in proteins:
                raise UserError(
                    f"no protein {protein!r} in the FASTA", where=where, fix="column `id` has names of the FASTA"
                )
            edited = _edited(columns, row, proteins[protein], offset, where)
            value = number(columns.value(row, column), table.delimiter, where) if column else None
            return Variant(protein, name, edited, value, row.line)

        found.rows.append(_or_unscored(read, protein, name, row.line, skip=skip))
    values = sum(variant.measured is not None for variant in found.scored())
    if column is None:
        names = ", ".join(MEASURED)
        found.notes.append(f"no measured values: none of {names} among {columns.listed}; name the column by --measured")
    elif not values:
        found.notes.append(f"no measured values: column {column} has none")
    found.notes += _rare(found.scored())
    return found


class _Columns:
    """The columns of a table by name; case counts only where two names differ in nothing else."""

    def __init__(self, table: Table) -> None:
        self._table, self._names = table, table.rows[0].cells
        self.listed = ", ".join(name for name in self._names if name)

    def find(self, name: str) -> int | None:
        """The index of a column; None when there is none. Raises UserError when there are two."""
        exact = [i for i, found in enumerate(self._names) if found == name]
        found = exact or [i for i, other in enumerate(self._names) if other.casefold() == name.casefold()]
        if len(found) > 1:
            raise UserError(f"two columns named {name!r}", where=self._table.where(self._table.rows[0]))
        return found[0] if found else None

    def value(self, row: Row, name: str) -> str:
        """The cell of a row; nothing where there is no such column or cell."""
        index = self.find(name)
        return row.cells[index] if index is not None and index < len(row.cells) else ""

    def check_width(self, row: Row) -> None:
        """Raises UserError when a row has more or fewer cells than columns; empty ones at the end do not count."""
        if len(row.cells) < len(self._names) or any(row.cells[len(self._names) :]):
            raise UserError(
                f"{len(row.cells)} columns, the first line has {len(self._names)}", where=self._table.where(row),
                fix="quote cells that have the delimiter in them",
            )  # fmt: skip


def _edited(columns: _Columns, row: Row, wild_type: str, offset: int, where: str) -> Edited:
    mutant, mutated = columns.value(row, MUTANT), columns.value(row, MUTATED)
    if not mutated:
        return parse_mutant(mutant, wild_type, offset=offset, where=where)
    whole = between(wild_type, mutated, MUTATED, where=where)
    if not mutant or mutant.upper() == mutated.upper():
        return whole
    named = parse_mutant(mutant, wild_type, offset=offset, where=where)
    if named.sequence != whole.sequence:
        raise UserError(f"{mutant} is not what column {MUTATED} has", where=where, fix="correct one of them")
    return named


def variants_of_fasta(path: Path, *, skip: bool = False) -> tuple[dict[str, str], Variants]:
    """The wild type by its name, and the variants, of a FASTA: first the wild type, then its variants.

    Raises UserError for a letter that ESM-2 lacks; skip: such a variant is an Unscored.
    """
    wild, *others = list(read_fasta(path))
    lines = [entry.line for entry in read_entries(path)]
    found = Variants([])
    for protein, line in zip(others, lines[1:], strict=True):

        def read(protein: Protein = protein, line: int = line) -> Variant:
            edited = between(wild.sequence, protein.sequence, protein.name, where=f"{path}:{line}")
            return Variant(wild.name, protein.name, edited, line=line)

        found.rows.append(_or_unscored(read, wild.name, protein.name, line, skip=skip))
    found.notes += _rare(found.scored())
    return {wild.name: wild.sequence}, found


def every_substitution(proteins: dict[str, str]) -> Variants:
    """All substitutions of every residue by the 20 amino acids; the wild type's own are among them, and score 0.

    Raises UserError for a letter that ESM-2 lacks.
    """
    found = Variants([])
    for protein, wild in proteins.items():
        for position, letter in enumerate(wild.upper()):
            if letter not in LETTERS:
                raise UserError(f"{protein}: ESM-2 has no token for {letter!r} at residue {position + 1}")
            for mutant in AMINO_ACIDS:
                changes = (Substitution(position, letter, mutant),)
                found.rows.append(Variant(protein, f"{letter}{position + 1}{mutant}", Edited("", changes)))
    return found


def _or_unscored(
    read: Callable[[], Variant], protein: str, name: str, line: int | None, *, skip: bool
) -> Variant | Unscored:
    try:
        return read()
    except UserError as error:
        if not skip:
            raise
        return Unscored(protein, name, error.what, line)


def _rare(variants: list[Variant]) -> list[str]:
    """A note on the variants with letters that ESM-2 has hardly seen."""
    changed = {
        variant.name: set("".join(c.wild_type + c.mutant for c in variant.edited.changes))
        if variant.edited.changes is not None
        else set(variant.edited.sequence)
        for variant in variants
    }
    names = [name for name, letters in changed.items() if letters & RARE]
    if not names:
        return []
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [f"X, B, U, Z or O, which ESM-2 has hardly seen in training, in {', '.join(names[:_SHOWN])}{more}"]


def load_proteins(path: Path) -> dict[str, str]:
    """Sequences of a FASTA by name. Raises UserError as `read_fasta` does."""
    return {protein.name: protein.sequence for protein in read_fasta(path)}
