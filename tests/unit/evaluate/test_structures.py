"""Chains of structures: real entries against Biopython's reading of them, and small ones with one fault each."""

import gzip
import warnings
from pathlib import Path

import numpy as np
import pytest

from unirefine.cli.main import main
from unirefine.errors import UserError
from unirefine.evaluate.known import known_contacts, known_of_files
from unirefine.evaluate.structures import read_chain

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from Bio.Align import PairwiseAligner
    from Bio.Data.PDBData import protein_letters_3to1
    from Bio.PDB import MMCIFParser, PDBParser
    from Bio.PDB.MMCIF2Dict import MMCIF2Dict

REAL = Path(__file__).parent / "structures"
ENTRIES = ("1A7G", "1A8O", "1AS5", "1GBT", "1LCD", "1ORC", "2N0N", "3JQH", "4CUP", "5CVZ")


def entry(name: str, tmp_path: Path) -> Path:
    """The file of a real entry, decompressed for Biopython."""
    (packed,) = REAL.glob(f"{name}.*.gz")
    path = tmp_path / packed.stem
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    return path


def by_biopython(path: Path, name: str) -> tuple[list[str], np.ndarray]:
    """Residue names of the stated sequence of chain `name`, and C-beta places, found without gemmi."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parser = MMCIFParser if path.suffix == ".cif" else PDBParser
        structure = parser(QUIET=True).get_structure("x", str(path))[0][name]
    if path.suffix == ".cif":
        table = MMCIF2Dict(str(path))
        keys = ("pdb_strand_id", "seq_id", "mon_id", "auth_seq_num", "pdb_ins_code")
        at, index = dict[int, str](), {}
        for strand, place, mon, number, code in zip(
            *(table[f"_pdbx_poly_seq_scheme.{key}"] for key in keys), strict=True
        ):
            if strand == name:
                at.setdefault(int(place), mon)  # the first of those that share a place
                if number != "?":
                    index[int(number), " " if code == "." else code] = int(place) - 1
        names = [at[place] for place in sorted(at)]
    else:
        names = [
            residue for line in path.read_text().splitlines() if line.startswith("SEQRES") and line[11] == name
            for residue in line[19:70].split()
        ]  # fmt: skip
        seen = [r for r in structure if r.id[0] == " " or r.get_resname() in names]
        aligner = PairwiseAligner(match_score=1, mismatch_score=-10, open_gap_score=-2, extend_gap_score=-0.1)
        targets, queries = aligner.align(_letters(names), _letters([r.get_resname() for r in seen]))[0].aligned
        index = {
            seen[q].id[1:]: t
            for (t0, t1), (q0, q1) in zip(targets, queries, strict=True)
            for t, q in zip(range(t0, t1), range(q0, q1), strict=True)
        }
    places = np.full((len(names), 3), np.nan)
    for residue in structure:
        if residue.is_disordered() == 2:  # several residues at one place
            residue.disordered_select(names[index[residue.id[1:]]])
        position = index.get(residue.id[1:])
        wanted = "CA" if residue.get_resname() == "GLY" else "CB"
        if position is not None and wanted in residue:
            places[position] = residue[wanted].coord
    return names, places


def _letters(names: list[str]) -> str:
    """A letter for each residue name, for the aligner."""
    known = sorted({*protein_letters_3to1, *names})
    return "".join(chr(ord("A") + known.index(name)) for name in names)


@pytest.mark.parametrize("name", ENTRIES)
def test_contacts_of_real_entries_are_those_of_biopython(name, tmp_path):
    path = entry(name, tmp_path)
    (packed,) = REAL.glob(f"{name}.*.gz")
    known = known_contacts(packed, None)
    names, places = by_biopython(path, known.chain)
    assert known.sequence_from == ("_entity_poly_seq" if path.suffix == ".cif" else "SEQRES")
    assert len(known.sequence) == len(names)
    for letter, residue in zip(known.sequence, names, strict=True):
        assert letter == protein_letters_3to1.get(residue, letter)
    if path.suffix == ".cif":
        stated = "".join(
            MMCIF2Dict(str(path))["_entity_poly.pdbx_seq_one_letter_code_can"][-1 if name == "1LCD" else 0].split()
        )
        assert known.sequence == stated
    expected = np.full((len(names), len(names)), np.nan)
    for i in range(len(names)):
        for j in range(len(names)):
            if not np.isnan(places[[i, j]]).any():
                expected[i, j] = np.sqrt(((places[i] - places[j]) ** 2).sum()) < 8
    np.testing.assert_array_equal(known.contacts, expected)


def residue(name: str, number: str, x: float, *, atoms: str = "N CA C CB", chain: str = "A", kind: str = "ATOM") -> str:
    """Atom lines of a residue whose C-alpha lies at x; number: with its insertion code in the last column."""
    places = {"N": x - 1.2, "CA": x, "C": x + 1.27, "CB": x}
    return "".join(
        f"{kind:<6}    1  {atom:<3} {name:>3} {chain}{number:>5}   {places[atom]:8.3f}{1.5 * (atom == 'CB'):8.3f}"
        f"{0.0:8.3f}  1.00  0.00           {atom[0]}  \n"
        for atom in atoms.split()
    )


def chain_of(*residues: tuple[str, str, float], **options: str) -> str:
    return "".join(residue(*one, **options) for one in residues) + "TER\nEND\n"


@pytest.mark.parametrize(
    ("numbers", "places", "sequence", "note"),
    [
        (("5 ", "6 ", "8 "), (0, 3.8, 7.6), "AVW", "1 jumps in the numbering ignored"),
        (("5 ", "6 ", "1006 "), (0, 3.8, 7.6), "AVW", "1 jumps in the numbering ignored"),
        (("5 ", "6 ", "9 "), (0, 3.8, 12), "AVXXW", "inferred from the numbering: 2 between 6 and 9"),
        (("5 ", "6 ", "3 "), (0, 3.8, 16), "AVXXXW", "inferred from the numbering: 3 between 6 and 3"),
        (("5 ", "6 ", "7 "), (0, 3.8, 16), "AVW", "the chain breaks where the numbering does not"),
        (("5 ", "5A", "6 "), (0, 3.8, 7.6), "AVW", "no sequence stated"),
    ],
)
def test_without_a_stated_sequence_a_gap_is_where_no_bond_can_be(tmp_path, numbers, places, sequence, note):
    path = tmp_path / "x.pdb"
    path.write_text(chain_of(*zip(("ALA", "VAL", "TRP"), numbers, places, strict=True)))
    read = read_chain(path)
    assert (read.sequence, read.sequence_from) == (sequence, "atoms")
    assert any(note in found for found in read.notes)
    at = [i for i, letter in enumerate(sequence) if letter != "X"]
    np.testing.assert_array_equal(read.places[at, 0], places)
    assert np.isnan(read.places[[i for i, letter in enumerate(sequence) if letter == "X"]]).all()


def test_seqres_gives_ends_and_modres_and_tables_give_parents(tmp_path):
    path = tmp_path / "x.pdb"
    head = "MODRES 1ABC XY7 A   12  LYS  OURS\nSEQRES   1 A    6  MET MSE SEP XY7 GLY TRP\n"
    body = [("MSE", "10 ", 0.0), ("SEP", "11 ", 3.8), ("XY7", "12 ", 7.6)]
    path.write_text(head + chain_of(*body, kind="HETATM"))
    read = read_chain(path)
    assert (read.sequence, read.sequence_from) == ("MMSKGW", "SEQRES")
    np.testing.assert_array_equal(read.places[:, 0], [np.nan, 0, 3.8, 7.6, np.nan, np.nan])


def test_ligands_water_and_nucleic_acids_do_not_join_the_chain(tmp_path):
    protein = [("ALA", "1 ", 0.0), ("CYS", "2 ", 3.8), ("TRP", "3 ", 7.6)]
    ligands = residue("GLU", "4 ", 30, kind="HETATM") + residue("HOH", "5 ", 40, kind="HETATM", atoms="CA")
    path = tmp_path / "x.pdb"
    path.write_text("".join(residue(*one) for one in protein) + "TER\n" + ligands + "END\n")
    assert read_chain(path).sequence == "ACW"
    dna = "".join(
        f"ATOM      1  {atom:<3}  DA B   {n}    {5.0 * n:8.3f}{0.0:8.3f}{0.0:8.3f}  1.00  0.00           {atom[0]}\n"
        for n in (1, 2, 3) for atom in ("P", "C4'", "N9")
    )  # fmt: skip
    path.write_text(dna + "TER\n" + "".join(residue(*one) for one in protein) + "TER\nEND\n")
    assert read_chain(path).chain == "A"
    with pytest.raises(UserError, match="no protein chain B; its protein chains are A"):
        read_chain(path, "B")


def test_residues_without_c_beta_are_left_out_and_named(tmp_path):
    path = tmp_path / "x.pdb"
    body = [("GLY", "1 ", 0.0), ("CYS", "2 ", 3.8), ("TRP", "3 ", 7.6)]
    path.write_text(
        "".join(residue(*one, atoms="N CA C" if one[0] != "TRP" else "N CA C CB") for one in body) + "TER\n"
    )
    read = read_chain(path)
    np.testing.assert_array_equal(np.isnan(read.places[:, 0]), [False, True, False])
    assert read.notes[-1] == "1 residues without C-beta left out: CYS 2"
    path.write_text(chain_of(*body, atoms="CA"))
    with pytest.raises(UserError, match="chain A has no C-beta atoms"):
        read_chain(path)


WHOLE = chain_of(*((name, f"{i} ", 3.8 * i) for i, name in enumerate(["ALA", "CYS", "TRP"] * 3, 1)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (WHOLE.encode()[:-60], "an atom line that ends in column"),
        (WHOLE.encode()[: 81 * 3 + 50], r"x\.pdb:4: an atom line that ends in column 50"),
        (gzip.compress(WHOLE.encode(), mtime=0)[:-20], "damaged compressed file"),
        (b"HEADER    NOTHING\nEND\n", "no atoms in it"),
        (b"\x00\xff\x1f" * 3000, "no atoms in it"),
        (b"", "no atoms in it"),
        (b"data_x\n_cell.length_a 1\n", "no atoms in it"),
        (b"data_x\nloop_\n_atom_site.id\n_atom_site.Cartn_x\n1\n", "not a structure"),
    ],
)
def test_what_is_no_structure_is_one_short_line(tmp_path, content, message):
    path = tmp_path / "x.pdb"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as raised:
        read_chain(path)
    assert len(raised.value.line()) < 250


def test_a_name_belongs_to_one_file_and_gzip_is_known_by_its_bytes(tmp_path):
    for name in ("a/x.pdb", "b/x.cif.gz"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(gzip.compress(WHOLE.encode()))
    first, second = tmp_path / "a/x.pdb", tmp_path / "b/x.cif.gz"
    assert known_contacts(first, None).name == known_contacts(second, None).name == "x"
    with pytest.raises(UserError, match="two proteins named x"):
        known_of_files([first, second], {})


def test_the_command_says_what_was_inferred_and_refuses_long_chains(small_esm2, tmp_path, capsys):
    path = tmp_path / "x.pdb"
    path.write_text(WHOLE)
    arguments = ["evaluate", "contacts", "--model", str(small_esm2[0]), "--contacts", str(path)]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
    assert "note: x: no sequence stated: unresolved ends are unknown" in capsys.readouterr().out
    path.write_text(
        "".join(f"SEQRES {i // 13 + 1:3d} A 1300  " + "ALA " * 13 + "\n" for i in range(0, 1300, 13)) + WHOLE
    )
    path.write_text(path.read_text().replace("CYS A", "ALA A").replace("TRP A", "ALA A"))
    assert main([*arguments, "--output", str(tmp_path / "long")]) == 1
    assert "x has 1,300 residues, more than the 1,022 that ESM-2 knows" in capsys.readouterr().err
    assert not list((tmp_path / "long").glob("[!.]*"))
    path.write_text(chain_of(("ALA", "1 ", 0.0), ("CYS", "2 ", 3.8)))
    assert main([*arguments, "--output", str(tmp_path / "short")]) == 1
    assert "no protein has two residues of known place at least 6 apart" in capsys.readouterr().err
