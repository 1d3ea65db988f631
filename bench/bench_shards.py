"""Residues tokenised and written per second on one core, and random access, beside megatron-core and Hugging Face.

Real proteins, repeated to 180 MB of residues. `unirefine shard build` is the whole stage: Parquet records decoded,
shuffled in two passes, ids, index, SHA-256, fsync. `tokenise and write` starts like the others with the letters in
memory and ends with the .bin and .idx in their final order. Times are processor time, because the disk is not what is
compared. Each case runs once before it is timed, so that page faults of a fresh process do not count.
"""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from demo_proteins import proteins
from paired import main

keep: list[tempfile.TemporaryDirectory] = []
REPEATS = 20


def directory() -> Path:
    """A temporary directory that lives as long as the process."""
    keep.append(tempfile.TemporaryDirectory())
    return Path(keep[-1].name)


@cache
def run_of(repeats: int) -> Path:
    """What the stages before `shard` leave: `repeats` x 20,000 members in clusters of three, 0.5% to validate."""
    root, sequences = directory(), proteins()
    rng = np.random.default_rng(0)
    count = len(sequences) * repeats
    lengths = np.tile(np.array([len(s) for s in sequences], np.int32), repeats)
    clusters = -(-count // 3)
    for level, rows, step in (("uniref90", count, 1), ("uniref50", clusters, 3)):
        (root / "records" / level).mkdir(parents=True)
        for part in range(4):
            numbers = range(rows * part // 4, rows * (part + 1) // 4)
            table = pa.table(
                {
                    "id": [f"U{level[1:].title()}_A{n:09d}" for n in numbers],
                    "sequence": [sequences[n * step % len(sequences)] for n in numbers],
                }
            )
            pq.write_table(table, root / "records" / level / f"records-{part:03d}-of-004.parquet", compression="zstd")
    row = rng.permutation(count).astype(np.uint32)
    cluster = (np.arange(count) // 3).astype(np.uint32)
    (root / "cluster").mkdir()
    table = pa.table(
        {
            "key": np.arange(clusters, dtype=np.uint64),
            "row": np.arange(clusters, dtype=np.uint32),
            "length": lengths[np.arange(clusters) * 3 % len(sequences)],
            "size": np.bincount(cluster).astype(np.uint32),
        }
    )
    pq.write_table(
        table.replace_schema_metadata({"representative_level": "uniref50"}), root / "cluster" / "clusters.parquet"
    )
    membership = {"cluster": cluster, "row": row, "key": row.astype(np.uint64), "length": lengths[row]}
    pq.write_table(pa.table(membership), root / "cluster" / "membership.parquet")
    side = (np.arange(clusters) % 200 == 0).astype(np.uint8)
    pq.write_table(pa.table({"side": side}), root / "split.parquet")
    (root / "release.json").write_text('{"source": "bench", "release": null, "files": []}')
    return root


def build():
    """`unirefine shard build`, one thread."""
    from unirefine.config import Shard
    from unirefine.shard.run import run

    def once(repeats):
        root = run_of(repeats)
        return run(
            Shard(parts=4), records=root / "records", clusters=root / "cluster", split=root / "split.parquet",
            release=root / "release.json", output=directory(), threads=1,
        )  # fmt: skip

    once(REPEATS)
    return REPEATS * sum(map(len, proteins())) / 1e6, lambda: once(REPEATS)


def tokenise_and_write():
    """From letters in memory to the ordered .bin and .idx: both passes, no Parquet, no SHA-256, ids of a letter."""
    from unirefine.config import Shard
    from unirefine.core.tables import string_buffers
    from unirefine.dataset.indexed import write_index
    from unirefine.shard import plan as layout
    from unirefine.shard import spill
    from unirefine.shard.assemble import order_bucket, write_all

    def prepared(repeats):
        root = run_of(repeats)
        plan = layout.make_plan(Shard(parts=1), root / "records", root / "cluster", root / "split.parquet")
        column = pa.array(proteins() * repeats)
        return plan, column, pa.array(["x"] * len(column)), directory()

    def passes(plan, column, ids, work):
        buckets = spill.Buckets(work, len(plan.bucket_ranks) - 1)
        place, ranks = plan.sequence_of_row["uniref90"], np.arange(len(plan.first_sequence) - 1, dtype=np.uint32)
        none, nothing = np.empty(0, np.int32), (np.empty(0, np.uint8), np.zeros(1, np.int64))
        names = string_buffers(ids[: len(ranks)])
        buckets.append(*spill.make_blocks(spill.CLUSTERS, ranks, plan.bucket_ranks, none, *nothing, *names)[:2])
        for first in range(0, len(column), 1 << 16):
            rows = slice(first, first + (1 << 16))
            texts = *string_buffers(column[rows]), *string_buffers(ids[rows])
            blocks, starts, wrong = spill.make_blocks(
                spill.SEQUENCES, place[rows], plan.bucket_sequences, plan.lengths, *texts
            )
            assert wrong < 0
            buckets.append(blocks, starts)
        buckets.close()
        (train,) = (shard for shard in plan.shards if shard.side == "train")
        with (work / "train.bin").open("wb", buffering=0) as handle:
            for bucket in range(*train.buckets):
                write_all(handle, order_bucket(plan, bucket, buckets.paths[bucket])[0])
        sequences = plan.sequences_of(train)
        write_index(work / "train.idx", plan.lengths[slice(*sequences)], plan.first_sequence[: train.ranks[1] + 1])

    big = prepared(REPEATS)
    passes(*big)
    return REPEATS * sum(map(len, proteins())) / 1e6, lambda: passes(*big)


def megatron_builder():
    """megatron-core's IndexedDatasetBuilder fed with tokens from a numpy table lookup; in the order of the input."""
    import torch
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    from unirefine.core.alphabet import encode

    sequences = proteins()

    def run():
        work = directory()
        builder = IndexedDatasetBuilder(str(work / "train.bin"), dtype=np.uint8)
        for i, sequence in enumerate(sequences):
            builder.add_item(torch.from_numpy(encode(sequence)))
            if i % 3 == 2:
                builder.end_document()
        builder.end_document()
        builder.finalize(str(work / "train.idx"))

    run()
    return sum(map(len, sequences)) / 1e6, run


def megatron_and_hugging_face():
    """The same with Hugging Face's EsmTokenizer in front."""
    import torch
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder
    from transformers import EsmTokenizer

    from unirefine.core.alphabet import TOKENS

    vocabulary = directory() / "vocab.txt"
    vocabulary.write_text("\n".join(TOKENS) + "\n")
    tokenizer = EsmTokenizer(str(vocabulary))
    sequences = proteins()[:1000]

    def run():
        work = directory()
        builder = IndexedDatasetBuilder(str(work / "train.bin"), dtype=np.uint8)
        for ids in tokenizer(sequences, add_special_tokens=False)["input_ids"]:
            builder.add_item(torch.tensor(ids))
            builder.end_document()
        builder.finalize(str(work / "train.idx"))

    run()
    return sum(map(len, sequences)) / 1e6, run


def written() -> tuple[str, np.ndarray]:
    """One shard of all proteins, and an order in which to read it."""
    from unirefine.core.alphabet import encode
    from unirefine.dataset.indexed import write_index

    name, tokens = str(directory() / "train"), [encode(sequence) for sequence in proteins()]
    np.concatenate(tokens).tofile(f"{name}.bin")
    write_index(f"{name}.idx", np.array([len(t) for t in tokens], np.int32), np.arange(len(tokens) + 1))
    return name, np.random.default_rng(0).permutation(len(tokens))


def read_ours():
    """IndexedFiles.tokens of every sequence in random order."""
    from unirefine.dataset import IndexedFiles

    name, order = written()
    side, order = IndexedFiles([name]), order.tolist()

    def run():
        for i in order:
            side.tokens(i)

    run()
    return len(order) / 1e6, run


def read_megatron():
    """IndexedDataset[i] of every sequence in random order."""
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    name, order = written()
    side, order = IndexedDataset(name), order.tolist()

    def run():
        for i in order:
            side[i]

    run()
    return len(order) / 1e6, run


TABLES = {
    "Residues to shards, one core": (
        "MB of residues",
        {
            "unirefine, tokenise and write": tokenise_and_write,
            "unirefine build, Parquet and SHA-256 included": build,
            "IndexedDatasetBuilder, numpy tokens": megatron_builder,
            "IndexedDatasetBuilder, EsmTokenizer": megatron_and_hugging_face,
        },
    ),
    "Random access, warm, one core": (
        "million sequences",
        {"unirefine": read_ours, "megatron-core IndexedDataset": read_megatron},
    ),
}

if __name__ == "__main__":
    main(TABLES, per_core=True)
