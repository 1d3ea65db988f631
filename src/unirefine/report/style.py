"""Figures as SVG that follow the page's colours, so that light and dark both read well."""

import html
import io
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

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


def render(figure: Figure, title: str = "", hovers: Mapping[str, Sequence[str]] = MappingProxyType({})) -> str:
    """The figure as an inline `<svg>`, its placeholder colours replaced by CSS variables.

    title: what a screen reader says. hovers: by the gid of an artist, the text of each of its points (a scatter) or of
    all of it (one text); a browser shows it under the pointer.
    """
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
    for gid, texts in hovers.items():
        svg = _with_titles(svg, gid, texts)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # they repeat from figure to figure
    return labelled(svg, title) if title else svg


def labelled(svg: str, title: str) -> str:
    """An `<svg>` that says what it is: its role, and a title as its first element."""
    shown = html.escape(_visible(title))
    return re.sub(r"<svg([^>]*)>", rf'<svg role="img" aria-label="{shown}"\1><title>{shown}</title>', svg, count=1)


def hover(text: str) -> str:
    """`<title>` of an element, which a browser shows under the pointer."""
    return f"<title>{html.escape(_visible(text))}</title>"


def _visible(text: str) -> str:
    """Text without characters that XML does not allow, or that turn the direction of writing."""
    return "".join(one if one.isprintable() else " " for one in text)


def _with_titles(svg: str, gid: str, texts: Sequence[str]) -> str:
    """Titles into the group of an artist: one for each of its `<use>`, or one for the whole group."""
    start = svg.index(f'<g id="{gid}"')
    end = _end_of_group(svg, start)
    group, waiting = svg[start:end], iter(texts)
    uses = re.findall(r"<use [^>]*/>", group)
    if len(uses) == len(texts) and uses:
        group = re.sub(r"<use ([^>]*)/>", lambda one: f"<use {one[1]}>{hover(next(waiting))}</use>", group)
    else:
        assert len(texts) == 1, (gid, len(uses), len(texts))
        group = re.sub(r"(<g [^>]*>)", lambda one: one[1] + hover(texts[0]), group, count=1)
    return svg[:start] + group + svg[end:]


def _end_of_group(svg: str, start: int) -> int:
    depth = 0
    for tag in re.compile(r"<g[ >]|</g>").finditer(svg, start):
        depth += -1 if tag[0] == "</g>" else 1
        if not depth:
            return tag.end()
    raise AssertionError(start)


def standalone(svg: str) -> str:
    """The same figure as a file of its own: the light colours are written in."""
    light = {"ink": "#1c1e21", "faint": "#c4c8cc", "card": "#f3f4f4"}
    light |= {f"series-{i}": color for i, color in enumerate(("#0b6fa4", "#c2570c", "#2f7d32", "#7b4bb7"))}
    for name, color in light.items():
        svg = svg.replace(f"var(--{name})", color)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + svg
