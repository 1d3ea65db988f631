"""Colours of a map: a column of a table, or clusters by MMseqs2."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unirefine.core.delimited import MISSING, read_table
from unirefine.embed.source import Source
from unirefine.errors import UserError
from unirefine.similarity.clusters import cluster

CLUSTERS = "clusters"
MOST = 10
"""Categories with a colour of their own: the most frequent. All others share one."""
_FEWEST_NUMBERS = 12
"""A column of numbers with fewer distinct values is taken for categories."""


@dataclass(frozen=True)
class Colour:
    """What decides the colour of each protein: numbers, or categories by number."""

    name: str = ""
    """Of the column; nothing when there are no colours."""
    labels: tuple[str, ...] = ()
    """Of the categories; none for numbers."""
    values: np.ndarray | None = None
    """float64[n]: the number, or the index of the label; NaN for none."""
    texts: tuple[str, ...] = ()
    """What the table says of each protein, or its cluster."""


def wanted(text: str | None) -> tuple[Path, str] | float | None:
    """What `--colour` asks for: (table, column), the identity of clusters, or None. Raises UserError."""
    if text is None:
        return None
    head, _, tail = text.rpartition(":")
    if text == CLUSTERS or head == CLUSTERS:
        try:
            identity = float(tail) if head else 0.3
        except ValueError:
            identity = -1.0
        if not 0 < identity <= 1:
            raise UserError(f"--colour {text}: no identity", fix="give one above 0 and up to 1, as in clusters:0.5")
        return identity
    if not head or not tail:
        raise UserError(f"--colour {text}: no column", fix="give TABLE:COLUMN, as in table.tsv:family, or clusters")
    return Path(head), tail


def of_table(path: Path, column: str, names: Sequence[str]) -> Colour:
    """The colours of proteins by a column of a table, whose column `id` has their names. Raises UserError."""
    table = read_table(path, "--colour")
    header = [cell.casefold() for cell in table.rows[0].cells] if table.rows else []
    places = {}
    for name in ("id", column.casefold()):
        if header.count(name) != 1:
            what = "no column" if name not in header else "two columns"
            listed = ", ".join(table.rows[0].cells) if table.rows else "nothing"
            raise UserError(f"{what} {name!r}", where=path, fix=f"name them in the first line; it has {listed}")
        places[name] = header.index(name)
    found: dict[str, str] = {}
    for row in table.rows[1:]:
        cells = [*row.cells, *[""] * len(header)]
        name = cells[places["id"]]
        if name in found:
            raise UserError(f"{name} is there twice", where=table.where(row), fix="give each protein one row")
        found[name] = cells[places[column.casefold()]]
    texts = tuple(found.get(name, "") for name in names)
    if not any(name in found for name in names):
        raise UserError("none of its ids is one of the proteins'", where=path, fix="column `id` has the FASTA's names")
    return _coloured(column, texts)


def _coloured(name: str, texts: tuple[str, ...]) -> Colour:
    known = [text for text in texts if text.casefold() not in MISSING]
    numbers = [_float(text) for text in known]
    if all(np.isfinite(numbers)) and len(set(numbers)) >= _FEWEST_NUMBERS:
        values = np.array([np.nan if text.casefold() in MISSING else _float(text) for text in texts])
        return Colour(name, (), values, texts)
    return categories(name, texts)


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def categories(name: str, texts: tuple[str, ...]) -> Colour:
    """Colours of the MOST most frequent texts, the rest together. Of equally frequent ones the first by name."""
    counts = Counter(text for text in texts if text.casefold() not in MISSING)
    order = sorted(counts, key=lambda text: (-counts[text], text))
    labels = [f"{text} ({counts[text]:,})" for text in order[:MOST]]
    index = {text: min(place, MOST) for place, text in enumerate(order)}
    if len(order) > MOST:
        labels.append(f"{len(order) - MOST:,} others ({sum(counts[text] for text in order[MOST:]):,})")
    return Colour(name, tuple(labels), np.array([index.get(text, np.nan) for text in texts], np.float64), texts)


def of_clusters(source: Source, identity: float, output: Path, *, threads: int, mmseqs: str | None) -> Colour:
    """The colours of proteins by their MMseqs2 cluster at an identity over 80% of both sequences.

    A cluster is named after its representative. Raises UserError when MMseqs2 fails.
    """
    names = [protein.name for protein in source.proteins()]
    representative = cluster(
        (protein.sequence for protein in source.proteins()), identity, output / "mmseqs", "embed --map",
        threads=threads, mmseqs=mmseqs,
    )  # fmt: skip
    return categories(f"cluster at {identity:.0%} identity", tuple(names[i] for i in representative))
