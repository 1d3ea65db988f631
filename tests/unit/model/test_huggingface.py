"""Hugging Face directories that are damaged, or that contradict themselves, are one line."""

import json
import shutil

import oracle
import pytest
import torch
from safetensors.torch import load_file, save_file

from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.files.atomic import write_json
from unirefine.files.hashes import recorded
from unirefine.model import convert, huggingface

SIZE = (3, 64, 4)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A directory with a vocabulary and, as in published ones, rotary frequencies and a copy of the tied head."""
    model = oracle.random_huggingface(*SIZE)
    directory = oracle.save_huggingface(model, tmp_path_factory.mktemp("whole") / "hf")
    convert.write_tokenizer(directory)
    weights = load_file(directory / "model.safetensors")
    weights["lm_head.decoder.weight"] = weights["esm.embeddings.word_embeddings.weight"].clone()
    weights[INVERSE] = model.esm.rotary_embeddings.inv_freq.clone()
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def with_index(directory, text):
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors.index.json").write_text(text)


def config(**changes):
    def change(directory):
        found = json.loads((directory / "config.json").read_text()) | changes
        found = {key: value for key, value in found.items() if value is not ...}
        (directory / "config.json").write_text(json.dumps(found))

    return change


def tensors(change):
    def rewrite(directory):
        weights = load_file(directory / "model.safetensors")
        change(weights)
        save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})

    return rewrite


def replaced(name, make):
    return tensors(lambda weights: weights.update({name: make(weights[name])}))


EMBEDDING, DENSE = "esm.embeddings.word_embeddings.weight", "lm_head.dense.weight"
INVERSE = "esm.encoder.layer.0.attention.self.rotary_embeddings.inv_freq"
DAMAGES = {
    "cut": (
        lambda d: cut(d / "model.safetensors", 100_000),
        r"model\.safetensors: damaged or incomplete \(100,000 bytes",
    ),
    "empty": (lambda d: cut(d / "model.safetensors", 0), r"model\.safetensors: damaged or incomplete \(0 bytes"),
    "pointer": (
        lambda d: (d / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n"),
        "a Git LFS pointer, not the file; run `git lfs pull`",
    ),
    "half_config": (lambda d: (d / "config.json").write_text('{"model_type": "esm",'), r"config\.json: not valid JSON"),
    "list_config": (lambda d: (d / "config.json").write_text("[]"), r"config\.json: a list, not an object"),
    "deep_config": (lambda d: (d / "config.json").write_text("[" * 100_000), r"config\.json: not valid JSON"),
    "no_layers": (config(num_hidden_layers=...), "no num_hidden_layers"),
    "true_layers": (config(num_hidden_layers=True), "num_hidden_layers is True, in ESM-2 it is a whole number"),
    "huge_layers": (config(num_hidden_layers=10**6), "its tensors have 3 layers, its config.json says 1000000"),
    "fewer_layers": (config(num_hidden_layers=2), "its tensors have 3 layers, its config.json says 2"),
    "heads5": (config(num_attention_heads=5), "hidden_size 64 over num_attention_heads 5 is no whole even number"),
    "text": (config(hidden_size="64"), "hidden_size is '64', in ESM-2 it is a whole number above 0"),
    "twice_the_heads": (config(num_attention_heads=8), r"contact_head.*has shape \(1, 12\), not \(1, 24\)"),
    "activation": (config(hidden_act="relu"), "hidden_act is 'relu', in ESM-2 it is 'gelu'"),
    "mask": (config(mask_token_id=4), "mask_token_id is 4, in ESM-2 it is 32"),
    "not_tied": (config(tie_word_embeddings=False), "tie_word_embeddings is False"),
    "vocabulary64": (
        tensors(lambda w: w.update({EMBEDDING: torch.cat([w[EMBEDDING], w[EMBEDDING][:31]])})),
        r"word_embeddings\.weight has shape \(64, 64\), not \(33, 64\)",
    ),
    "scalar": (replaced(DENSE, lambda _: torch.tensor(0.5)), r"lm_head\.dense\.weight has shape \(\), not \(64, 64\)"),
    "row": (replaced(DENSE, lambda w: w[:1].clone()), r"lm_head\.dense\.weight has shape \(1, 64\)"),
    "integers": (replaced(DENSE, lambda w: w.int()), r"tensor lm_head\.dense\.weight is I32"),
    "two_kinds": (
        replaced(DENSE, lambda w: w.half()),
        r"several dtypes: lm_head\.dense\.weight is F16, esm\.encoder\.emb_layer_norm_after\.bias F32",
    ),
    "frequencies": (replaced(INVERSE, lambda w: w * 2), "inv_freq are not ESM-2's rotary frequencies"),
    "frequencies_of_a_layer": (replaced(INVERSE, lambda w: w * 1.001), "inv_freq differ from those of another layer"),
    "frequencies_of_heads": (replaced(INVERSE, lambda w: w[:4].clone()), r"inv_freq has shape \(4,\), not \(8,\)"),
    "vocabulary": (
        lambda d: (d / "vocab.txt").write_text((d / "vocab.txt").read_text().replace("L\nA", "A\nL")),
        r"vocab\.txt: not ESM-2's vocabulary: 33 tokens, of which number 4 is the first that differs",
    ),
    "index": (
        lambda d: with_index(d, '{"weight_map": {"a": "../../x.safetensors"}}'),
        "'../../x.safetensors' is not the name of a safetensors file",
    ),
    "index_list": (lambda d: with_index(d, "[1]"), "a list, not an object"),
    "index_of_nothing": (
        lambda d: with_index(d, '{"weight_map": {"a": "b.safetensors"}}'),
        "b.safetensors: no such file",
    ),
}


def test_a_whole_directory_is_opened(whole):
    files = huggingface.HuggingfaceFiles(whole)
    assert files.model().sizes == SIZE and files.dtype() == torch.float32
    state = oracle.random_huggingface(*SIZE).state_dict()
    aside = ("contact_head", "rotary", "decoder", "position_ids")
    theirs = {name: tuple(tensor.shape) for name, tensor in state.items() if not any(word in name for word in aside)}
    assert huggingface.shapes(3, 64) == theirs


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_or_contradicting_directory_is_one_line(whole, tmp_path, name):
    damage, message = DAMAGES[name]
    damage(shutil.copytree(whole, tmp_path / "hf"))
    with pytest.raises(UserError, match=message) as caught:
        huggingface.HuggingfaceFiles(tmp_path / "hf")
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_values_that_are_not_finite_are_refused(whole, tmp_path, build):
    directory = shutil.copytree(whole, tmp_path / "hf")
    replaced(DENSE, lambda w: w.index_fill(0, torch.tensor([2]), float("inf")))(directory)
    with pytest.raises(UserError, match=r"head\.dense\.weight has values that are not finite"):
        convert.load_huggingface(directory, build(*SIZE, weights=False))


def test_an_exported_model_that_was_changed_is_refused(whole, tmp_path, build):
    directory = shutil.copytree(whole, tmp_path / "hf")
    facts = {"format": lineage.FORMAT, "version": 1, "files": recorded(directory, ["model.safetensors", "config.json"])}
    write_json(directory / lineage.FILE, facts)
    convert.load_huggingface(directory, build(*SIZE, weights=False))
    raw = bytearray((directory / "model.safetensors").read_bytes())
    raw[-100] ^= 1  # another number
    (directory / "model.safetensors").write_bytes(raw)
    with pytest.raises(UserError, match=r"damaged: model\.safetensors: its content is not what was written"):
        convert.load_huggingface(directory, build(*SIZE, weights=False))
