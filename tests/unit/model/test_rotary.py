"""Rotary frequencies that a model brings along: used by both engines, kept by checkpoints and exports."""

import numpy as np
import oracle
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import EsmForMaskedLM

from unirefine.cli.main import main
from unirefine.core.alphabet import encode
from unirefine.errors import UserError
from unirefine.model import convert
from unirefine.model.inference import open_huggingface, open_megatron
from unirefine.model.rotary import stored_frequencies

SIZE = (3, 64, 4)
EXACT = 10000 ** -(torch.arange(0, 16, 2) / 16)
LAYER = "esm.encoder.layer.{}.attention.self.rotary_embeddings.inv_freq"
TOKENS = np.concatenate([[0], encode("MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQ" * 8), [2]])
BOUNDS = np.array([0, len(TOKENS)])


def published(directory, frequencies=None):
    """A model with one tensor of frequencies for each layer, as the hub has it, and transformers' hidden states."""
    model = oracle.random_huggingface(*SIZE)
    oracle.save_huggingface(model, directory)
    convert.write_tokenizer(directory)
    weights = load_file(directory / "model.safetensors")
    for name in [name for name in weights if name.endswith("inv_freq")]:
        del weights[name]
    if frequencies is not None:
        weights |= {LAYER.format(layer): frequencies.clone() for layer in range(SIZE[0])}
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    theirs = EsmForMaskedLM.from_pretrained(directory).eval()
    tokens = torch.from_numpy(TOKENS)[None]
    with torch.no_grad():
        states = theirs.esm(tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state[0]
    return directory, states


@pytest.mark.parametrize("rounded", [torch.float16, torch.bfloat16, None])
def test_a_model_computes_with_its_own_frequencies_wherever_it_lies(rounded, tmp_path):
    """As given, as a checkpoint of ours, and exported from that."""
    frequencies = None if rounded is None else EXACT.to(rounded).float()
    given, expected = published(tmp_path / "given", frequencies)
    made, back = tmp_path / "made", tmp_path / "back"
    assert main(["convert", "--from", str(given), "--to", str(made)]) == 0
    assert main(["convert", "--from", str(made), "--to", str(back)]) == 0
    for directory in (given, made, back):
        for opened in (open_megatron, open_huggingface):
            states = opened(directory).states(TOKENS, BOUNDS)
            assert (states - expected).abs().max() < 1e-4, (directory.name, opened.__name__)
    exact, without = published(tmp_path / "exact"), open_megatron(tmp_path / "exact").states(TOKENS, BOUNDS)
    assert (without - exact[1]).abs().max() < 2e-4
    if rounded is not None:  # else the test could not see what it is for
        assert (without - expected).abs().max() > 1e-3


def test_frequencies_set_later_are_not_hidden_by_angles_made_before(build, tmp_path):
    given, expected = published(tmp_path / "given", EXACT.bfloat16().float())
    model = build(*SIZE)
    tokens = torch.from_numpy(TOKENS)[None]
    with torch.no_grad():
        model(tokens)
    convert.load_huggingface(given, model)
    with torch.no_grad():
        states = model.eval().hidden(tokens, torch.tensor([0, len(TOKENS)], dtype=torch.int32))
    assert (states[:, 0] - expected).abs().max() < 2e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found[LAYER.format(1)].mul_(1.02), "layer.1.* are not ESM-2's rotary frequencies"),
        (lambda found: found[LAYER.format(2)].mul_(1.001), "layer.2.* differ from those of another layer"),
        (lambda found: found[LAYER.format(0)].fill_(float("nan")), "layer.0.* are not ESM-2's"),
        (lambda found: found.update({LAYER.format(0): EXACT[:3]}), "layer.0.* are not ESM-2's"),
    ],
)
def test_other_frequencies_are_refused(change, message):
    found = {LAYER.format(layer): EXACT.clone() for layer in range(3)}
    assert torch.equal(stored_frequencies(found, 16, "model"), EXACT)
    change(found)
    with pytest.raises(UserError, match=message):
        stored_frequencies(found, 16, "model")
    assert stored_frequencies({"esm.contact_head.regression.bias": torch.zeros(1)}, 16, "model") is None
