"""Models with ESM-2's body and another head: vectors and contacts as transformers has them, all else is refused."""

import numpy as np
import oracle
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from transformers import EsmForSequenceClassification, EsmForTokenClassification, EsmModel

from unirefine.cli.main import main
from unirefine.core.alphabet import encode
from unirefine.model import convert
from unirefine.model.huggingface import HuggingfaceFiles

SIZE = (3, 64, 4)
SEQUENCE = "MKTAYIAKQRQISFVKSHFSRQ"
NO_HEAD = "it has no language-model head (lm_head)"


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    """A directory of an EsmForMaskedLM."""
    directory = tmp_path_factory.mktemp("model") / "mlm"
    return oracle.save_huggingface(oracle.random_huggingface(*SIZE), directory)


@pytest.fixture(scope="module", params=[EsmModel, EsmForSequenceClassification, EsmForTokenClassification])
def headless(request, language_model):
    """(directory, model) with the body of `language_model`."""
    model = request.param.from_pretrained(language_model).eval()
    directory = language_model.parent / request.param.__name__
    convert.write_tokenizer(oracle.save_huggingface(model, directory))
    return directory, model


@pytest.fixture
def fasta(tmp_path):
    (tmp_path / "in.fasta").write_text(f">a\n{SEQUENCE}\n")
    return tmp_path / "in.fasta"


def hidden(model):
    """float32[residues, hidden], by transformers."""
    tokens = torch.tensor([[0, *encode(SEQUENCE).tolist(), 2]])
    body = getattr(model, "esm", model)
    with torch.no_grad():
        return body(tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state[0, 1:-1].numpy()


def embed(directory, fasta, output, *words):
    return main(["embed", "--model", str(directory), "--fasta", str(fasta), "--output", str(output), *words])


@pytest.mark.parametrize("engine", ["megatron", "huggingface"])
def test_vectors_are_those_of_its_body(headless, fasta, tmp_path, engine):
    directory, model = headless
    assert embed(directory, fasta, tmp_path / "out", "--set", f"engine={engine}") == 0
    found = pq.read_table(tmp_path / "out/residues.parquet")["vector"].to_pylist()
    np.testing.assert_allclose(found, hidden(model), atol=1e-4)


def test_layers_and_contacts_are_those_of_its_body(headless, language_model, fasta, tmp_path):
    asked = ["--layers", "1", "3", "--include", "mean", "contacts"]
    tables = []
    for directory in (headless[0], language_model):
        assert embed(directory, fasta, tmp_path / directory.name, *asked) == 0
        tables.append(pq.read_table(tmp_path / directory.name / "extract.parquet").to_pylist())
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    "words",
    [
        ["embed", "--fasta", "in.fasta", "--layers", "3", "--include", "logits"],
        ["evaluate", "variants", "--fasta", "in.fasta", "--csv", "in.csv"],
        ["convert", "--from"],
    ],
)
def test_what_needs_the_head_is_refused(headless, fasta, tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.csv").write_text("mutant\nM1A\n")
    given = ["--to", "out"] if words[0] == "convert" else ["--output", "out", "--model"]
    given = [str(headless[0]), *given] if words[0] == "convert" else [*given, str(headless[0])]
    assert main([*words, *given]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert NO_HEAD in error and str(headless[0]) in error
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*.*"))


def test_its_pickle_is_converted_and_embedded(headless, fasta, tmp_path, capsys):
    directory, model = headless
    (tmp_path / "pickled").mkdir()
    torch.save(load_file(directory / "model.safetensors"), tmp_path / "pickled/pytorch_model.bin")
    (tmp_path / "pickled/config.json").write_bytes((directory / "config.json").read_bytes())
    assert main(["convert", "--from", str(tmp_path / "pickled"), "--to", str(tmp_path / "made")]) == 0
    assert HuggingfaceFiles(tmp_path / "made", head=False).headless
    assert main(["verify", str(tmp_path / "made")]) == 0
    assert embed(tmp_path / "made", fasta, tmp_path / "out") == 0
    found = pq.read_table(tmp_path / "out/residues.parquet")["vector"].to_pylist()
    np.testing.assert_allclose(found, hidden(model), atol=1e-4)
