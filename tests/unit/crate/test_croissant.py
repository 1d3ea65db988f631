"""A Parquet export as Croissant, read back by mlcroissant."""

import hashlib
import re
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "shard"))

from small_run import make_run

from unirefine.cli.main import main
from unirefine.config import Shard
from unirefine.crate.croissant import run as describe
from unirefine.errors import UserError
from unirefine.export.run import run as export
from unirefine.files.atomic import read_json, write_json
from unirefine.shard.run import run as build_shards


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(directory of an export, what its shards were made of)"""
    root = tmp_path_factory.mktemp("croissant")
    run = make_run(root / "run", clusters=60)
    build_shards(Shard(parts=2), **run.inputs, output=root / "tiny/shard")
    export(root / "tiny", root / "data", "parquet")
    assert main(["crate", "--export", str(root / "data"), "--output", str(root / "data/croissant.json")]) == 0
    return root / "data", run


def dataset(directory):
    import mlcroissant  # takes a second, in every worker that collects this module

    return mlcroissant.Dataset(directory / "croissant.json")


def test_its_records_are_the_sequences(made):
    directory, run = made
    read = dataset(directory)
    for side, code in (("train", 0), ("validation", 1), ("test", 2)):
        expected = {
            (None if side != "train" else name, cluster, sequence)
            for cluster, members in run.expected(code, Shard().seed, representatives=side != "train")
            for name, sequence in members
        }
        columns = [f"{side}/{column}" for column in ("ur90_id", "ur50_id", "sequence")]
        found = {tuple(row[name] and row[name].decode() for name in columns) for row in read.records(side)}
        assert found == expected


def test_it_is_valid_and_names_files_licence_and_release(made):
    directory, _run = made
    metadata = dataset(directory).metadata
    assert not metadata.issues.errors and not metadata.issues.warnings
    assert metadata.conforms_to == ["http://mlcommons.org/croissant/1.1"]
    assert metadata.license == ["https://creativecommons.org/licenses/by/4.0/"]
    assert (metadata.version, str(metadata.date_published)[:10]) == ("2026.3.0", "2026-06-11")
    files = {file.content_url: file.sha256 for file in metadata.file_objects}
    assert files == {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*.parquet")
    }


def test_a_data_set_of_somebody_is_not_called_uniprots(tmp_path):
    """Neither in the Croissant file nor on the card beside it."""
    run = make_run(tmp_path / "run", clusters=60)
    release = read_json(run.inputs["release"]) | {
        "source": "parquet", "release": None, "dataset": {"id": "somebody/proteins", "revision": None},
    }  # fmt: skip
    write_json(run.inputs["release"], {key: value for key, value in release.items() if key != "checksum"})
    build_shards(Shard(parts=2), **run.inputs, output=tmp_path / "tiny/shard")
    export(tmp_path / "tiny", tmp_path / "data", "parquet")
    describe(tmp_path / "data", tmp_path / "data/croissant.json")
    metadata = dataset(tmp_path / "data").metadata
    assert (metadata.license, metadata.cite_as, metadata.version) == (None, None, "1.0.0")
    assert "sequences of the data set somebody/proteins, split" in metadata.description
    card = (tmp_path / "data/README.md").read_text()
    assert "license: other" in card and "sequences from the data set somebody/proteins, split" in card
    assert "those of the input data set, and under its licence" in card
    assert not re.search("UniProt|uniref", card.partition("## Lineage")[0])


@pytest.mark.parametrize(
    ("change", "output", "message"),
    [
        (lambda data: (data / "export.json").unlink(), "croissant.json", "no export.json, so it is no export"),
        (lambda data: (data / "train/000.parquet").write_bytes(b""), "croissant.json", "0 bytes instead of"),
        (
            lambda data: write_json(data / "export.json", read_json(data / "export.json") | {"to": "mds"}),
            "croissant.json",
            "an export to mds; Croissant describes Parquet",
        ),
        (lambda data: None, "../croissant.json", "its paths are relative to the data"),
        (lambda data: None, "README.md", "exists, and was not written by this command"),
    ],
)
def test_what_is_no_parquet_export_is_one_line(change, output, message, made, tmp_path):
    data = shutil.copytree(made[0], tmp_path / "data")
    (data / "croissant.json").unlink()
    change(data)
    before = (data / "README.md").read_bytes()
    with pytest.raises(UserError, match=message):
        describe(data, data / output)
    assert (data / "README.md").read_bytes() == before
    assert not (data / "croissant.json").exists()
