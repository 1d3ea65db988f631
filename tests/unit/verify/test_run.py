"""`unirefine verify` finds every flipped bit, in shards, models and stages."""

import json
import shutil

import pytest

from unirefine.cli.main import main
from unirefine.config import Shard
from unirefine.files import lineage
from unirefine.files.atomic import write_json
from unirefine.files.hashes import recorded
from unirefine.shard.run import run as build_shards

CONFIG = "huggingface/config.json"


@pytest.fixture(scope="module")
def training(small_esm2, tmp_path_factory):
    """`train/` of a run: final/ with both layouts and its lineage, and a checkpoint."""
    root = tmp_path_factory.mktemp("run") / "train"
    final = root / "final"
    shutil.copytree(small_esm2[0], final / "huggingface")
    assert main(["convert", "--from", str(small_esm2[0]), "--to", str(final / "megatron")]) == 0
    shutil.copytree(final / "megatron", root / "checkpoints/step-00000010")
    facts = {"format": lineage.FORMAT, "version": lineage.FORMAT_VERSION}
    for directory, names in ((final / "huggingface", ["config.json", "model.safetensors"]), (final, [CONFIG])):
        write_json(directory / lineage.FILE, facts | {"files": recorded(directory, names)})
    return root


def flip(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def verify(path, capsys):
    """(status, standard output, error lines)"""
    status = main(["verify", str(path)])
    found = capsys.readouterr()
    return status, found.out, [line for line in found.err.splitlines() if "error:" in line]


def test_a_training_is_verified_as_a_whole_and_in_parts(training, tmp_path, capsys):
    copy = shutil.copytree(training, tmp_path / "train")
    status, out, _ = verify(copy, capsys)
    assert status == 0
    checked = [line.split(":")[0].removeprefix(str(copy)) for line in out.splitlines()]
    assert checked == ["/checkpoints/step-00000010", "/final", "/final/megatron", "/final/huggingface"]
    for name in ("checkpoints/step-00000010/__0_0.distcp", "final/huggingface/model.safetensors", f"final/{CONFIG}"):
        kept = (copy / name).read_bytes()
        flip(copy / name)
        status, out, errors = verify(copy, capsys)
        assert status == 1 and "DAMAGED" in out and len(errors) == 1 and name.split("/")[1] in errors[0]
        assert verify((copy / name).parent, capsys)[0] == 1
        (copy / name).write_bytes(kept)
    assert verify(copy / "final", capsys)[0] == 0


def test_shards_and_stages_are_verified(run, tmp_path, capsys):
    directory = tmp_path / "shard"
    build_shards(Shard(parts=2), **run.inputs, output=directory, threads=2)
    status, out, _ = verify(directory, capsys)
    assert status == 0 and "all match the manifest" in out
    flip(directory / "validation.bin")
    status, _, errors = verify(directory, capsys)
    assert status == 1 and "validation.bin" in errors[0] and "SHA-256" in errors[0]

    stage = tmp_path / "stage"
    stage.mkdir()
    shutil.copy(directory / "train-000-of-002.ids.parquet", stage / "ids.parquet")
    write_json(stage / "counts.json", {})
    status, out, _ = verify(stage, capsys)
    assert status == 0 and "1 Parquet files" in out and "all pages match" in out and "have none" not in out
    flip(stage / "ids.parquet")
    status, _, errors = verify(stage, capsys)
    assert status == 1 and "ids.parquet: damaged" in errors[0]


def test_a_foreign_directory_has_nothing_recorded(small_esm2, tmp_path, capsys):
    status, out, _ = verify(small_esm2[0], capsys)
    assert status == 0 and "nothing says what its bytes were" in out
    assert verify(tmp_path, capsys)[2][0].endswith("or the directory of a stage")
    assert "no such directory" in verify(tmp_path / "x", capsys)[2][0]


def test_the_hash_of_a_checkpoints_facts_is_checked(training, tmp_path, capsys):
    copy = shutil.copytree(training / "final/megatron", tmp_path / "c")
    facts = json.loads((copy / "complete.json").read_text())
    facts["extra"]["source"] = "elsewhere"
    (copy / "complete.json").write_text(json.dumps(facts))
    assert "its content is not what was written (checksum)" in verify(copy, capsys)[2][0]
