"""`unirefine convert` there and back gives the same bits; mistakes are one line."""

import oracle
import pytest
import torch
from safetensors.torch import load_file

from unirefine.cli.main import main
from unirefine.model import checkpoint, convert


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
    assert {convert.usual_name(name) for name in before} == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == dtype and torch.equal(tensor, after[convert.usual_name(name)]), name


def test_target_exists(tmp_path, capsys):
    assert main(["convert", "--from", "x", "--to", str(tmp_path)]) == 1
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["nowhere", "/no/where/at/all"])
def test_no_such_source(source, tmp_path, capsys):
    assert main(["convert", "--from", source, "--to", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "no such directory" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
