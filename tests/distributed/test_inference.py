"""evaluate and embed by two processes: the numbers of one."""

import json
from pathlib import Path

import inference_worker
import numpy as np
import oracle
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from launch import launch

from unirefine.alphabet import TOKENS, decode
from unirefine.shards.indexed import write_index

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """`model/`, `shards/` and `in.fasta`."""
    root = tmp_path_factory.mktemp("inference")
    oracle.save_huggingface(oracle.random_huggingface(2, 32, 2), root / "model")
    rng = np.random.default_rng(0)
    sides = {}
    for name, count in (("train", 20), ("validation", 30)):
        sequences = [rng.integers(4, 24, int(rng.integers(5, 120))).astype(np.uint8) for _ in range(count)]
        (root / "shards").mkdir(exist_ok=True)
        (root / "shards" / f"{name}.bin").write_bytes(b"".join(sequence.tobytes() for sequence in sequences))
        write_index(root / "shards" / f"{name}.idx", np.array([len(s) for s in sequences]), np.arange(count + 1))
        ids = [f"P{name[0].upper()}{number:04d}" for number in range(count)]
        pq.write_table(pa.table({"id": ids, "cluster_id": ids}), root / "shards" / f"{name}.ids.parquet")
        sides[name] = {"documents": count, "sequences": count, "shards": [name]}
        (root / "in.fasta").write_text("".join(f">{i}\n{decode(s)}\n" for i, s in zip(ids, sequences, strict=True)))
    manifest = {"format": "unirefine-shards", "version": 1, "alphabet": list(TOKENS), "sides": sides, "files": []}
    (root / "shards" / "manifest.json").write_text(json.dumps(manifest))
    return root


@pytest.fixture(scope="module")
def outputs(inputs) -> tuple[Path, Path]:
    """What one process writes, and what two write."""
    torch.set_num_threads(1)  # as the processes that are launched
    alone, shared = inputs / "alone", inputs / "shared"
    inference_worker.run(inputs, alone)
    launch(Path(inference_worker.__file__), 2, inputs, shared)
    return alone, shared


def test_evaluate(outputs):
    one, two = (json.loads((output / "evaluate" / "perplexity.json").read_text()) for output in outputs)
    assert [row["key"] for row in one["table"]] == [row["key"] for row in two["table"]]
    for alone, shared in zip(one["table"], two["table"], strict=True):
        assert shared["masked"] == alone["masked"] > 100
        assert shared["perplexity"] == pytest.approx(alone["perplexity"], rel=1e-6)
    pseudo = [run["pseudo_perplexity"][0]["perplexity"] for run in (one, two)]
    assert pseudo[1] == pytest.approx(pseudo[0], rel=1e-6)


@pytest.mark.parametrize("engine", inference_worker.ENGINES)
def test_embed(outputs, engine):
    for output in outputs:
        assert sorted(path.name for path in (output / engine).iterdir()) == ["residues.parquet", "sequences.parquet"]
    assert pq.ParquetFile(outputs[1] / engine / "sequences.parquet").num_row_groups > 3
    for name in ("sequences", "residues"):
        alone, shared = (pq.read_table(output / engine / f"{name}.parquet") for output in outputs)
        assert shared.drop_columns("vector").equals(alone.drop_columns("vector"))
        vectors = [table["vector"].combine_chunks().flatten().to_numpy() for table in (alone, shared)]
        np.testing.assert_allclose(*vectors, atol=1e-5)
