"""Embedding throughput beside the plain transformers loops that people write.

Real proteins in file order, truncated to 1,022 residues; an 8M ESM-2 with random weights in fp32. Every case computes
the mean over residues of every protein, in input order. Ours includes encoding and batching, without the output files.
One thread each, in processor time, so that other work on the machine matters less.
"""

import tempfile
from functools import cache
from pathlib import Path

from demo_proteins import proteins
from paired import main

COUNT, LIMIT, BATCH = 48, 1022, 8
keep: list[tempfile.TemporaryDirectory] = []


def chosen() -> list[str]:
    """COUNT proteins at equal distances in the demo, so that lengths are distributed as in all of it."""
    every = proteins()
    return [sequence[:LIMIT] for sequence in every[:: len(every) // COUNT]][:COUNT]


@cache
def model() -> Path:
    """A directory of an 8M ESM-2 with random weights, as EsmForMaskedLM reads it."""
    import torch
    from safetensors.torch import save_file
    from transformers import EsmConfig, EsmForMaskedLM

    from unirefine.core.alphabet import TOKENS

    torch.manual_seed(0)
    config = EsmConfig(
        vocab_size=33, mask_token_id=32, pad_token_id=1, cls_token_id=0, eos_token_id=2, hidden_size=320,
        num_hidden_layers=6, num_attention_heads=20, intermediate_size=1280, position_embedding_type="rotary",
        token_dropout=True, emb_layer_norm_before=False, layer_norm_eps=1e-5, max_position_embeddings=1026,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    keep.append(directory := tempfile.TemporaryDirectory())
    path = Path(directory.name)
    weights = EsmForMaskedLM(config).state_dict()
    config.save_pretrained(path)
    (path / "vocab.txt").write_text("\n".join(TOKENS))
    dropped = ("lm_head.decoder.weight",)
    kept = {name: value for name, value in weights.items() if name not in dropped and "inv_freq" not in name}
    save_file(kept, path / "model.safetensors", metadata={"format": "pt"})
    return path


def _ours(engine: str):
    import torch

    from unirefine.config import Embed
    from unirefine.core.fasta import Protein
    from unirefine.embed.vectors import embed_chunk
    from unirefine.model.inference import open_huggingface, open_megatron

    torch.set_num_threads(1)
    opened = (open_megatron if engine == "megatron" else open_huggingface)(model())
    batch = [Protein(str(number), sequence) for number, sequence in enumerate(chosen())]
    config = Embed(per_residue=False, batch_tokens=4096)
    embed_chunk(opened, batch[:8], config)
    return sum(len(protein.sequence) for protein in batch), lambda: embed_chunk(opened, batch, config)


def megatron():
    """unirefine embed, Megatron-core."""
    return _ours("megatron")


def huggingface():
    """unirefine embed, EsmForMaskedLM inside."""
    return _ours("huggingface")


def _loop(batch: int):
    import torch
    from transformers import EsmModel, EsmTokenizer
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.set_verbosity_error()
    tokenizer = EsmTokenizer(str(model() / "vocab.txt"))
    esm = EsmModel.from_pretrained(model(), add_pooling_layer=False).eval()
    sequences = chosen()

    @torch.no_grad()
    def run(texts=sequences):
        means = []
        for first in range(0, len(texts), batch):
            inputs = tokenizer(texts[first : first + batch], return_tensors="pt", padding=True)
            states = esm(**inputs).last_hidden_state
            residues = inputs["attention_mask"].clone()
            residues[:, 0] = 0
            residues[torch.arange(len(residues)), inputs["attention_mask"].sum(1) - 1] = 0
            means.append((states * residues[..., None]).sum(1) / residues.sum(1, keepdim=True))
        return torch.cat(means)

    run(sequences[:8])
    return sum(map(len, sequences)), run


def loop_batched():
    """A transformers loop, 8 at a time in input order."""
    return _loop(BATCH)


def loop_single():
    """A transformers loop, one by one."""
    return _loop(1)


TABLES = {
    "Embedding with an 8M ESM-2 in fp32": (
        "residues",
        {
            "unirefine, Megatron-core": megatron,
            "unirefine, EsmForMaskedLM": huggingface,
            f"transformers loop, batches of {BATCH}": loop_batched,
            "transformers loop, one by one": loop_single,
        },
    )
}

if __name__ == "__main__":
    main(TABLES, rounds=3, per_core=True)
