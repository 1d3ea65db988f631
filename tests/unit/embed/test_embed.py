"""The stage against EsmForMaskedLM's hidden states, one protein at a time."""

import json
import re
import shutil
import signal

import killed
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from forked import Forked
from safetensors.torch import load_file, save_file

from unirefine.cli.main import main
from unirefine.config import Embed
from unirefine.core.alphabet import encode
from unirefine.embed import run as stage
from unirefine.embed.source import from_fasta, from_parquet
from unirefine.errors import UserError

RESIDUES = "ACDEFGHIKLMNPQRSTVWYXBZUOJ"


def protein(rng: np.random.Generator, length: int) -> str:
    return "".join(RESIDUES[i] for i in rng.integers(0, len(RESIDUES), length))


@pytest.fixture(scope="module")
def proteins() -> dict[str, str]:
    """Not sorted by length; one of a single residue, one in lower case."""
    rng = np.random.default_rng(8)
    lengths = [30, 1, 75, 12, 64, 3, 40]
    made = {f"sp|P{i}|NAME": protein(rng, length) for i, length in enumerate(lengths)}
    made["lower"] = "mkvla"
    return made


@pytest.fixture
def fasta(tmp_path, proteins):
    path = tmp_path / "in.fasta"
    path.write_text("".join(f">{name} described\n{sequence}\n" for name, sequence in proteins.items()))
    return path


def hidden_states(model, sequence: str, layer: int) -> np.ndarray:
    """float32[length + 2, hidden] of `<cls>` + residues + `<eos>`."""
    tokens = torch.tensor([[0, *encode(sequence).tolist(), 2]])
    with torch.no_grad():
        found = model(tokens, attention_mask=torch.ones_like(tokens), output_hidden_states=True).hidden_states
    return found[layer][0].numpy()


@pytest.mark.parametrize("engine", ["megatron", "huggingface"])
@pytest.mark.parametrize("layer", [-1, 0, 1, 2])
def test_vectors_are_the_hidden_states_of_hugging_face(fasta, proteins, small_esm2, tmp_path, engine, layer):
    directory, model = small_esm2
    config = Embed(engine=engine, layer=layer, cls=True, batch_tokens=100)
    result = stage.run(from_fasta(fasta), directory, tmp_path / "out", config)
    assert (result.sequences, result.truncated) == (len(proteins), 0)
    sequences = pq.read_table(tmp_path / "out" / "sequences.parquet").to_pydict()
    residues = pq.read_table(tmp_path / "out" / "residues.parquet").to_pydict()
    assert sequences["id"] == list(proteins)
    assert sequences["length"] == [len(sequence) for sequence in proteins.values()]
    assert not any(sequences["truncated"])
    row = 0
    for i, (name, sequence) in enumerate(proteins.items()):
        expected = hidden_states(model, sequence, layer)
        np.testing.assert_allclose(sequences["vector"][i], expected[1:-1].mean(axis=0), atol=1e-4)
        np.testing.assert_allclose(sequences["cls"][i], expected[0], atol=1e-4)
        rows = slice(row, row + len(sequence))
        assert residues["id"][rows] == [name] * len(sequence)
        assert residues["position"][rows] == list(range(1, len(sequence) + 1))
        assert residues["residue"][rows] == list(sequence)
        np.testing.assert_allclose(residues["vector"][rows], expected[1:-1], atol=1e-4)
        row += len(sequence)
    assert row == len(residues["id"])


def test_long_proteins_are_truncated_and_reported(fasta, proteins, small_esm2, tmp_path, capsys):
    directory, model = small_esm2
    arguments = ["embed", "--model", str(directory), "--fasta", str(fasta), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--set", "max_residues=40"]) == 0
    assert "2 truncated" in capsys.readouterr().out
    sequences = pq.read_table(tmp_path / "out" / "sequences.parquet").to_pydict()
    assert sequences["truncated"] == [len(sequence) > 40 for sequence in proteins.values()]
    assert sequences["length"][2] == 75
    first = list(proteins.values())[2][:40]
    np.testing.assert_allclose(sequences["vector"][2], hidden_states(model, first, -1)[1:-1].mean(axis=0), atol=1e-4)
    residues = pq.read_table(tmp_path / "out" / "residues.parquet")
    assert len(residues) == sum(min(len(sequence), 40) for sequence in proteins.values())


def test_windows_embed_long_proteins_whole(fasta, proteins, small_esm2, tmp_path):
    directory, model = small_esm2
    config = Embed(max_residues=40, long_sequences="windows", cls=True)
    stage.run(from_fasta(fasta), directory, tmp_path, config)
    sequences = pq.read_table(tmp_path / "sequences.parquet").to_pydict()
    residues = pq.read_table(tmp_path / "residues.parquet").to_pydict()
    assert not any(sequences["truncated"]) and len(residues["id"]) == sum(map(len, proteins.values()))
    name, whole = list(proteins.items())[2]  # 75 residues: windows from 0, 20 and 35
    states = {start: hidden_states(model, whole[start : start + 40], -1) for start in (0, 20, 35)}
    owners = [0] * 30 + [20] * 17 + [35] * 28
    expected = np.array([states[start][1 + residue - start] for residue, start in enumerate(owners)])
    mine = [vector for found, vector in zip(residues["id"], residues["vector"], strict=True) if found == name]
    np.testing.assert_allclose(mine, expected, atol=1e-4)
    np.testing.assert_allclose(sequences["vector"][2], expected.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(sequences["cls"][2], np.mean([found[0] for found in states.values()], axis=0), atol=1e-4)


SMALL_CHUNKS = Embed(batch_tokens=64, chunk_residues=64)


def test_an_interrupted_job_reuses_its_finished_chunks(fasta, small_esm2, tmp_path, monkeypatch):
    directory, _model = small_esm2
    whole = stage.run(from_fasta(fasta), directory, tmp_path / "whole", SMALL_CHUNKS)
    assert whole.resumed == 0
    calls = []

    def counting(engine, proteins, config, advance):
        calls.append([protein.name for protein in proteins])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return compute(engine, proteins, config, advance)

    compute = stage.embed_chunk
    monkeypatch.setattr(stage, "embed_chunk", counting)
    output = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        stage.run(from_fasta(fasta), directory, output, SMALL_CHUNKS)
    assert not (output / "sequences.parquet").exists()
    resumed = stage.run(from_fasta(fasta), directory, output, SMALL_CHUNKS)
    assert resumed.resumed == 2 and calls[3] == calls[2]
    for name in ("sequences.parquet", "residues.parquet"):
        assert (output / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(path.name for path in output.iterdir()) == ["residues.parquet", "sequences.parquet"]


# each of three chunks is a file of residues and then one of sequences; the tables are files 7 and 8
@pytest.mark.parametrize(("file", "reused"), [(1, 0), (4, 1), (7, 3), (8, 3)])
def test_a_killed_command_ends_as_an_undisturbed_one(fasta, small_esm2, tmp_path, capsys, file, reused):
    given = ["embed", "--model", small_esm2[0], "--fasta", fasta, "--set", "chunk_residues=64"]
    words = [[*map(str, given), "--output", str(tmp_path / name)] for name in ("whole", "killed")]
    assert main(words[0]) == 0
    process = Forked(str(killed.HERE), [file, *words[1]])
    assert process.wait(60) == -signal.SIGKILL, process.communicate()
    assert list((tmp_path / "killed").rglob(".*.tmp")) and not (tmp_path / "killed/residues.parquet").exists()
    capsys.readouterr()
    assert main(words[1]) == 0
    assert (f"reused {reused} finished chunks" in capsys.readouterr().out) == bool(reused)
    whole, again = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("whole", "killed"))
    assert again == whole and {"residues.parquet", "sequences.parquet"} <= set(whole)


def test_chunks_of_another_job_are_not_reused(fasta, small_esm2, tmp_path, monkeypatch):
    def stop(*_arguments, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stage.Chunks, "join", stop)
        with pytest.raises(KeyboardInterrupt):
            stage.run(from_fasta(fasta), small_esm2[0], tmp_path / "out", SMALL_CHUNKS)
    other = SMALL_CHUNKS.model_copy(update={"layer": 1})
    assert stage.run(from_fasta(fasta), small_esm2[0], tmp_path / "out", other).resumed == 0


def test_without_residues_there_is_one_file(fasta, proteins, small_esm2, tmp_path):
    stage.run(from_fasta(fasta), small_esm2[0], tmp_path, Embed())
    result = stage.run(from_fasta(fasta), small_esm2[0], tmp_path, Embed(per_residue=False))
    assert result.files == [str(tmp_path / "sequences.parquet")]
    assert [path.name for path in tmp_path.glob("*.parquet")] == ["sequences.parquet"]
    facts = json.loads(pq.read_schema(tmp_path / "sequences.parquet").metadata[b"unirefine"])
    assert (facts["layers"], facts["hidden"], facts["layer"], facts["engine"]) == (2, 32, -1, "megatron")


def test_arrays_hold_the_rows_of_the_tables(fasta, proteins, small_esm2, tmp_path):
    config = SMALL_CHUNKS.model_copy(update={"arrays": True})
    result = stage.run(from_fasta(fasta), small_esm2[0], tmp_path, config)
    assert [name.rpartition("/")[2] for name in result.files] == [
        "sequences.parquet", "sequences.npy", "residues.parquet", "residues.npy",
    ]  # fmt: skip
    for kind, rows in (("sequences", len(proteins)), ("residues", sum(map(len, proteins.values())))):
        array = np.load(tmp_path / f"{kind}.npy", mmap_mode="r")
        assert (array.shape, array.dtype) == ((rows, 32), np.float32)
        table = pq.read_table(tmp_path / f"{kind}.parquet")
        np.testing.assert_array_equal(array, np.array(table["vector"].to_pylist(), np.float32))
    (tmp_path / "sequences.parquet").unlink()  # as Snakemake does before it starts a job again
    stage.run(from_fasta(fasta), small_esm2[0], tmp_path, SMALL_CHUNKS)
    found = sorted(path.name for path in tmp_path.iterdir() if path.name not in ("in.fasta", ".lock"))
    assert found == ["residues.parquet", "sequences.parquet"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "layer=3"], "layer 3 of a model with 2 layers; choose 0 (embeddings) to 2, or -1"),
        (["--set", "layer=-4"], "layer -4 of a model with 2 layers"),
        (["--model", "nowhere"], "nowhere: no such directory"),
    ],
)
def test_mistakes_are_one_line_and_leave_no_output(fasta, small_esm2, tmp_path, capsys, options, message):
    output = tmp_path / "out"
    arguments = ["embed", "--model", str(small_esm2[0]), "--fasta", str(fasta), "--output", str(output), *options]
    assert main(arguments) == 1
    (line,) = [text for text in capsys.readouterr().err.splitlines() if "error:" in text]
    assert message in line
    assert not list(output.glob("*.parquet"))


def test_a_bad_fasta_fails_before_the_model_is_loaded(tmp_path, capsys):
    path = tmp_path / "bad.fasta"
    path.write_text(">a\nMKV\n>b\nMK7\n")
    assert main(["embed", "--model", "nowhere", "--fasta", str(path), "--output", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == (
        f"unirefine embed: error: {path}:4: a number in a sequence: b (line 4); remove the numbers: only letters are"
        " residues\n"
    )


def test_parquet_gives_what_fasta_gives(fasta, proteins, small_esm2, tmp_path):
    pq.write_table(pa.table({"id": list(proteins), "sequence": list(proteins.values())}), tmp_path / "in.parquet")
    outputs = []
    for flag, path in (("--fasta", fasta), ("--parquet", tmp_path / "in.parquet")):
        output = tmp_path / flag
        assert main(["embed", "--model", str(small_esm2[0]), flag, str(path), "--output", str(output)]) == 0
        outputs.append((output / "residues.parquet").read_bytes())
    assert outputs[0] == outputs[1]


def test_inputs_and_files_of_others_are_neither_replaced_nor_deleted(fasta, proteins, small_esm2, tmp_path, capsys):
    output = tmp_path / "out"
    output.mkdir()
    arguments = ["embed", "--model", str(small_esm2[0]), "--output", str(output)]
    source = output / "sequences.parquet"
    pq.write_table(pa.table({"id": list(proteins), "sequence": list(proteins.values())}), source)
    before = source.read_bytes()
    assert main([*arguments, "--parquet", str(source)]) == 1
    assert "sequences.parquet: an input, which the output would replace" in capsys.readouterr().err
    assert main([*arguments, "--fasta", str(fasta)]) == 1
    assert "sequences.parquet: exists, and was not written by this command" in capsys.readouterr().err
    assert source.read_bytes() == before
    source.unlink()
    strangers = [output / name for name in ("residues.parquet", "sequences.npy", "residues.npy")]
    for path in strangers:
        path.write_text("not of unirefine")
    for _ in range(2):
        assert main([*arguments, "--fasta", str(fasta), "--set", "per_residue=false"]) == 0
    assert all(path.read_text() == "not of unirefine" for path in strangers)
    np.save(output / "sequences.npy", np.zeros((len(proteins), 31), np.float32))
    capsys.readouterr()
    assert main([*arguments, "--fasta", str(fasta), "--set", "per_residue=false", "--set", "arrays=true"]) == 1
    assert "sequences.npy: exists, and was not written by this command" in capsys.readouterr().err


@pytest.mark.parametrize("engine", ["megatron", "huggingface"])
def test_vectors_that_are_no_numbers_are_refused(fasta, small_esm2, tmp_path, capsys, monkeypatch, engine):
    """Weights that are finite, whose products are not in fp16."""
    directory = shutil.copytree(small_esm2[0], tmp_path / "model")
    weights = load_file(directory / "model.safetensors")
    for name in weights:
        if "output.dense.weight" in name or "intermediate.dense.weight" in name:
            weights[name] *= 1000
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    arguments = ["embed", "--model", str(directory), "--fasta", str(fasta), "--set", f"engine={engine}"]
    assert main([*arguments, "--output", str(tmp_path / "out"), "--set", "precision=fp16"]) == 1
    assert "the model's output is not finite at protein" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.parquet"))
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
    table = pq.read_table(tmp_path / "out" / "sequences.parquet")
    assert np.isfinite(np.array(table["vector"].to_pylist())).all()


@pytest.mark.parametrize(
    ("sequence", "message"),
    [
        ("MK7", "a number in a sequence"),
        ("M-K", "`-` in a sequence"),
        ("M K", "a space in a sequence"),
        ("M*K", "`*` inside a sequence"),
        ("MKé", "byte 0xC3 in a sequence"),
        ("", "an entry without residues"),
        ("*", "an entry without residues"),
        ("ACGT" * 20, "nucleotides, not proteins"),
    ],
)
def test_fasta_and_parquet_refuse_the_same(tmp_path, sequence, message):
    (tmp_path / "in.fasta").write_text(f">a\nMKV\n>b\n{sequence}\n")
    with pytest.raises(UserError, match=re.escape(message)):
        from_fasta(tmp_path / "in.fasta")
    pq.write_table(pa.table({"id": ["a", "b"], "sequence": ["MKV", sequence]}), tmp_path / "in.parquet")
    with pytest.raises(UserError, match=re.escape(message)) as raised:
        from_parquet(tmp_path / "in.parquet")
    assert "in.parquet, row 2: b: " in str(raised.value) or "nucleotides" in message
    if "nucleotides" in message:
        assert from_parquet(tmp_path / "in.parquet", allow_nucleotides=True).lengths.tolist() == [3, 80]


def test_an_id_belongs_to_one_protein(tmp_path):
    (tmp_path / "in.fasta").write_text(">a\nMKV\n>b\nMKV\n>a\nMKL\n")
    with pytest.raises(UserError, match="there twice"):
        from_fasta(tmp_path / "in.fasta")
    pq.write_table(pa.table({"id": ["a", "b", "a"], "sequence": ["MKV*", "M", "MKL"]}), tmp_path / "in.parquet")
    with pytest.raises(UserError, match=r"in\.parquet: a is there twice, in rows 1 and 3"):
        from_parquet(tmp_path / "in.parquet")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["a"]}, "no column 'sequence'; give a Parquet file with text columns id and sequence"),
        ({"id": [1], "sequence": ["MKV"]}, "column 'id' is int64, not text"),
        ({"id": [None], "sequence": ["MKV"]}, "row 1: no id"),
        ({"id": ["a"], "sequence": pa.array([None], pa.string())}, "row 1: a: an entry without residues"),
    ],
)
def test_parquet_without_what_is_needed_is_one_line(tmp_path, columns, message):
    if columns["id"] == [None]:
        columns = columns | {"id": pa.array([None], pa.string())}
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    with pytest.raises(UserError, match=message):
        from_parquet(tmp_path / "in.parquet")
    with pytest.raises(UserError, match="no such Parquet file; check --parquet"):
        from_parquet(tmp_path / "none.parquet")
