"""Several layers, logits, probabilities and contacts against EsmForMaskedLM, one protein at a time."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from unirefine.cli.main import main
from unirefine.core.alphabet import TOKENS, encode

PROTEINS = {"sp|P1|A": "MKVLAAGICDERWYHPQNST", "one": "M", "lower": "mkvxj", "long": "ACDEFGHIKLMNPQRSTVWY" * 3}


@pytest.fixture
def arguments(small_esm2, tmp_path):
    (tmp_path / "in.fasta").write_text("".join(f">{name}\n{sequence}\n" for name, sequence in PROTEINS.items()))
    return [
        "embed", "--model", str(small_esm2[0]), "--fasta", str(tmp_path / "in.fasta"),
        "--output", str(tmp_path / "out"), "--set", "batch_tokens=100", "--set", "max_residues=50",
    ]  # fmt: skip


@pytest.mark.parametrize("contacts", [True, False])
def test_everything_in_one_pass_is_what_transformers_gives(arguments, small_esm2, tmp_path, contacts):
    kinds = ["mean", "cls", "residues", "logits", "probabilities", *(["contacts"] if contacts else [])]
    assert (
        main([*arguments, "--layers", "0,1", "-1", "2", "--outputs", ",".join(kinds), "--set", "chunk_residues=30"])
        == 0
    )
    table = pq.read_table(tmp_path / "out" / "extract.parquet")
    of_layers = [f"{kind}_{layer}" for kind in ("mean", "cls", "residues") for layer in (0, 1, 2)]
    assert table.column_names == ["id", "length", "truncated", *of_layers, *kinds[3:]]
    assert json.loads(table.schema.metadata[b"unirefine"])["tokens"] == list(TOKENS)
    rows, model = table.to_pylist(), small_esm2[1]
    assert [row["id"] for row in rows] == list(PROTEINS)
    assert [row["length"] for row in rows] == [20, 1, 5, 60]
    assert [row["truncated"] for row in rows] == [False, False, False, True]
    for row, sequence in zip(rows, PROTEINS.values(), strict=True):
        tokens = torch.tensor([[0, *encode(sequence[:50]).tolist(), 2]])
        mask = torch.ones_like(tokens)
        with torch.no_grad():
            made = model(tokens, attention_mask=mask, output_hidden_states=True)
        for layer, states in enumerate(made.hidden_states):
            expected = states[0].numpy()
            np.testing.assert_allclose(row[f"cls_{layer}"], expected[0], atol=1e-4)
            np.testing.assert_allclose(row[f"residues_{layer}"], expected[1:-1], atol=1e-4)
            np.testing.assert_allclose(row[f"mean_{layer}"], expected[1:-1].mean(axis=0), atol=1e-4)
        logits = made.logits[0, 1:-1]
        np.testing.assert_allclose(row["logits"], logits.numpy(), atol=1e-3)
        np.testing.assert_allclose(row["probabilities"], logits.softmax(-1).numpy(), atol=1e-4)
        if contacts:
            model.set_attn_implementation("eager")
            with torch.no_grad():
                np.testing.assert_allclose(row["contacts"], model.predict_contacts(tokens, mask)[0].numpy(), atol=1e-4)
            model.set_attn_implementation("sdpa")


def test_without_layers_the_configured_one_and_its_mean(arguments, tmp_path):
    for _ in range(2):  # the file of the first time is ours
        assert main([*arguments, "--include", "mean", "--set", "layer=1"]) == 0
    assert pq.read_table(tmp_path / "out" / "extract.parquet").column_names == ["id", "length", "truncated", "mean_1"]
    (tmp_path / "out" / "extract.parquet").write_text("a stranger's")
    assert main([*arguments, "--layers", "1"]) == 1


def test_mistakes_are_one_line_and_leave_no_file(arguments, small_esm2, tmp_path, capsys):
    headless, damaged = (shutil.copytree(small_esm2[0], tmp_path / name) for name in ("headless", "damaged"))
    weights = load_file(small_esm2[0] / "model.safetensors")
    save_file(
        {n: v for n, v in weights.items() if "contact_head" not in n}, headless / "model.safetensors", {"format": "pt"}
    )
    weights["lm_head.bias"][:] = 3e38
    weights["lm_head.dense.weight"] *= 1e38
    save_file(weights, damaged / "model.safetensors", {"format": "pt"})
    for options, message in [
        (["--layers", "0", "3"], "layer 3 of a model with 2 layers"),
        (["--include", "contacts", "--model", str(headless)], "the checkpoint has no contact head"),
        (["--include", "logits", "--model", str(damaged)], "the model's output is not finite at protein"),
        (["--layers", "1", "--set", "long_sequences=windows"], "--layers and --include do not join windows"),
    ]:
        assert main([*arguments, *options]) == 1
        assert message in capsys.readouterr().err
        assert not list((tmp_path / "out").glob("[!.]*"))


def test_a_stopped_job_goes_on_after_its_last_chunk(arguments, tmp_path, monkeypatch, capsys):
    from unirefine.embed import extract

    words = [*arguments, "--layers", "1,2", "--set", "chunk_residues=10"]
    assert main([*words, "--output", str(tmp_path / "whole")]) == 0
    compute, calls = extract._rows, []

    def stopping(model, proteins, *rest):
        calls.append([protein.name for protein in proteins])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return compute(model, proteins, *rest)

    monkeypatch.setattr(extract, "_rows", stopping)
    assert main(words) == 130
    assert main(words) == 0
    assert calls == [["sp|P1|A"], ["one", "lower", "long"], ["one", "lower", "long"]]
    name = "extract.parquet"
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert "embed: ESM-2 of its own size" in capsys.readouterr().err
