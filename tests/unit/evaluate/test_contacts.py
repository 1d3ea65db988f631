"""Contact predictions against the formula in numpy, precisions by hand, and contacts of structures."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from unirefine.cli.main import main
from unirefine.core.alphabet import encode
from unirefine.errors import UserError
from unirefine.evaluate.contacts import open_contact_model, precision, predict_contacts
from unirefine.evaluate.structures import known_contacts

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


def atom(serial: int, name: str, residue: str, number: int, x: float) -> str:
    return (
        f"ATOM  {serial:5d}  {name:<3} {residue} A{number:4d}    {x:8.3f}{0.0:8.3f}{0.0:8.3f}  1.00  0.00           C\n"
    )


def test_a_structure_gives_sequence_and_contacts_with_gaps_unknown(tmp_path):
    """A chain that starts at 5, lacks residue 7, and whose glycine has no C-beta."""
    text = atom(1, "CA", "ALA", 5, 50) + atom(2, "CB", "ALA", 5, 0) + atom(3, "CA", "GLY", 6, 7.9)
    text += atom(4, "CA", "TRP", 8, 0) + atom(5, "CB", "TRP", 8, 15.95)
    path = tmp_path / "1abc.pdb"
    path.write_text(text + "END\n")
    known = known_contacts(path, None)
    assert (known.name, known.sequence) == ("1abc", "AGXW")
    assert known.contacts[0, 1] == 1 and known.contacts[1, 3] == 0 and known.contacts[0, 3] == 0
    assert np.isnan(known.contacts[2]).all() and np.isnan(known.contacts[:, 2]).all()
    with pytest.raises(UserError, match="no protein chain B; its chains are A"):
        known_contacts(path, None, chain="B")
    path.write_text("hello\n")
    with pytest.raises(UserError, match=r"1abc\.pdb"):
        known_contacts(path, None)


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
    ]:
        np.save(tmp_path / "p.npy", values)
        with pytest.raises(UserError, match=message):
            known_contacts(tmp_path / "p.npy", sequence)
    (tmp_path / "p.csv").write_text("1,5\n")
    with pytest.raises(UserError, match=r"p\.csv:1: residues 1, 5 of a protein with 4"):
        known_contacts(tmp_path / "p.csv", "MKVL")


def test_the_command(small_esm2, tmp_path, capsys):
    (tmp_path / "p.csv").write_text("1,25\n2,28\n")
    (tmp_path / "in.fasta").write_text(f">p\n{SEQUENCE}\n")
    arguments = ["evaluate", "contacts", "--contacts", str(tmp_path / "p.csv"), "--fasta", str(tmp_path / "in.fasta")]
    output = tmp_path / "out"
    assert main([*arguments, "--model", str(small_esm2[0]), "--output", str(output)]) == 0
    assert "long" in capsys.readouterr().out
    result = json.loads((output / "contacts.json").read_text())
    assert 0 <= result["mean"]["long"]["L"] <= 1 and result["proteins"][0]["name"] == "p"
    assert np.load(output / "p.npy").shape == (30, 30)

    headless = tmp_path / "headless"
    headless.mkdir()
    (headless / "config.json").write_text((small_esm2[0] / "config.json").read_text())
    weights = {n: v for n, v in load_file(small_esm2[0] / "model.safetensors").items() if "contact_head" not in n}
    save_file(weights, headless / "model.safetensors", metadata={"format": "pt"})
    assert main([*arguments, "--model", str(headless), "--output", str(tmp_path / "none")]) == 1
    assert "the checkpoint has no contact head" in capsys.readouterr().err
