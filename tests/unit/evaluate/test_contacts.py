"""Contact predictions against the formula in numpy, precisions by hand, and contacts of structures."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from unirefine.cli.main import main
from unirefine.core.alphabet import encode
from unirefine.errors import UserError
from unirefine.evaluate.contacts import open_contact_model, precision, predict_contacts
from unirefine.evaluate.known import known_contacts

SEQUENCE = "MKVLAAGICDERWYHPQNSTMKVLAAGICD"


def test_predictions_follow_the_formula(small_esm2):
    directory, _model = small_esm2
    model = open_contact_model(directory)
    tokens = torch.tensor([[0, *encode(SEQUENCE).tolist(), 2]])
    with torch.no_grad():
        attentions = model(tokens, attention_mask=torch.ones_like(tokens), output_attentions=True).attentions
    maps = torch.cat([layer[0] for layer in attentions]).double().numpy()[:, 1:-1, 1:-1]
    maps = maps + maps.transpose(0, 2, 1)
    rows = maps.sum(axis=2, keepdims=True)
    corrected = maps - rows * rows.transpose(0, 2, 1) / maps.sum(axis=(1, 2), keepdims=True)
    weights = load_file(directory / "model.safetensors")
    weight, bias = (weights[f"esm.contact_head.regression.{name}"].double().numpy() for name in ("weight", "bias"))
    expected = 1 / (1 + np.exp(-(np.einsum("c,cij->ij", weight[0], corrected) + bias)))
    found = predict_contacts(model, SEQUENCE)
    assert found.shape == (len(SEQUENCE), len(SEQUENCE))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_precision_by_hand():
    predicted, known = np.zeros((10, 10)), np.zeros((10, 10))
    for rank, (i, j, contact) in enumerate([(0, 6, 1), (1, 8, 0), (2, 9, 1), (3, 9, 1), (0, 3, 1)]):
        predicted[i, j] = predicted[j, i] = 1 - 0.1 * rank
        known[i, j] = known[j, i] = contact
    reach = {"nearest": 6, "farthest": None}
    assert precision(predicted, known, divisor=5, **reach) == 1 / 2
    assert precision(predicted, known, divisor=2, **reach) == 3 / 5
    assert precision(predicted, known, nearest=6, farthest=6, divisor=5) == 1
    assert precision(predicted, known, nearest=24, farthest=None, divisor=1) is None
    known[1, 8] = known[8, 1] = np.nan  # an unresolved pair is excluded
    assert precision(predicted, known, divisor=5, **reach) == 1
    known[4] = known[:, 4] = np.nan  # an unresolved residue does not count in L
    assert precision(predicted, known, divisor=9, **reach) == 1


def test_pairs_and_matrices(tmp_path):
    (tmp_path / "p.csv").write_text("i,j\n1,3\n4,2\n")
    known = known_contacts(tmp_path / "p.csv", "MKVL").contacts
    expected = np.zeros((4, 4))
    expected[[0, 2, 1, 3], [2, 0, 3, 1]] = 1
    np.testing.assert_array_equal(known, expected)
    np.save(tmp_path / "p.npy", expected.astype(bool))
    np.testing.assert_array_equal(known_contacts(tmp_path / "p.npy", "MKVL").contacts, expected)
    for values, sequence, message in [
        (expected, "MKV", "but 3 residues"),
        (expected * 4.5, "MKVL", "values other than 0, 1"),
        (np.triu(expected), "MKVL", "not a symmetric"),
        (expected, None, "no sequence of that name"),
        (expected * 0, "MKVL", "no contact in it"),
        (expected + 0j, "MKVL", "not a matrix of numbers"),
        (expected[0], "MKVL", "not a matrix of numbers"),
    ]:
        np.save(tmp_path / "p.npy", values)
        with pytest.raises(UserError, match=message):
            known_contacts(tmp_path / "p.npy", sequence)
    np.savez(tmp_path / "p", a=expected)
    (tmp_path / "p.npz").replace(tmp_path / "p.npy")
    with pytest.raises(UserError, match="not a matrix of numbers"):
        known_contacts(tmp_path / "p.npy", "MKVL")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,9\n", r"p\.csv:1: residues 1, 9 of a protein with 4"),
        ("i,j\n\n1,2\n2,2\n", r"p\.csv:4: residue 2 in contact with itself"),
        ("-1,2\n1,3\n", r"p\.csv:1: not two residue numbers"),
        ("1.0,2\n1,3\n", r"p\.csv:1: not two residue numbers"),
        ("A1,2\n1,3\n", r"p\.csv:1: not two residue numbers"),
        ("1,3\ni,j\n", r"p\.csv:2: not two residue numbers"),
        ("i,j,contact\n1,3,0\n", r"p\.csv:2: 3 columns, where a pair of residues has 2"),
        ("i,j\n", "no contact in it"),
        ("", "no contact in it"),
        ('i,j\n1,"3\n', r"p\.csv:2: not a CSV file"),
        (b"i,j\n1,3\nr\xe9,1\n", r"p\.csv:3: not a CSV file in UTF-8"),
    ],
)
def test_pairs_that_are_none_are_refused_with_their_line(tmp_path, text, message):
    path = tmp_path / "p.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UserError, match=message):
        known_contacts(path, "MKVL")


@pytest.mark.parametrize("text", ["\ufeff1,3\n4,2\n", "i;j\r\n1;3\r\n4;2", "x\ty\n1\t3\n\n 4 \t2\n,\n"])
def test_pairs_of_spreadsheets_are_read(tmp_path, text):
    (tmp_path / "p.csv").write_text(text.replace(",\n", "\t\n") if "\t" in text else text, newline="")
    known = known_contacts(tmp_path / "p.csv", "MKVL").contacts
    assert [tuple(pair) for pair in np.argwhere(np.triu(known))] == [(0, 2), (1, 3)]


def test_the_command(small_esm2, tmp_path, capsys):
    (tmp_path / "p.csv").write_text("1,25\n2,28\n")
    (tmp_path / "in.fasta").write_text(f">p\n{SEQUENCE}\n")
    arguments = ["evaluate", "contacts", "--contacts", str(tmp_path / "p.csv"), "--fasta", str(tmp_path / "in.fasta")]
    output = tmp_path / "out"
    assert main([*arguments, "--model", str(small_esm2[0]), "--output", str(output)]) == 0
    shown = capsys.readouterr().out
    result = json.loads((output / "contacts.json").read_text())
    # 21 pairs are 24 and more apart, of which (1, 25) and (2, 28) are contacts; of the 6 nearest, (1, 25)
    assert result["mean_chance"]["long"] == pytest.approx(2 / 21)
    assert result["mean_nearest"]["long"]["L/5"] == pytest.approx(1 / 6)
    assert result["mean_chance"]["short"] == result["mean_nearest"]["short"]["L"] == 0
    (line,) = [line for line in shown.splitlines() if line.startswith("long")]
    assert "any pair 0.095; nearest pairs first P@L/5 0.167" in line
    assert 0 <= result["mean"]["long"]["L"] <= 1 and result["proteins"][0]["name"] == "p"
    assert np.load(output / "p.npy").shape == (30, 30)

    headless = tmp_path / "headless"
    headless.mkdir()
    (headless / "config.json").write_text((small_esm2[0] / "config.json").read_text())
    weights = {n: v for n, v in load_file(small_esm2[0] / "model.safetensors").items() if "contact_head" not in n}
    save_file(weights, headless / "model.safetensors", metadata={"format": "pt"})
    assert main([*arguments, "--model", str(headless), "--output", str(tmp_path / "none")]) == 1
    assert "the checkpoint has no contact head" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["huggingface", "megatron"])
def test_a_fitted_head_predicts_in_transformers_what_the_regression_does(small_esm2, tmp_path, capsys, form):
    from sklearn.linear_model import LogisticRegression
    from transformers import EsmForMaskedLM

    rng = np.random.default_rng(2)
    names, inputs = ["a", "b"], []
    sharp = shutil.copytree(small_esm2[0], tmp_path / "sharp")  # maps so large that the penalty leaves some
    weights = load_file(sharp / "model.safetensors")
    weights |= {name: value * 8 for name, value in weights.items() if ".query." in name}
    save_file(weights, sharp / "model.safetensors", metadata={"format": "pt"})
    sequences = {name: "".join(rng.permutation(list(SEQUENCE))) for name in names}
    features, labels = [], []
    for name, sequence in sequences.items():
        tokens = torch.tensor([[0, *encode(sequence).tolist(), 2]])
        model = EsmForMaskedLM.from_pretrained(sharp, attn_implementation="eager").eval()
        with torch.no_grad():
            made = model(tokens, attention_mask=torch.ones_like(tokens), output_attentions=True).attentions
        maps = torch.cat([layer[0] for layer in made]).double().numpy()[:, 1:-1, 1:-1]
        maps = maps + maps.transpose(0, 2, 1)
        total = maps.sum(axis=(1, 2), keepdims=True)
        features.append(maps - maps.sum(axis=2, keepdims=True) * maps.sum(axis=1, keepdims=True) / total)
        known = (features[-1][1] + features[-1][2] > 0.1).astype(np.float32)
        known[4] = known[:, 4] = np.nan
        np.save(tmp_path / f"{name}.npy", known)
        inputs.append(str(tmp_path / f"{name}.npy"))
        pairs = [(i, j) for i in range(30) for j in range(i + 6, 30) if not np.isnan(known[i, j])]
        labels.append((pairs, [known[pair] for pair in pairs]))
    table = np.array([f[:, i, j] for f, (pairs, _) in zip(features, labels, strict=True) for i, j in pairs])
    expected = LogisticRegression(l1_ratio=1.0, C=0.15, solver="liblinear", random_state=0)
    expected.fit(table, np.array([value for _, values in labels for value in values]) > 0)
    assert expected.coef_.any()  # or there would be nothing to compare

    (tmp_path / "in.fasta").write_text("".join(f">{name}\n{sequence}\n" for name, sequence in sequences.items()))
    source = sharp
    if form == "megatron":
        source = tmp_path / "megatron"
        assert main(["convert", "--from", str(sharp), "--to", str(source)]) == 0
    given = ["--contacts", *inputs, "--fasta", str(tmp_path / "in.fasta")]
    words = ["evaluate", "contact-head", "--model", str(source), *given, "--output", str(tmp_path / "new")]
    assert main(words) == 0
    assert "of 4 attention maps have a weight" in capsys.readouterr().out
    stored = EsmForMaskedLM.from_pretrained(tmp_path / "new", attn_implementation="eager").eval()
    before, after = (load_file(path / "model.safetensors") for path in (sharp, tmp_path / "new"))
    assert all(torch.equal(before[name], after[name]) for name in before if "contact_head" not in name)
    for maps, sequence in zip(features, sequences.values(), strict=True):
        tokens = torch.tensor([[0, *encode(sequence).tolist(), 2]])
        with torch.no_grad():
            found = stored.predict_contacts(tokens, torch.ones_like(tokens))[0].numpy()
        probability = expected.predict_proba(maps.reshape(4, -1).T)[:, 1].reshape(30, 30)
        np.testing.assert_allclose(found, probability, atol=2e-3)
    # judged on what it was fitted on, it says so
    judged = ["evaluate", "contacts", "--model", str(tmp_path / "new"), *given, "--output", str(tmp_path / "o")]
    assert main(judged) == 0
    assert capsys.readouterr().out.count("the contact head was fitted on this sequence") == 2
    assert main(words) == 1
    assert "new: exists already" in capsys.readouterr().err
    assert main([*words[:-1], str(tmp_path / "none"), "--penalty", "1e-9"]) == 1
    assert "with C = 1e-09 no attention map keeps a weight" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_inputs_and_files_of_others_are_not_replaced(small_esm2, tmp_path, capsys):
    known = np.zeros((30, 30))
    known[0, 20] = known[20, 0] = 1
    (tmp_path / "p.fasta").write_text(f">p\n{SEQUENCE}\n")
    arguments = ["evaluate", "contacts", "--model", str(small_esm2[0]), "--fasta", str(tmp_path / "p.fasta")]
    np.save(tmp_path / "p.npy", known)
    before = (tmp_path / "p.npy").read_bytes()
    (tmp_path / "link").symlink_to(tmp_path)

    def run(output) -> str:
        code = main([*arguments, "--contacts", str(tmp_path / "p.npy"), "--output", str(output)])
        error = capsys.readouterr().err
        assert code == ("error:" in error)
        return error

    for output in (tmp_path, tmp_path / "link"):
        assert "p.npy: an input, which the output would replace; choose another --output" in run(output)
        assert (tmp_path / "p.npy").read_bytes() == before and not (output / "contacts.json").exists()
    output = tmp_path / "out"
    for _ in range(2):  # the files of the first time are ours
        assert "error:" not in run(output)
    np.save(output / "p.npy", known)
    assert "p.npy: exists, and was not written by this command" in run(output)
    (output / "p.npy").unlink()
    (output / "contacts.json").write_text('{"proteins": 3}')
    assert "contacts.json: exists, and was not written by this command" in run(output)


def test_a_model_that_gives_no_numbers_is_one_line(small_esm2, tmp_path, capsys, monkeypatch):
    import unirefine.evaluate.contacts as stage

    (tmp_path / "p.csv").write_text("1,25\n")
    (tmp_path / "p.fasta").write_text(f">p\n{SEQUENCE}\n")
    broken = open_contact_model(small_esm2[0])
    broken.esm.encoder.layer[0].attention.self.query.weight.data[0, 0] = float("nan")
    monkeypatch.setattr(stage, "open_contact_model", lambda directory: broken)
    arguments = ["--contacts", str(tmp_path / "p.csv"), "--fasta", str(tmp_path / "p.fasta")]
    assert (
        main(["evaluate", "contacts", "--model", str(small_esm2[0]), *arguments, "--output", str(tmp_path / "o")]) == 1
    )
    assert "the model's output is not finite at protein p" in capsys.readouterr().err
    assert not list((tmp_path / "o").glob("[!.]*"))
