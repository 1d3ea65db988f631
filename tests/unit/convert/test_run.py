"""`unirefine convert` there and back gives the same bits; mistakes are one line."""

import argparse
import os
import stat

import oracle
import pytest
import torch
from safetensors.torch import load_file
from transformers import EsmForMaskedLM

from unirefine.cli.main import main
from unirefine.files import lineage
from unirefine.files.atomic import write_json
from unirefine.files.hashes import recorded
from unirefine.model import checkpoint, huggingface


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_there_and_back(dtype, tmp_path, capsys):
    source = oracle.save_huggingface(oracle.random_huggingface(2, 64, 4).to(dtype), tmp_path / "hf")
    assert main(["convert", "--from", str(source), "--to", str(tmp_path / "megatron")]) == 0
    assert checkpoint.read(tmp_path / "megatron")["model"] == {"layers": 2, "hidden": 64, "heads": 4}
    assert main(["convert", "--from", str(tmp_path / "megatron"), "--to", str(tmp_path / "back")]) == 0
    printed = capsys.readouterr().out
    assert f"Megatron checkpoint (2 layers, hidden 64, 4 heads, {str(dtype)[6:]}) in {tmp_path / 'megatron'}" in printed
    assert f"Hugging Face directory (2 layers, hidden 64, 4 heads, {str(dtype)[6:]}) in {tmp_path / 'back'}" in printed
    before, after = load_file(source / "model.safetensors"), load_file(tmp_path / "back/model.safetensors")
    assert {huggingface.usual_name(name) for name in before} == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == dtype and torch.equal(tensor, after[huggingface.usual_name(name)]), name


def test_target_exists(tmp_path, capsys):
    assert main(["convert", "--from", "x", "--to", str(tmp_path)]) == 1
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["nowhere", "/no/where/at/all"])
def test_no_such_source(source, tmp_path, capsys):
    assert main(["convert", "--from", source, "--to", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "no such directory" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_final_stands_for_its_hugging_face_directory_and_keeps_its_lineage(tmp_path):
    source = oracle.save_huggingface(oracle.random_huggingface(2, 64, 4), tmp_path / "train/final/huggingface")
    steps = [{"stage": "shard"}, {"stage": "train"}]
    facts = {"format": lineage.FORMAT, "version": lineage.FORMAT_VERSION, "of": "train", "steps": steps}
    write_json(source / lineage.FILE, facts | {"files": recorded(source, ["model.safetensors"])})
    for given, target in (("train/final", "a"), ("train", "b"), ("a", "c")):
        assert main(["convert", "--from", str(tmp_path / given), "--to", str(tmp_path / target)]) == 0
        found = lineage.read(tmp_path / target)
        assert found["steps"] == steps
        assert {file["name"] for file in found["files"]} >= {"complete.json" if target != "c" else "config.json"}
        assert main(["verify", str(tmp_path / target)]) == 0
    there, back = load_file(source / "model.safetensors"), load_file(tmp_path / "c/model.safetensors")
    assert torch.equal(there["lm_head.dense.weight"], back["lm_head.dense.weight"])


@pytest.mark.parametrize("mask", [0o022, 0o027])
def test_written_files_have_the_permissions_of_the_umask(tmp_path, mask):
    source = oracle.save_huggingface(oracle.random_huggingface(2, 64, 4), tmp_path / "hf")
    before = os.umask(mask)
    try:
        assert main(["convert", "--from", str(source), "--to", str(tmp_path / "megatron")]) == 0
        assert main(["convert", "--from", str(tmp_path / "megatron"), "--to", str(tmp_path / "back")]) == 0
    finally:
        os.umask(before)
    written = [*(tmp_path / "megatron").iterdir(), *(tmp_path / "back").iterdir()]
    assert {"model.safetensors", "aside.safetensors", "complete.json", ".metadata"} <= {path.name for path in written}
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o666 & ~mask}


def fair_esm_checkpoint(theirs, path):
    """A .pt file as Meta publishes them, with the contact head beside it."""
    state, head = {}, {}
    for name, tensor in oracle.fair_esm(theirs).state_dict().items():
        if name.startswith("contact_head"):
            head[name] = tensor
        else:
            state[("encoder." if name.startswith("lm_head") else "encoder.sentence_encoder.") + name] = tensor
    sizes = {"encoder_layers": 2, "encoder_embed_dim": 64, "encoder_attention_heads": 4, "token_dropout": True}
    torch.save({"cfg": {"model": argparse.Namespace(**sizes)}, "model": state}, path)
    torch.save({"model": head}, path.with_name(f"{path.stem}-contact-regression.pt"))
    return path


def pickle_of_huggingface(theirs, path):
    oracle.save_huggingface(theirs, path)
    (path / "model.safetensors").unlink()
    torch.save(theirs.state_dict(), path / "pytorch_model.bin")
    return path


@pytest.mark.parametrize(("make", "name"), [(fair_esm_checkpoint, "esm2.pt"), (pickle_of_huggingface, "hf")])
def test_a_pickle_becomes_a_hugging_face_directory(make, name, tmp_path, capsys):
    theirs = oracle.random_huggingface(2, 64, 4)
    source = make(theirs, tmp_path / name)
    assert main(["convert", "--from", str(source), "--to", str(tmp_path / "out")]) == 0
    assert "Hugging Face directory (2 layers, hidden 64, 4 heads, float32)" in capsys.readouterr().out
    loaded = EsmForMaskedLM.from_pretrained(tmp_path / "out").eval()
    tokens = oracle.batch([9, 14])
    assert torch.equal(oracle.huggingface_logits(loaded, tokens), oracle.huggingface_logits(theirs, tokens))
    assert torch.equal(loaded.esm.contact_head.regression.weight, theirs.esm.contact_head.regression.weight)


class Touches:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda path: {"model": Touches(path)}, "not read, because it holds more than tensors and plain values"),
        (lambda _: {"model": {"x": torch.zeros(1)}}, "not a checkpoint of fair-esm's ESM-2"),
        (lambda _: b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        (lambda _: b"", "damaged or incomplete (0 bytes"),
    ],
)
def test_a_pickle_that_is_no_esm2_is_one_line_and_runs_nothing(content, message, tmp_path, capsys):
    found = content(tmp_path / "executed")
    if isinstance(found, bytes):
        (tmp_path / "x.pt").write_bytes(found)
    else:
        torch.save(found, tmp_path / "x.pt")
    assert main(["convert", "--from", str(tmp_path / "x.pt"), "--to", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "x.pt" in error
    assert not (tmp_path / "out").exists() and not (tmp_path / "executed").exists()
