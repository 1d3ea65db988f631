"""Masked samples per second on one core, beside Hugging Face's tokenizer and collator and Megatron's reader.

Real proteins, crops of 1,024 tokens, batches of 64. Ours reads shards from disk (warm), draws cluster, member, window
and mask. The others have an easier task: Hugging Face has the strings in memory and takes them in order; Megatron's
reader takes given sequences and masks whole padded batches with numpy.
"""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from demo_proteins import proteins
from paired import main

BATCH, TOKENS = 64, 1024


@cache
def prefix() -> str:
    """Shard files of the proteins, three to a cluster; the directory lives as long as the process."""
    from unirefine.core.alphabet import encode
    from unirefine.dataset.indexed import write_index

    keep.append(directory := tempfile.TemporaryDirectory())
    name = str(Path(directory.name) / "train")
    tokens = [encode(sequence) for sequence in proteins()]
    np.concatenate(tokens).tofile(f"{name}.bin")
    documents = np.append(np.arange(0, len(tokens), 3), len(tokens))
    write_index(f"{name}.idx", np.array([len(t) for t in tokens], np.int32), documents)
    return name


keep: list[tempfile.TemporaryDirectory] = []


def ours():
    """unirefine.sampling, padded batches."""
    from unirefine.config import Sampling
    from unirefine.dataset import IndexedFiles
    from unirefine.sampling import SampleStream

    stream = SampleStream(IndexedFiles([prefix()]), Sampling(max_tokens=TOKENS))
    batches = np.arange(400_000).reshape(-1, BATCH)
    for batch in batches[:200]:
        stream.batch(batch)

    def run():
        for batch in batches:
            stream.batch(batch)

    return batches.size, run


def ours_packed():
    """unirefine.sampling, packed batches."""
    from unirefine.config import Sampling
    from unirefine.dataset import IndexedFiles
    from unirefine.sampling import SampleStream

    stream = SampleStream(IndexedFiles([prefix()]), Sampling(max_tokens=TOKENS))
    batches = np.arange(400_000).reshape(-1, BATCH)
    for batch in batches[:200]:
        stream.packed(batch)

    def run():
        for batch in batches:
            stream.packed(batch)

    return batches.size, run


def megatron():
    """megatron-core's IndexedDataset, then crop, special tokens and 80/10/10 with numpy over the padded batch."""
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    reader = IndexedDataset(prefix())
    rng = np.random.default_rng(0)
    batches = rng.integers(0, len(reader), (200, BATCH))

    def make(batch):
        tokens, inner = np.ones((BATCH, TOKENS), np.int64), np.zeros((BATCH, TOKENS), bool)
        for row, sequence in enumerate(batch):
            residues = reader[int(sequence)]
            whole = np.concatenate([[0], residues, [2]])
            start = rng.integers(0, max(len(whole) - TOKENS, 0) + 1)
            whole = whole[start : start + TOKENS]
            tokens[row, : len(whole)] = whole
            inner[row, : len(whole)] = whole > 3
        draw, kind = rng.random(tokens.shape), rng.random(tokens.shape)
        chosen = inner & (draw < 0.15)
        labels = np.where(chosen, tokens, -100)
        tokens[chosen & (kind < 0.8)] = 32
        swapped = chosen & (kind >= 0.8) & (kind < 0.9)
        tokens[swapped] = rng.integers(0, 33, int(swapped.sum()))
        return tokens, labels

    make(batches[0])

    def run():
        for batch in batches:
            make(batch)

    return batches.size, run


def hugging_face():
    """EsmTokenizer and DataCollatorForLanguageModeling, strings in memory, in order."""
    import torch
    from transformers import DataCollatorForLanguageModeling, EsmTokenizer

    from unirefine.core.alphabet import TOKENS as VOCABULARY

    torch.set_num_threads(1)
    keep.append(directory := tempfile.TemporaryDirectory())
    vocabulary = Path(directory.name) / "vocab.txt"
    vocabulary.write_text("\n".join(VOCABULARY) + "\n")
    tokenizer = EsmTokenizer(str(vocabulary))
    collate = DataCollatorForLanguageModeling(tokenizer, mlm=True, mlm_probability=0.15)
    sequences = proteins()[: 15 * BATCH]

    def make(texts):
        encoded = tokenizer(texts, truncation=True, max_length=TOKENS)
        return collate([{"input_ids": ids} for ids in encoded["input_ids"]])

    make(sequences[:BATCH])

    def run():
        for i in range(0, len(sequences), BATCH):
            make(sequences[i : i + BATCH])

    return len(sequences), run


TABLES = {
    "Masked samples, one core": (
        "samples",
        {
            "unirefine": ours,
            "unirefine, packed": ours_packed,
            "megatron-core reader + numpy": megatron,
            "Hugging Face EsmTokenizer + collator": hugging_face,
        },
    )
}

if __name__ == "__main__":
    main(TABLES, per_core=True)
