"""Clusters of a few thousand proteins by MMseqs2, in one step."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from unirefine.files.atomic import temporary_directory
from unirefine.similarity.mmseqs import Workspace
from unirefine.tools import find_mmseqs

COVERAGE = 0.8
"""Of both sequences."""


def cluster(
    sequences: Iterable[str], identity: float, place: Path, title: str, *, threads: int = 1, mmseqs: str | None = None
) -> np.ndarray:
    """Index of the representative of each sequence's cluster: int64[n]. Raises UserError when MMseqs2 fails.

    place: a temporary directory is made beside this path. title: begins the lines on stderr.
    """
    binary = find_mmseqs(mmseqs)
    with temporary_directory(place) as work:
        count = 0
        with (work / "in.fasta").open("w", encoding="ascii") as file:
            for sequence in sequences:
                file.write(f">{count}\n{sequence.upper()}\n")
                count += 1
        tool = Workspace(binary, work, threads, title)
        tool.createdb("sequences", work / "in.fasta")
        tool.say(f"clusters at {identity:.0%} identity")
        # one step: each further one costs seconds, however few sequences there are
        options = {"--min-seq-id": identity, "-c": COVERAGE, "--cov-mode": 0, "--cluster-steps": 1}
        tool.run("cluster", "sequences", "clusters", "scratch", options=options)
        tool.run("createtsv", "sequences", "sequences", "clusters", "clusters.tsv")
        pairs = np.loadtxt(work / "clusters.tsv", dtype=np.int64, delimiter="\t", ndmin=2)
    representative = np.arange(count)  # one that MMseqs2 leaves out (too long) is alone
    representative[pairs[:, 1]] = pairs[:, 0]
    return representative
