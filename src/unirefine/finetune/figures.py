"""The figures of a fine-tuning, as inline SVG."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from unirefine.finetune.outcome import MODEL, Outcome
from unirefine.finetune.text import how
from unirefine.finetune.train import Progress
from unirefine.report import figures
from unirefine.report.style import INK, SERIES, canvas, render

MOST_POINTS = 2000
MOST_NAMED = 12
_SMOOTH = 15


def scatter(outcome: Outcome) -> str:
    """Predicted against measured numbers; of very many, so many as MOST_POINTS, evenly spaced."""
    measured, predicted, _ = outcome.flat(MODEL)
    step = max(1, len(measured) // MOST_POINTS)
    figure, axes = canvas(height=4.4)
    axes.scatter(measured[::step], predicted[::step], s=9, color=SERIES[0], alpha=0.5, linewidths=0)
    ends = [min(measured.min(), predicted.min()), max(measured.max(), predicted.max())]
    axes.plot(ends, ends, color=INK, linewidth=1, linestyle=":")
    axes.set_xlabel(f"{outcome.target.name}, measured")
    axes.set_ylabel("predicted")
    return render(figure)


def confusion(outcome: Outcome) -> tuple[str, str]:
    """Measured against predicted classes as shares of rows; of sets of classes, and of many, recall as bars.

    Returns the figure and its caption.
    """
    measured, scores, _ = outcome.flat(MODEL)
    classes = outcome.target.classes
    if outcome.target.task == "multilabel":
        return _recalls(measured, scores >= 0.5, classes)
    table = np.zeros((len(classes), len(classes)))
    np.add.at(table, (measured.astype(int), scores.argmax(axis=1)), 1)
    if len(classes) > MOST_NAMED:
        return _recalls(
            np.eye(len(classes))[measured.astype(int)], np.eye(len(classes))[scores.argmax(axis=1)] == 1, classes
        )
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    figure, axes = canvas(height=1.2 + 0.42 * len(classes))
    # squares whose area is the share: readable on light and on dark paper
    for row in range(len(classes)):
        for column in range(len(classes)):
            side = np.sqrt(shares[row, column]) * 0.9
            color = SERIES[0] if row == column else SERIES[1]
            axes.barh(row, side, height=side, left=column - side / 2, color=color, alpha=0.55)
            axes.text(column, row, f"{table[row, column]:,.0f}", ha="center", va="center", color=INK, fontsize=9)
    named = [_short(one) for one in classes]
    axes.set_xticks(range(len(classes)), named, rotation=30 if max(map(len, named)) > 6 else 0)
    axes.set_yticks(range(len(classes)), named)
    axes.set_xlim(-0.5, len(classes) - 0.5)
    axes.set_ylim(len(classes) - 0.5, -0.5)
    axes.grid(visible=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("measured")
    caption = "Rows: what was measured; columns: what was predicted. Shares of each row, with counts."
    return render(figure), caption


def _recalls(truth: np.ndarray, chosen: np.ndarray, classes: Sequence[str]) -> tuple[str, str]:
    """Recall of the most frequent classes, as bars; and the caption."""
    held = truth.sum(axis=0)
    order = np.argsort(-held, kind="stable")[:MOST_NAMED]
    recall = (truth * chosen).sum(axis=0) / np.maximum(held, 1)
    figure, axes = canvas(height=0.8 + 0.32 * len(order))
    axes.barh(range(len(order)), recall[order], color=SERIES[0], height=0.7)
    axes.set_yticks(range(len(order)), [f"{_short(classes[at])} ({held[at]:,.0f})" for at in order])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("found (recall)")
    which = f"The {MOST_NAMED} most frequent classes: of" if len(classes) > MOST_NAMED else "Of"
    return render(figure), f"{which} what has a class (counts in brackets), the share for which it was predicted."


def _short(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:17]}…"


def calibration(outcome: Outcome) -> tuple[str, str] | None:
    """Parts of the predictions, at most ten of at least ten each: predicted against found; and the caption.

    None for fewer than 20.
    """
    measured, scores, _ = outcome.flat(MODEL)
    if outcome.target.task == "regression":
        x, y = scores, measured
        labels = "mean prediction", "mean measured"
        caption = (
            "Test sequences in parts of equal size by their prediction: the mean of what was predicted and measured."
        )
    elif outcome.target.task == "multilabel":
        x, y = scores.ravel(), measured.ravel()
        labels = "predicted probability", "share that has the class"
        caption = (
            "Probabilities that the model gave to classes, and how often a sequence with about that probability has the"
            " class. Above the dotted line they are too low, below it too high."
        )
    else:
        x, y = scores.max(axis=1), (scores.argmax(axis=1) == measured).astype(float)
        labels = "probability of the predicted class", "share that was right"
        caption = (
            "Predictions by the probability that the model gave them, and how often they were right. Above the dotted"
            " line the model is less sure than it could be, below it too sure."
        )
    if len(x) < 20:
        return None
    parts = np.array_split(np.argsort(x, kind="stable"), min(10, len(x) // 10))
    points = np.array([[x[part].mean(), y[part].mean()] for part in parts])
    figure, axes = canvas()
    ends = [points.min(), points.max()] if outcome.target.task == "regression" else [0, 1]
    axes.plot(ends, ends, color=INK, linewidth=1, linestyle=":")
    axes.plot(points[:, 0], points[:, 1], color=SERIES[0], marker="o", markersize=4, linewidth=1.6)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    return render(figure), caption


def nearest(arms: Sequence[Any]) -> str | None:
    """Test sequences of each split by identity of the nearest train sequence; None where none has such a one."""
    if all(np.isnan(arm.outcomes[0].identity).all() for arm in arms):
        return None
    edges = np.linspace(0, 1, 21)
    counts = {}
    for arm in arms:
        identity = arm.outcomes[0].identity
        counts[f"split {how(arm.method)}"] = np.histogram(identity[~np.isnan(identity)], edges)[0]
    labels = "identity of the nearest train sequence", "test sequences"
    return figures.histogram(edges, counts, *labels, log_x=False, log_y=False)


def without_alignment(arms: Sequence[Any]) -> str:
    """How many test sequences have no such train sequence."""
    found = []
    for arm in arms:
        missing = int(np.isnan(arm.outcomes[0].identity).sum())
        found.append(f"Split {how(arm.method)}: {missing:,} of {len(arm.outcomes[0].identity):,} have none.")
    return " ".join(found)


def losses(done: Progress) -> str:
    """Loss of each step, smoothed, and of the validation side after each epoch."""
    steps = [(line["step"], line["loss"]) for line in done.history if "loss" in line]
    after = [(line["step"], line["validation_loss"]) for line in done.history if "validation_loss" in line]
    figure, axes = canvas()
    x, y = np.array(steps, float).T
    axes.plot(x, y, color=SERIES[0], linewidth=0.8, alpha=0.35)
    axes.plot(x, _smooth(y), color=SERIES[0], linewidth=1.6, label="training (smoothed)")
    x, y = np.array(after, float).T
    axes.plot(x, y, color=SERIES[1], marker="o", markersize=3.5, linewidth=1.6, label="validation")
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss")
    axes.legend(labelcolor=INK)
    return render(figure)


def _smooth(values: np.ndarray) -> np.ndarray:
    running = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    half = np.minimum(np.minimum(at, len(values) - 1 - at), _SMOOTH // 2)
    return (running[at + half + 1] - running[at - half]) / (2 * half + 1)
