"""The suite's numbers are those of the single commands and of scikit-learn; any model with ESM-2's tokens joins."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import spearmanr
from sklearn.metrics import matthews_corrcoef
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from unirefine.cli.main import main
from unirefine.core.alphabet import AMINO_ACIDS, TOKENS, encode
from unirefine.evaluate import probes

WILD = "MKVLAAGICDERWYHPQNSTMKVLAAGICD"


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """Another architecture of transformers, with ESM-2's tokens."""
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=33, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=1026, pad_token_id=1,
    )  # fmt: skip
    directory = tmp_path_factory.mktemp("bert")
    BertForMaskedLM(config).save_pretrained(directory)
    (directory / "vocab.txt").write_text("\n".join(TOKENS))
    return directory


@pytest.fixture
def data(tmp_path):
    """Words of the command for every part but the perplexity."""
    rng = np.random.default_rng(3)
    known = np.zeros((30, 30))
    known[0, 25] = known[25, 0] = known[2, 29] = known[29, 2] = 1
    np.save(tmp_path / "p.npy", known)
    (tmp_path / "p.fasta").write_text(f">p\n{WILD}\n")
    changes = [f"{WILD[i]}{i + 1}{AMINO_ACIDS[(i * 7) % 20]}" for i in range(12)]
    changes = [one for one in changes if one[0] != one[-1]]
    (tmp_path / "assay.csv").write_text("mutant,score\n" + "".join(f"{c},{i * i % 7}\n" for i, c in enumerate(changes)))
    rows = ["sequence,value,kind,side"]
    for i in range(40):
        sequence = "".join(rng.choice(list(AMINO_ACIDS), 25, p=np.r_[np.full(10, 0.07), np.full(10, 0.03)]))
        rows.append(f"{sequence},{sequence.count('A') + i / 100:.2f},k{i % 3},{'test' if i % 4 == 0 else 'train'}")
    (tmp_path / "table.csv").write_text("\n".join([*rows, "MKV,,,test", "MKVL,1,k1,other"]) + "\n")
    return [
        "--contacts", str(tmp_path / "p.npy"), "--fasta", str(tmp_path / "p.fasta"), "--variants",
        str(tmp_path / "assay.csv"), "--wild-types", str(tmp_path / "p.fasta"),
        "--probe", f"{tmp_path / 'table.csv'}:value", "--probe", f"{tmp_path / 'table.csv'}:kind", "--split", "side",
    ]  # fmt: skip


def test_one_table_has_what_the_single_commands_have(data, bert, small_esm2, written, tmp_path, capsys):
    esm2, model = small_esm2
    words = ["evaluate", "suite", "--model", f"a|<b>={esm2}", "--model", f"bert={bert}"]
    output = tmp_path / "out"
    for more in (data[:4], [*data, "--shards", str(written.directory)]):  # the files of the first time are ours
        assert main([*words, *more, "--output", str(output)]) == 0
    result = json.loads((output / "suite.json").read_text())
    ours, other = result["models"]
    assert (ours["model"], other["model"]) == ("a|<b>", "bert")
    assert other["contacts"] is None and other["parameters"] < ours["parameters"]

    single = tmp_path / "single"
    common = ["--model", str(esm2), "--output", str(single)]
    assert main(["evaluate", "--shards", str(written.directory), *common, "--set", "huggingface=false"]) == 0
    hidden = json.loads((single / "perplexity.json").read_text())["table"][0]["hidden"]
    assert ours["perplexity"]["perplexity"] == pytest.approx(hidden["perplexity"], rel=1e-4)
    assert ours["perplexity"]["interval"] == pytest.approx(hidden["interval"], rel=1e-4)
    ratio = ours["perplexity"]["perplexity"] / other["perplexity"]["perplexity"]
    assert other["perplexity"]["ratio"] == pytest.approx(ratio)
    assert main(["evaluate", "contacts", *data[:4], *common]) == 0
    contacts = json.loads((single / "contacts.json").read_text())
    assert ours["contacts"]["precision"] == contacts["mean"]
    assert result["without_model"]["contacts"]["precision"] == contacts["mean_nearest"]
    assert main(["evaluate", "variants", "--csv", data[5], "--fasta", data[7], *common]) == 0
    found = json.loads((single / "variants.json").read_text())["proteins"][0]
    assert ours["variants"]["masked_marginal"]["spearman"] == pytest.approx(found["spearman"]["masked_marginal"])
    assert result["without_model"]["variants"] == found["without_model"]
    assert ours["residues_per_second"] > 0 and ours["peak_bytes"] > 1e8

    for name, measure in (("table:value", "Spearman"), ("table:kind", "MCC")):
        probe = ours["probes"][name]
        assert probe["measure"] == measure
        assert probe["value"] == pytest.approx(expected_probe(tmp_path / "table.csv", name[6:], model), abs=1e-3)
        low, high = probe["interval"]
        assert low <= probe["value"] <= high
    text, page = (output / "suite.md").read_text(), (output / "suite.html").read_text()
    assert "| a\\|&lt;b> |" in text and "a|&lt;b&gt;" in page and "<b>=" not in page
    assert "no head" in text and f"{hidden['perplexity']:.2f} [" in text
    assert "of train, 10 of test (column side)" in capsys.readouterr().out


def expected_probe(path, column: str, model) -> float:
    """With transformers' hidden states and scikit-learn alone."""
    from sklearn.linear_model import LogisticRegression, RidgeCV

    lines = [line.split(",") for line in path.read_text().splitlines()[1:41]]
    features = []
    for sequence, *_ in lines:
        tokens = torch.tensor([[0, *encode(sequence).tolist(), 2]])
        with torch.no_grad():
            made = model.esm(tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
        features.append(made[0, 1:-1].double().mean(0).numpy())
    features, test = np.array(features), np.array([line[3] == "test" for line in lines])
    if column == "value":
        labels = np.array([float(line[1]) for line in lines])
        fitted = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 13))).fit(features[~test], labels[~test])
        return spearmanr(labels[test], fitted.predict(features[test]))[0]
    labels = np.array([line[2] for line in lines])
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features[~test], labels[~test])
    return matthews_corrcoef(labels[test], fitted.predict(features[test]))


def test_without_a_column_whole_clusters_are_held_out(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list(AMINO_ACIDS), 20)) for _ in range(60)]
    group = np.arange(60) // 3 * 3
    monkeypatch.setattr(probes, "_clusters", lambda given, output, threads: group)
    table = tmp_path / "t.csv"
    table.write_text("sequence,y\n" + "".join(f"{one},{i}\n" for i, one in enumerate(sequences)))
    probe = probes.read_probe(f"{table}:y", None, tmp_path)
    assert probe.test.sum() == 12
    assert all(len(set(probe.test[group == one])) == 1 for one in group)
    assert probe.split == "20% of the rows in whole clusters at 30% identity"
    order = rng.permutation(60)  # the same clusters, whatever the order of the rows
    table.write_text("sequence,y\n" + "".join(f"{sequences[i]},{i}\n" for i in order))
    place = np.argsort(order)
    monkeypatch.setattr(probes, "_clusters", lambda given, output, threads: place[group[order]])
    other = probes.read_probe(f"{table}:y", None, tmp_path)
    assert other.test[place].tolist() == probe.test.tolist()


def test_matthews_of_several_classes():
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(0, 4, 50), rng.integers(0, 4, 50)
    guess[:20] = truth[:20]
    assert probes.matthews(truth, guess) == pytest.approx(matthews_corrcoef(truth, guess))
    assert probes.matthews(truth, np.zeros(50, int)) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to judge by; give --shards, --contacts, --variants or --probe"),
        (["--variants", "x.csv"], "--variants and --wild-types belong together"),
        (["--probe", "{}/t.csv"], "no column; give TABLE:COLUMN"),
        (["--probe", "{}/t.csv:z"], "t.csv: no column 'z'; the first line has sequence, y"),
        (["--probe", "{}/t.csv:y", "--split", "y"], "0 rows with 0 different labels in train"),
        (["--probe", "{}/u.csv:y"], "u.csv:3: no sequence of letters"),
        (["--model", "{}/esm2", "--probe", "{}/t.csv:y"], "two models named"),
    ],
)
def test_mistakes_are_one_line_before_a_model_is_opened(tmp_path, capsys, words, message):
    (tmp_path / "t.csv").write_text("sequence,y\nMKV,1\nMKL,2\n")
    (tmp_path / "u.csv").write_text("sequence,y\nMKV,1\nM-L,2\n")
    given = [word.format(tmp_path) for word in ["--model", "{}/esm2", *words]]
    assert main(["evaluate", "suite", *given, "--output", str(tmp_path / "out")]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert message in line
    assert not list((tmp_path / "out").glob("[!.]*"))


def test_a_model_with_other_tokens_is_refused(bert, data, tmp_path, capsys):
    import shutil

    other = shutil.copytree(bert, tmp_path / "other")
    words = ["evaluate", "suite", "--model", str(other), *data[4:8], "--output", str(tmp_path / "out")]
    (other / "vocab.txt").write_text("\n".join(reversed(TOKENS)))
    assert main(words) == 1
    assert "not ESM-2's vocabulary" in capsys.readouterr().err
    (other / "vocab.txt").unlink()
    assert main(words) == 1
    assert "not an ESM-2, and without a vocab.txt" in capsys.readouterr().err
    shutil.copy(bert / "vocab.txt", other)
    weights = load_file(other / "model.safetensors")
    weights = {name: value[:-1] if value.shape[0] == 33 else value for name, value in weights.items()}
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    assert main(words) == 1
    assert "transformers cannot load it" in capsys.readouterr().err
