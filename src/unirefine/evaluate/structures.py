"""Read known contacts from a structure (PDB, mmCIF), a matrix (.npy) or a list of pairs (.csv)."""

import csv
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unirefine.errors import UserError

CUTOFF = 8.0
"""Angstrom between C-beta atoms (C-alpha of glycine), as in CASP."""
STRUCTURES = (".pdb", ".ent", ".cif", ".mmcif")


@dataclass(frozen=True)
class Known:
    """A protein and its contacts."""

    name: str
    sequence: str
    contacts: np.ndarray
    """float32[L, L]: 1 contact, 0 none, NaN unknown; symmetric."""


def known_contacts(path: Path, sequence: str | None, *, chain: str | None = None, cutoff: float = CUTOFF) -> Known:
    """Contacts of one protein, named after the file.

    path: a structure, whose `chain` (default: the first protein chain) gives the sequence, with X and unknown contacts
    for residues that the numbering skips; or a matrix or a list of pairs (1-based), which need `sequence`. cutoff: in
    Angstrom. Raises UserError.
    """
    if not path.is_file():
        raise UserError("no such file", where=path, fix="check --contacts")
    if path.suffix.lower() in STRUCTURES:
        return _from_structure(path, chain, cutoff)
    if sequence is None:
        raise UserError("no sequence of that name", where=path, fix="give it by --fasta, named as the file")
    if path.suffix == ".npy":
        contacts = _from_matrix(path)
    elif path.suffix == ".csv":
        contacts = _from_pairs(path, len(sequence))
    else:
        raise UserError("neither .pdb, .cif, .npy nor .csv", where=path)
    if contacts.shape != (len(sequence), len(sequence)):
        raise UserError(f"contacts of shape {contacts.shape}, but {len(sequence)} residues", where=path)
    return Known(path.stem, sequence, contacts)


def _from_matrix(path: Path) -> np.ndarray:
    try:
        with path.open("rb") as handle:
            contacts = np.lib.format.read_array(handle, allow_pickle=False).astype(np.float32)
    except (ValueError, EOFError, TypeError, SyntaxError, OverflowError) as error:  # of a damaged header too
        raise UserError(f"not a numpy matrix ({error})", where=path) from None
    if contacts.ndim != 2 or not np.array_equal(contacts, contacts.T, equal_nan=True):
        raise UserError("not a symmetric matrix", where=path)
    if not np.isin(contacts[~np.isnan(contacts)], (0, 1)).all():
        raise UserError("values other than 0, 1 and NaN", where=path, fix="give contacts, not distances")
    return contacts


def _from_pairs(path: Path, length: int) -> np.ndarray:
    contacts = np.zeros((length, length), np.float32)
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            rows = list(csv.reader(handle))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"not a CSV file in UTF-8 ({error})", where=path) from None
    for line, row in enumerate(rows, 1):
        if line == 1 and row and not row[0].strip().isdigit():
            continue  # header
        try:
            i, j = int(row[0]), int(row[1])
        except (ValueError, IndexError):
            raise UserError("not two residue numbers", where=f"{path}:{line}") from None
        if not (1 <= i <= length and 1 <= j <= length):
            raise UserError(f"residues {i}, {j} of a protein with {length}", where=f"{path}:{line}")
        contacts[i - 1, j - 1] = contacts[j - 1, i - 1] = 1
    return contacts


def _from_structure(path: Path, chain: str | None, cutoff: float) -> Known:
    from Bio.PDB import MMCIFParser, PDBParser
    from Bio.PDB.PDBExceptions import PDBConstructionException
    from Bio.PDB.Polypeptide import is_aa
    from Bio.SeqUtils import seq1

    parser = (MMCIFParser if path.suffix.lower() in (".cif", ".mmcif") else PDBParser)(QUIET=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = next(iter(parser.get_structure(path.stem, str(path))))
    except (StopIteration, PDBConstructionException, KeyError, ValueError) as error:
        raise UserError(f"not a structure ({error!r})", where=path) from None
    chains = {found.id: [residue for residue in found if is_aa(residue, standard=False)] for found in model}
    if chain is None:
        chain = next((name for name, residues in chains.items() if residues), None)
    if not chains.get(chain or ""):
        wanted = "no protein chain" if chain is None else f"no protein chain {chain}"
        raise UserError(wanted, where=path, fix=f"its chains are {', '.join(chains)}")
    residues = chains[chain]
    numbers = np.array([residue.id[1] for residue in residues])
    steps = np.maximum(np.diff(numbers), 1)  # residues with insertion codes share a number
    positions = np.concatenate([[0], np.cumsum(steps)])
    length = int(positions[-1]) + 1
    letters, atoms = ["X"] * length, np.full((length, 3), np.nan)
    for position, residue in zip(positions, residues, strict=True):
        letters[position] = seq1(residue.get_resname(), undef_code="X")
        atom = next((name for name in ("CB", "CA") if name in residue), None)
        if atom is not None:
            atoms[position] = residue[atom].coord
    distances = np.linalg.norm(atoms[:, None] - atoms[None], axis=-1)
    contacts = np.where(np.isnan(distances), np.nan, distances < cutoff).astype(np.float32)
    return Known(path.stem, "".join(letters), contacts)
