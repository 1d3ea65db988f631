"""Logits, loss and gradients against Hugging Face's EsmForMaskedLM and fair-esm, on random weights in fp32."""

import oracle
import pytest
import torch

from unirefine.core.alphabet import MASK, PAD
from unirefine.model import convert, huggingface
from unirefine.model.batch import slot_sums

LENGTHS = [23, 5, 40, 12]


@pytest.fixture(params=oracle.SIZES, ids=lambda dim: f"head{dim}")
def pair(request, build, tmp_path):
    """(ours, Hugging Face's) with the same weights."""
    size = oracle.SIZES[request.param]
    theirs = oracle.random_huggingface(*size)
    ours = build(*size, weights=False).eval()
    convert.load_huggingface(oracle.save_huggingface(theirs, tmp_path / "hf"), ours)
    return ours, theirs


@pytest.mark.parametrize("lengths", [[17], [30, 30], LENGTHS], ids=["one", "full", "padded"])
@pytest.mark.parametrize("masked", [0.0, 0.4])
def test_logits(pair, lengths, masked):
    ours, theirs = pair
    tokens = oracle.batch(lengths, multiple=8 if len(lengths) > 2 else 1, masked=masked)
    with torch.no_grad():
        logits = ours(tokens)
    expected = oracle.huggingface_logits(theirs, tokens)
    assert logits.dtype == torch.float32
    oracle.assert_same(logits, expected, tokens, lambda: oracle.per_layer(ours, theirs, tokens))


@pytest.mark.parametrize("lengths", [[17], [30, 30], LENGTHS], ids=["one", "full", "padded"])
def test_the_report_of_a_difference_names_the_layer(build, tmp_path, lengths):
    theirs = oracle.random_huggingface(4, 64, 4)
    ours = build(4, 64, 4, weights=False).eval()
    convert.load_huggingface(oracle.save_huggingface(theirs, tmp_path / "hf"), ours)
    with torch.no_grad():
        ours.encoder.layers[1].mlp.linear_fc2.bias.add_(torch.linspace(-1, 1, 64))
    tokens = oracle.batch(lengths)
    report = oracle.per_layer(ours, theirs, tokens)
    differences = [float(line.split(": ")[1]) for line in report.splitlines()]
    assert differences[0] < 1e-4
    assert min(differences[1:]) > 0.1
    with pytest.raises(AssertionError, match="layer 1: "), torch.no_grad():
        oracle.assert_same(ours(tokens), oracle.huggingface_logits(theirs, tokens), tokens, lambda: report)


def pack(tokens: torch.Tensor, padding: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """The sequences of a padded batch end to end (and a slot of only padding), with their bounds."""
    rows = tokens[tokens != PAD]
    lengths = (tokens != PAD).sum(1)
    if padding:
        rows, lengths = torch.cat([rows, rows.new_full((padding,), PAD)]), torch.cat([lengths, torch.tensor([padding])])
    return rows[None], torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)


@pytest.mark.parametrize("padding", [0, 7])
def test_packed_logits(pair, padding):
    ours, theirs = pair
    tokens = oracle.batch(LENGTHS, masked=0.3)
    packed, bounds = pack(tokens, padding)
    with torch.no_grad():
        logits = ours(packed, bounds)
    expected = oracle.huggingface_logits(theirs, tokens)[tokens != PAD]
    assert (logits[0, : len(expected)] - expected).abs().max() < 1e-4
    assert logits.isfinite().all()


def test_loss_and_gradients(pair):
    ours, theirs = pair
    tokens = oracle.batch(LENGTHS)
    labels = oracle.labels_for(tokens)
    losses = ours(tokens, labels=labels)
    assert losses.shape == tokens.shape
    assert (losses[labels == -100] == 0).all()
    loss = losses.sum() / (labels != -100).sum()
    expected = oracle.huggingface_loss(theirs, tokens, labels)
    assert abs(loss.item() - expected.item()) < 1e-5
    loss.backward()
    expected.backward()
    reference = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for parameter in ours.parameters():
        parameter.data = parameter.grad
    for name, whole in convert.whole_tensors(ours):
        names = huggingface.huggingface_names(name)
        tensors = convert.split_qkv(whole, theirs.config.num_attention_heads) if len(names) == 3 else [whole]
        for theirs_name, tensor in zip(names, tensors, strict=True):
            difference = (tensor - reference[theirs_name]).abs().max()
            assert difference < 1e-5 * max(1, reference[theirs_name].abs().max()), (theirs_name, difference)


def test_packed_loss_equals_padded_loss(pair):
    ours, _theirs = pair
    tokens = oracle.batch(LENGTHS)
    labels = oracle.labels_for(tokens)
    packed, bounds = pack(tokens)
    with torch.no_grad():
        padded_losses = ours(tokens, labels=labels)[tokens != PAD]
        packed_losses = ours(packed, bounds, labels=labels[tokens != PAD][None])[0]
    assert (padded_losses - packed_losses).abs().max() < 1e-5


def test_a_sequence_does_not_see_its_neighbours(pair):
    ours, _theirs = pair
    tokens = oracle.batch(LENGTHS)
    packed, bounds = pack(tokens)
    changed = packed.clone()
    changed[0, bounds[1] : bounds[2]] = MASK  # another sequence, and its mask ratio
    with torch.no_grad():
        before, after = ours(packed, bounds), ours(changed, bounds)
    other = torch.ones(packed.shape[1], dtype=torch.bool)
    other[bounds[1] : bounds[2]] = False
    assert torch.equal(before[0, other], after[0, other])
    assert not torch.equal(before[0, ~other], after[0, ~other])


@pytest.mark.parametrize("dim", [16, 64])
def test_fair_esm_agrees(dim, build, tmp_path):
    theirs = oracle.random_huggingface(*oracle.SIZES[dim])
    ours = build(*oracle.SIZES[dim], weights=False).eval()
    convert.load_huggingface(oracle.save_huggingface(theirs, tmp_path / "hf"), ours)
    tokens = oracle.batch(LENGTHS, masked=0.3)
    with torch.no_grad():
        logits, expected = ours(tokens), oracle.fair_esm(theirs)(tokens)["logits"]
    assert (logits - expected)[tokens != PAD].abs().max() < 1e-4


def test_padded_vocabulary_takes_no_part(build):
    ours = build(2, 64, 4).eval()
    tokens = oracle.batch(LENGTHS)
    labels = oracle.labels_for(tokens)
    with torch.no_grad():
        losses, logits = ours(tokens, labels=labels), ours(tokens)
        ours.embedding.word_embeddings.weight[33:] = 50.0
        ours.output_layer.bias[33:] = 1000.0
        assert torch.equal(ours(tokens, labels=labels), losses)
    assert logits.shape == (*tokens.shape, 33)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    assert torch.allclose(losses.flatten(), expected, atol=1e-5)


@pytest.mark.parametrize("recompute", ["selective", "full"])
@pytest.mark.parametrize("packed", [False, True])
def test_recompute_changes_nothing(recompute, packed, build):
    tokens = oracle.batch(LENGTHS)
    labels = oracle.labels_for(tokens)
    bounds = None
    if packed:
        labels = labels[tokens != PAD][None]
        tokens, bounds = pack(tokens)
    gradients = []
    for kind in ("none", recompute):
        model = build(2, 64, 4, recompute=kind).train()
        model(tokens, bounds, labels=labels).sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close(precision, build, tmp_path):
    theirs = oracle.random_huggingface(*oracle.SIZES[32])
    ours = build(*oracle.SIZES[32], weights=False, precision=precision).eval()
    convert.load_huggingface(oracle.save_huggingface(theirs, tmp_path / "hf"), ours)
    tokens = oracle.batch(LENGTHS)
    with torch.no_grad():
        logits = ours(tokens)
    expected = oracle.huggingface_logits(theirs, tokens)
    error = (logits - expected)[tokens != PAD].abs().mean() / expected[tokens != PAD].abs().mean()
    assert 1e-5 < error < (0.05 if precision == "bf16" else 0.01)  # rounded, but the same function
    assert {parameter.dtype for parameter in ours.parameters()} == {ours.config.params_dtype}


def test_lengths_count_what_is_not_padding():
    tokens = oracle.batch([7, 3], multiple=4)
    bounds = torch.tensor([0, 8, 16], dtype=torch.int32)
    assert slot_sums((tokens != PAD).flatten(), bounds).tolist() == [7, 3]
