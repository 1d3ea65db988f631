"""Every format read back by the library that its users use, sequence by sequence, beside the truth in plain Python."""

import importlib.metadata
import json
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from small_run import make_run

from unirefine.cli.main import main
from unirefine.config import Records, Shard
from unirefine.core.alphabet import encode
from unirefine.core.ids import key_of
from unirefine.core.tables import find_parts
from unirefine.dataset import open_shards
from unirefine.errors import UserError
from unirefine.export import blocks, formats, plan
from unirefine.export.run import run as export
from unirefine.files.atomic import read_json
from unirefine.records.run import run as read_records
from unirefine.shard.run import run as build_shards

SIDES = {"train": 0, "validation": 1, "test": 2}
SEED = Shard().seed
Rows = list[tuple[str, str, str]]


def truth(run) -> dict[str, Rows]:
    """(id, cluster, sequence) of each side, in the order of the shards."""
    return {
        side: [
            (name, cluster, sequence)
            for cluster, members in run.expected(code, SEED, representatives=side != "train")
            for name, sequence in members
        ]
        for side, code in SIDES.items()
    }


@pytest.fixture(scope="module")
def uniref(run, tmp_path_factory):
    """(results of a run, the truth)"""
    directory = tmp_path_factory.mktemp("results") / "tiny"
    build_shards(Shard(parts=3), **run.inputs, output=directory / "shard")
    return directory, truth(run)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The same of a FASTA of the user's, with ids that JSON has to escape."""
    made = make_run(tmp_path_factory.mktemp("own") / "run", clusters=40, level="uniref90")
    directory = tmp_path_factory.mktemp("own-results") / "own"
    build_shards(Shard(parts=2), **made.inputs, output=directory / "shard")
    return directory, truth(made)


@pytest.fixture
def small_files(monkeypatch):
    """Files and blocks of some sequences, so that there are many."""
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 21)  # more than a statement of SQLite takes, and no multiple of it
    real = plan.cut
    monkeypatch.setattr(formats, "cut", lambda sides, pattern, write, _residues: real(sides, pattern, write, 9000))


def read_parquet(directory: Path, monkeypatch) -> dict[str, Rows]:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from datasets import load_dataset

    loaded = load_dataset(str(directory), cache_dir=str(directory.parent / "cache"))
    return {
        side: list(zip(*(rows[name] for name in ("ur90_id", "ur50_id", "sequence")), strict=True))
        for side, rows in loaded.items()
    }


def read_bionemo(directory: Path, _monkeypatch) -> dict[str, Rows]:
    """By the queries of BioNeMo's ProteinSQLiteDataset, through its lists of clusters."""
    found = {}
    for side, name in (("train", "train"), ("validation", "valid"), ("test", "test")):
        clusters = pd.read_parquet(directory / f"{name}_clusters.parquet")
        lists = clusters["ur90_id"] if side == "train" else clusters["ur50_id"].apply(lambda one: [one])
        cursor = sqlite3.connect(directory / f"{side}.db").cursor()
        rows = []
        for cluster, members in zip(clusters["ur50_id"], lists, strict=True):
            for member in np.asarray(members):
                cursor.execute("SELECT sequence FROM protein WHERE id = ?", (member,))
                rows.append((str(member), cluster, cursor.fetchone()[0]))
        cursor.execute("SELECT COUNT(*) FROM protein")
        assert cursor.fetchone()[0] == len(rows)
        used = " ".join(
            str(row) for row in cursor.execute("EXPLAIN QUERY PLAN SELECT sequence FROM protein WHERE id=1")
        )
        assert "USING INDEX" in used
        found[side] = rows
    return found


def read_fasta(directory: Path, _monkeypatch) -> dict[str, Rows]:
    from Bio.SeqIO.FastaIO import SimpleFastaParser

    found = {}
    for side in SIDES:
        rows = []
        for path in sorted(directory.glob(f"{side}-*.fasta")):
            with path.open() as handle:
                for title, sequence in SimpleFastaParser(handle):
                    name, cluster = title.split(" cluster=")
                    rows.append((name, cluster, sequence))
        table = [line.split("\t") for line in (directory / f"{side}_cluster.tsv").read_text().splitlines()]
        assert table == [[cluster, name] for name, cluster, _sequence in rows]
        found[side] = rows
    return found


def read_webdataset(directory: Path, _monkeypatch) -> dict[str, Rows]:
    import webdataset

    found = {}
    for side in SIDES:
        urls = sorted(map(str, directory.glob(f"{side}-*.tar")))
        samples = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).decode())
        assert [int(sample["__key__"]) for sample in samples] == list(range(len(samples)))
        found[side] = [(each["json"]["id"], each["json"]["cluster_id"], each["json"]["sequence"]) for each in samples]
    with tarfile.open(urls[0]) as archive:  # also by the standard library, which checks every header
        assert {(one.mtime, one.uid, one.isfile()) for one in archive} == {(0, 0, True)}
    return found


def read_mds(directory: Path, _monkeypatch) -> dict[str, Rows]:
    LocalDataset, get_hash = mosaic()
    found = {}
    for side in SIDES:
        dataset = LocalDataset(str(directory), split=side)
        found[side] = [tuple(dataset[i][key] for key in ("id", "cluster_id", "sequence")) for i in range(len(dataset))]
        for one in json.loads((directory / side / "index.json").read_text())["shards"]:
            data = (directory / side / one["raw_data"]["basename"]).read_bytes()
            assert (len(data), get_hash("sha256", data)) == (
                one["raw_data"]["bytes"],
                one["raw_data"]["hashes"]["sha256"],
            )
    return found


def mosaic():
    """(LocalDataset, get_hash) of MosaicML Streaming, without its modules for images, which want torchvision."""
    if "streaming" not in sys.modules:
        package = types.ModuleType("streaming")
        package.__path__ = [str(Path(importlib.metadata.distribution("mosaicml-streaming").locate_file("streaming")))]
        sys.modules["streaming"] = package
    from streaming.base.hashing import get_hash
    from streaming.base.local import LocalDataset

    return LocalDataset, get_hash


READERS = {
    "parquet": read_parquet,
    "bionemo": read_bionemo,
    "fasta": read_fasta,
    "webdataset": read_webdataset,
    "mds": read_mds,
}


def as_read(to: str, rows: Rows, own: bool, side: str) -> Rows:
    """The truth as a reader of a format sees it."""
    if to == "parquet" and not own and side != "train":
        return [(None, cluster, sequence) for _name, cluster, sequence in rows]
    if to == "bionemo" and side != "train":  # it has no clusters of held-out sequences
        return [(name, name, sequence) for name, _cluster, sequence in rows]
    return rows


@pytest.mark.parametrize("to", formats.FORMATS)
@pytest.mark.parametrize("source", ["uniref", "own"])
def test_what_its_users_read_is_what_the_shards_hold(to, source, request, small_files, tmp_path, monkeypatch, capsys):
    results, rows = request.getfixturevalue(source)
    output = tmp_path / "out"
    assert main(["export", "--shards", str(results), "--to", to, "--output", str(output), "--threads", "2"]) == 0
    found = READERS[to](output, monkeypatch)
    assert found.keys() == SIDES.keys()
    for side in SIDES:
        assert found[side] == as_read(to, rows[side], source == "own", side), side
    shown = capsys.readouterr().out
    assert f"train: {len(open_shards(results / 'shard').train.lengths):,}".split(": ")[1] in shown
    again = tmp_path / "again"
    export(results / "shard", again, to, threads=1)
    assert files_of(again) == files_of(output)
    assert main(["verify", str(output)]) == 0


def files_of(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_a_card_shows_the_splits_and_where_they_come_from(uniref, tmp_path):
    results, rows = uniref
    export(results, tmp_path / "out", "parquet")
    _empty, header, text = (tmp_path / "out/README.md").read_text().split("---\n", 2)
    read = yaml.safe_load(header)
    assert [one["split"] for one in read["configs"][0]["data_files"]] == list(SIDES)
    assert (read["license"], read["size_categories"]) == ("cc-by-4.0", ["n<1K"])
    assert f"| train | {len({cluster for _id, cluster, _s in rows['train']}):,} | {len(rows['train']):,} |" in text
    assert "UniProt 2026_03" in text and "tiny" in text
    assert read_json(tmp_path / "out/lineage.json")["steps"][-1]["stage"] == "shard"


def test_an_export_that_was_interrupted_goes_on(uniref, small_files, tmp_path, monkeypatch, capsys):
    """Complete files are kept, damaged and missing ones are written again, and the result is the same."""
    results, _rows = uniref
    whole, output = tmp_path / "whole", tmp_path / "out"
    export(results, whole, "mds")
    real, calls = formats.text.write_mds, []

    def failing(file, path, found):
        calls.append(file.name)
        if len(calls) >= 5:  # the pool may begin another one
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        real(file, path, found)

    monkeypatch.setattr(formats.text, "write_mds", failing)
    words = ["export", "--shards", str(results), "--to", "mds", "--output", str(output), "--threads", "1"]
    assert main(words) == 130
    assert not (output / "export.json").exists()
    assert not list(output.rglob("*.tmp"))
    done = {path: path.stat() for path in sorted(output.rglob("*.mds"))}
    assert len(done) == 4
    damaged, gone, *kept = done
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\0")
    gone.unlink()
    with (output / ".export.jsonl").open("a") as handle:
        handle.write('{"name": "train/sha')  # of a process that was killed
    monkeypatch.setattr(formats.text, "write_mds", real)
    assert main(words) == 0
    assert "which 2 were there" in capsys.readouterr().out
    assert all(path.stat().st_mtime_ns == done[path].st_mtime_ns for path in kept)
    assert files_of(output) == files_of(whole)
    assert export(results, output, "mds").kept == len(list(whole.rglob("*.mds")))
    assert files_of(output) == files_of(whole)


def test_verify_finds_a_changed_file(uniref, tmp_path, capsys):
    export(uniref[0], tmp_path / "out", "webdataset")
    path = tmp_path / "out/validation-000000.tar"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert main(["verify", str(tmp_path / "out")]) == 1
    assert "validation-000000.tar" in capsys.readouterr().err


def foreign(directory: Path, _shards: Path) -> Path:
    (directory / "out").mkdir()
    (directory / "out/mine.txt").write_text("mine")
    return directory / "out"


def a_file(directory: Path, _shards: Path) -> Path:
    (directory / "out").write_text("mine")
    return directory / "out"


def another(directory: Path, shards: Path) -> Path:
    export(shards, directory / "out", "fasta")
    return directory / "out"


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (foreign, "out: not empty, and no export; choose another --output"),
        (a_file, "out: exists and is no directory; choose another --output"),
        (another, "out: holds an export in another format; choose another --output, or delete it"),
        (lambda _directory, shards: shards, "shard: not empty, and no export; choose another --output"),
    ],
)
def test_what_is_not_ours_is_not_touched(output, message, uniref, tmp_path, capsys):
    shards = uniref[0] / "shard"
    path = output(tmp_path, shards)
    before = files_of(path) if path.is_dir() else path.read_text()
    capsys.readouterr()
    assert main(["export", "--shards", str(shards), "--to", "mds", "--output", str(path)]) == 1
    assert capsys.readouterr().err.endswith(f"{message}\n")
    assert (files_of(path) if path.is_dir() else path.read_text()) == before


def test_other_shards_are_not_mixed(uniref, own, tmp_path):
    export(uniref[0], tmp_path / "out", "fasta")
    with pytest.raises(UserError, match="holds an export of other shards"):
        export(own[0], tmp_path / "out", "fasta")


def test_faults_of_the_shards_are_one_line(uniref, tmp_path, capsys):
    def message(shards: Path) -> str:
        assert main(["export", "--shards", str(shards), "--to", "parquet", "--output", str(tmp_path / "out")]) == 1
        lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert len(lines) == 1
        return lines[0]

    assert "no such directory; give the shards of a run" in message(tmp_path / "typo")
    (tmp_path / "run").mkdir()
    assert "no manifest.json" in message(tmp_path / "run")
    assert not (tmp_path / "out").exists()
    copy = shutil.copytree(uniref[0] / "shard", tmp_path / "shard")
    raw = (copy / "validation.bin").read_bytes()
    (copy / "validation.bin").write_bytes(bytes([raw[0] ^ 1]) + raw[1:])
    assert "validation.bin: its content is not what was written" in message(copy)
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_a_damaged_token_is_not_exported(uniref, tmp_path):
    """Where nothing has noticed it before: the hash of the shards is that of the damaged file."""
    copy = shutil.copytree(uniref[0] / "shard", tmp_path / "shard")
    raw = bytearray((copy / "validation.bin").read_bytes())
    first = len(uniref[1]["validation"][0][2])
    raw[first] = 99  # the first residue of the second sequence
    (copy / "validation.bin").write_bytes(raw)
    shard = blocks.open_shard(copy / "validation")
    with pytest.raises(UserError, match="sequence 1 has a token that is not one of the 33"):
        list(blocks.blocks(shard, 0, shard.sequences))


@pytest.mark.parametrize("to", ["bionemo", "parquet", "mds"])
def test_a_full_disk_is_one_line(to, uniref, tmp_path, monkeypatch, capsys):
    """Before the start where the space is seen to be too small; else where the disk says so."""
    words = ["export", "--shards", str(uniref[0]), "--to", to, "--output", str(tmp_path / "out")]
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _path: shutil._ntuple_diskusage(1, 1, 1))
        assert main(words) == 1
    assert "out: the export needs" in capsys.readouterr().err
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        assert main(words) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    error = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(error) == 1 and "free some space and run the stage again" in error[0]
    assert not list((tmp_path / "out").rglob("*.tmp"))
    assert main(words) == 0


def test_the_letters_give_the_tokens_back(uniref, tmp_path):
    """Also `<unk>`: what is exported, tokenised again, is what the shards hold."""
    side = open_shards(uniref[0] / "shard").train
    shard = blocks.open_shard(side.prefixes[0])
    found = [text for block in blocks.blocks(shard, 3, 40) for text in block.letters.to_pylist()]
    for number, text in enumerate(found, 3):
        np.testing.assert_array_equal(encode(text), side.tokens(number))
    assert len(found) == 37


def test_a_file_is_cut_between_sequences():
    shard = blocks.Shard(Path("x"), type("Index", (), {}))
    shard.index.lengths = np.array([5, 5, 5, 40, 1], np.int32)
    shard.index.pointers = np.array([0, 5, 10, 15, 55])
    ends = [blocks.block_end(shard.index, first, 5, 100, 10) for first in range(5)]
    assert ends == [2, 3, 3, 4, 5]
    assert blocks.block_end(shard.index, 0, 5, 1, 10) == 1


@pytest.mark.parametrize("to", ["parquet", "bionemo"])
def test_an_export_is_the_source_of_another_run(to, uniref, tmp_path):
    """`release.source: parquet` and `bionemo` read the same sequences, clusters and sides. BioNeMo has no test side."""
    export(uniref[0], tmp_path / "set", to)
    read_records(Records(parts=2), "uniref90", tmp_path / "set", tmp_path / "out", threads=1)
    rows = [
        row
        for path in find_parts(tmp_path / "out", "uniref90").paths
        for row in pq.read_table(path, columns=["id", "sequence", "given_side"]).to_pylist()
    ]
    expected = {
        (name.replace("UniRef50_", "UniRef90_"), sequence, SIDES[side])
        for side, of_side in uniref[1].items()
        for name, _cluster, sequence in of_side
        if (to, side) != ("bionemo", "test")
    }
    assert {(row["id"], row["sequence"], row["given_side"]) for row in rows} == expected and len(rows) == len(expected)
    pairs = {
        (row["cluster_key"], row["member_key"])
        for path in find_parts(tmp_path / "out", "uniref90", "members").paths
        for row in pq.read_table(path).to_pylist()
    }
    assert {(key_of(name[9:]), key_of(cluster[9:])) for name, cluster, _sequence in uniref[1]["train"]} <= pairs


DIES = """
import os, signal, sys
from pathlib import Path
from unirefine.export import formats, plan, state
from unirefine.export.run import run

add, calls = state.Ledger.add, []

def dying(ledger, record):
    add(ledger, record)
    calls.append(record)
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)

cut = plan.cut
state.Ledger.add = dying
formats.cut = lambda sides, pattern, write, _residues: cut(sides, pattern, write, 9000)
run(Path(sys.argv[1]), Path(sys.argv[2]), "mds", threads=2)
"""


def test_a_killed_export_goes_on(uniref, small_files, tmp_path):
    output, whole = tmp_path / "out", tmp_path / "whole"
    done = subprocess.run([sys.executable, "-c", DIES, uniref[0], output], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list(output.rglob("*.mds")) and not (output / "export.json").exists()
    assert export(uniref[0], output, "mds").kept == 4
    export(uniref[0], whole, "mds")
    assert files_of(output) == files_of(whole)
