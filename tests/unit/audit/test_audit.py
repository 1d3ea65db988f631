"""Audits of splits with planted leaks: what each source gives, what is found and how, and the exit status."""

import gzip
import json

import numpy as np
import polars as pl
import pytest

from unirefine.audit import run as stage
from unirefine.audit import search
from unirefine.audit.sources import open_sources
from unirefine.cli.main import main
from unirefine.config import Decontaminate
from unirefine.core.giants import is_giant
from unirefine.core.ids import key_of
from unirefine.errors import UserError
from unirefine.files.stages import write_shared_stages
from unirefine.similarity.align import SCHEMA

LETTERS = np.frombuffer(b"LAGVSERTIDPKQNFYMHWC", np.uint8)
CONFIG = Decontaminate(audit_sample=30)


def protein(random, length):
    return random.choice(LETTERS, length).tobytes().decode()


def mutated(random, sequence, identity):
    """A copy in which exactly round(identity x length) residues are kept."""
    raw = np.frombuffer(sequence.encode(), np.uint8).copy()
    for at in random.permutation(len(raw))[: len(raw) - round(identity * len(raw))]:
        raw[at] = random.choice(LETTERS[raw[at] != LETTERS])
    return raw.tobytes().decode()


def write_fasta(path, sequences):
    text = "".join(f">{name} a comment\n{sequence}\n" for name, sequence in sequences.items())
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """(train, held out): the id of a held-out sequence says what its nearest train sequence is like."""
    random = np.random.default_rng(3)
    held_out = {name: protein(random, 200) for name in ("at60", "at80", "at40", "alone")}
    held_out["giant"] = protein(random, 6300)
    assert is_giant(held_out["giant"].encode())
    held_out["peptide"] = "MKWHCFYL"
    train = {f"T{number}": protein(random, int(random.integers(80, 300))) for number in range(40)}
    train |= {
        name.replace("at", "near"): mutated(random, held_out[name], int(name[2:]) / 100)
        for name in ("at60", "at80", "at40")
    }
    train |= {"nearer": mutated(random, held_out["at60"], 0.7), "big": mutated(random, held_out["giant"], 0.7)}
    train["short"] = held_out["peptide"].lower()
    return train, held_out


@pytest.fixture(scope="module")
def audited(split, tmp_path_factory):
    """(directory, audit.json) of the split in a FASTA and a Parquet file."""
    directory = tmp_path_factory.mktemp("audit")
    train, held_out = split
    write_fasta(directory / "train.fasta.gz", train)
    names = list(held_out)
    write_fasta(directory / "first.fasta", {name: held_out[name] for name in names[:3]})
    pl.DataFrame({"ur90_id": names[3:], "sequence": [held_out[name] for name in names[3:]]}).write_parquet(
        directory / "second.parquet"
    )
    against = [directory / "first.fasta", directory / "second.parquet"]
    result = stage.run([directory / "train.fasta.gz"], against, directory / "out", CONFIG, threads=2)
    return directory, result


def test_the_nearest_train_sequence_of_each_held_out_one(audited, split):
    directory, _result = audited
    table = pl.read_parquet(directory / "out/nearest.parquet")
    assert table["id"].to_list() == list(split[1])
    assert table["length"].to_list() == [len(sequence) for sequence in split[1].values()]
    rows = {row["id"]: row for row in table.to_dicts()}
    expected = {"at60": ("nearer", 0.7, True, 2), "at80": ("near80", 0.8, True, 1), "at40": ("near40", 0.4, False, 0),
                "giant": ("big", 0.7, True, 1), "peptide": ("short", 1.0, True, 1)}  # fmt: skip
    for name, (nearest, identity, leak, similar) in expected.items():
        row = rows[name]
        assert (row["nearest"], row["leak"], row["similar"]) == (nearest, leak, similar)
        assert row["identity"] == pytest.approx(identity, abs=0.03)
    assert rows["alone"]["nearest"] is None and not rows["alone"]["leak"]
    assert rows["peptide"]["check"] == "identical" and rows["giant"]["check"] == "search"
    hits = pl.read_parquet(directory / "out/hits.parquet")
    pairs = {("at60", "near60"), ("at60", "nearer"), ("at80", "near80"), ("giant", "big"), ("peptide", "short")}
    assert set(hits.select("id", "train").rows()) == pairs


def test_what_the_files_say_agrees(audited):
    directory, result = audited
    table = pl.read_parquet(directory / "out/nearest.parquet")
    text = pl.read_csv(directory / "out/nearest.tsv", separator="\t")
    assert text["id"].to_list() == table["id"].to_list() and text["leak"].to_list() == table["leak"].to_list()
    assert [one["leaks"] for one in result["against"]] == [2, 2] and result["leaks"] == 4
    assert [one["kind"] for one in result["against"]] == ["FASTA", "Parquet"]
    assert [sum(one["counts"]) + one["none"] for one in result["against"]] == [3, 3]
    assert result["giants"] == {"train": 1, "held_out": 1, "pairs": 1}
    assert result["found_by"] == {"search": 3, "audit": 0, "exact": 0, "identical": 1}
    assert result["similar_train"] == 5 and result["sample"]["train"] == 30 and result["sample"]["missed"] == 0
    stored = json.loads((directory / "out/audit.json").read_text())
    stored.pop("checksum")
    assert stored == json.loads(json.dumps(result))
    page = (directory / "out/audit.html").read_text()
    assert "4 of 6 held-out sequences (66.67%)" in page and "<svg" in page and "http" not in page.split("<svg")[0]
    rank = dict(table.select("id", "identity").rows())
    assert "1 have no such alignment and are not in the figure" in page
    assert [(one["id"], one["leak"]) for one in result["worst"]] == [
        ("peptide", True), ("at80", True), *sorted([("at60", True), ("giant", True)], key=lambda one: -rank[one[0]]),
        ("at40", False),
    ]  # fmt: skip
    assert not list((directory / "out").glob(".search*"))


def test_parts_and_their_order_do_not_matter(split, audited, tmp_path, monkeypatch):
    directory, result = audited
    monkeypatch.setattr(search, "PART", 16)
    monkeypatch.setattr("unirefine.core.proteins.BLOCK_ROWS", 8)
    reverse = dict(reversed(split[0].items()))
    train = write_fasta(tmp_path / "train.fasta", reverse)
    again = stage.run([train], [directory / "first.fasta", directory / "second.parquet"], tmp_path / "out", CONFIG)
    assert (again["leaks"], again["similar_train"]) == (result["leaks"], result["similar_train"])
    assert again["sample"] == result["sample"]
    columns = ["id", "leak", "similar", "nearest", "identity"]
    tables = [pl.read_parquet(place / "out/nearest.parquet", columns=columns) for place in (directory, tmp_path)]
    assert tables[0].equals(tables[1])


def test_the_exact_sample_finds_what_the_searches_miss(split, audited, tmp_path, monkeypatch):
    directory, _result = audited
    monkeypatch.setattr(search, "align", lambda *arguments, **options: pl.DataFrame(schema=SCHEMA))
    config = Decontaminate(audit_sample=1000)
    found = stage.run([directory / "train.fasta.gz"], [directory / "first.fasta"], tmp_path / "out", config)
    assert found["found_by"] == {"search": 0, "audit": 0, "exact": 2, "identical": 0}
    assert (found["sample"]["train"], found["sample"]["missed"], found["sample"]["new_leaks"]) == (len(split[0]), 3, 2)
    rows = pl.read_parquet(tmp_path / "out/nearest.parquet")
    assert rows["check"].to_list() == ["exact", "exact", "exact"]  # the one at 40% too


@pytest.mark.parametrize(
    ("options", "code"),
    [((), 1), (("--max-leaks", "2"), 0), (("--max-leaks", "60%"), 1), (("--max-identity", "0.9"), 0)],
)
def test_the_exit_status(audited, tmp_path, capsys, monkeypatch, options, code):
    directory, _result = audited
    monkeypatch.setattr(search, "align", lambda *arguments, **named: pl.DataFrame(schema=SCHEMA))
    arguments = ["--train", str(directory / "train.fasta.gz"), "--against", str(directory / "first.fasta")]
    sample = ["--set", "audit_sample=1000", "--output", str(tmp_path / "out")]
    assert main(["audit", *arguments, *sample, *options]) == code
    written = capsys.readouterr()
    assert ("2 of 3 held-out sequences (66.67%)" in written.err) == bool(code)
    assert (tmp_path / "out/audit.html").exists()


def names_of(source):
    return {
        name: text
        for block in source.blocks()
        for name, text in zip(*(part.to_pylist() for part in block), strict=True)
    }


def test_parquet_files_of_a_data_set(tmp_path):
    for side, names in (("train", ["A", "B"]), ("validation", ["C"])):
        (tmp_path / side).mkdir()
        for name in names:
            pl.DataFrame({"sequence": [f"mk{name}*"], "ur50_id": [name]}).write_parquet(
                tmp_path / side / f"{name}.parquet"
            )
    assert names_of(open_sources([tmp_path], "train", None)[0]) == {"A": "MKA", "B": "MKB"}
    assert names_of(open_sources([tmp_path], "against", None)[0]) == {"C": "MKC"}
    pl.DataFrame({"sequence": ["MK", "WY"]}).write_parquet(tmp_path / "bare.parquet")
    assert names_of(open_sources([tmp_path / "bare.parquet"], "train", None)[0]) == {"row 0": "MK", "row 1": "WY"}


@pytest.fixture
def records(tmp_path):
    """Records of two levels with the same accessions, and others."""
    for level, names in (("uniref90", ["P12345", "P00001"]), ("uniref50", ["P12345", "P00002"])):
        (tmp_path / "records" / level).mkdir(parents=True)
        prefix = level.replace("uniref", "UniRef")
        pl.DataFrame(
            {
                "key": pl.Series([key_of(name) for name in names], dtype=pl.UInt64),
                "id": [f"{prefix}_{name}" for name in names],
                "sequence": [
                    f"MK{name[-1] * 3}{level[-2]}".translate(str.maketrans("0123456789", "ACDEFGHIKL"))
                    for name in names
                ],
            }
        ).write_parquet(tmp_path / "records" / level / "records-000-of-001.parquet")
    return tmp_path / "records"


@pytest.mark.parametrize("kind", ["text", "parquet"])
def test_a_list_of_ids_has_the_sequences_of_its_records(records, tmp_path, kind):
    ids = ["UniRef50_P12345", "p00001", "sp|P00002|X_HUMAN"]
    path = tmp_path / "list"
    if kind == "text":
        path.write_text("# some\n" + "\n".join(ids) + "\n")
    else:
        pl.DataFrame({"id": ids}).write_parquet(path)
    found = names_of(open_sources([path], "against", records)[0])
    assert sorted(found) == ["UniRef50_P00002", "UniRef50_P12345", "UniRef90_P00001"]
    path.write_text("P00001\nQ99999\n")
    with pytest.raises(UserError, match=r"1 of 2 ids are not in .*: Q99999"):
        names_of(open_sources([path], "against", records)[0])
    with pytest.raises(UserError, match="add --records"):
        open_sources([path], "against", None)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"seq": ["MK"]}, "no column `sequence`; it has seq"),
        ({"sequence": [1]}, "is int64, not text"),
        ({"sequence": ["MK", None]}, "row 1 has no sequence"),
        ({"sequence": ["MK", ""]}, "row 1 has an empty sequence"),
        ({"sequence": ["MK", "M-K"]}, "row 1 has a character that is no letter: 'M-K'"),
        ({"sequence": ["ACGT" * 20]}, "nucleotides"),
        ({"sequence": ["MK" * 200_000], "id": ["long"]}, "long has 400,000 residues"),
        ({"sequence": pl.Series([], dtype=pl.String)}, "no sequence in it"),
    ],
)
def test_a_table_that_cannot_be_read(tmp_path, columns, message):
    pl.DataFrame(columns).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match=message) as raised:
        names_of(open_sources([tmp_path / "a.parquet"], "train", None)[0])
    assert "a.parquet" in raised.value.line()


def test_mistakes_in_one_line(tmp_path, audited, capsys):
    directory, _result = audited
    first, train = str(directory / "first.fasta"), str(directory / "train.fasta.gz")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bionemo").mkdir()
    (tmp_path / "bionemo/train.db").touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/audit.html").write_text("<p>mine</p>")
    for arguments, message in (
        (["--train", train, train, "--against", first], "given twice to --train"),
        (["--train", str(tmp_path / "nothing"), "--against", first], "no such file"),
        (["--train", str(tmp_path / "empty"), "--against", first], "no shards in it, and no Parquet files"),
        (["--train", str(tmp_path / "bionemo"), "--against", first], "BioNeMo's databases, which audit does not read"),
        (["--train", train, "--against", first, "--max-identity", "0.555"], "two decimals"),
        (["--train", train, "--against", first], "exists, and was not written by this command"),
    ):
        assert main(["audit", *arguments, "--output", str(tmp_path / "out")]) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert (tmp_path / "out/audit.html").read_text() == "<p>mine</p>"


def test_a_run_that_shares_its_shards_is_read_where_they_are(tmp_path):
    (tmp_path / "base/shard").mkdir(parents=True)
    (tmp_path / "base/shard/manifest.json").touch()
    (tmp_path / "child").mkdir()
    write_shared_stages(tmp_path / "child", {"shard": tmp_path / "base/shard"})
    (found,) = open_sources([tmp_path / "child"], "train", None)
    assert (found.kind, found.path.resolve()) == ("shards", tmp_path / "base/shard")
