"""Read a protein chain of a PDB or mmCIF file: its sequence, and where each residue is.

The sequence is that of SEQRES or `_entity_poly_seq`, with unresolved residues. In a file without, it is inferred from
the atoms: residue numbers that skip are a gap only where the residues are too far apart for a bond, because many
numberings follow those of a related protein.
"""

import gzip
import itertools
import re
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unirefine.core.fasta import GZIP_MAGIC
from unirefine.errors import UserError

if TYPE_CHECKING:
    import gemmi

STRUCTURES = (".pdb", ".ent", ".cif", ".mmcif")
LONGEST_BYTES = 1 << 30
"""Of a file, decompressed."""
_PEPTIDE_BOND, _CA_TO_CA = 2.0, 4.5
"""Angstrom; up to either a bond can be: C to N is 1.33, C-alpha to C-alpha 3.8 (cis 2.9)."""
_RISE = 3.8
"""Angstrom that a residue of a stretched chain spans."""
_COORDINATES_END = 54
"""Columns of a PDB's atom line up to its coordinates."""
_BEFORE_ELEMENTS = 72
_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_SHOWN = 8
"""Residues that a note lists."""


@dataclass(frozen=True)
class Chain:
    """One protein chain of a structure."""

    chain: str
    sequence: str
    """One letter per residue, resolved or not."""
    sequence_from: str
    """`SEQRES`, `_entity_poly_seq` or `atoms`."""
    places: np.ndarray
    """float64[L, 3]: C-beta, of glycine C-alpha, in Angstrom; NaN where it is unknown."""
    notes: tuple[str, ...]


def read_chain(path: Path, chain: str | None = None) -> Chain:
    """One protein chain of the first model. chain: its author name; default: the first that is a protein.

    Of alternative places the one of the highest occupancy is taken. Modified residues become their parents. Raises
    UserError when the file is damaged, has no such chain, or knows no C-beta.
    """
    structure, from_entities, canonical = _parse(path)
    chains = {found.name: polymer for found in structure[0] if (polymer := _protein(found)) is not None}
    if chain is None:
        chain = next(iter(chains), None)
    if chain not in chains:
        wanted = "no protein chain" if chain is None else f"no protein chain {chain}"
        have = f"its protein chains are {', '.join(chains)}" if chains else "give a structure of a protein"
        raise UserError(wanted, where=path, fix=have)
    polymer = chains[chain]
    notes = [f"chain {chain} of {', '.join(chains)}"] if len(chains) > 1 else []
    residues = list(polymer.first_conformer())
    entity = structure.get_entity_of(polymer)
    names = [_first(item) for item in entity.full_sequence] if entity is not None else []
    positions = _positions(residues, list(entity.full_sequence) if entity is not None else [])
    parents = {change.res_id.name: change.parent_comp_id for change in structure.mod_residues}
    if positions is not None:
        source = "_entity_poly_seq" if from_entities else "SEQRES"
        written = canonical.get(entity.name, "")
        letters = [
            _letter(name, parents, written[i] if len(written) == len(names) else None) for i, name in enumerate(names)
        ]
    else:
        if names:
            notes.append("the sequence that the file states does not fit its atoms")
        source = "atoms"
        positions, inferred = _from_numbers(residues)
        notes += ["no sequence stated: unresolved ends are unknown", *inferred] if not names else inferred
        letters = ["X"] * (positions[-1] + 1)
        for position, residue in zip(positions, residues, strict=True):
            letters[position] = _letter(residue.name, parents, None)
    places = np.full((len(letters), 3), np.nan)
    lacking = []
    for position, residue in zip(positions, residues, strict=True):
        atom = _atom(residue, "CA" if letters[position] == "G" else "CB")
        if atom is None:
            lacking.append(f"{residue.name} {residue.seqid}")
        else:
            places[position] = atom.pos.tolist()
    if all(letters[position] == "G" or np.isnan(places[position]).any() for position in positions) and lacking:
        raise UserError(
            f"chain {chain or 'without a name'} has no C-beta atoms, between which contacts are measured", where=path,
            fix="give a structure with side chains, or contacts as .npy or .csv",
        )  # fmt: skip
    if lacking:
        notes.append(f"{len(lacking)} residues without C-beta left out: {_listed(lacking)}")
    if "X" in letters:
        notes.append(f"{letters.count('X')} of {len(letters)} residues are X to the model")
    return Chain(chain, "".join(letters), source, places, tuple(notes))


def _parse(path: Path) -> tuple["gemmi.Structure", bool, dict[str, str]]:
    """The structure; whether it is an mmCIF; of an mmCIF, canonical one-letter sequences by entity."""
    import gemmi

    text = _NOT_ASCII.sub(b"?", _bytes(path)).decode("ascii")
    start = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    is_cif = start.lower().startswith("data_")
    canonical = {}
    try:
        if is_cif:
            blocks = [block for block in gemmi.cif.read_string(text) if block.find_values("_atom_site.id")]
            if not blocks:
                raise UserError("no atoms in it", where=path, fix="give a structure with coordinates")
            structure = gemmi.make_structure_from_block(blocks[0])
            for entity, letters in blocks[0].find("_entity_poly.", ["entity_id", "pdbx_seq_one_letter_code_can"]):
                canonical[entity] = "".join(gemmi.cif.as_string(letters).split())
        else:
            _check_lines(text, path)
            # old files have their name where newer ones have the charge
            structure = gemmi.read_pdb_string(text, max_line_length=_BEFORE_ELEMENTS)
    except (ValueError, RuntimeError, IndexError) as error:
        reason = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
        raise UserError(f"not a structure ({reason})", where=path, fix="download it again") from None
    if not len(structure) or not structure[0].count_atom_sites():
        raise UserError("no atoms in it", where=path, fix="give a structure with coordinates")
    structure.setup_entities()
    structure.assign_label_seq_id()
    return structure, is_cif, canonical


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        compressed = file.peek(2).startswith(GZIP_MAGIC)
        try:
            data = (gzip.GzipFile(fileobj=file) if compressed else file).read(LONGEST_BYTES + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UserError(f"damaged compressed file ({error})", where=path, fix="download it again") from None
    if len(data) > LONGEST_BYTES:
        raise UserError(f"more than {LONGEST_BYTES:,} bytes of text", where=path, fix="give a smaller structure")
    return data


def _check_lines(text: str, path: Path) -> None:
    """Raises UserError for an atom line of a PDB that ends before its coordinates do."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith(("ATOM", "HETATM")) and len(line.rstrip()) < _COORDINATES_END:
            raise UserError(
                f"an atom line that ends in column {len(line.rstrip())}, before its coordinates do",
                where=f"{path}:{number}", fix="the file is cut or damaged; download it again",
            )  # fmt: skip


def _protein(chain: "gemmi.Chain") -> "gemmi.ResidueSpan | None":
    """The residues of a chain that make its protein, without ligands and water; None when it is another polymer."""
    import gemmi

    polymer = chain.get_polymer()
    kinds = (gemmi.PolymerType.PeptideL, gemmi.PolymerType.PeptideD)
    return polymer if polymer.check_polymer_type() in kinds else None


def _first(item: str) -> str:
    """The first of the residues that share a position (`ALA,SER`)."""
    return item.split(",")[0]


def _positions(residues: list["gemmi.Residue"], names: list[str]) -> list[int] | None:
    """Index into the stated sequence of each residue; None when there is none, or it does not fit."""
    positions = [residue.label_seq - 1 if residue.label_seq is not None else -1 for residue in residues]
    fits = all(
        0 <= position < len(names) and residue.name in names[position].split(",")
        for position, residue in zip(positions, residues, strict=True)
    )
    return positions if fits and len(set(positions)) == len(positions) else None


def _letter(name: str, parents: dict[str, str], canonical: str | None) -> str:
    """The letter of a residue: its own, else that of its parent, X where that is unknown.

    parents: by residue, of MODRES. canonical: the letter that an mmCIF states.
    """
    import gemmi

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # in some environments Biopython warns of where it lies
        from Bio.Data.PDBData import protein_letters_3to1, protein_letters_3to1_extended

    if (own := protein_letters_3to1.get(name)) is not None:
        return own
    if canonical is not None and canonical.isalpha() and canonical != "X":
        return canonical.upper()
    if (parent := protein_letters_3to1.get(parents.get(name, ""))) is not None:
        return parent
    if (listed := protein_letters_3to1_extended.get(name.ljust(3))) is not None:
        return listed
    found = gemmi.find_tabulated_residue(name)  # knows names of force fields
    return found.one_letter_code.upper() if found.is_amino_acid() and found.one_letter_code.strip() else "X"


def _from_numbers(residues: list["gemmi.Residue"]) -> tuple[list[int], list[str]]:
    """Index of each residue in a sequence inferred from the residue numbers, and notes on what was inferred."""
    positions, gaps, breaks, ignored = [0], list[str](), list[str](), 0
    labels = all(residue.label_seq is not None for residue in residues)
    for before, after in itertools.pairwise(residues):
        steps = [after.seqid.num - before.seqid.num]
        if labels:  # which skip unresolved residues in some files, and in others do not
            steps.append(after.label_seq - before.label_seq)
        missing, between = 0, f"{before.seqid} and {after.seqid}"
        apart = _apart(before, after)
        jumps = any(step not in (0, 1) for step in steps)  # insertion codes share a number
        if apart is not None and jumps:
            stretched = max(2, int(np.ceil(apart / _RISE)))  # where the numbers go backwards
            missing = (max(steps) if max(steps) > 1 else stretched) - 1
            gaps.append(f"{missing} between {between}")
        elif apart is not None:
            breaks.append(between)
        ignored += jumps and apart is None
        positions.append(positions[-1] + 1 + missing)
    notes = []
    if gaps:
        notes.append(f"unresolved residues inferred from the numbering: {_listed(gaps)}")
    if breaks:
        notes.append(f"the chain breaks where the numbering does not, taken for no gap: between {_listed(breaks)}")
    if ignored:
        notes.append(f"{ignored} jumps in the numbering ignored, because the residues are bonded")
    return positions, notes


def _apart(before: "gemmi.Residue", after: "gemmi.Residue") -> float | None:
    """Angstrom from C-alpha to C-alpha of two residues that are too far apart for a bond; None when a bond can be."""
    (end, start), (first, second) = (_atom(before, "C"), _atom(after, "N")), (_atom(before, "CA"), _atom(after, "CA"))
    if end is not None and start is not None and end.pos.dist(start.pos) <= _PEPTIDE_BOND:
        return None
    if first is None or second is None:
        return end.pos.dist(start.pos) if end is not None and start is not None else None
    apart = first.pos.dist(second.pos)
    return apart if apart > _CA_TO_CA else None


def _atom(residue: "gemmi.Residue", name: str) -> "gemmi.Atom | None":
    """The atom of a name, at its place of highest occupancy."""
    found = [atom for atom in residue if atom.name == name]
    return max(found, key=lambda atom: atom.occ) if found else None


def _listed(items: list[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
