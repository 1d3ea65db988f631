"""Known contacts of proteins: from structures, matrices (.npy) or lists of pairs (.csv)."""

import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unirefine.core.delimited import read_table
from unirefine.errors import UserError
from unirefine.evaluate.structures import STRUCTURES, read_chain
from unirefine.files.inputs import require_file

CUTOFF = 8.0
"""Angstrom between C-beta atoms (C-alpha of glycine), as in CASP."""
NEAREST = 6
"""Pairs of residues nearer than this in the sequence are not counted."""
_COMPRESSED = ".gz"
_INTEGER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Known:
    """A protein and its contacts."""

    name: str
    sequence: str
    contacts: np.ndarray
    """float32[L, L]: 1 contact, 0 none, NaN unknown; symmetric."""
    chain: str | None = None
    """Of a structure: the name of its chain."""
    sequence_from: str = "FASTA"
    """`FASTA`; of a structure `SEQRES`, `_entity_poly_seq` or `atoms`."""
    notes: tuple[str, ...] = ()
    """What was inferred or left out, a sentence each."""


def protein_name(path: Path) -> str:
    """The name of the protein of a file: that of the file without its ending, `1abc` for `1abc.cif.gz`."""
    return _plain(path).stem


def _plain(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() == _COMPRESSED else path


def known_of_files(
    paths: Iterable[Path], sequences: dict[str, str], *, chain: str | None = None, cutoff: float = CUTOFF
) -> list[Known]:
    """The proteins of several files, see `known_contacts`. sequences: by name.

    Raises UserError, also when two files are of one name, or when no precision can be computed for any.
    """
    files: dict[str, Path] = {}
    for path in paths:
        name = protein_name(path)
        if name in files:
            raise UserError(
                f"two proteins named {name}: {files[name]} and {path}",
                fix="rename one, or run them one after the other",
            )
        files[name] = path
    found = [known_contacts(path, sequences.get(name), chain=chain, cutoff=cutoff) for name, path in files.items()]
    if not any(_pairs_in_range(protein.contacts) for protein in found):
        raise UserError(
            f"no protein has two residues of known place at least {NEAREST} apart, so there is nothing to predict",
            fix="check --contacts and --chain",
        )
    return found


def _pairs_in_range(contacts: np.ndarray) -> bool:
    return bool((~np.isnan(contacts[np.triu_indices(len(contacts), NEAREST)])).any())


def known_contacts(path: Path, sequence: str | None, *, chain: str | None = None, cutoff: float = CUTOFF) -> Known:
    """Contacts of one protein, named after the file.

    path: a structure, plain or gzipped, whose `chain` (default: the first protein chain) gives the sequence; or a
    matrix or a list of pairs (1-based), which need `sequence`. cutoff: in Angstrom. Raises UserError.
    """
    require_file(path, "check --contacts")
    name, suffix = protein_name(path), _plain(path).suffix.lower()
    if suffix in STRUCTURES:
        return _of_structure(path, name, chain, cutoff)
    if suffix not in (".npy", ".csv"):
        raise UserError(
            f"its name ends with none of {', '.join((*STRUCTURES, '.npy', '.csv'))}", where=path,
            fix="name it after what it is; structures may be gzipped (.gz)",
        )  # fmt: skip
    if path.suffix.lower() == _COMPRESSED:
        raise UserError("compressed, which only structures may be", where=path, fix=f"gunzip {path.name}")
    if sequence is None:
        raise UserError("no sequence of that name", where=path, fix="give it by --fasta, named as the file")
    contacts = _from_matrix(path) if suffix == ".npy" else _from_pairs(path, len(sequence))
    if contacts.shape != (len(sequence), len(sequence)):
        raise UserError(f"contacts of shape {contacts.shape}, but {len(sequence)} residues", where=path)
    if not np.nansum(contacts):
        raise UserError("no contact in it", where=path, fix="give at least one contact")
    return Known(name, sequence, contacts)


def _of_structure(path: Path, name: str, chain: str | None, cutoff: float) -> Known:
    read = read_chain(path, chain)
    distances = np.linalg.norm(read.places[:, None] - read.places[None], axis=-1)
    contacts = np.where(np.isnan(distances), np.nan, distances < cutoff).astype(np.float32)
    notes = list(read.notes)
    if not _pairs_in_range(contacts):
        notes.append(f"no two residues of known place are at least {NEAREST} apart: no precision")
    return Known(name, read.sequence, contacts, read.chain, read.sequence_from, tuple(notes))


def _from_matrix(path: Path) -> np.ndarray:
    try:
        # mapped, so that a header cannot ask for more memory than the file has
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise UserError("not a numpy matrix", where=path, fix="write it by numpy.save") from None
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2 or matrix.dtype.kind not in "biuf":
        raise UserError("not a matrix of numbers", where=path, fix="save one array, with L x L numbers")
    values = matrix.astype(np.float32)
    if not np.array_equal(values, values.T, equal_nan=True):
        raise UserError("not a symmetric matrix", where=path)
    if not np.isin(values[~np.isnan(values)], (0, 1)).all():
        raise UserError("values other than 0, 1 and NaN", where=path, fix="give contacts, not distances")
    return values


def _from_pairs(path: Path, length: int) -> np.ndarray:
    """A header is a first row without a digit."""
    contacts = np.zeros((length, length), np.float32)
    table = read_table(path, "--contacts")
    rows = table.rows
    if rows and not any(character.isdigit() for cell in rows[0].cells for character in cell):
        rows = rows[1:]
    for row in rows:
        where = table.where(row)
        if len(row.cells) != 2:
            raise UserError(
                f"{len(row.cells)} columns, where a pair of residues has 2", where=where,
                fix="write the contacts only, as two residue numbers",
            )  # fmt: skip
        if not all(_INTEGER.fullmatch(cell) for cell in row.cells):
            raise UserError("not two residue numbers", where=where, fix="a line of column names has no digits")
        i, j = map(int, row.cells)
        if not (1 <= i <= length and 1 <= j <= length):
            raise UserError(f"residues {i}, {j} of a protein with {length}", where=where)
        if i == j:
            raise UserError(f"residue {i} in contact with itself", where=where)
        contacts[i - 1, j - 1] = contacts[j - 1, i - 1] = 1
    return contacts
