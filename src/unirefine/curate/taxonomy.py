"""Artificial taxa: the subtrees of the configured roots in NCBI's taxonomy, or the pinned list of the package."""

import importlib.resources
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unirefine.core.taxdump import Dump, read_dump, tops
from unirefine.errors import UserError

PINNED_ROOT = 81077
_UNKNOWN = -1


@dataclass(frozen=True)
class ArtificialTaxa:
    """Which taxa are artificial, and the root of the subtree that each is in."""

    root: np.ndarray
    """int32[largest taxon + 1]: the nearest root at or above a taxon, 0 for a natural taxon, -1 for no taxon."""
    source: str
    """`taxdump` or `pinned list`."""
    complete: bool
    """Whether `root` covers the whole taxonomy: only then is -1 different from 0."""

    def roots_of(self, taxa: np.ndarray) -> np.ndarray:
        """The root at or above each taxon. taxa: int32[n], -1 if not given. Returns int32[n], 0 if not artificial."""
        return np.maximum(self._look_up(taxa), 0)

    def unknown(self, taxa: np.ndarray) -> int:
        """How many of the taxa (int32[n], -1 where not given) are missing from the taxonomy dump."""
        return int(((self._look_up(taxa) == _UNKNOWN) & (taxa != -1)).sum()) if self.complete else 0

    def _look_up(self, taxa: np.ndarray) -> np.ndarray:
        inside = (taxa >= 0) & (taxa < len(self.root))
        return np.where(inside, self.root[np.where(inside, taxa, 0)], _UNKNOWN)


def artificial_taxa(roots: Sequence[int], taxdump: Path | str | None) -> ArtificialTaxa:
    """The subtrees of `roots` in a taxdump.tar.gz, or in the pinned list when `taxdump` is None.

    The pinned list has the subtree of 81077 only: of any other root it has the root alone. Raises UserError for a dump
    that cannot be read or that lacks a root.
    """
    return subtrees(roots, None if taxdump is None else read_dump(taxdump))


def subtrees(roots: Sequence[int], dump: Dump | None) -> ArtificialTaxa:
    """As `artificial_taxa`, of a dump that has been read."""
    return _pinned(roots) if dump is None else _below(roots, dump)


def _pinned(roots: Sequence[int]) -> ArtificialTaxa:
    text = importlib.resources.files("unirefine.curate").joinpath("artificial_taxa.txt").read_text(encoding="ascii")
    taxa = np.array([int(line) for line in text.splitlines() if not line.startswith("#")], np.int32)
    root = np.zeros(max(taxa.max(), *roots, PINNED_ROOT) + 1, np.int32)
    for taxon in roots:
        root[taxa if taxon == PINNED_ROOT else taxon] = taxon
    return ArtificialTaxa(root, "pinned list", complete=False)


def _below(roots: Sequence[int], dump: Dump) -> ArtificialTaxa:
    nodes, merged = dump.nodes, dump.merged
    size = max(dump.largest, *roots) + 1
    parent = np.full(size, _UNKNOWN, np.int32)
    parent[nodes[:, 0]] = nodes[:, 1]
    for taxon in roots:
        if parent[taxon] == _UNKNOWN:
            now = merged[merged[:, 0] == taxon, 1]
            fix = f"it was merged into {now[0]}" if len(now) else "check curate.artificial_taxa"
            raise UserError(f"nodes.dmp has no taxon {taxon}", where=dump.path, fix=fix)
    root = np.where(parent == _UNKNOWN, _UNKNOWN, 0).astype(np.int32)
    is_root = np.zeros(size, bool)
    is_root[list(roots)] = True
    up = tops(np.where(is_root | (parent == _UNKNOWN), np.arange(size, dtype=np.int32), parent))
    root[is_root[up]] = up[is_root[up]]
    root[merged[:, 0]] = root[merged[:, 1]]  # an older release may use a taxon that was merged into another
    return ArtificialTaxa(root, "taxdump", complete=True)
