"""Metrics of weighted rows against scikit-learn and scipy."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn import metrics as theirs

from unirefine.finetune import metrics, positions
from unirefine.finetune.outcome import resampled
from unirefine.finetune.tasks import Target
from unirefine.finetune.text import resampled_text, verdicts

RNG = np.random.Generator(np.random.Philox(3))
N = 80
WEIGHTS = RNG.integers(0, 4, N).astype(float)
ROWS = np.repeat(np.arange(N), WEIGHTS.astype(int))


def test_regression():
    measured = RNG.normal(size=N).round(1)  # with ties
    predicted = (measured + RNG.normal(size=N)).round(1)
    found = metrics.metrics_of(Target("t", "regression", [], []), measured, predicted)
    assert found["spearman"](WEIGHTS) == pytest.approx(spearmanr(measured[ROWS], predicted[ROWS])[0], abs=1e-12)
    assert found["r2"](WEIGHTS) == pytest.approx(theirs.r2_score(measured, predicted, sample_weight=WEIGHTS), abs=1e-12)
    rmse = theirs.root_mean_squared_error(measured, predicted, sample_weight=WEIGHTS)
    assert found["rmse"](WEIGHTS) == pytest.approx(rmse, abs=1e-12)


@pytest.mark.parametrize("classes", [2, 4])
def test_classes(classes):
    measured = RNG.integers(0, classes, N)
    scores = RNG.dirichlet(np.ones(classes), N).round(2) + 0.6 * np.eye(classes)[measured] * RNG.random((N, 1)).round(1)
    task = "binary" if classes == 2 else "multiclass"
    found = metrics.metrics_of(
        Target("t", task, [str(at) for at in range(classes)], []), measured.astype(float), scores
    )
    chosen, options = scores.argmax(axis=1), {"sample_weight": WEIGHTS}
    scored = [1] if classes == 2 else range(classes)
    auroc = np.mean([theirs.roc_auc_score(measured == at, scores[:, at], **options) for at in scored])
    precision = np.mean([theirs.average_precision_score(measured == at, scores[:, at], **options) for at in scored])
    assert found["auroc"](WEIGHTS) == pytest.approx(auroc, abs=1e-12)
    assert found["ap"](WEIGHTS) == pytest.approx(precision, abs=1e-12)
    assert found["mcc"](WEIGHTS) == pytest.approx(theirs.matthews_corrcoef(measured, chosen, **options), abs=1e-12)
    assert found["f1"](WEIGHTS) == pytest.approx(
        theirs.f1_score(measured, chosen, average="macro", **options), abs=1e-12
    )


def test_sets_of_classes():
    measured = RNG.integers(0, 2, (N, 3)).astype(float)
    scores = (measured * 0.3 + RNG.random((N, 3)) * 0.7).round(2)
    found = metrics.metrics_of(Target("t", "multilabel", ["a", "b", "c"], []), measured, scores)
    options = {"sample_weight": WEIGHTS}
    wanted = {
        "auroc": theirs.roc_auc_score(measured, scores, **options),
        "ap": theirs.average_precision_score(measured, scores, **options),
        "f1": theirs.f1_score(measured, scores >= 0.5, average="macro", **options),
        "mcc": np.mean([theirs.matthews_corrcoef(measured[:, at], scores[:, at] >= 0.5, **options) for at in range(3)]),
    }
    assert {key: metric(WEIGHTS) for key, metric in found.items()} == pytest.approx(wanted, abs=1e-12)


def test_intervals_resample_clusters_and_are_paired():
    groups = np.repeat(np.arange(16), 5)
    effect = RNG.normal(size=16)[groups]
    measured = effect + 0.1 * RNG.normal(size=N)
    target = Target("t", "regression", [], [])
    good, bad = measured + 0.05 * RNG.normal(size=N), RNG.normal(size=N)
    models = {name: metrics.metrics_of(target, measured, p) for name, p in {"ours": good, "other": bad}.items()}
    found = metrics.compare(models, groups, 0, "ours")
    rows = metrics.compare(models, np.arange(N), 0, "ours")
    width = {name: np.ptp(each["other"]["spearman"]["interval"]) for name, each in {"c": found, "r": rows}.items()}
    assert width["c"] > 0 and width["r"] > 0 and "difference" not in found["ours"]["spearman"]
    spearman = found["other"]["spearman"]
    assert spearman["difference"] == pytest.approx(found["ours"]["spearman"]["value"] - spearman["value"])
    assert [metrics.better(found["other"][key], key) for key in ("spearman", "r2", "rmse")] == ["better"] * 3
    swapped = metrics.compare(dict(reversed(models.items())), groups, 0, "other")
    assert metrics.better(swapped["ours"]["rmse"], "rmse") == "worse"
    few = metrics.compare(models, np.repeat(np.arange(8), 10), 0, "ours")
    assert few["ours"]["r2"]["interval"] is None and metrics.better(few["other"]["r2"], "r2") == "unknown"


@pytest.mark.parametrize(
    ("method", "clusters", "sequences", "over", "groups"),
    [
        ("homology", [0, 1, 2, 2], ["MKVAL", "MKVAW", "MWVAL", "MWVAL"], "clusters", [0, 1, 2, 2]),
        ("random", [0, 0, 0, 0], ["MKVAL", "MKVAW", "MKVAY", "MYVAL"], "positions", [0, 1, 1, 2]),
        ("random", [0, 0, 0, 0], ["MKVAL", "MKVAW", "MKVA", "MVAL"], "sequences", [0, 1, 2, 3]),
        # folds by position of a short peptide, whose variants no search finds similar
        ("modulo", [0, 1, 2, 3], ["MKVAL", "MKVAW", "MKVAY", "MYVAL"], "positions", [0, 1, 1, 2]),
    ],
)
def test_what_is_resampled(method, clusters, sequences, over, groups):
    found = resampled(method, np.array(clusters), np.arange(4), positions.changed(sequences))
    same = np.equal.outer(found[1], found[1])
    assert found[0] == over and np.array_equal(same, np.equal.outer(groups, groups))


def test_words_for_what_is_resampled():
    few, many = ({"resampled": "positions", "groups": groups} for groups in (7, 40))
    assert "over resampled positions" in resampled_text([many])
    assert resampled_text([few]) == "7 positions are too few for an interval, which needs 10."
    models = {"fine-tuned model": {}, "composition": {"r2": {"difference_interval": None}}}
    (said,) = verdicts(few | {"primary": "r2", "models": models})
    assert said == "Against composition: unknown, as there is no interval (7 positions; an interval needs 10)."
