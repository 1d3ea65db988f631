"""Figures as SVG that follow the page's colours, so that light and dark both read well."""

import io
import re

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Placeholder colours that render() replaces by CSS variables of the page.
INK, FAINT = "#010203", "#040506"
SERIES = ("#070809", "#0a0b0c", "#0d0e0f", "#101112")
_VARIABLES = {INK: "ink", FAINT: "faint", **{color: f"series-{i}" for i, color in enumerate(SERIES)}}

_STYLE = {
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.4,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: it can be searched, copied and read aloud
    "svg.hashsalt": "unirefine",  # the same figure gives the same bytes
    "figure.constrained_layout.use": True,
}
# For the whole process: a context would have to be open around every call that draws, legends included.
plt.rcParams.update(_STYLE)


def canvas(height: float = 3.2) -> tuple[Figure, Axes]:
    """An empty figure, 5.6 inches wide (it scales with the page) and `height` inches high.

    At that width its text is readable on a phone and as large as the page's on a desktop.
    """
    return plt.subplots(figsize=(5.6, height))


def render(figure: Figure) -> str:
    """The figure as an inline `<svg>`, its placeholder colours replaced by CSS variables."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    plt.close(figure)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"font-family: '[^;\"]*", "font-family: system-ui, sans-serif", svg)  # the page's own
    for color, name in _VARIABLES.items():
        svg = svg.replace(color, f"var(--{name})")
    return svg


def standalone(svg: str) -> str:
    """The same figure as a file of its own: the light colours are written in."""
    light = {"ink": "#1c1e21", "faint": "#c4c8cc"}
    light |= {f"series-{i}": color for i, color in enumerate(("#0b6fa4", "#c2570c", "#2f7d32", "#7b4bb7"))}
    for name, color in light.items():
        svg = svg.replace(f"var(--{name})", color)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + svg
