"""Variant scores against EsmForMaskedLM, called on one position at a time, and mistakes in the files."""

import csv
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from unirefine.cli.main import main
from unirefine.core.alphabet import encode
from unirefine.errors import UserError
from unirefine.evaluate.edits import Substitution, parse_mutant
from unirefine.evaluate.mutants import Variant, load_proteins, read_variants, variants_of_fasta
from unirefine.evaluate.variants import marginals, score_variants, window_start
from unirefine.model.inference import open_huggingface, open_megatron

DEMO = Path(__file__).parents[3] / "resources/demo"
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
    variants = read_variants(files / "assay.csv", proteins).scored()
    scores = score_variants(opened(directory), proteins, variants, batch_tokens=64)
    for i, variant in enumerate(variants):
        for name, masked in (("masked_marginal", True), ("wild_type_marginal", False)):
            expected = 0.0
            for change in variant.edited.changes:
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
    shown = capsys.readouterr().out
    assert "one: Spearman over 3 measured variants: masked marginal" in shown
    rows = list(csv.DictReader((output / "variants.csv").open()))
    assert [row["mutant"] for row in rows] == ["M1A", "T1W:S2A", "K2R:T20C", "V3L", "G7W"]
    assert [row["measured"] for row in rows] == ["0.5", "1.5", "-2.0", "", "3.0"]
    one = json.loads((output / "variants.json").read_text())["proteins"][0]
    assert (one["id"], one["variants"], one["measured"]) == ("one", 4, 3)
    scores = [float(rows[i]["masked_marginal"]) for i in (0, 2, 4)]
    order = np.argsort(np.argsort(scores))
    expected = 1 - 6 * sum((order - np.array([1, 0, 2])) ** 2) / (3 * 8)  # Spearman's formula without ties
    assert one["spearman"]["masked_marginal"] == pytest.approx(expected)
    assert one["spearman_interval"]["masked_marginal"] is None  # of three values
    plain = one["without_model"]  # fewer substitutions: -1, -2, -1 beside 0.5, -2, 3
    assert plain["fewer_substitutions"]["spearman"] == pytest.approx(np.sqrt(3) / 2)
    assert plain["longer"]["spearman"] is None
    assert "one: the same without a model: blosum62" in shown and "fewer substitutions 0.866" in shown


def test_variants_of_a_fasta(tmp_path):
    path = tmp_path / "v.fasta"
    path.write_text(">wt\nMKVL\n>same\nmkvl\n>double\nAKVW\n")
    proteins, variants = variants_of_fasta(path)
    assert proteins == {"wt": "MKVL"}
    changes = [variant.edited.changes for variant in variants.scored()]
    assert changes == [(), (Substitution(0, "M", "A"), Substitution(3, "L", "W"))]
    path.write_text(">wt\nMKVL\n>short\nMKV\n>odd\nMJVL\n")
    with pytest.raises(UserError, match=r"v\.fasta:5: odd: ESM-2 has no token for 'J'"):
        variants_of_fasta(path)
    _, variants = variants_of_fasta(path, skip=True)
    assert variants.scored()[0].edited == ("MKV", None)
    assert [(row.name, row.line) for row in variants.unscored()] == [("odd", 5)]


@pytest.mark.parametrize(
    ("mutant", "offset", "message"),
    [
        ("K1A", 0, "K1A: residue 1 is M, not K; check --offset"),
        ("M21A", 0, "the protein has 20 residues"),
        ("M0A", 0, "the protein has 20 residues"),
        ("M1", 0, "'M1' is not A42G (substitution)"),
        ("", 0, "'' is not A42G (substitution)"),
        ("M1A;K2R", 0, "'M1A;K2R' is not A42G (substitution)"),
        ("M" + "9" * 5000 + "A", 0, "is not A42G (substitution)"),
        ("K2A:K2G", 0, "position 2 is changed twice"),
        ("V3G:V3G", 0, "position 3 is changed twice"),
        ("V8A:V8A", 5, "position 8 is changed twice"),
        ("K2_L4del:V3A", 0, "position 3 is changed twice"),
        ("K2J", 0, "K2J: ESM-2 has no token for 'J'"),
        ("K2_V3insJ", 0, "ESM-2 has no token for 'J'"),
        ("L4_K2del", 0, "ends before it starts"),
        ("K2_L4insA", 0, "an insertion is between neighbours"),
        ("M1*", 0, "leaves no residue"),
        ("M1A", 5, "the protein has 20 residues"),
    ],
)
def test_each_mistake_in_a_variant_is_one_line(mutant, offset, message):
    with pytest.raises(UserError, match=re.escape(message)):
        parse_mutant(mutant, WILD, offset=offset)
    edited = parse_mutant("M6A:K7R", WILD, offset=5)
    assert edited == (f"AR{WILD[2:]}", (Substitution(0, "M", "A"), Substitution(1, "K", "R")))


def test_mistakes_in_the_csv_name_the_line(tmp_path):
    path = tmp_path / "a.csv"
    for text, message in [
        ("mutant,score\nM1A,high\n", "a.csv:2: 'high' is not a finite number"),
        ("mutant,score\nM1A,inf\n", "a.csv:2: 'inf' is not a finite number"),
        ("mutant,score\nM1A,1e999\n", "a.csv:2: '1e999' is not a finite number"),
        ("mutant,score\nM1A,1_0\n", "a.csv:2: '1_0' is not a finite number"),
        ("mutant,score\nM1A,1,5\n", "a.csv:2: 3 columns, the first line has 2"),
        ("mutant,score\nM1A\n", "a.csv:2: 1 columns, the first line has 2"),
        ("mutant,score\n\nM1A,1\n\n\nK1A,1\n", "a.csv:6: K1A: residue 1 is M"),
        ("mutant,mutant\nM1A,M1A\n", "a.csv:1: two columns named 'mutant'"),
        ("id,mutant\nother,M1A\n", "a.csv:2: no protein 'other' in the FASTA"),
        (f"mutant,mutated_sequence\nM1A,{WILD}\n", "a.csv:2: M1A is not what column mutated_sequence has"),
        ("mutant,score\nM1A,1\nK1A,1\n", "a.csv:3: K1A: residue 1 is M"),
        ("variant\nM1A\n", "no column `mutant` among variant"),
        ("mutant\n", "no rows after the names of the columns"),
        ("", "nothing in it"),
    ]:
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            read_variants(path, {"one": WILD})
    path.write_text("mutant\nM1A\n")
    with pytest.raises(UserError, match="no column 'fitness'"):
        read_variants(path, {"one": WILD}, measured="fitness")
    with pytest.raises(UserError, match="no column `id`"):
        read_variants(path, {"one": WILD, "two": WILD})


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffmutant,DMS_score\r\nM1A,1.5\r\nK2R,\r\n",
        "mutant;DMS_score\nM1A;1,5\nK2R;NA\n",
        "Mutant\tdms_score\tnote\nM1A\t1.5\tx, y\nK2R\tnan\t\n",
        'mutant,DMS_score,note\n\nM1A,1.50,"two\nlines"\nK2R,N/A,\n,,\n',
    ],
)
def test_tables_of_spreadsheets_are_read(tmp_path, text):
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8", newline="")
    found = read_variants(path, {"one": WILD})
    assert [(row.name, row.measured) for row in found.rows] == [("M1A", 1.5), ("K2R", None)]
    assert found.column == "DMS_score" and not found.notes


def test_what_stands_for_nothing_takes_no_part_in_the_ranks(files, small_esm2, capsys):
    """Against Spearman's formula without ties, over the numbers alone."""
    values = ["1", "nan", "3", "NA", "2", "n/a", "-1", "NaN", ""]
    mutants = [f"{letter}{i}W" for i, letter in enumerate(WILD[1:10], 2)]
    text = "".join(f"one,{mutant},{value}\n" for mutant, value in zip(mutants, values, strict=True))
    (files / "assay.csv").write_text(f"id,mutant,score\n{text}")
    arguments = ["evaluate", "variants", "--model", str(small_esm2[0]), "--fasta", str(files / "wild.fasta")]
    assert main([*arguments, "--csv", str(files / "assay.csv"), "--output", str(files / "out")]) == 0
    assert "one: Spearman over 4 measured variants" in capsys.readouterr().out
    rows = list(csv.DictReader((files / "out" / "variants.csv").open()))
    assert [row["measured"] for row in rows] == ["1.0", "", "3.0", "", "2.0", "", "-1.0", "", ""]
    summary = json.loads((files / "out" / "variants.json").read_text())["proteins"][0]
    for name in ("masked_marginal", "wild_type_marginal"):
        scores = [float(rows[i][name]) for i in (0, 2, 4, 6)]
        apart = np.argsort(np.argsort(scores)) - np.array([1, 3, 2, 0])
        assert summary["spearman"][name] == pytest.approx(1 - 6 * (apart**2).sum() / (4 * 15))


def test_missing_measurements_and_rare_letters_are_noted(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("mutant,fitness\nM1A,1\nK2X,2\nV3U,1\n")
    found = read_variants(path, {"one": WILD})
    assert found.notes == [
        "no measured values: none of DMS_score, score, measured among mutant, fitness; name the column by --measured",
        "X, B, U, Z or O, which ESM-2 has hardly seen in training, in K2X, V3U",
    ]
    path.write_text("mutant,score\nM1A,\n")
    assert read_variants(path, {"one": WILD}).notes == ["no measured values: column score has none"]


@pytest.mark.parametrize(
    ("mutant", "sequence"),
    [
        ("WT", WILD),
        ("_wt", WILD),
        ("K2del", "MVLAAGICDERWYHPQNST"),
        ("K2-", "MVLAAGICDERWYHPQNST"),
        ("K2_A5del", "MAGICDERWYHPQNST"),
        ("K2_V3insGG", "MKGGVLAAGICDERWYHPQNST"),
        ("A5*", "MKVL"),
        ("M1A:K2_V3insG:S19_T20del", "AKGVLAAGICDERWYHPQN"),
    ],
)
def test_mutations_beyond_substitutions(tmp_path, mutant, sequence):
    assert parse_mutant(mutant, WILD).sequence == sequence
    assert (parse_mutant(mutant, WILD).changes is None) == (sequence != WILD)
    (tmp_path / "a.csv").write_text(f"mutated_sequence\n{sequence}\n")
    (row,) = read_variants(tmp_path / "a.csv", {"one": WILD}).rows
    assert row.edited.sequence == sequence


def test_indels_have_pseudo_log_likelihoods_and_rows_that_cannot_be_scored_are_listed(files, small_esm2, capsys):
    directory, model = small_esm2
    rows = ["one,K2del,1", "one,wt,0.5", "one,K2J,3", "one,A5*,2", "one,M1A,4", "three,M1A,1", "one,K2_V3insG,-1"]
    (files / "assay.csv").write_text("id,mutant,score\n" + "\n".join(rows) + "\n")
    arguments = ["evaluate", "variants", "--model", str(directory), "--fasta", str(files / "wild.fasta")]
    arguments += ["--csv", str(files / "assay.csv"), "--output", str(files / "out")]
    assert main(arguments) == 1
    assert "assay.csv:4: K2J: ESM-2 has no token for 'J'" in capsys.readouterr().err
    assert not (files / "out" / "variants.csv").exists()
    assert main([*arguments, "--unscored", "skip"]) == 0
    shown = capsys.readouterr().out
    assert "scored 5 variants" in shown and "line 4, K2J: K2J: ESM-2 has no token for 'J'" in shown
    summary = json.loads((files / "out" / "variants.json").read_text())
    assert [(row["line"], row["mutant"]) for row in summary["unscored"]] == [(4, "K2J"), (7, "M1A")]
    found = list(csv.DictReader((files / "out" / "variants.csv").open()))
    assert [row["mutant"] for row in found] == ["K2del", "wt", "K2J", "A5*", "M1A", "M1A", "K2_V3insG"]
    assert float(found[1]["masked_marginal"]) == 0 and found[1]["pseudo_log_likelihood"] == ""
    assert found[2]["masked_marginal"] == found[2]["pseudo_log_likelihood"] == ""

    def likelihood(sequence: str) -> float:
        return sum(
            plain_log_probabilities(model, sequence, i, True)[encode(letter)[0]] for i, letter in enumerate(sequence)
        )

    for row, sequence in ((0, f"M{WILD[2:]}"), (3, WILD[:4]), (6, f"MKG{WILD[2:]}")):
        total, wild = likelihood(sequence), likelihood(WILD)
        assert float(found[row]["pseudo_log_likelihood"]) == pytest.approx(total - wild, abs=1e-3)
        expected = total / len(sequence) - wild / len(WILD)
        assert float(found[row]["pseudo_log_likelihood_per_residue"]) == pytest.approx(expected, abs=1e-4)


def test_a_scan_has_every_substitution_and_a_picture(small_esm2, tmp_path):
    directory, model = small_esm2
    (tmp_path / "in.fasta").write_text(">sp|P1\nmkvla\n")
    arguments = ["evaluate", "variants", "--model", str(directory), "--fasta", str(tmp_path / "in.fasta"), "--scan"]
    for _ in range(2):  # the files of the first time are ours
        assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
    rows = list(csv.DictReader((tmp_path / "out" / "variants.csv").open()))
    assert len({row["mutant"] for row in rows}) == 100
    for row in rows:
        before, position, after = row["mutant"][0], int(row["mutant"][1:-1]) - 1, row["mutant"][-1]
        log_p = plain_log_probabilities(model, "MKVLA", position, True)
        expected = log_p[encode(after)[0]] - log_p[encode(before)[0]]
        assert float(row["masked_marginal"]) == pytest.approx(expected, abs=1e-4)
    picture = tmp_path / "out" / "scan-sp_P1.svg"
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")
    picture.write_text("a stranger's")
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 1


def test_an_assay_is_not_replaced_by_its_scores(files, small_esm2, capsys):
    (files / "wild.fasta").write_text(f">one\n{WILD}\n")
    (files / "variants.csv").write_text("mutant,DMS_score,note\nM1A,1,keep me\n")
    arguments = ["evaluate", "variants", "--model", str(small_esm2[0]), "--fasta", str(files / "wild.fasta")]
    assert main([*arguments, "--csv", str(files / "variants.csv"), "--output", str(files)]) == 1
    assert "variants.csv: an input, which the output would replace" in capsys.readouterr().err
    (files / "other.csv").write_text("mutant\nM1A\n")
    assert main([*arguments, "--csv", str(files / "other.csv"), "--output", str(files)]) == 1
    assert "variants.csv: exists, and was not written by this command" in capsys.readouterr().err
    assert "keep me" in (files / "variants.csv").read_text()


def test_scores_that_are_no_numbers_are_refused(files, small_esm2, monkeypatch):
    engine = open_huggingface(small_esm2[0])
    variants = read_variants(files / "assay.csv", {"one": WILD, "two": WILD[::-1]}).scored()
    engine.model.lm_head.bias.data[5] = float("inf")
    for chosen in (variants, [Variant("one", "K2del", parse_mutant("K2del", WILD))]):
        with pytest.raises(UserError, match="the model's output is not finite at protein one"):
            score_variants(engine, {"one": WILD, "two": WILD[::-1]}, chosen, batch_tokens=64)


def test_the_assay_of_the_demo():
    """Names and sequences agree, as `read_variants` checks, and each variant is there once."""
    proteins = load_proteins(DEMO / "amyloid_beta.fasta")
    found = read_variants(DEMO / "amyloid_beta.csv", proteins)
    assert found.column == "DMS_score" and not found.notes and not found.unscored()
    changes = [one.edited.changes for one in found.scored()]
    assert len(set(changes)) == 468 and all(len(each) == 1 for each in changes)
    # the paper: all dominant familial mutations of Alzheimer's disease nucleate faster than the wild type, at 0
    familial = ["H6R", "D7N", "D7H", "E11K", "K16N", "A21G", "E22G", "E22K", "E22Q", "D23N", "L34V", "A42T"]
    by_name = {one.name: one.measured for one in found.scored()}
    assert all(by_name[name] > 0 for name in familial) and by_name["A2V"] < 0  # the recessive one
