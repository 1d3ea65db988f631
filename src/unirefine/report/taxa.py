"""Names and kingdoms of taxa, from the taxonomy dump of the release stage where it is there."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unirefine.core.taxdump import Dump, read_dump, tops

GROUPS = {
    33208: "animals", 33090: "plants", 4751: "fungi", 2759: "other eukaryotes", 2: "bacteria", 2157: "archaea",
    10239: "viruses",
}  # fmt: skip
"""Taxa whose subtrees are counted; one inside another counts as itself."""
OTHER, UNKNOWN = "other", "not known"
NAMES = (*GROUPS.values(), OTHER, UNKNOWN)


@dataclass(frozen=True)
class Taxa:
    """Groups of taxa, and the names of those that were asked for."""

    group: np.ndarray
    """uint8[largest taxon + 1]: index of NAMES."""
    names: dict[int, str]

    def groups_of(self, taxa: np.ndarray) -> np.ndarray:
        """Index of NAMES of each taxon. taxa: int[n], negative where not known. Returns int64[n]."""
        inside = (taxa > 0) & (taxa < len(self.group))
        found = np.where(inside, self.group[np.where(inside, taxa, 0)], NAMES.index(OTHER)).astype(np.int64)
        return np.where(taxa > 0, found, NAMES.index(UNKNOWN))

    def name(self, taxon: int) -> str:
        """Scientific name, or `taxon 9606` where it has none."""
        return self.names.get(taxon, f"taxon {taxon}")


def read_taxa(taxdump: Path, wanted: set[int]) -> Taxa | None:
    """Groups of all taxa in a taxdump.tar.gz and the names of `wanted`; None when there is no such file.

    Raises UserError for one that cannot be read.
    """
    if not taxdump.is_file():
        return None
    dump = read_dump(taxdump, wanted)
    return Taxa(_groups(dump), dump.names)


def _groups(dump: Dump) -> np.ndarray:
    """uint8[largest taxon + 1]: index of NAMES."""
    size = max(dump.largest, *GROUPS) + 1
    parent = np.arange(size, dtype=np.int32)
    parent[dump.nodes[:, 0]] = dump.nodes[:, 1]
    parent[list(GROUPS)] = list(GROUPS)
    of = np.full(size, NAMES.index(OTHER), np.uint8)
    for number, taxon in enumerate(GROUPS):
        of[taxon] = number
    group = of[tops(parent)]
    group[dump.merged[:, 0]] = group[dump.merged[:, 1]]
    return group
