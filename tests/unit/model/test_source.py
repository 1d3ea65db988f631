"""One resolver: whatever a model is given as, the same weights are opened."""

import json
import shutil

import oracle
import pytest
import torch

from unirefine.errors import UserError
from unirefine.model import checkpoint, convert, source
from unirefine.model.inference import load_esm_for_masked_lm, open_megatron

SIZE = (2, 64, 4)


@pytest.fixture(scope="module")
def run(tmp_path_factory, build):
    """`train/` of a run, with final/ in both layouts and a checkpoint; and a copy of its Hugging Face directory."""
    root = tmp_path_factory.mktemp("run")
    theirs = oracle.random_huggingface(*SIZE)
    model = build(*SIZE, weights=False)
    convert.load_huggingface(oracle.save_huggingface(theirs, root / "own" / "esm2"), model)
    convert.export_huggingface(model, root / "train/final/huggingface")
    checkpoint.save(root / "train/final/megatron", model)
    checkpoint.save(root / "train/checkpoints/step-00000010", model)
    return root, theirs


GIVEN = {
    "train": "train", "final": "train/final", "huggingface": "train/final/huggingface",
    "megatron": "train/final/megatron", "checkpoint": "train/checkpoints/step-00000010", "own": "own/esm2",
}  # fmt: skip


@pytest.mark.parametrize("name", GIVEN)
def test_every_way_to_give_a_model_opens_the_same_weights(run, name, build):
    root, theirs = run
    given = root / GIVEN[name]
    assert source.find(given).model().sizes == SIZE
    tokens = oracle.batch([9, 14])
    expected = oracle.huggingface_logits(theirs, tokens)
    assert torch.equal(oracle.huggingface_logits(load_esm_for_masked_lm(given), tokens), expected)
    engine = open_megatron(given)
    ours = dict(convert.own_tensors(engine.model))
    for tensor, value in theirs.state_dict().items():
        if tensor in ours:
            assert torch.equal(value, ours[tensor]), tensor
    assert "esm.contact_head.regression.weight" in ours
    initial = build(*SIZE, weights=False)  # as train.init
    source.find(str(given)).load(initial)
    assert torch.equal(initial.head.dense.weight, theirs.lm_head.dense.weight)


def test_safetensors_come_first_in_a_directory_that_is_no_runs_own(run, tmp_path):
    directory = shutil.copytree(run[0] / "own/esm2", tmp_path / "hf")
    shutil.copytree(run[0] / "train/final/megatron", directory / "megatron")
    (directory / "megatron/.metadata").write_bytes(b"not read")
    found = source.find(directory)
    assert (found.checkpoint, found.huggingface) == (None, directory)
    open_megatron(directory)


def unfinished(run, path):
    shutil.copytree(run / "train/checkpoints", path / "checkpoints")


def pickled(_run, path):
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": "esm"}))
    (path / "pytorch_model.bin").touch()


def adapter(_run, path):
    path.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (path / name).touch()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda _run, path: path.mkdir(),
            "neither a training run, a complete checkpoint nor a Hugging Face ESM-2; give",
        ),
        (lambda _run, path: path.write_text(""), "a file, not a model"),
        (lambda _run, path: None, "no such directory"),
        (unfinished, "a training that has not finished; give one of its checkpoints: .*step-00000010"),
        (adapter, "an adapter, not a whole model; give the model that it was merged into"),
        (pickled, "a pickle of PyTorch; only safetensors are opened; convert it first.*unirefine convert --from"),
    ],
)
def test_what_is_no_model_is_one_line(run, tmp_path, make, message):
    make(run[0], tmp_path / "x")
    with pytest.raises(UserError, match=message) as caught:
        source.find(tmp_path / "x")
    assert "\n" not in str(caught.value)
