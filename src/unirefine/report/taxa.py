"""Names and kingdoms of taxa, from the taxonomy dump of the release stage where it is there."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np

from unirefine.core.tars import BadTar, Content, files
from unirefine.errors import UserError

GROUPS = {
    33208: "animals", 33090: "plants", 4751: "fungi", 2759: "other eukaryotes", 2: "bacteria", 2157: "archaea",
    10239: "viruses",
}  # fmt: skip
"""Taxa whose subtrees are counted; one inside another counts as itself."""
OTHER, UNKNOWN = "other", "not known"
NAMES = (*GROUPS.values(), OTHER, UNKNOWN)
LARGEST = 2**27 - 1
_EXPANSION, _SLACK_BYTES, _LONGEST_LINE = 20, 64 << 20, 1 << 16


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
    parents, names, merged = np.empty((0, 2), np.int32), {}, np.empty((0, 2), np.int32)
    try:
        with taxdump.open("rb", buffering=0) as file:
            content = Content(file, _EXPANSION * taxdump.stat().st_size + _SLACK_BYTES)
            for member, data in files(content, content):
                name = PurePosixPath(member.name).name
                if name == "nodes.dmp":
                    parents = _pairs(data)
                elif name == "merged.dmp":
                    merged = _pairs(data)
                elif name == "names.dmp":
                    names = _names(data, wanted)
    except (BadTar, tarfile.TarError, EOFError, ValueError, OSError) as error:
        raise UserError(f"not a taxonomy dump ({error})", where=taxdump, fix="fetch taxdump.tar.gz again") from None
    return Taxa(_groups(parents, merged), names)


def _groups(parents: np.ndarray, merged: np.ndarray) -> np.ndarray:
    size = int(max(parents.max(initial=0), merged.max(initial=0), *GROUPS)) + 1
    up = np.arange(size, dtype=np.int32)
    up[parents[:, 0]] = parents[:, 1]
    up[list(GROUPS)] = list(GROUPS)
    for _ in range(size.bit_length()):  # each round doubles the steps up
        further = up[up]
        if np.array_equal(further, up):
            break
        up = further
    of = np.full(size, NAMES.index(OTHER), np.uint8)
    for number, taxon in enumerate(GROUPS):
        of[taxon] = number
    group = of[up]
    group[merged[:, 0]] = group[merged[:, 1]]
    return group


def _columns(file: IO[bytes], count: int) -> Iterator[list[bytes]]:
    while line := file.readline(_LONGEST_LINE):
        columns = [column.strip() for column in line.split(b"|", count)[:count]]
        if len(columns) == count:
            yield columns


def _pairs(file: IO[bytes]) -> np.ndarray:
    """The first two columns, int32[rows, 2]. Raises ValueError for what is no taxon."""
    found = np.fromiter((int(one) for columns in _columns(file, 2) for one in columns), np.int64).reshape(-1, 2)
    if found.size and not (found.min() >= 0 and found.max() <= LARGEST):
        raise ValueError("a taxon out of range")
    return found.astype(np.int32)


def _names(file: IO[bytes], wanted: set[int]) -> dict[int, str]:
    return {
        int(taxon): name.decode("utf-8", "replace")
        for taxon, name, _unique, kind in _columns(file, 4)
        if kind.startswith(b"scientific") and int(taxon) in wanted
    }
