"""What tests of several packages share: a small ESM-2 with random weights."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def small_esm2(tmp_path_factory) -> tuple[Path, object]:
    """(Hugging Face directory, the model itself): 2 layers, hidden size 32, weights that are far from initial ones."""
    import torch
    from safetensors.torch import save_file
    from transformers import EsmConfig, EsmForMaskedLM

    torch.set_num_threads(1)  # batches this small are slower on more
    torch.manual_seed(5)
    config = EsmConfig(
        vocab_size=33, mask_token_id=32, pad_token_id=1, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=128, position_embedding_type="rotary", token_dropout=True, emb_layer_norm_before=False,
        layer_norm_eps=1e-5, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, max_position_embeddings=1026,
    )  # fmt: skip
    model = EsmForMaskedLM(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.15 * torch.randn_like(parameter)
    directory = tmp_path_factory.mktemp("esm2")
    config.save_pretrained(directory)
    tied = "lm_head.decoder.weight"
    weights = {name: value for name, value in model.state_dict().items() if name != tied and "inv_freq" not in name}
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return directory, model
