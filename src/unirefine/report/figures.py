"""The report's figures. Each function takes plain data and returns an inline SVG."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from unirefine.report.style import INK, SERIES, canvas, render

STAGE_COLORS = {"records": SERIES[3], "curate": SERIES[0], "cluster": SERIES[2], "decontaminate": SERIES[1]}


def removed(rows: Sequence[tuple[str, str, int]], unit: str) -> str:
    """Bars of what was removed. rows: (stage, reason, count) in workflow order; unit: what is counted."""
    figure, axes = canvas(height=0.7 + 0.32 * max(len(rows), 1))
    labels = [f"{reason.replace('_', ' ')}  ({stage})" for stage, reason, _ in rows]
    counts = [count for _, _, count in rows]
    axes.barh(range(len(rows)), counts, color=[STAGE_COLORS.get(stage, SERIES[3]) for stage, _, _ in rows], height=0.7)
    axes.set_yticks(range(len(rows)), labels)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(0.8, max([*counts, 10]) * 6)
    axes.xaxis.set_major_formatter(_count)
    axes.grid(axis="y", visible=False)
    for position, count in enumerate(counts):
        axes.text(count * 1.1, position, f"{count:,}", va="center", color=INK)
    axes.set_xlabel(f"{unit} removed (log scale)")
    return render(figure)


def histogram(
    edges: np.ndarray,
    series: Mapping[str, np.ndarray],
    x_label: str,
    y_label: str,
    *,
    log_x: bool,
    log_y: bool,
    mark: float | None = None,
) -> str:
    """Outlined histograms over common bins. edges: float[n + 1]; series: name to counts int[n]; mark: a line at x."""
    figure, axes = canvas()
    widths = np.linspace(2.2, 1.4, len(series))  # the first one is wider: seen where another covers it
    for color, width, (name, counts) in zip(SERIES, widths, series.items(), strict=False):
        axes.stairs(counts, edges, color=color, linewidth=width, label=name, fill=False)
    if log_x:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(_count)
    if log_y:
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.8)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    if mark is not None:
        axes.axvline(mark, color=INK, linewidth=1, linestyle=":")
    axes.yaxis.set_major_formatter(_count)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if len(series) > 1:
        axes.legend(labelcolor=INK)
    return render(figure)


def losses(metrics: Sequence[Mapping[str, Any]], baselines: Mapping[str, float]) -> str:
    """Training and validation loss over steps, with the baselines' losses (natural log) of hidden residues as lines."""
    figure, axes = canvas(height=3.6)
    steps, values = _column(metrics, "loss")
    axes.plot(steps, values, color=SERIES[0], linewidth=0.9, alpha=0.5)
    axes.plot(steps, _smooth(values), color=SERIES[0], linewidth=1.6, label="training (smoothed)")
    steps, values = _column(metrics, "validation_loss")
    axes.plot(steps, values, color=SERIES[1], linewidth=1.6, marker="o", markersize=3.5, label="validation")
    steps, values = _column(metrics, "validation_hidden_loss")
    if len(steps):  # metrics of older versions have none
        style = {"linewidth": 1.6, "marker": "s", "markersize": 3.5}
        axes.plot(steps, values, color=SERIES[2], label="validation, hidden residues", **style)
    dashes = ("--", ":", "-.", (0, (6, 2, 1, 2, 1, 2)))
    for dash, (name, value) in zip(dashes, baselines.items(), strict=False):
        axes.axhline(value, color=SERIES[3], linewidth=1.2, linestyle=dash, label=name)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("masked loss (nats per residue)")
    axes.legend(labelcolor=INK)
    return render(figure)


def throughput(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Residue tokens per second over steps, padded and not."""
    figure, axes = canvas(height=2.6)
    for color, key, name in (
        (SERIES[0], "tokens_per_second", "tokens without padding"),
        (SERIES[2], "padded_tokens_per_second", "with padding"),
    ):
        steps, values = _column(metrics, key)
        axes.plot(steps, values, color=color, linewidth=1.2, label=name)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(_count)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("tokens per second")
    axes.legend(labelcolor=INK)
    return render(figure)


def _count(value: float, _position: int) -> str:
    return f"{value:,.0f}"


def _column(metrics: Sequence[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    rows = [(line["step"], line[key]) for line in metrics if line.get(key) is not None]
    table = np.array(rows, float).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _smooth(values: np.ndarray, window: int = 15) -> np.ndarray:
    """Centred moving mean; the window shrinks at both ends so that nothing is invented."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    half = np.minimum(np.minimum(index, len(values) - 1 - index), window // 2)
    return (total[index + half + 1] - total[index - half]) / (2 * half + 1)
