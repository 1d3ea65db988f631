"""A FASTA with a split, in files or in a table; and what names say of fragments."""

import bz2

import pyarrow.parquet as pq
import pytest

from unirefine.cli.main import main
from unirefine.config import Records
from unirefine.core.levels import TEST, VALIDATION
from unirefine.core.tables import find_parts
from unirefine.errors import UserError
from unirefine.records.run import run

TRAIN = b">a first\nMKV\n>sp|P12345|AATM_RABIT\nMKL\n"
TABLE = "id\tside\na\ttrain\nP12345\tvalidation\n"


@pytest.fixture
def built(tmp_path):
    """(other files by side, table) -> side by id."""

    def build(source=TRAIN, held_out=None, sides=None, level="uniref90"):
        (tmp_path / "train.fasta").write_bytes(source)
        paths = {}
        for side, data in (held_out or {}).items():
            paths[side] = tmp_path / f"side-{side}.fasta"
            paths[side].write_bytes(data)
        table = None
        if sides is not None:
            table = tmp_path / "sides.tsv"
            table.write_text(sides)
        done = run(
            Records(parts=2), level, tmp_path / "train.fasta", tmp_path / "out", held_out=paths, sides=table, threads=1
        )  # fmt: skip
        build.facts = done.facts
        rows = [row for path in find_parts(tmp_path / "out", level).paths for row in pq.read_table(path).to_pylist()]
        return {row["id"]: row["given_side"] for row in rows}

    return build


def test_files_are_sides(built):
    held_out = {VALIDATION: b">v\nMKW\n", TEST: bz2.compress(b">t\nMKWW\n>u\nM\n")}
    assert built(held_out=held_out) == {"a": 0, "sp|P12345|AATM_RABIT": 0, "v": 1, "t": 2, "u": 2}
    counts = {name: side["records"] for name, side in built.facts["sides"].items()}
    assert counts == {"train": 2, "validation": 1, "test": 2}
    assert built() == {"a": None, "sp|P12345|AATM_RABIT": None} and "sides" not in built.facts


def test_a_table_has_the_side_of_every_id_or_of_its_accession(built):
    assert built(sides=TABLE) == {"a": 0, "sp|P12345|AATM_RABIT": 1}
    assert built(sides="a\tTEST\nsp|P12345|AATM_RABIT\tval\n") == {"a": 2, "sp|P12345|AATM_RABIT": 1}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sides": "a\ttrain\n"}, r"sides.tsv: has no side for sp\|P12345\|AATM_RABIT"),
        ({"sides": TABLE + "b\ttrain\n"}, "1 of its 3 ids are no entry of the FASTA"),
        ({"sides": TABLE + "a\ttrain\n"}, "1 ids are there twice"),
        ({"sides": TABLE.replace("validation", "dev")}, "'P12345' is on the side 'dev'"),
        ({"sides": "UniRef50_A\ttrain\nUniRef50_B\ttrain\n"}, "'UniRef50_A' can be no id of a FASTA of your own"),
        (
            {"source": b">UniRef50_A0A000\nM\n"},
            r"give the file of this --level; to read them as your own FASTA, cut the prefix: sed 's/\^>UniRef50_/>/'",
        ),
        ({"sides": "a\n"}, "not a table of sides: .*Expected 2 columns, got 1"),
        ({"sides": ""}, "no ids in it"),
        ({"sides": TABLE, "held_out": {VALIDATION: b">v\nM\n"}}, "two splits: files and a table"),
        (
            {"held_out": {VALIDATION: b">v\nM\n>a\nMK\n"}},
            r"ids that are there twice: a \(train.fasta line 1 and side-1.fasta line 3\)",
        ),
        ({"held_out": {VALIDATION: b""}}, "side-1.fasta: neither FASTA nor UniRef XML: an empty file"),
        ({"source": b">UniRef50_A0A000\nM\n", "level": "uniref50", "sides": TABLE}, "has no split beside it"),
    ],
)
def test_what_is_no_split_is_one_line_and_leaves_nothing(built, tmp_path, options, says):
    with pytest.raises(UserError, match=says):
        built(**options)
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_the_command_prints_the_sides(tmp_path, capsys):
    (tmp_path / "train.fasta").write_bytes(TRAIN)
    (tmp_path / "sides.tsv").write_text(TABLE)
    command = ["records", "--level", "uniref90", "--input", str(tmp_path / "train.fasta"), "--sides"]
    assert main([*command, str(tmp_path / "sides.tsv"), "--output", str(tmp_path / "out")]) == 0
    assert "train: 1, validation: 1, test: 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("P00001 Some protein (Fragment) n=1 Tax=Homo sapiens TaxID=9606 RepID=X_HUMAN", True),
        ("P00001 Some protein (Fragments) n=1 Tax=Homo sapiens TaxID=9606 RepID=X_HUMAN", True),
        ("P00001 Fragment-binding protein n=1", False),
        ("P00001 protein (Fragmentin)", False),
        ("P00001", None),
        ("P00001   ", None),
    ],
)
def test_names_say_what_is_a_fragment(stage, xml, entry, header, expected):
    stage.run(f">UniRef50_{header}\nMKV\n".encode())
    assert stage.table()["fragment"].to_pylist() == [expected]
    name = header.partition(" ")[2].strip()
    made = xml(entry("P00001")).replace(b"<name>Cluster: a &amp; b</name>", f"<name>{name}</name>".encode())
    stage.run(made)
    assert stage.table()["fragment"].to_pylist() == [expected]
