"""Opening refuses incomplete shards; verify finds every changed byte; cat prints a sequence."""

import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from unirefine.cli.main import main
from unirefine.config import Sampling, Shard
from unirefine.core.ids import key_of
from unirefine.dataset import open_shards
from unirefine.errors import UserError
from unirefine.evaluate.ngram import count_triples
from unirefine.files.atomic import read_json, write_json
from unirefine.sampling import SampleStream
from unirefine.shard.run import run as build_shards


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    build_shards(Shard(parts=3), **run.inputs, output=directory, threads=2)
    return directory


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "shard")


def cut(path, count):
    with path.open("rb+") as handle:
        handle.truncate(path.stat().st_size - count)


def flip(path, at):
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda d: cut(d / "train-001-of-003.bin", 12),
            r"train-001-of-003.bin: 12 bytes shorter than the manifest says",
        ),
        (lambda d: cut(d / "validation.idx", 1), r"validation.idx: 1 bytes shorter"),
        (lambda d: (d / "test.bin").write_bytes((d / "test.bin").read_bytes() + b"x"), r"test.bin: 1 bytes longer"),
        (lambda d: (d / "train-000-of-003.idx").unlink(), r"train-000-of-003.idx: missing"),
        (lambda d: (d / "validation.ids.parquet").unlink(), r"validation.ids.parquet: missing"),
        (lambda d: (d / "manifest.json").unlink(), r"no manifest.json"),
        (lambda d: (d / "manifest.json").write_text("{"), r"manifest.json: not valid JSON"),
        (lambda d: (d / "manifest.json").write_text("{}"), r"not a manifest of unirefine-shards"),
    ],
)
def test_incomplete_shards_are_refused_before_anything_is_read(copy, damage, message, capsys):
    damage(copy)
    with pytest.raises(UserError, match=message) as caught:
        open_shards(copy)
    assert re.search("snakemake -R shard|run its stage|run the shard stage again", str(caught.value))
    assert main(["shard", "verify", str(copy)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("unirefine shard verify: error: ")


def test_an_index_of_another_shard_is_refused(copy):
    a, b = copy / "train-000-of-003.idx", copy / "train-001-of-003.idx"
    a_raw, b_raw = a.read_bytes(), b.read_bytes()
    manifest = read_json(copy / "manifest.json")
    a.write_bytes(b_raw)
    b.write_bytes(a_raw)
    for file in manifest["files"]:
        if file["name"] in (a.name, b.name):
            file["bytes"] = (copy / file["name"]).stat().st_size
    write_json(copy / "manifest.json", manifest)
    with pytest.raises(UserError, match=r"train-000-of-003.idx: its sequences end at byte"):
        open_shards(copy)


def test_another_alphabet_or_count_is_refused(copy):
    path = copy / "manifest.json"
    manifest = read_json(path)
    write_json(path, {**manifest, "alphabet": manifest["alphabet"][::-1]})
    with pytest.raises(UserError, match="another alphabet"):
        open_shards(copy)
    manifest["sides"]["train"]["documents"] += 1
    write_json(path, manifest)
    with pytest.raises(UserError, match=r"train shards hold \d+ documents, the manifest says"):
        open_shards(copy)


@pytest.mark.parametrize("name", ["train-002-of-003.bin", "validation.idx", "test.ids.parquet"])
def test_verify_finds_one_changed_bit(copy, name, capsys):
    assert main(["shard", "verify", str(copy)]) == 0
    assert "all match the manifest" in capsys.readouterr().out
    flip(copy / name, (copy / name).stat().st_size // 2)
    assert main(["shard", "verify", str(copy)]) == 1
    error = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(error) == 1 and name in error[0] and "SHA-256" in error[0]


def test_cat_prints_a_train_member_and_a_validation_representative(whole, run, capsys):
    for side, code in (("train", 0), ("validation", 1)):
        cluster = next(cluster for cluster in run.clusters if cluster["side"] == code)
        name, sequence = cluster["members"][-1] if code == 0 else cluster["representative"]
        assert main(["shard", "cat", name, "--shards", str(whole)]) == 0
        head, *lines = capsys.readouterr().out.splitlines()
        assert head.startswith(f">{name} cluster={cluster['id']} {side} {side}")
        assert "".join(lines) == sequence.replace("J", "?")
        shard, offset = head.split()[-2], int(head.split("offset=")[1])
        raw = np.fromfile(whole / shard, np.uint8)
        tokens = open_shards(whole).sides[side]
        found = next(i for i in range(tokens.sequences) if tokens.ids(i)[0] == name)
        np.testing.assert_array_equal(raw[offset : offset + len(sequence)], tokens.tokens(found))


def test_cat_of_an_unknown_id_is_one_line(whole, capsys):
    assert main(["shard", "cat", "UniRef90_NOPE", "--shards", str(whole)]) == 1
    assert "UniRef90_NOPE is in no shard" in capsys.readouterr().err


def test_build_from_the_command_line(run, tmp_path, whole, capsys):
    inputs = run.inputs
    arguments = ["shard", "build", "--config", '{"parts": 3}', "--threads", "2", "--output", str(tmp_path / "s")]
    for name in ("records", "clusters", "split", "release"):
        arguments += [f"--{name}", str(inputs[name])]
    assert main(arguments) == 0
    assert "shard: train:" in capsys.readouterr().out
    for path in whole.iterdir():
        assert path.read_bytes() == (tmp_path / "s" / path.name).read_bytes()


def test_keys_are_those_of_the_ids(whole):
    side = open_shards(whole).validation
    names = [side.ids(i)[0] for i in range(side.sequences)]
    keys = side.keys(np.arange(side.sequences))
    assert keys.tolist() == [key_of(name.removeprefix("UniRef50_")) for name in names]
    assert side.keys(np.array([4, 1])).tolist() == [keys[4], keys[1]]


def test_a_token_outside_the_alphabet_is_one_line_wherever_it_is_read(copy):
    """The size is right, and opening does not read the tokens."""
    shards = open_shards(copy)
    sequence = int(np.argmax(shards.train.lengths))
    file, _local = shards.train._locate(shards.train._first_sequence, sequence)
    path = shards.train.prefixes[file].with_suffix(".bin")
    at, length = shards.train.offset(sequence), int(shards.train.lengths[sequence])
    raw = path.read_bytes()
    path.write_bytes(raw[:at] + bytes([33]) * length + raw[at + length :])
    shards = open_shards(copy)
    with pytest.raises(UserError, match=f"sequence {sequence} has a token that is not one of the 33"):
        shards.train.tokens(sequence)
    with pytest.raises(UserError, match=f"sequence {sequence} has a token that is not one of the 33"):
        SampleStream(shards.train, Sampling(mask_fraction=0.15)).batch(np.arange(20 * shards.train.documents))
    with pytest.raises(UserError, match=f"sequence {sequence} has a token that is not one of the 33"):
        count_triples(shards.train.tables, 0, shards.train.documents, np.zeros((33, 33, 33)))


def test_fewer_ids_than_sequences_are_one_line(copy):
    path = copy / "validation.ids.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    side = open_shards_without_sizes(copy).validation
    for read in (lambda: side.keys(np.array([0])), lambda: side.ids(0)):
        with pytest.raises(UserError, match=rf"{len(table) - 1} ids for {len(table)} sequences"):
            read()


def open_shards_without_sizes(directory):
    manifest = read_json(directory / "manifest.json")
    write_json(directory / "manifest.json", {**manifest, "files": []})
    return open_shards(directory)
