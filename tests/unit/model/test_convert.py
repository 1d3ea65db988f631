"""Hugging Face conversion is bit-exact both ways, and what it writes loads with transformers."""

import json

import oracle
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import EsmForMaskedLM, EsmTokenizer

from unirefine.core.alphabet import TOKENS
from unirefine.errors import UserError
from unirefine.model import convert, huggingface

SIZE = (3, 96, 4)


@pytest.fixture
def theirs():
    return oracle.random_huggingface(*SIZE)


@pytest.fixture
def source(theirs, tmp_path):
    return oracle.save_huggingface(theirs, tmp_path / "source")


def tensors(directory):
    return {
        huggingface.usual_name(name): tensor
        for file in directory.glob("*.safetensors")
        for name, tensor in load_file(file).items()
    }


def test_round_trip_is_bit_exact(source, build, tmp_path):
    model = build(*SIZE, weights=False)
    convert.load_huggingface(source, model)
    convert.export_huggingface(model, tmp_path / "out")
    before, after = tensors(source), tensors(tmp_path / "out")
    assert before.keys() == after.keys()
    assert "esm.contact_head.regression.weight" in after
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name


def test_transformers_loads_the_export(theirs, source, build, tmp_path):
    model = build(*SIZE, weights=False)
    convert.load_huggingface(source, model)
    convert.export_huggingface(model, tmp_path / "out")
    loaded, info = EsmForMaskedLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"] - {"esm.rotary_embeddings.inv_freq"} and not info["unexpected_keys"]
    tokens = oracle.batch([20, 11])
    assert torch.equal(oracle.huggingface_logits(loaded.eval(), tokens), oracle.huggingface_logits(theirs, tokens))
    config = json.loads((tmp_path / "out/config.json").read_text())
    wanted = json.loads((source / "config.json").read_text())
    ours_alone = {"cls_token_id", "hidden_act", "torch_dtype"}
    defaults = {"add_cross_attention", "bos_token_id", "dtype", "is_decoder", "rope_theta", "transformers_version"}
    assert {k: v for k, v in config.items() if k not in ours_alone} == {
        k: v for k, v in wanted.items() if k not in defaults
    }


def test_transformers_loads_the_tokenizer(build, tmp_path):
    convert.export_huggingface(build(*SIZE), tmp_path / "out")
    tokenizer = EsmTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.get_vocab() == {token: i for i, token in enumerate(TOKENS)}
    assert tokenizer("MKX<mask>")["input_ids"] == [0, 20, 15, 24, 32, 2]
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.model_max_length) == (1, 3, int(1e30))


def test_many_files_with_an_index(source, build, tmp_path, monkeypatch):
    monkeypatch.setattr(convert, "SHARD_BYTES", 200_000)
    model = build(*SIZE, weights=False)
    convert.load_huggingface(source, model)
    convert.export_huggingface(model, tmp_path / "out")
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    files = sorted(path.name for path in (tmp_path / "out").glob("*.safetensors"))
    assert len(files) > 3 and files == sorted(set(index["weight_map"].values()))
    before = tensors(source)
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in before.values())
    for name, file in index["weight_map"].items():
        with safe_open(tmp_path / "out" / file, "pt") as opened:
            assert torch.equal(opened.get_tensor(name), before[name])
    again = build(*SIZE, weights=False)
    convert.load_huggingface(tmp_path / "out", again)
    for name, tensor in again.named_parameters():
        assert torch.equal(tensor[:33], dict(model.named_parameters())[name][:33]), name
    assert EsmForMaskedLM.from_pretrained(tmp_path / "out").config.hidden_size == 96


def test_fused_qkv_is_interleaved_per_head():
    heads, dim = 3, 2
    query, key, value = (torch.arange(heads * dim).float()[:, None] + 100 * i for i in range(3))
    fused = convert.fuse_qkv(query, key, value, heads)
    assert fused[:, 0].tolist() == [0, 1, 100, 101, 200, 201, 2, 3, 102, 103, 202, 203, 4, 5, 104, 105, 204, 205]
    for tensor, back in zip((query, key, value), convert.split_qkv(fused, heads), strict=True):
        assert torch.equal(tensor, back)


def test_an_export_replaces_an_older_directory(build, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/stale").touch()
    convert.export_huggingface(build(*SIZE), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert not (tmp_path / "out/stale").exists()


def rewrite(source, change):
    state = load_file(source / "model.safetensors")
    change(state)
    save_file(state, source / "model.safetensors", metadata={"format": "pt"})


def test_missing_tensor(source, build):
    rewrite(source, lambda state: state.pop("lm_head.bias"))
    with pytest.raises(UserError, match=r"no tensor lm_head\.bias"):
        convert.load_huggingface(source, build(*SIZE, weights=False))


def test_unknown_tensor(source, build):
    rewrite(source, lambda state: state.update({"esm.pooler.dense.bias": torch.zeros(1)}))
    with pytest.raises(UserError, match=r"unknown tensors \['esm\.pooler\.dense\.bias'\]"):
        convert.load_huggingface(source, build(*SIZE, weights=False))


def test_other_size(source, build):
    with pytest.raises(UserError, match=r"\(3, 96, 4\), not \(2, 64, 4\)"):
        convert.load_huggingface(source, build(2, 64, 4, weights=False))


@pytest.mark.parametrize(
    ("key", "value"), [("position_embedding_type", "absolute"), ("token_dropout", False), ("rope_theta", 500000.0)]
)
def test_other_architecture(source, key, value):
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(UserError, match=f"{key} is {value!r}"):
        huggingface.model_of(source)


def test_not_a_model_directory(tmp_path):
    with pytest.raises(UserError, match=r"no config\.json"):
        huggingface.model_of(tmp_path)


def as_published(theirs, directory):
    """The layout of ESM-2's files on the hub: a stored copy of the tied head, position tables, rotary frequencies."""
    weights = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    weights["lm_head.decoder.weight"] = weights["esm.embeddings.word_embeddings.weight"].clone()
    weights["esm.embeddings.position_ids"] = torch.arange(1026)[None]
    weights["esm.embeddings.position_embeddings.weight"] = torch.randn(1026, SIZE[1])
    frequencies = theirs.esm.rotary_embeddings.inv_freq
    for layer in range(SIZE[0]):
        weights[f"esm.encoder.layer.{layer}.attention.self.rotary_embeddings.inv_freq"] = frequencies.clone()
    weights.pop("esm.rotary_embeddings.inv_freq", None)
    oracle.save_huggingface(theirs, directory)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((directory / "config.json").read_text())
    config.pop("rope_theta", None)
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def in_transformers_own_names(theirs, directory):
    theirs.save_pretrained(directory, save_original_format=False)
    return directory


def in_several_files(theirs, directory):
    theirs.save_pretrained(directory, max_shard_size="200KB")
    assert len(list(directory.glob("model-*.safetensors"))) > 2
    return directory


@pytest.mark.parametrize("layout", [as_published, in_transformers_own_names, in_several_files])
def test_every_layout_of_files_comes_back_bit_for_bit(theirs, layout, build, tmp_path):
    source = layout(theirs, tmp_path / "source")
    model = build(*SIZE, weights=False)
    convert.load_huggingface(source, model)
    convert.export_huggingface(model, tmp_path / "out")
    before, after = tensors(source), tensors(tmp_path / "out")
    assert before.keys() - huggingface.TIED.keys() == after.keys()
    assert {"esm.contact_head.regression.weight", "esm.contact_head.regression.bias"} <= after.keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
    tokens = oracle.batch([12, 30])
    again = EsmForMaskedLM.from_pretrained(tmp_path / "out").eval()
    assert torch.equal(oracle.huggingface_logits(again, tokens), oracle.huggingface_logits(theirs, tokens))


def test_a_head_that_is_not_tied_is_refused(theirs, build, tmp_path):
    source = as_published(theirs, tmp_path / "source")
    weights = load_file(source / "model.safetensors")
    weights["lm_head.decoder.weight"][7] += 1
    save_file(weights, source / "model.safetensors")
    with pytest.raises(UserError, match=r"lm_head\.decoder\.weight is not esm\.embeddings"):
        convert.load_huggingface(source, build(*SIZE, weights=False))
