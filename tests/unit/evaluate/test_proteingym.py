"""ProteinGym's measures and averages against pandas, scipy and scikit-learn, and the command on synthetic assays."""

import json
import math
import signal

import killed
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forked import Forked
from scipy.stats import spearmanr
from sklearn.metrics import matthews_corrcoef, ndcg_score, roc_auc_score

from unirefine.cli.main import main
from unirefine.core.alphabet import AMINO_ACIDS
from unirefine.evaluate import gym_metrics, proteingym
from unirefine.evaluate.variants import score_variants
from unirefine.files.atomic import write_json

TARGETS = {"A": "MKVLAAGICDERWYHPQNST", "B": "MWYHPQNSTKVLAAGICDER", "C": "MKVLAAGICD"}
REFERENCE = [  # DMS_id, target, UniProt_ID, selection, MSA depth, taxon
    ("A_one", "A", "A_HUMAN", "Activity", "medium", "Human"),
    ("A_two", "A", "A_HUMAN", "Activity", "medium", "Human"),
    ("A_bind", "A", "A_HUMAN", "Binding", "Medium", "Human"),
    ("B_one", "B", "B_ECOLI", "Activity", "high", "Prokaryote"),
    ("B_few", "B", "B_ECOLI", "Stability", "high", "Prokaryote"),
]


def variants_of(rng, target: str, count: int) -> list[tuple[str, str]]:
    """(mutant, sequence), each once, of 1 to 6 substitutions."""
    found = {}
    while len(found) < count:
        letters = list(target)
        places = sorted(rng.choice(len(target), int(rng.choice([1, 1, 2, 3, 6])), replace=False))
        for at in places:
            letters[at] = rng.choice([letter for letter in AMINO_ACIDS if letter != target[at]])
        found[":".join(f"{target[at]}{at + 1}{letters[at]}" for at in places)] = "".join(letters)
    return list(found.items())


@pytest.fixture(scope="module")
def gym(tmp_path_factory):
    """(directory of assays, reference file)."""
    root = tmp_path_factory.mktemp("gym")
    (root / "assays").mkdir()
    rng = np.random.default_rng(4)
    lines = ["DMS_id,DMS_filename,target_seq,UniProt_ID,coarse_selection_type,MSA_Neff_L_category,taxon"]
    for name, target, *rest in REFERENCE:
        made = variants_of(rng, TARGETS[target], 7 if name == "B_few" else 60)
        scores = np.round(rng.normal(size=len(made)), 1)  # with ties
        frame = pd.DataFrame(made, columns=["mutant", "mutated_sequence"])
        frame["DMS_score"], frame["DMS_score_bin"] = scores, (scores > 0.3).astype(int)
        if name == "B_few":
            frame["DMS_score_bin"] = 1  # one class: no AUC
        frame.to_csv(root / "assays" / f"{name}.csv", index=False)
        lines.append(",".join([name, f"{name}.csv", TARGETS[target], *rest]))
    (root / "reference.csv").write_text("\n".join(lines) + "\n")
    return root / "assays", root / "reference.csv"


def expected_measures(frame: pd.DataFrame, column: str, cutoff: float) -> dict[str, float]:
    """The measures of an assay, by libraries. (The model's scores have no ties.)"""
    measured, score = frame["DMS_score"], frame[column]
    top = int(len(frame) * 0.1)
    gains = (measured - measured.min()) / (measured.max() - measured.min())
    truth, chosen = measured > np.percentile(measured, 90), score > np.percentile(score, 90)
    single = frame["DMS_score_bin"].nunique() < 2
    return {
        "Spearman": spearmanr(measured, score)[0] if len(frame) > 1 else np.nan,
        "AUC": np.nan if single else roc_auc_score(frame["DMS_score_bin"], score),
        "MCC": matthews_corrcoef(frame["DMS_score_bin"], (score >= cutoff).astype(int)),
        "NDCG": ndcg_score([gains], [score], k=top) if top else (np.nan if gains.isna().any() and top else 0.0),
        "Top_recall": (truth & chosen).sum() / truth.sum() if truth.any() else np.nan,
    }


def expected_averages(scores, metric: str) -> dict[str, dict[str, float]]:
    """With pandas, as the benchmark's script does: values of three digits, means of means."""
    rows = []
    for name, _target, uniprot, selection, depth, taxon in REFERENCE:
        frame = pd.read_csv(scores / f"{name}.csv")
        column, cutoff = "masked_marginal", frame["masked_marginal"].median()
        row = {"uniprot": uniprot, "selection": selection, "msa_depth": depth.capitalize(), "taxon": taxon}
        row["all"] = expected_measures(frame, column, cutoff)[metric]
        counts = frame["mutant"].str.count(":") + 1
        for number in range(1, 6):
            part = frame[counts >= 5] if number == 5 else frame[counts == number]
            label = "5+" if number == 5 else str(number)
            row[label] = expected_measures(part, column, cutoff)[metric] if len(part) else np.nan
        rows.append(row)
    table = pd.DataFrame(rows)
    numbers = ["all", "1", "2", "3", "4", "5+"]
    table[numbers] = table[numbers].astype(float).round(3)
    by_type = table.groupby(["uniprot", "selection"])[numbers].mean()
    types = by_type["all"].groupby("selection").mean()
    found = {"average": {"": types.mean()}, "selection": types.to_dict()}
    for axis in ("msa_depth", "taxon"):
        found[axis] = table.groupby(["uniprot", axis])["all"].mean().groupby(axis).mean().to_dict()
    found["mutation_depth"] = by_type[numbers[1:]].mean().to_dict()
    return found


def words(gym, model, output, *more) -> list[str]:
    given = ["--assays", gym[0], "--reference", gym[1], "--model", model, "--output", output]
    return ["evaluate", "proteingym", *map(str, given), *more]


def test_measures_and_averages_are_the_benchmarks(gym, small_esm2, tmp_path, capsys):
    assert main(words(gym, small_esm2[0], tmp_path)) == 0
    result = json.loads((tmp_path / "proteingym.json").read_text())
    for row in result["assays"]:
        frame = pd.read_csv(tmp_path / "scores" / f"{row['assay']}.csv")
        expected = expected_measures(frame, "masked_marginal", frame["masked_marginal"].median())
        for metric, value in expected.items():
            found = row["metrics"][metric]
            assert (found is None and math.isnan(value)) or found == pytest.approx(value, abs=1e-12), (row, metric)
    for metric in gym_metrics.METRICS:
        found = result["substitutions"][metric]
        for axis, values in expected_averages(tmp_path / "scores", metric).items():
            mine = {"": found["average"]} if axis == "average" else found[axis]
            for group, value in values.items():
                if not math.isnan(value):
                    assert mine[group] == pytest.approx(value, abs=1e-12), (metric, axis, group)
        low, high = found["interval"]
        assert low <= found["average"] <= high
    assert result["indels"]["Spearman"]["average"] is None
    table = pd.read_csv(tmp_path / "assays.csv")
    assert table["DMS_id"].tolist() == [row[0] for row in REFERENCE]
    assert table["Spearman"][0] == round(result["assays"][0]["metrics"]["Spearman"], 3)
    assert "5 of the reference's 5 assays" in capsys.readouterr().out


def test_assays_are_averaged_by_what_is_nearest_to_their_wild_type(gym, small_esm2, tmp_path, capsys):
    """A is at 45% of a train sequence, and the run does not know B."""
    run = tmp_path / "decontaminate"
    (run / "nearest").mkdir(parents=True)
    proteins = pa.table({"id": ["A"], "benchmark": ["gym"], "sequence": [TARGETS["A"]]})
    pq.write_table(proteins.replace_schema_metadata({"unirefine_first": "7"}), run / "benchmarks.parquet")
    near = {"target": pa.array([7], pa.uint32()), "searched": [0.45], "audited": [0.45]}
    pq.write_table(pa.table(near), run / "nearest/part-000-of-001.parquet")
    write_json(run / "identity.json", {"audit": {"policy": "remove"}})
    assert main(words(gym, small_esm2[0], tmp_path / "out", "--decontaminated", str(run))) == 0
    result = json.loads((tmp_path / "out/proteingym.json").read_text())
    spearman = {row["assay"]: round(row["metrics"]["Spearman"], 3) for row in result["assays"]}
    found = result["substitutions"]["Spearman"]["nearest_train"]
    assert found == {"0.4-0.5": pytest.approx(np.mean([spearman[name] for name in ("A_one", "A_two", "A_bind")]))}
    shown = capsys.readouterr().out
    assert f"Spearman by identity of the nearest train sequence: 0.4-0.5 {found['0.4-0.5']:.3f}\n" in shown
    assert "2 assays have a wild type that is not among the proteins of decontaminate.against" in shown
    table = pd.read_csv(tmp_path / "out/assays.csv").set_index("DMS_id")
    assert table.loc["A_one", ["nearest_identity", "nearest_train"]].to_list() == [0.45, "0.4-0.5"]
    assert table.loc["B_one", ["nearest_identity", "nearest_train"]].isna().all()
    summary = pd.read_csv(tmp_path / "out/summary.csv").query("axis == 'nearest_train'")
    assert summary[["kind", "group"]].to_numpy().tolist() == [["substitutions", "0.4-0.5"]]
    assert main(words(gym, small_esm2[0], tmp_path / "out")) == 0  # without it nothing of it is left
    assert "nearest" not in (tmp_path / "out/proteingym.json").read_text() + (tmp_path / "out/assays.csv").read_text()


def test_equal_scores_and_equal_measurements():
    measured, score = np.array([1.0, 2, 2, 4] * 5), np.zeros(20)
    found = gym_metrics.measure(measured, score, measured > 1, 0.0)
    assert (found["Spearman"], found["AUC"], found["MCC"], found["Top_recall"]) == (None, 0.5, 0.0, None)
    assert gym_metrics.ndcg(np.ones(20), np.arange(20.0)) is None and gym_metrics.ndcg(np.arange(9.0), score[:9]) == 0


def test_a_finished_assay_is_not_scored_again(gym, small_esm2, tmp_path, monkeypatch):
    calls = []

    def counted(engine, proteins, variants, **options):
        calls.extend(proteins)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return score_variants(engine, proteins, variants, **options)

    monkeypatch.setattr(proteingym, "score_variants", counted)
    assert main(words(gym, small_esm2[0], tmp_path / "a")) == 130
    assert not (tmp_path / "a" / "proteingym.json").exists() and len(calls) == 3
    assert main(words(gym, small_esm2[0], tmp_path / "a")) == 0
    assert sorted(calls) == sorted([*[row[0] for row in REFERENCE], calls[2]])
    calls.clear()
    (tmp_path / "a" / "scores" / "B_few.csv").write_text("mutant\n")  # damaged
    assert main(words(gym, small_esm2[0], tmp_path / "a")) == 0
    assert calls == ["B_few"]
    # two processes share the assays; the parent averages
    for number in (0, 1):
        assert main(words(gym, small_esm2[0], tmp_path / "b", "--share", f"{number}/2")) == 0 or len(calls) == 3
        calls.clear()
    assert main(words(gym, small_esm2[0], tmp_path / "b")) == 0
    for name in ("assays.csv", "summary.csv", "proteingym.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


# of each of the five assays a file of scores and one of measures; then three of all
@pytest.mark.parametrize(("file", "scored"), [(1, 5), (4, 4), (5, 3), (12, 0)])
def test_a_killed_command_ends_as_an_undisturbed_one(gym, small_esm2, tmp_path, monkeypatch, file, scored):
    assert main(words(gym, small_esm2[0], tmp_path / "whole")) == 0
    process = Forked(str(killed.HERE), [file, *words(gym, small_esm2[0], tmp_path / "killed")])
    assert process.wait(60) == -signal.SIGKILL, process.communicate()
    assert list((tmp_path / "killed").rglob(".*.tmp")) and not (tmp_path / "killed/proteingym.json").exists()
    calls = []

    def counted(engine, proteins, variants, **options):
        calls.extend(proteins)
        return score_variants(engine, proteins, variants, **options)

    monkeypatch.setattr(proteingym, "score_variants", counted)
    assert main(words(gym, small_esm2[0], tmp_path / "killed")) == 0
    assert len(calls) == scored
    whole, again = (
        {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("whole", "killed")
    )
    assert again == whole and len([name for name in whole if name.endswith(("csv", "json"))]) == 13


def test_devices_are_processes_with_shares(monkeypatch, gym, small_esm2, tmp_path, capsys):
    started = []

    class Process:
        def __init__(self, command, env):
            assert int(env["OMP_NUM_THREADS"]) >= 1
            started.append(command[3:])
            self.code = main(command[3:]) if len(started) < 3 else 1

        def poll(self):
            return self.code

        wait = poll

    monkeypatch.setattr(proteingym.subprocess, "Popen", Process)
    assert main(words(gym, small_esm2[0], tmp_path, "--devices", "2")) == 0
    assert [command[-2:] for command in started] == [["--share", "0/2"], ["--share", "1/2"]]
    assert len(json.loads((tmp_path / "proteingym.json").read_text())["assays"]) == 5
    assert main(words(gym, small_esm2[0], tmp_path, "--devices", "2")) == 1
    assert "process 0 of 2 ended with status 1; see its line above" in capsys.readouterr().err


def test_indels_are_all_scored_as_whole_sequences(small_esm2, tmp_path, capsys):
    (tmp_path / "assays").mkdir()
    wild = TARGETS["C"]
    rows = [(wild[:4] + wild[5:], 0.1, 0), (wild[:4] + "W" + wild[4:], 0.9, 1), ("W" + wild[1:], 0.5, 1)]
    text = "mutated_sequence,DMS_score,DMS_score_bin\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows)
    (tmp_path / "assays" / "C_indels.csv").write_text(text)
    header = "DMS_id,DMS_filename,target_seq,UniProt_ID,coarse_selection_type"
    lines = [header, f"C_indels,C_indels.csv,{wild},C,Stability", f"gone,gone.csv,{wild},D,Binding"]
    (tmp_path / "reference.csv").write_text("\n".join(lines))
    gym = tmp_path / "assays", tmp_path / "reference.csv"
    assert main(words(gym, small_esm2[0], tmp_path / "out")) == 0
    result = json.loads((tmp_path / "out" / "proteingym.json").read_text())
    assert result["missing"] == ["gone"] and result["substitutions"]["Spearman"]["average"] is None
    assert "1 are missing, so this is not the benchmark's average" in capsys.readouterr().out
    scores = pd.read_csv(tmp_path / "out" / "scores" / "C_indels.csv")
    assert scores.columns.tolist()[3:] == list(proteingym.WHOLE) and scores.notna().all(axis=None)
    expected = spearmanr(scores["DMS_score"], scores["pseudo_log_likelihood_per_residue"])[0]
    assert result["indels"]["Spearman"]["average"] == pytest.approx(round(expected, 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("A_one.csv", "../A_one.csv"), "DMS_filename '../A_one.csv' is no name of a file"),
        (("A_two,A_two", "A_one,A_two"), "reference.csv:3: A_one is there twice"),
        (("UniProt_ID,", "entry,"), "no column 'UniProt_ID'"),
        (("Activity", ""), "reference.csv:2: no coarse_selection_type"),
        ((TARGETS["A"], "MKVJ"), "target_seq of A_one: ESM-2 has no token for 'J'"),
        ((".csv", ".tsv"), "none of the 5 files of the reference"),
        (None, "A_one.csv:2: M1J"),
    ],
)
def test_mistakes_are_one_line(gym, small_esm2, tmp_path, capsys, change, message):
    assays, reference = gym
    if change is None:
        assays = tmp_path / "assays"
        assays.mkdir()
        (assays / "A_one.csv").write_text("mutant,DMS_score\nM1J,1\n")
    text = reference.read_text()
    (tmp_path / "reference.csv").write_text(text.replace(*change) if change else text)
    assert main(words((assays, tmp_path / "reference.csv"), small_esm2[0], tmp_path / "out")) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert message in line
    assert not list((tmp_path / "out").glob("[!.]*"))
