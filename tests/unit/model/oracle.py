"""Oracles for the model tests: random Hugging Face and fair-esm models, batches, and a comparison layer by layer."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import EsmConfig, EsmForMaskedLM

from unirefine.core.alphabet import CLS, EOS, MASK, PAD

# (layers, hidden, heads): head dimensions 16, 24, 32, 64
SIZES = {16: (3, 64, 4), 24: (2, 96, 4), 32: (2, 128, 4), 64: (2, 128, 2)}


@contextlib.contextmanager
def on_meta() -> Iterator[None]:
    """Build our modules without memory for their weights, to count their parameters."""
    current_device, to_gpu = torch.cuda.current_device, torch.Tensor.cuda
    torch.cuda.current_device = lambda: "meta"  # Transformer Engine compares it with the string
    torch.Tensor.cuda = lambda tensor, *args, **kwargs: tensor
    try:
        with torch.device("meta"):
            yield
    finally:
        torch.cuda.current_device, torch.Tensor.cuda = current_device, to_gpu


def random_huggingface(layers: int, hidden: int, heads: int, seed: int = 0, noise: float = 0.1) -> EsmForMaskedLM:
    """An EsmForMaskedLM in fp32 whose weights, biases and layer norms are all far from their initial values.

    Its rotary frequencies are rounded, so that a model that recomputes them differs.
    """
    config = EsmConfig(
        vocab_size=33, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=4 * hidden, position_embedding_type="rotary", token_dropout=True, layer_norm_eps=1e-5,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, emb_layer_norm_before=False, mask_token_id=MASK,
        pad_token_id=PAD, max_position_embeddings=1026, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = EsmForMaskedLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
        frequencies = model.esm.rotary_embeddings.inv_freq
        frequencies.copy_(frequencies.bfloat16())
    return model


def save_huggingface(model: EsmForMaskedLM, directory: Path) -> Path:
    model.save_pretrained(directory)
    return directory


def batch(lengths: list[int], multiple: int = 1, masked: float = 0.2, seed: int = 1) -> torch.Tensor:
    """Tokens int64[len(lengths), longest rounded up], `<cls>` ... `<eos>` `<pad>`s, with some `<mask>`s."""
    generator = torch.Generator().manual_seed(seed)
    longest = -(-max(lengths) // multiple) * multiple
    tokens = torch.full((len(lengths), longest), PAD)
    for row, length in enumerate(lengths):
        inside = torch.randint(4, 24, (length - 2,), generator=generator)
        inside[torch.rand(length - 2, generator=generator) < masked] = MASK
        tokens[row, :length] = torch.cat([torch.tensor([CLS]), inside, torch.tensor([EOS])])
    return tokens


def labels_for(tokens: torch.Tensor, seed: int = 2) -> torch.Tensor:
    """A label for every `<mask>` and some other residues, -100 elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    wanted = (tokens == MASK) | ((tokens > EOS) & (torch.rand(tokens.shape, generator=generator) < 0.1))
    return torch.where(wanted, torch.randint(4, 24, tokens.shape, generator=generator), -100)


@torch.no_grad()
def huggingface_logits(model: EsmForMaskedLM, tokens: torch.Tensor) -> torch.Tensor:
    return model(tokens, attention_mask=(tokens != PAD).long()).logits


def huggingface_loss(model: EsmForMaskedLM, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean loss over the labelled positions, with gradients."""
    return model(tokens, attention_mask=(tokens != PAD).long(), labels=labels).loss


def assert_same(ours: torch.Tensor, theirs: torch.Tensor, tokens: torch.Tensor, report, tolerance: float = 1e-4):
    """Logits agree on real tokens; if not, `report()` shows in which layer they begin to differ."""
    difference = (ours - theirs)[tokens != PAD].abs().max().item()
    assert difference < tolerance, f"logits differ by {difference:.2e}\n{report()}"


@torch.no_grad()
def per_layer(ours, theirs: EsmForMaskedLM, tokens: torch.Tensor) -> str:
    """One line per layer: the largest difference of its output between our model and Hugging Face's."""
    hidden, hooks = [], []
    for layer in ours.encoder.layers:
        hooks.append(
            layer.register_forward_hook(lambda _m, _i, out: hidden.append(out[0].transpose(0, 1).flatten(0, 1)))
        )
    ours(tokens)
    for hook in hooks:
        hook.remove()
    reference = theirs(tokens, attention_mask=(tokens != PAD).long(), output_hidden_states=True).hidden_states
    real = tokens != PAD
    # on a CPU our layers see real tokens only, with or without padding in the batch
    ours_real = [rows if len(rows) == real.sum() else rows[real.flatten()] for rows in hidden]
    # the last of Hugging Face's is after the final layer norm, so it has no counterpart
    pairs = zip(ours_real[:-1], reference[1:-1], strict=True)
    return "\n".join(f"layer {i}: {(a - b[real]).abs().max():.2e}" for i, (a, b) in enumerate(pairs))


def fair_esm(theirs: EsmForMaskedLM) -> torch.nn.Module:
    """fair-esm's ESM2 with the weights of a Hugging Face model."""
    import esm  # not where only a GPU is tested

    config = theirs.config
    model = esm.ESM2(config.num_hidden_layers, config.hidden_size, config.num_attention_heads, token_dropout=True)
    names = {
        "esm.encoder.layer.": "layers.", "attention.self.query": "self_attn.q_proj",
        "attention.self.key": "self_attn.k_proj", "attention.self.value": "self_attn.v_proj",
        "attention.output.dense": "self_attn.out_proj", "attention.LayerNorm": "self_attn_layer_norm",
        "intermediate.dense": "fc1", ".output.dense": ".fc2", ".LayerNorm": ".final_layer_norm",
        "esm.encoder.emb_layer_norm_after": "emb_layer_norm_after", "esm.contact_head": "contact_head",
        "esm.embeddings.word_embeddings": "embed_tokens", "lm_head.decoder": "lm_head",
    }  # fmt: skip
    state = {}
    for layer in range(config.num_hidden_layers):
        state[f"layers.{layer}.self_attn.rot_emb.inv_freq"] = theirs.esm.rotary_embeddings.inv_freq
    for name, tensor in theirs.state_dict().items():
        for old, new in names.items():
            name = name.replace(old, new)
        state[name] = tensor
    missing = model.load_state_dict(state, strict=False).missing_keys
    assert not missing, missing
    return model.eval()
