"""Proteins on a plane by their vectors: PCA or UMAP, as a page that opens offline, a picture and a table."""

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from unirefine.core import parquet
from unirefine.embed import colour as colours
from unirefine.embed.colour import Colour
from unirefine.embed.files import GENERATOR, METADATA, is_ours, map_files
from unirefine.embed.source import Source
from unirefine.errors import UserError
from unirefine.files.atomic import atomic_path, write_text
from unirefine.files.outputs import refuse_overwriting
from unirefine.terminal import printable

FEWEST = 3
SHOWN = 100_000
"""Points that the page can show. Of more, it shows so many at equal distances in the input; the table has all."""
PALETTE = (
    "#3f7fd0", "#d9701e", "#2f9e57", "#9a63c9", "#d1495b", "#1d9ba3", "#b3861b", "#c653a2", "#6b8e23", "#8a6d5a",
)  # fmt: skip
SCALE = ("#3455a4", "#2f9e9e", "#a3b53b", "#e8a33a", "#d1495b")
GREY = "#8b9198"
_SEED = 0


@dataclass(frozen=True)
class Wanted:
    """What `--colour` asks for, already read where it is a table."""

    table: Colour | None = None
    identity: float | None = None


def read_colour(text: str | None, source: Source) -> Wanted:
    """Read what `--colour` names. Raises UserError."""
    found = colours.wanted(text)
    if found is None:
        return Wanted()
    if isinstance(found, float):
        return Wanted(identity=found)
    return Wanted(table=colours.of_table(*found, [protein.name for protein in source.proteins()]))


def check(method: str, output: Path, source: Source) -> None:
    """Raises UserError for what would stop `run`, and ModuleNotFoundError without UMAP, before vectors are computed."""
    refuse_overwriting(dict.fromkeys(map_files(output), is_ours), source.files)
    if len(source.lengths) < FEWEST:
        raise UserError(f"a map of {len(source.lengths)} proteins", fix=f"give at least {FEWEST}")
    if method == "umap":
        import umap  # noqa: F401


def run(
    source: Source, output: Path, method: str, wanted: Wanted, *, threads: int = 1, mmseqs: str | None = None
) -> list[Path]:
    """Write `map.html`, `map.png` and `map.parquet` from `output/sequences.parquet`; return their paths.

    map.parquet has a row per protein in input order: id, x, y float32 and, with colours, `colour` (text). method: pca
    or umap. Raises UserError.
    """
    colour = wanted.table or Colour()
    if wanted.identity is not None:
        colour = colours.of_clusters(source, wanted.identity, output, threads=threads, mmseqs=mmseqs)
    table = output / "sequences.parquet"
    ids = [name for batch in _batches(table, "id") for name in batch.to_pylist()]
    places, axes = pca(table) if method == "pca" else (umap_places(table), ("UMAP 1", "UMAP 2"))
    page, picture, rows = map_files(output)
    facts = {"method": method, "axes": list(axes), "colour": colour.name}
    with atomic_path(rows) as temporary:
        columns: dict[str, Any] = {"id": ids, "x": places[:, 0], "y": places[:, 1]}
        columns |= {"colour": list(colour.texts)} if colour.name else {}
        made = pa.table(columns).replace_schema_metadata({METADATA: json.dumps(facts)})
        parquet.write_table(made, temporary, row_group_size=1 << 20)
    write_picture(picture, places, axes, colour)
    write_text(page, render(ids, source.lengths, places, axes, colour, method))
    return [page, picture, rows]


def _batches(path: Path, column: str) -> Iterator[pa.Array]:
    with parquet.File(path, "run the command again") as file:
        for batch in file.iter_batches(4096, columns=[column]):
            yield batch[column]


def _vectors(path: Path) -> Iterator[np.ndarray]:
    """float64[rows, hidden] of each batch of sequences.parquet."""
    for batch in _batches(path, "vector"):
        yield batch.flatten().to_numpy().reshape(len(batch), -1).astype(np.float64)


def pca(path: Path) -> tuple[np.ndarray, tuple[str, str]]:
    """Places float32[n, 2] by the first two principal components, and the axes' names with their share of the variance.

    Two passes, with memory for a matrix of hidden x hidden. The sign of a component is that in which its largest weight
    is above 0.
    """
    rows, total = 0, np.zeros(1)
    for vectors in _vectors(path):
        rows, total = rows + len(vectors), total + vectors.sum(axis=0)
    mean = total / rows
    scatter = sum((vectors - mean).T @ (vectors - mean) for vectors in _vectors(path))
    variances, components = np.linalg.eigh(scatter)
    first = components[:, :-3:-1]
    first = first * np.sign(first[np.abs(first).argmax(axis=0), [0, 1]])
    shares = variances[:-3:-1].clip(min=0) / max(variances.clip(min=0).sum(), np.finfo(float).tiny)
    places = np.concatenate([(vectors - mean) @ first for vectors in _vectors(path)]).astype(np.float32)
    return places, (f"PC 1 ({shares[0]:.1%} of the variance)", f"PC 2 ({shares[1]:.1%} of the variance)")


def umap_places(path: Path) -> np.ndarray:
    """Places float32[n, 2] by UMAP with its own settings and a fixed seed."""
    from umap import UMAP

    vectors = np.concatenate([batch.astype(np.float32) for batch in _vectors(path)])
    neighbours = min(15, len(vectors) - 1)
    # its spectral start needs more points than dimensions
    start = "spectral" if len(vectors) > 2 * neighbours else "random"
    made = UMAP(n_neighbors=neighbours, init=start, random_state=_SEED, n_jobs=1).fit_transform(vectors)
    return np.asarray(made, np.float32)


def point_colours(colour: Colour, points: int) -> list[str]:
    """A colour `#rrggbb` for each point."""
    if colour.values is None:
        return [PALETTE[0]] * points
    if colour.labels:
        shown = [*PALETTE, GREY]
        return [GREY if np.isnan(value) else shown[int(value)] for value in colour.values]
    low, high = _range(colour)
    fixed = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in SCALE], float)
    found = []
    for value in colour.values:
        if np.isnan(value):
            found.append(GREY)
            continue
        at = (value - low) / ((high - low) or 1.0) * (len(SCALE) - 1)
        mixed = [np.interp(at, range(len(SCALE)), fixed[:, channel]) for channel in range(3)]
        found.append("#" + "".join(f"{round(each):02x}" for each in mixed))
    return found


def _range(colour: Colour) -> tuple[float, float]:
    assert colour.values is not None
    return float(np.nanmin(colour.values)), float(np.nanmax(colour.values))


def write_picture(path: Path, places: np.ndarray, axes: tuple[str, str], colour: Colour) -> None:
    """Write the map as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LinearSegmentedColormap, Normalize
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(9, 7), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    size = float(np.clip(20_000 / len(places), 3, 22))
    dots = axis.scatter(*places.T, s=size, c=point_colours(colour, len(places)), linewidths=0, alpha=0.8)
    axis.set_xlabel(axes[0])
    axis.set_ylabel(axes[1])
    if colour.labels:
        marks = [
            Line2D([], [], linestyle="", marker="o", markersize=6, color=shade, label=_plain(label))
            for label, shade in zip(colour.labels, [*PALETTE, GREY], strict=False)
        ]
        legend = axis.legend(handles=marks, title=_plain(colour.name), frameon=False, loc="upper left",
                             bbox_to_anchor=(1, 1), fontsize=8)  # fmt: skip
        legend.set_in_layout(True)
    elif colour.values is not None:
        dots.set_clim(*_range(colour))
        from matplotlib.cm import ScalarMappable

        shades = ScalarMappable(Normalize(*_range(colour)), LinearSegmentedColormap.from_list("scale", SCALE))
        figure.colorbar(shades, ax=axis, label=_plain(colour.name))
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of letters that its font lacks
        figure.savefig(temporary, format="png", dpi=150, metadata={"Software": GENERATOR})


def _plain(text: str, longest: int = 40) -> str:
    """A text that matplotlib draws as it is: `$` would begin a formula."""
    shown = printable(text).replace("\n", " ").replace("$", r"\$")
    return shown if len(shown) <= longest else f"{shown[:longest]}…"


def render(
    ids: list[str], lengths: np.ndarray, places: np.ndarray, axes: tuple[str, str], colour: Colour, method: str
) -> str:
    """The page as HTML. Names from outside are data of the page, never part of its markup or program."""
    chosen = np.arange(len(ids))
    if len(ids) > SHOWN:
        chosen = np.linspace(0, len(ids) - 1, SHOWN).astype(np.int64)
    values = None if colour.values is None else colour.values[chosen]
    data = {
        "ids": [printable(ids[i]) for i in chosen],
        "lengths": lengths[chosen].tolist(),
        "x": [float(f"{value:.5g}") for value in places[chosen, 0]],
        "y": [float(f"{value:.5g}") for value in places[chosen, 1]],
        "axes": list(axes),
        "colour": printable(colour.name),
        "labels": [printable(label) for label in colour.labels],
        "values": None if values is None else [None if np.isnan(value) else float(value) for value in values],
        "texts": [printable(colour.texts[i]) for i in chosen] if colour.texts else None,
        # of categories by the index of the label
        "shades": None if values is None or colour.labels else point_colours(Colour(values=values), len(chosen)),
        "palette": [*PALETTE, GREY],
        "scale": list(SCALE),
        "range": None if values is None or colour.labels else _range(colour),
    }
    shown = "" if len(chosen) == len(ids) else f", of which {len(chosen):,} are shown"
    name = {"pca": "PCA", "umap": "UMAP"}[method]
    summary = f"{len(ids):,} proteins{shown}, each by the mean of its residues' vectors, placed by {name}."
    if method == "umap":
        summary += " Distances between groups mean little in a UMAP, and its axes nothing."
    # as JSON in ASCII, where no `<` can end the element that holds it
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    page = resources.files("unirefine.embed").joinpath("map.html").read_text(encoding="utf-8")
    for key, value in (("GENERATOR", GENERATOR), ("SUMMARY", summary), ("DATA", text)):
        page = page.replace(f"@@{key}@@", value, 1)
    return page
