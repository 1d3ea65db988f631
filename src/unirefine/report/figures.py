"""The report's figures. Each function takes plain data and returns an inline SVG, with values under the pointer."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from unirefine.files.documents import set_names
from unirefine.report.style import INK, SERIES, canvas, render

STAGE_COLORS = {"records": SERIES[3], "curate": SERIES[0], "cluster": SERIES[2], "decontaminate": SERIES[1]}
MARKERS = ("o", "s", "D", "^")
MOST_POINTS = 400
"""Points of a curve; of more, every k-th is drawn."""
_SMOOTHED = 15


@dataclass(frozen=True)
class Estimate:
    """A perplexity with its 95% interval, in a figure."""

    label: str
    value: float
    interval: Sequence[float] | None
    residues: int | None = None

    @property
    def text(self) -> str:
        """As the pointer shows it."""
        text = f"{self.label}: {self.value:.2f}"
        text += f" ({self.interval[0]:.2f} to {self.interval[1]:.2f})" if self.interval else " (no interval)"
        return text if self.residues is None else f"{text}, {self.residues:,} residues"


def removed(rows: Sequence[tuple[str, str, int]], unit: str) -> str:
    """Bars of what was removed. rows: (stage, reason, count) in workflow order; unit: what is counted."""
    figure, axes = canvas(height=0.7 + 0.32 * max(len(rows), 1))
    labels = [f"{reason.replace('_', ' ')}  ({stage})" for stage, reason, _ in rows]
    counts = [count for _, _, count in rows]
    bars = axes.barh(range(len(rows)), counts, color=[STAGE_COLORS.get(row[0], SERIES[3]) for row in rows], height=0.7)
    axes.set_yticks(range(len(rows)), labels)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(0.8, max([*counts, 10]) * 6)
    axes.xaxis.set_major_formatter(_count)
    axes.grid(axis="y", visible=False)
    hovers = {}
    for position, (bar, count) in enumerate(zip(bars, counts, strict=True)):
        axes.text(count * 1.1, position, f"{count:,}", va="center", color=INK)
        bar.set_gid(f"bar-{position}")
        hovers[f"bar-{position}"] = [f"{labels[position]}: {count:,} {unit}"]
    axes.set_xlabel(f"{unit} removed (log scale)")
    return render(figure, f"Bars: {unit} removed, by reason", hovers)


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
    title = f"Histogram: {y_label} by {x_label}"
    return render(figure, title, _columns(axes, edges, series))


def _columns(axes: Axes, edges: np.ndarray, series: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
    """An invisible column over each bin that is not empty, and what the pointer shows there."""
    low, high = axes.get_ylim()
    hovers = {}
    for number in np.flatnonzero(sum(np.asarray(counts) for counts in series.values())):
        left, right = edges[number], edges[number + 1]
        (bar,) = axes.bar(left, high - low, right - left, low, align="edge", alpha=0, linewidth=0)
        bar.set_gid(f"column-{number}")
        values = ", ".join(f"{int(counts[number]):,}{f' {name}' if name else ''}" for name, counts in series.items())
        hovers[f"column-{number}"] = [f"{_edge(left)} to {_edge(right)}: {values}"]
    axes.set_ylim(low, high)
    return hovers


def _edge(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if value < 10 else f"{value:,.0f}"


def estimates(rows: Sequence[Estimate], x_label: str = "perplexity of hidden residues") -> str:
    """A row per model: its perplexity with its interval; the first one in another colour, with a line down."""
    figure, axes = canvas(height=0.9 + 0.34 * len(rows))
    hovers = {}
    axes.axvline(rows[0].value, color=SERIES[0], linewidth=0.8, linestyle=":")
    for number, row in enumerate(rows):
        color = SERIES[0] if number == 0 else SERIES[1]
        _interval(axes, row.interval, number, color, across=True)
        axes.scatter([row.value], [number], color=color, marker=MARKERS[number > 0], s=36, gid=f"model-{number}")
        hovers[f"model-{number}"] = [row.text]
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(x_label)
    return render(figure, f"Points with intervals: {x_label} of {', '.join(row.label for row in rows)}", hovers)


def _interval(axes: Axes, interval: Sequence[float] | None, at: float, color: str, *, across: bool) -> None:
    if interval:
        (axes.hlines if across else axes.vlines)(at, *interval, color=color, linewidth=1.6)


def breakdown(bins: Sequence[str], series: Mapping[str, Sequence[Estimate | None]], x_label: str) -> str:
    """Perplexity of hidden residues by bin, with intervals. series: by model, an estimate per bin."""
    long = max(map(len, bins), default=0) > 9 or (len(bins) > 12 and max(map(len, bins)) > 1)
    figure, axes = canvas(height=0.9 + 0.36 * len(bins) if long else 3.2)
    hovers, offsets = {}, np.linspace(-0.14, 0.14, len(series)) if len(series) > 1 else [0.0]
    for number, (name, row) in enumerate(series.items()):
        found = [(at + offsets[number], each) for at, each in enumerate(row) if each is not None]
        if not found:
            continue
        color = SERIES[number]
        for at, each in found:
            _interval(axes, each.interval, at, color, across=long)
        x, y = [at for at, _ in found], [each.value for _, each in found]
        axes.scatter(*((y, x) if long else (x, y)), color=color, marker=MARKERS[number], s=26, label=name, zorder=3,
                     gid=f"series-of-{number}")  # fmt: skip
        hovers[f"series-of-{number}"] = [each.text for _, each in found]
    if long:
        axes.set_yticks(range(len(bins)), bins)
        axes.set_ylim(len(bins) - 0.4, -0.6)
        axes.set_xlabel("perplexity of hidden residues")
    else:
        axes.set_xticks(range(len(bins)), bins, rotation=0 if len(bins) <= 6 or max(map(len, bins)) < 3 else 40,
                        ha="center" if len(bins) <= 6 or max(map(len, bins)) < 3 else "right")  # fmt: skip
        axes.set_xlabel(x_label)
        axes.set_ylabel("perplexity of hidden residues")
    axes.grid(axis="y" if long else "x", visible=False)
    figure.legend(*axes.get_legend_handles_labels(), labelcolor=INK, loc="outside upper center", ncols=2)
    return render(figure, f"Points with intervals: perplexity of hidden residues by {x_label}", hovers)


def shares(names: Sequence[str], series: Mapping[str, Sequence[float]], what: str) -> str:
    """Shares by name, one bar per series. series: name to fractions, one per name."""
    across = max(map(len, names), default=0) > 2
    figure, axes = canvas(height=0.9 + 0.16 * len(names) * (len(series) + 0.6) if across else 3.2)
    width, hovers = 0.8 / len(series), {}
    for number, (name, values) in enumerate(series.items()):
        at = np.arange(len(names)) + (number - (len(series) - 1) / 2) * width
        draw = axes.barh if across else axes.bar
        bars = draw(at, values, width * 0.9, color=SERIES[number], label=name)
        for place, bar in enumerate(bars):
            bar.set_gid(f"share-{number}-{place}")
            hovers[f"share-{number}-{place}"] = [f"{names[place]}, {name}: {values[place]:.2%}"]
    percent = FuncFormatter(lambda value, _position: f"{value:.0%}")
    if across:
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.xaxis.set_major_formatter(percent)
        axes.set_xlabel(f"share of the {what}")
    else:
        axes.set_xticks(range(len(names)), names)
        axes.yaxis.set_major_formatter(percent)
        axes.set_ylabel(f"share of the {what}")
    axes.grid(axis="y" if across else "x", visible=False)
    figure.legend(*axes.get_legend_handles_labels(), labelcolor=INK, loc="outside upper center", ncols=3)
    return render(figure, f"Bars: shares of the {what}, before and after", hovers)


def losses(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Training and validation loss over steps."""
    figure, axes = canvas(height=4.2)
    steps, values = _column(metrics, "loss")
    window = min(_SMOOTHED, max(len(values) // 5, 1) | 1)
    hovers = _points(axes, steps, values, SERIES[0], "training, as logged", "o", size=7)
    if window > 1:
        label = f"training, mean of {window}"
        axes.plot(steps, _smooth(values, window), color=SERIES[0], linewidth=1.2, alpha=0.7, label=label)
    for color, key, label, marker in (
        (SERIES[1], "validation_loss", "validation", "o"),
        (SERIES[2], "validation_hidden_loss", "validation, hidden residues", "s"),
    ):
        steps, values = _column(metrics, key)
        if len(steps):  # metrics of older versions have none of hidden residues
            axes.plot(steps, values, color=color, linewidth=1.2)
            hovers |= _points(axes, steps, values, color, label, marker, size=20)
    for marker, name in zip(itertools.cycle("D^vP"), set_names(metrics), strict=False):
        color = SERIES[2]
        hidden = any(f"validation_hidden_loss/{name}" in line for line in metrics)
        steps, values = _column(metrics, f"validation_{'hidden_' if hidden else ''}loss/{name}")
        axes.plot(steps, values, color=color, linewidth=1.2, linestyle="-.")
        label = f"{name}, {'hidden residues' if hidden else 'validation'}"
        hovers |= _points(axes, steps, values, color, label, marker, size=24)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("masked loss (nats per residue)")
    figure.legend(*axes.get_legend_handles_labels(), labelcolor=INK, loc="outside upper center", ncols=2, fontsize=10.3)
    return render(figure, "Curves: loss of training and validation by optimizer step", hovers)


def hidden_perplexity(metrics: Sequence[Mapping[str, Any]], baselines: Mapping[str, float]) -> str:
    """Validation perplexity of hidden residues over steps. baselines: name to loss in nats, drawn as labelled lines."""
    figure, axes = canvas(height=4.2)
    steps, values = _column(metrics, "validation_hidden_loss")
    axes.plot(steps, np.exp(values), color=SERIES[2], linewidth=1.2)
    hovers = _points(axes, steps, np.exp(values), SERIES[2], "validation, hidden residues", "s", size=20, digits=3)
    dashes = ("--", ":", "-.", (0, (6, 2, 1, 2, 1, 2)))
    for number, (dash, (name, value)) in enumerate(zip(dashes, baselines.items(), strict=False)):
        line = axes.axhline(np.exp(value), color=SERIES[3], linewidth=1.2, linestyle=dash, label=name)
        line.set_gid(f"baseline-{number}")
        hovers[f"baseline-{number}"] = [f"{name}: {np.exp(value):.3f}"]
    axes.set_xlim(left=0)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("perplexity of hidden residues")
    figure.legend(*axes.get_legend_handles_labels(), labelcolor=INK, loc="outside upper center", ncols=2, fontsize=10.3)
    return render(figure, "Curve: perplexity of hidden residues by optimizer step, beside baselines", hovers)


def two_losses(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Validation loss of hidden residues (else of all chosen) and training loss of two runs. runs: name to metrics."""
    figure, axes = canvas(height=3.8)
    hovers: dict[str, list[str]] = {}
    for number, (name, metrics) in enumerate(runs.items()):
        steps, values = _column(metrics, "loss")
        name = name if len(name) <= 40 else f"...{name[-37:]}"
        hovers |= _points(axes, steps, values, SERIES[number], f"{name}, training", "o", size=7)
        steps, values = _column(metrics, "validation_loss")
        axes.plot(steps, values, color=SERIES[number], linewidth=1.4)
        hovers |= _points(axes, steps, values, SERIES[number], f"{name}, validation", "s", size=24)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("masked loss (nats per residue)")
    ncols = 2 if max(map(len, runs), default=0) <= 14 else 1
    figure.legend(*axes.get_legend_handles_labels(), labelcolor=INK, loc="outside upper center", ncols=ncols)
    return render(figure, f"Curves: losses of {' and '.join(runs)} by optimizer step", hovers)


def throughput(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Residue tokens per second over steps, and with padding where there is any."""
    figure, axes = canvas(height=2.6)
    steps, plain = _column(metrics, "tokens_per_second")
    padded = _column(metrics, "padded_tokens_per_second")[1]
    hovers = {}
    curves = [(SERIES[0], "tokens without padding", plain)]
    if is_padded(metrics):
        curves.append((SERIES[2], "with padding", padded))
    for color, name, values in curves:
        axes.plot(steps, values, color=color, linewidth=1.2)
        hovers |= _points(axes, steps, values, color, name, "o", size=9, digits=0)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(_count)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("tokens per second")
    if len(curves) > 1:
        axes.legend(labelcolor=INK)
    return render(figure, "Curve: tokens per second by optimizer step", hovers)


def is_padded(metrics: Sequence[Mapping[str, Any]]) -> bool:
    """Whether any step computed padding."""
    return any(
        line.get("padded_tokens_per_second", 0) > line.get("tokens_per_second", 0) * (1 + 1e-9) for line in metrics
    )


def _points(
    axes: Axes, steps: np.ndarray, values: np.ndarray, color: str, name: str, marker: str, *, size: int, digits: int = 4
) -> dict[str, list[str]]:
    """A scatter of at most MOST_POINTS, and what the pointer shows at each."""
    every = -(-len(steps) // MOST_POINTS) or 1
    steps, values = steps[::every], values[::every]
    gid = f"points-{len(axes.collections)}"
    shown = name if every == 1 else f"{name} (1 in {every})"
    axes.scatter(steps, values, color=color, s=size, marker=marker, label=shown, gid=gid, linewidths=0)
    texts = [f"step {int(step):,}, {name}: {value:,.{digits}f}" for step, value in zip(steps, values, strict=True)]
    return {gid: texts} if texts else {}


def _count(value: float, _position: int) -> str:
    return f"{value:,.0f}"


def _column(metrics: Sequence[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    rows = [(line["step"], line[key]) for line in metrics if line.get(key) is not None and np.isfinite(line[key])]
    table = np.array(rows, float).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _smooth(values: np.ndarray, window: int = _SMOOTHED) -> np.ndarray:
    """Centred moving mean; the window shrinks at both ends so that nothing is invented."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    half = np.minimum(np.minimum(index, len(values) - 1 - index), window // 2)
    return (total[index + half + 1] - total[index - half]) / (2 * half + 1)
