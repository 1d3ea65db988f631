"""Variant scores against EsmForMaskedLM, called on one position at a time, and mistakes in the files."""

import csv
import json

import numpy as np
import pytest
import torch

from unirefine.cli.main import main
from unirefine.core.alphabet import encode
from unirefine.errors import UserError
from unirefine.evaluate.mutants import Substitution, parse_mutant, read_variants, variants_of_fasta
from unirefine.evaluate.variants import marginals, score_variants, spearman, window_start
from unirefine.model.inference import open_huggingface, open_megatron

WILD = "MKVLAAGICDERWYHPQNST"


def plain_log_probabilities(model, sequence: str, position: int, masked: bool) -> np.ndarray:
    tokens = torch.tensor([[0, *encode(sequence).tolist(), 2]])
    if masked:
        tokens[0, position + 1] = 32
    with torch.no_grad():
        logits = model(tokens, attention_mask=torch.ones_like(tokens)).logits
    return logits[0, position + 1].log_softmax(-1).double().numpy()


@pytest.fixture
def files(tmp_path):
    """A FASTA with two proteins, and a CSV of single and double substitutions with measured values."""
    (tmp_path / "wild.fasta").write_text(f">one\n{WILD}\n>two\n{WILD[::-1]}\n")
    rows = [
        ("one", "M1A", 0.5),
        ("two", "T1W:S2A", 1.5),
        ("one", "K2R:T20C", -2),
        ("one", "V3L", ""),
        ("one", "G7W", 3),
    ]
    with (tmp_path / "assay.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([("id", "mutant", "DMS_score"), *rows])
    return tmp_path


@pytest.mark.parametrize("opened", [open_megatron, open_huggingface])
def test_scores_equal_a_plain_loop(files, small_esm2, opened):
    directory, model = small_esm2
    proteins = {"one": WILD, "two": WILD[::-1]}
    variants = read_variants(files / "assay.csv", proteins)
    scores = score_variants(opened(directory), proteins, variants, batch_tokens=64)
    for i, variant in enumerate(variants):
        for name, masked in (("masked_marginal", True), ("wild_type_marginal", False)):
            expected = 0.0
            for change in variant.changes:
                log_p = plain_log_probabilities(model, proteins[variant.protein], change.position, masked)
                expected += log_p[encode(change.mutant)[0]] - log_p[encode(change.wild_type)[0]]
            assert scores[name][i] == pytest.approx(expected, abs=1e-4), (variant.name, name)


def test_of_a_long_protein_the_window_around_the_position_is_the_input(small_esm2):
    directory, model = small_esm2
    engine = open_huggingface(directory)
    for masked in (True, False):
        found = marginals(engine, WILD, range(len(WILD)), masked=masked, batch_tokens=64, size=8)
        for position in range(len(WILD)):
            start = min(max(position - 4, 0), len(WILD) - 8)
            assert window_start(position, len(WILD), 8) == start
            expected = plain_log_probabilities(model, WILD[start : start + 8], position - start, masked)
            np.testing.assert_allclose(found[position], expected, atol=1e-4)


def test_the_command_writes_every_variant_in_order_and_the_correlation(files, small_esm2, capsys):
    output = files / "out"
    arguments = ["evaluate", "variants", "--model", str(small_esm2[0]), "--fasta", str(files / "wild.fasta")]
    assert main([*arguments, "--csv", str(files / "assay.csv"), "--output", str(output)]) == 0
    assert "one: Spearman over 3 measured variants: masked marginal" in capsys.readouterr().out
    rows = list(csv.DictReader((output / "variants.csv").open()))
    assert [row["mutant"] for row in rows] == ["M1A", "T1W:S2A", "K2R:T20C", "V3L", "G7W"]
    assert [row["measured"] for row in rows] == ["0.5", "1.5", "-2.0", "", "3.0"]
    one = json.loads((output / "variants.json").read_text())["proteins"][0]
    assert (one["id"], one["variants"], one["measured"]) == ("one", 4, 3)
    scores = [float(rows[i]["masked_marginal"]) for i in (0, 2, 4)]
    order = np.argsort(np.argsort(scores))
    expected = 1 - 6 * sum((order - np.array([1, 0, 2])) ** 2) / (3 * 8)  # Spearman's formula without ties
    assert one["spearman"]["masked_marginal"] == pytest.approx(expected)


def test_spearman_with_ties_is_the_correlation_of_mean_ranks():
    assert spearman(np.array([1.0, 2, 2, 9]), np.array([10.0, 20, 30, 40])) == pytest.approx(
        np.corrcoef([1, 2.5, 2.5, 4], [1, 2, 3, 4])[0, 1]
    )
    assert spearman(np.array([1.0, 1, 1]), np.array([1.0, 2, 3])) is None
    assert spearman(np.array([1.0]), np.array([1.0])) is None


def test_variants_of_a_fasta(tmp_path):
    path = tmp_path / "v.fasta"
    path.write_text(">wt\nMKVL\n>same\nmkvl\n>double\nAKVW\n")
    proteins, variants = variants_of_fasta(path)
    assert proteins == {"wt": "MKVL"}
    assert [variant.changes for variant in variants] == [(), (Substitution(0, "M", "A"), Substitution(3, "L", "W"))]
    path.write_text(">wt\nMKVL\n>short\nMKV\n")
    with pytest.raises(UserError, match="short has 3 residues, the wild type wt 4"):
        variants_of_fasta(path)


@pytest.mark.parametrize(
    ("mutant", "offset", "message"),
    [
        ("K1A", 0, "K1A: residue 1 is M, not K; check --offset"),
        ("M21A", 0, "the protein has 20 residues"),
        ("M0A", 0, "the protein has 20 residues"),
        ("M1", 0, "'M1' is not a substitution like A42G"),
        ("", 0, "'' is not a substitution"),
        ("M1A;K2R", 0, "is not a substitution"),
        ("M1A", 5, "the protein has 20 residues"),
    ],
)
def test_each_mistake_in_a_variant_is_one_line(mutant, offset, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        parse_mutant(mutant, WILD, offset=offset)
    assert parse_mutant("M6A:K7R", WILD, offset=5)[1] == Substitution(1, "K", "R")


def test_mistakes_in_the_csv_name_the_line(tmp_path):
    path = tmp_path / "a.csv"
    for text, message in [
        ("mutant,score\nM1A,high\n", "a.csv:2: 'high' is not a number"),
        ("mutant,score\nM1A,1\nK1A,1\n", "a.csv:3: K1A: residue 1 is M"),
        ("variant\nM1A\n", "no variants in a column `mutant`"),
        ("mutant\n", "no variants in a column `mutant`"),
    ]:
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            read_variants(path, {"one": WILD})
    path.write_text("mutant\nM1A\n")
    with pytest.raises(UserError, match="no column 'fitness'"):
        read_variants(path, {"one": WILD}, measured="fitness")
    with pytest.raises(UserError, match="no column `id`"):
        read_variants(path, {"one": WILD, "two": WILD})
