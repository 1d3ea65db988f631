"""What to see in each figure, by its file name: for our page and for `snakemake --report`, which must say the same.

Plain sentences: no HTML, and nothing that reStructuredText reads as markup. Imported by the workflow, so nothing heavy.
"""

from collections.abc import Mapping

from unirefine.core.summaries import units

_REMOVED = (
    "{} removed, by reason, with the stage in brackets and as colour. The scale is logarithmic: compare the counts"
    " beside the bars, not their lengths. Each one is listed with its evidence in the removed.parquet of its stage."
    " Members of held-out clusters are not removed and not counted here."
)
_FLOW = (
    "How many {} each stage took in: the width of its bar. Blue is kept, orange removed, green held out of training as"
    " members of validation or test clusters. A part is at least as wide as a hair, also where it is less."
)
_IDENTITY = (
    "How similar the nearest train sequence that the searches found is to each {} cluster. Right of the dotted line,"
    " which is the threshold, nothing may be left after decontamination. The text says which sequences were searched,"
    " and counts the clusters for which nothing was found, which are not drawn."
)
_BY = (
    "Perplexity of hidden residues by {}, with 95% intervals over resampled clusters of each bin (none where it has one"
    " cluster). Compare the two within a bin: bins differ in what is asked."
)
_CAPTIONS = {
    "perplexity": (
        "Perplexity of hidden residues with 95% intervals over resampled clusters; lower is better. The intervals are"
        " of each alone. Whether the model is better than a baseline is decided by the paired ratio in the table, which"
        " is far more precise."
    ),
    "continued": (
        "Perplexity of hidden residues before and after continuing, with 95% intervals over resampled clusters; lower"
        " is better. Compare within a set: sets are of other proteins."
    ),
    "by-length": _BY.format("the length of the protein"),
    "by-identity": _BY.format("the identity of the nearest train sequence"),
    "by-cluster-size": _BY.format("the number of members of the protein's cluster"),
    "by-residue": _BY.format("the hidden residue"),
    "by-taxon": _BY.format("the kingdom of the cluster's representative"),
    "loss": (
        "Masked loss; small points are the training loss as logged, the thin line their mean. Training and validation"
        " are over all chosen residues, of which some are left as they are, and should fall together; validation that"
        " rises while training falls is overfitting. Hidden residues alone are harder, so their curve is above."
    ),
    "hidden-perplexity": (
        "Perplexity where the residue is hidden, at each validation. The broken lines are baselines. Where the curve is"
        " below one, the model knows more than that baseline, which knows the frequencies of residues (unigram), of"
        " residues after another (bigram), between two others (both neighbours), or in the rest of the same protein"
        " (composition)."
    ),
    "throughput": (
        "Tokens per second over all processes. It should stay level after the first steps. A second line, where there"
        " is one, counts padding too: the gap between them is what padding costs."
    ),
    "identity": _IDENTITY.format("validation"),
    "identity-test": _IDENTITY.format("test"),
    "lengths": (
        "Lengths of all sequences: of the input, after curation, and of what is left to train on. Most proteins have"
        " some hundred residues; of those longer than its window, training sees a crop."
    ),
    "cluster-sizes": (
        "Members per cluster; most clusters are small, at the left. Training draws every cluster equally often and then"
        " one of its members: otherwise the few large ones, at the right, would dominate."
    ),
    "amino-acids": (
        "Shares of the amino acids before and after curation and decontamination, of the sample that the text names."
        " Bars of one letter should be alike: a difference means that what was removed is of a kind of its own."
    ),
    "taxa": (
        "Shares of sequences by the kingdom of the representative, before and after curation and decontamination, of"
        " the same sample. What is artificial or has no taxon stands under other and not known."
    ),
    "workflow": (
        "The stages and which reads what, with the time of each where Snakemake's benchmark files are beside the"
        " results."
    ),
    "two-losses": (
        "Losses of both runs over all chosen residues, each on its own validation sequences: compare the curves only"
        " where data and masks are the same."
    ),
}


def captions(release: Mapping[str, str | None]) -> dict[str, str]:
    """The caption of each figure. release: release.json, or its key `source`."""
    named = units(release)
    removed = {f"removed-{level}": _REMOVED.format(f"{unit[0].upper()}{unit[1:]}") for level, unit in named.items()}
    flows = {f"flow-{level}": _FLOW.format(unit) for level, unit in named.items()}
    return _CAPTIONS | removed | flows
