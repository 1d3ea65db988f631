"""Read variants of proteins from a CSV in ProteinGym's format, or from a FASTA."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from unirefine.core.fasta import read_fasta
from unirefine.errors import UserError

MEASURED = ("DMS_score", "score", "measured")
"""Names of the column of measured values, in order of preference."""
_SUBSTITUTION = re.compile(r"([A-Z])(\d+)([A-Z])")


class Substitution(NamedTuple):
    """One changed residue."""

    position: int
    """0-based."""
    wild_type: str
    mutant: str


@dataclass(frozen=True)
class Variant:
    """One variant of a protein."""

    protein: str
    name: str
    """`A42G` or `A42G:C50D` from a CSV; the sequence's name from a FASTA."""
    changes: tuple[Substitution, ...]
    measured: float | None


def read_variants(
    csv_path: Path, proteins: dict[str, str], *, offset: int = 0, measured: str | None = None
) -> list[Variant]:
    """Variants of a CSV: column `mutant` (`A42G`, several joined by `:`) and, with several proteins, column `id`.

    proteins: wild types by name. offset: number of the first residue, minus 1. measured: column of measured values;
    default: the first of MEASURED that exists, if any. Raises UserError, with the line, when a variant does not fit.
    """
    try:
        with csv_path.open(newline="", encoding="utf-8-sig") as handle:
            rows = list(csv.DictReader(handle))
    except FileNotFoundError:
        raise UserError("no such file", where=csv_path, fix="check --csv") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"not a CSV file ({error})", where=csv_path) from None
    if not rows or "mutant" not in rows[0]:
        raise UserError("no variants in a column `mutant`", where=csv_path, fix="name that column in the first line")
    if measured is not None and measured not in rows[0]:
        raise UserError(f"no column {measured!r}", where=csv_path, fix=f"it has {', '.join(filter(None, rows[0]))}")
    if len(proteins) > 1 and "id" not in rows[0]:
        raise UserError("no column `id`, but the FASTA has several proteins", where=csv_path)
    column = measured or next((name for name in MEASURED if name in rows[0]), None)
    found = []
    for line, row in enumerate(rows, 2):
        where = f"{csv_path}:{line}"
        protein = row["id"] if len(proteins) > 1 else next(iter(proteins))
        if protein not in proteins:
            raise UserError(f"no protein {protein!r} in the FASTA", where=where)
        changes = parse_mutant(row["mutant"] or "", proteins[protein], offset=offset, where=where)
        found.append(Variant(protein, row["mutant"], changes, _number(row[column], where) if column else None))
    return found


def parse_mutant(text: str, wild_type: str, *, offset: int = 0, where: object = None) -> tuple[Substitution, ...]:
    """`A42G:C50D` as substitutions. Raises UserError unless each names the wild type's residue at its position."""
    changes = []
    for change in text.strip().split(":"):
        if (match := _SUBSTITUTION.fullmatch(change)) is None:
            raise UserError(f"{change!r} is not a substitution like A42G", where=where)
        position = int(match[2]) - 1 - offset
        if not 0 <= position < len(wild_type):
            raise UserError(f"{change}: the protein has {len(wild_type)} residues", where=where, fix="check --offset")
        if wild_type[position].upper() != match[1]:
            raise UserError(
                f"{change}: residue {match[2]} is {wild_type[position]}, not {match[1]}",
                where=where,
                fix="check --offset",
            )
        changes.append(Substitution(position, match[1], match[3]))
    return tuple(changes)


def variants_of_fasta(path: Path) -> tuple[dict[str, str], list[Variant]]:
    """The wild type by its name, and the variants, of a FASTA: first the wild type, then its variants.

    Raises UserError for a variant of another length.
    """
    wild, *others = list(read_fasta(path))
    found = []
    for protein in others:
        if len(protein.sequence) != len(wild.sequence):
            raise UserError(
                f"{protein.name} has {len(protein.sequence)} residues, the wild type {wild.name} {len(wild.sequence)}",
                where=path, fix="insertions and deletions cannot be scored; remove them, or give variants by --csv",
            )  # fmt: skip
        pairs = enumerate(zip(wild.sequence.upper(), protein.sequence.upper(), strict=True))
        changes = tuple(Substitution(i, before, after) for i, (before, after) in pairs if before != after)
        found.append(Variant(wild.name, protein.name, changes, None))
    return {wild.name: wild.sequence}, found


def _number(text: str | None, where: str) -> float | None:
    if text is None or not text.strip():
        return None
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{text!r} is not a number", where=where) from None


def load_proteins(path: Path) -> dict[str, str]:
    """Sequences of a FASTA by name. Raises UserError as `read_fasta` does."""
    return {protein.name: protein.sequence for protein in read_fasta(path)}
