"""What to see in each figure, by its file name: for our page and for `snakemake --report`, which must say the same.

Plain sentences: no HTML, and nothing that reStructuredText reads as markup. Imported by the workflow, so nothing heavy.
"""

from collections.abc import Mapping

from unirefine.core.summaries import units

_REMOVED = (
    "{} removed, by reason, with the stage in brackets and as colour. The scale is logarithmic: compare the counts"
    " beside the bars, not their lengths. Each one is listed with its evidence in the removed.parquet of its stage."
)
_IDENTITY = (
    "How similar the nearest train sequence that the searches found is to each {} cluster. Right of the dotted line,"
    " which is the threshold, nothing may be left after decontamination. The text says which sequences were searched,"
    " and counts the clusters for which nothing was found, which are not drawn."
)
_CAPTIONS = {
    "loss": (
        "Masked loss; the thin line is training without smoothing. Training and validation are over all chosen"
        " residues, of which some are left as they are, and should fall together; validation that rises while training"
        " falls is overfitting. The broken lines are baselines and belong to the curve of hidden residues alone: where"
        " it is below one of them, the model knows more than that baseline, which knows the frequencies of residues"
        " (unigram), of residues after another (bigram), between two others (both neighbours), or in the rest of the"
        " same protein (composition)."
    ),
    "throughput": (
        "Tokens per second over all processes. The gap between the lines is what padding costs; both should stay level,"
        " after the first steps."
    ),
    "identity": _IDENTITY.format("validation"),
    "identity-test": _IDENTITY.format("test"),
    "lengths": (
        "Lengths of what was clustered. Most proteins have some hundred residues; of those longer than its window,"
        " training sees a crop."
    ),
    "cluster-sizes": (
        "Members per cluster; most clusters are small, at the left. Training draws every cluster equally often and then"
        " one of its members: otherwise the few large ones, at the right, would dominate."
    ),
}


def captions(release: Mapping[str, str | None]) -> dict[str, str]:
    """The caption of each figure. release: release.json, or its key `source`."""
    removed = {
        f"removed-{level}": _REMOVED.format(f"{unit[0].upper()}{unit[1:]}") for level, unit in units(release).items()
    }
    return _CAPTIONS | removed
