"""Perplexity of a benchmark's proteins, by their nearest train sequence, beside the same proteins in validation."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirefine.cli.main import main
from unirefine.config import Evaluate
from unirefine.core.alphabet import decode
from unirefine.core.ids import key_of
from unirefine.dataset import open_shards
from unirefine.errors import UserError
from unirefine.evaluate import run as stage
from unirefine.evaluate.benchmarks import nearest_train
from unirefine.evaluate.masked import MaskedSide
from unirefine.evaluate.score import score
from unirefine.model.inference import open_huggingface
from unirefine.report.perplexity import breakdown_section

CONFIG = Evaluate(seed=2, masking={"max_tokens": 60}, batch_tokens=512)
CLUSTERS = 1000


@pytest.fixture
def decontaminated(written, tmp_path):
    """A run's directory: validation's first six sequences are proteins of two benchmarks; four are near train."""
    side = open_shards(written.directory).validation
    names = sorted({side.ids(i)[1].removeprefix("UniRef50_") for i in range(side.sequences)}, key=key_of)
    keys, sizes = pa.array([key_of(name) for name in names], pa.uint64()), pa.array([1] * len(names), pa.uint32())
    pq.write_table(pa.table({"key": keys, "size": sizes}), tmp_path / "clusters.parquet")
    table = {
        "id": [side.ids(i)[0] for i in range(6)],
        "benchmark": ["far", "far", "near", "near", "near", "near"],
        "sequence": [decode(side.tokens(i)) for i in range(6)],
    }
    table = pa.table(table).replace_schema_metadata({"unirefine_first": str(CLUSTERS)})
    pq.write_table(table, tmp_path / "benchmarks.parquet")
    nearest = {
        "target": pa.array([CLUSTERS + i for i in range(2, 6)], pa.uint32()),
        "all": [0.9, 0.9, 0.9, 0.9],
        "searched": [0.31, 0.32, 0.45, None],
        "audited": [0.1] * 4,
    }
    (tmp_path / "nearest").mkdir()
    pq.write_table(pa.table(nearest), tmp_path / "nearest/part-000-of-001.parquet")
    (tmp_path / "identity.json").write_text(json.dumps({"audit": {"policy": "error"}}))
    return tmp_path


def test_the_losses_are_those_of_the_same_proteins(written, small_esm2, decontaminated, tmp_path):
    validation = MaskedSide(open_shards(written.directory).validation, CONFIG)
    positions = validation.positions()
    nll, _seconds = score(open_huggingface(small_esm2[0]), validation, positions, CONFIG.batch_tokens)
    found = stage.run(
        written.directory, [small_esm2[0]], tmp_path / "out", CONFIG, clusters=tmp_path, decontaminated=decontaminated
    )
    far, near = found["benchmarks"]
    assert (far["name"], far["sequences"], near["name"], near["sequences"]) == ("far", 2, "near", 4)

    def expected(*sequences, among=True):
        inside = np.isin(positions.sequence, sequences) & among
        return pytest.approx(np.exp(nll[inside].mean()), rel=1e-4), int(inside.sum())

    for one, sequences in ((far, (0, 1)), (near, (2, 3, 4, 5))):
        perplexity, masked = expected(*sequences)
        assert one["perplexity"] == {"ours": perplexity, "huggingface": perplexity} and one["masked"] == masked
    bins = {row["bin"]: row for row in near["identity"]}
    for label, sequences in (("0.3-0.4", (2, 3)), ("0.4-0.5", (4,)), ("no hit", (5,))):
        perplexity, masked = expected(*sequences, among=positions.kinds()["hidden"])
        if masked:
            assert (bins[label]["huggingface"], bins[label]["residues"]) == (perplexity, masked)
    assert [row["bin"] for row in far["identity"]] == ["no hit"]
    shown = {table.title: table.rows for table in breakdown_section(found, None).tables}
    title = "near: perplexity of hidden residues by identity of the nearest train sequence"
    assert [row[0] for row in shown[title]] == [row["bin"] for row in near["identity"]]
    assert sum(row["sequences"] for row in found["breakdowns"]["identity"]) <= found["sequences"]


def test_without_proteins_there_are_no_rows(written, small_esm2, decontaminated, tmp_path):
    table = pq.read_table(decontaminated / "benchmarks.parquet")
    pq.write_table(table.slice(0, 0), decontaminated / "benchmarks.parquet")
    config = CONFIG.model_copy(update={"huggingface": False, "sequences": 2})
    arguments = (written.directory, [small_esm2[0]], tmp_path / "out", config)
    assert stage.run(*arguments, clusters=tmp_path, decontaminated=decontaminated)["benchmarks"] == []
    pq.write_table(table.replace_schema_metadata({}), decontaminated / "benchmarks.parquet")
    with pytest.raises(UserError, match=r"benchmarks.parquet: its metadata has no number of the first protein"):
        stage.run(*arguments, clusters=tmp_path, decontaminated=decontaminated)


def test_wild_types_are_found_by_their_letters(decontaminated):
    side = decontaminated_sequences(decontaminated)
    asked = {"far": side[0].lower(), "near": side[4], "nothing": side[5], "other": "MKV"}
    found = {name: tuple(one.values()) for name, one in nearest_train(decontaminated, asked).items()}
    assert found == {"far": ("no hit", None), "near": ("0.4-0.5", 0.45), "nothing": ("no hit", None),
                     "other": (None, None)}  # fmt: skip
    pq.write_table(
        pq.read_table(decontaminated / "benchmarks.parquet").slice(0, 0), decontaminated / "benchmarks.parquet"
    )
    with pytest.raises(UserError, match="decontaminated against no proteins; list a FASTA"):
        nearest_train(decontaminated, asked)
    with pytest.raises(UserError, match=r"no such directory; give results/<run>/decontaminate"):
        nearest_train(decontaminated / "typo", asked)


def decontaminated_sequences(directory):
    return pq.read_table(directory / "benchmarks.parquet")["sequence"].to_pylist()


def test_an_assay_says_what_is_nearest_to_its_wild_type(decontaminated, small_esm2, tmp_path, capsys):
    wild_type = decontaminated_sequences(decontaminated)[4]
    (tmp_path / "wild.fasta").write_text(f">known\n{wild_type}\n>other\nMKVLAAG\n")
    first = wild_type[0]
    (tmp_path / "assay.csv").write_text(f"id,mutant\nknown,{first}1{'A' if first != 'A' else 'G'}\nother,M1A\n")
    words = ["evaluate", "variants", "--model", small_esm2[0], "--fasta", tmp_path / "wild.fasta", "--csv",
             tmp_path / "assay.csv", "--decontaminated", decontaminated, "--output", tmp_path / "out"]  # fmt: skip
    assert main([*map(str, words)]) == 0
    shown = capsys.readouterr().out
    assert "known: the nearest train sequence has 45.0% identity\n" in shown
    assert "other: not among the proteins of decontaminate.against" in shown
    known, other = json.loads((tmp_path / "out/variants.json").read_text())["proteins"]
    assert (known["nearest_train"], known["nearest_identity"]) == ("0.4-0.5", 0.45)
    assert (other["nearest_train"], other["nearest_identity"]) == (None, None)
