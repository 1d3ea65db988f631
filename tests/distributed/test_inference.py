"""evaluate and embed give the same numbers in two processes (data parallel, TP=2, PP=2) as in one."""

import json
from pathlib import Path

from unirefine.megatron import platform

import inference_worker
import numpy as np
import oracle
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from launch import launch

from unirefine.config import Layout
from unirefine.core.alphabet import TOKENS, decode
from unirefine.dataset.indexed import write_index
from unirefine.errors import UserError
from unirefine.model.inference import open_megatron

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """`model/`, `shards/` and `in.fasta`."""
    root = tmp_path_factory.mktemp("inference")
    oracle.save_huggingface(oracle.random_huggingface(inference_worker.LAYERS, 32, 2), root / "model")
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


TWO = ("data", "tensor", "pipeline")


@pytest.fixture(scope="module")
def alone(inputs) -> Path:
    """What one process writes."""
    torch.set_num_threads(1)  # as the processes that are launched
    inference_worker.run(inputs, inputs / "alone", inference_worker.LAYOUTS["data"])
    platform.shutdown()
    return inputs / "alone"


@pytest.fixture(scope="module")
def two(inputs) -> Path:
    """What two processes write at each layout."""
    launch(Path(inference_worker.__file__), 2, inputs, inputs / "two", *TWO)
    return inputs / "two"


@pytest.mark.parametrize("layout", TWO)
def test_evaluate(alone, two, layout):
    one, other = (json.loads((path / "evaluate" / "perplexity.json").read_text()) for path in (alone, two / layout))
    assert [row["key"] for row in one["table"]] == [row["key"] for row in other["table"]]
    for first, second in zip(one["table"], other["table"], strict=True):
        pairs = [(first, second)] if "perplexity" in first else []
        for ours, theirs in [*pairs, (first["hidden"], second["hidden"])]:
            assert theirs["perplexity"] == pytest.approx(ours["perplexity"], rel=1e-6)
        assert second["hidden"]["residues"] == first["hidden"]["residues"] > 100
    pseudo = [run["pseudo_perplexity"][0]["perplexity"] for run in (one, other)]
    assert pseudo[1] == pytest.approx(pseudo[0], rel=1e-6)


def check_answers(alone: Path, found: Path, processes: int) -> None:
    """Every process of a layout has the result of one process."""
    expected = torch.load(alone / "answers-0.pt")
    assert len(expected) == inference_worker.LAYERS + 2 and expected["log-probabilities"].shape[1] == 33
    for rank in range(processes):
        got = torch.load(found / f"answers-{rank}.pt")
        for name, values in expected.items():
            assert values.abs().max() > 0.1
            torch.testing.assert_close(got[name], values, atol=1e-5, rtol=1e-5, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("layout", TWO)
def test_log_probabilities_and_states_of_a_layout_are_those_of_one_process(alone, two, layout):
    check_answers(alone, two / layout, processes=2)


@pytest.mark.slow
def test_four_processes_at_tensor_2_and_pipeline_2(inputs, alone):
    launch(Path(inference_worker.__file__), 4, inputs, inputs / "four", "both")
    check_answers(alone, inputs / "four" / "both", processes=4)


@pytest.mark.parametrize("layout", TWO)
@pytest.mark.parametrize("engine", inference_worker.ENGINES)
def test_embed(alone, two, layout, engine):
    found = two / layout
    for output in (alone, found):
        assert sorted(path.name for path in (output / engine).iterdir()) == ["residues.parquet", "sequences.parquet"]
    assert pq.ParquetFile(found / engine / "sequences.parquet").num_row_groups > 3
    for name in ("sequences", "residues"):
        first, second = (pq.read_table(output / engine / f"{name}.parquet") for output in (alone, found))
        assert second.drop_columns("vector").equals(first.drop_columns("vector"))
        vectors = [table["vector"].combine_chunks().flatten().to_numpy() for table in (first, second)]
        np.testing.assert_allclose(*vectors, atol=1e-5)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Layout(tensor=2), "1 processes are not a multiple of tensor x pipeline = 2 x 1"),
        (Layout(pipeline=4), "1 processes are not a multiple of tensor x pipeline = 1 x 4"),
    ],
)
def test_a_layout_for_more_processes_than_there_are_is_one_line(inputs, layout, message):
    with pytest.raises(UserError, match=message):
        open_megatron(inputs / "model", layout=layout)
