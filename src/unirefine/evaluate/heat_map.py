"""A scan of all substitutions of a protein as a picture."""

import io
import re
from pathlib import Path

import numpy as np

from unirefine.core.alphabet import AMINO_ACIDS
from unirefine.errors import UserError
from unirefine.files.atomic import atomic_path

CREATOR = "unirefine evaluate variants"
ORDER = "GAVLIMPFWYSTCNQDEHKR"
"""Rows of the picture: small, hydrophobic, aromatic, polar, charged."""
_ROW = 100
"""Residues in a row of panels."""


def heat_map_files(output: Path, proteins: dict[str, str]) -> dict[str, Path]:
    """The file of each protein's picture, by name. Raises UserError when two would be the same."""
    found: dict[str, Path] = {}
    for name in proteins:
        path = output / f"scan-{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}.svg"
        if path in found.values():
            raise UserError(f"two proteins whose picture is {path.name}", fix="rename one of them in the FASTA")
        found[name] = path
    return found


def is_heat_map(path: Path) -> bool:
    """Whether an earlier call has written a picture."""
    return CREATOR.encode() in path.read_bytes()[:4000]


def write_heat_map(path: Path, name: str, sequence: str, scores: np.ndarray) -> None:
    """Write an SVG. scores: float64[L, 20], masked marginals in the order of AMINO_ACIDS."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    columns = [AMINO_ACIDS.index(letter) for letter in ORDER]
    starts = range(0, len(sequence), _ROW)
    figure = Figure(figsize=(16, 1 + 3.4 * len(starts)), layout="constrained")
    FigureCanvasSVG(figure)
    panels = figure.subplots(len(starts), 1, squeeze=False)[:, 0]
    largest = max(float(np.abs(scores).max()), 1e-6)
    for start, panel in zip(starts, panels, strict=True):
        shown = scores[start : start + _ROW, columns].T
        image = panel.imshow(shown, cmap="RdBu", vmin=-largest, vmax=largest, aspect="auto", interpolation="nearest")
        panel.set_yticks(range(len(ORDER)), list(ORDER), fontsize=7)
        ticks = [i for i in range(shown.shape[1]) if (start + i + 1) % 10 == 0 or i == 0]
        panel.set_xticks(ticks, [f"{sequence[start + i]}{start + i + 1}" for i in ticks], fontsize=8)
        panel.set_xlim(-0.5, min(_ROW, len(sequence)) - 0.5)
        own = [(i, ORDER.index(letter)) for i, letter in enumerate(sequence[start : start + _ROW]) if letter in ORDER]
        panel.plot(*zip(*own, strict=True) if own else ([], []), ".", color="black", markersize=3)
    figure.suptitle(f"{name}: log-odds of each amino acid against the wild type's (dots)")
    figure.colorbar(image, ax=list(panels), label="masked marginal, nats", fraction=0.03)
    text = io.BytesIO()
    with rc_context({"svg.hashsalt": CREATOR}):  # the same picture has the same bytes
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": CREATOR})
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.getvalue())
