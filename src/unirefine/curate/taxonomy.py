"""Artificial taxa: the subtrees of the configured roots in NCBI's taxonomy, or the pinned list of the package."""

import importlib.resources
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from unirefine.core.idlist import some
from unirefine.errors import UserError

PINNED_ROOT = 81077
LARGEST = 2**27 - 1
"""Largest number of a taxon that is taken; NCBI's have reached 4 million. It bounds the memory, 4 bytes a number."""
_LARGEST_FILE = 2 << 30
_FILES = ("nodes.dmp", "merged.dmp")
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
    return _pinned(roots) if taxdump is None else _from_taxdump(roots, Path(taxdump))


def _pinned(roots: Sequence[int]) -> ArtificialTaxa:
    text = importlib.resources.files("unirefine.curate").joinpath("artificial_taxa.txt").read_text(encoding="ascii")
    taxa = np.array([int(line) for line in text.splitlines() if not line.startswith("#")], np.int32)
    root = np.zeros(max(taxa.max(), *roots, PINNED_ROOT) + 1, np.int32)
    for taxon in roots:
        root[taxa if taxon == PINNED_ROOT else taxon] = taxon
    return ArtificialTaxa(root, "pinned list", complete=False)


def _from_taxdump(roots: Sequence[int], taxdump: Path) -> ArtificialTaxa:
    tables = _read_dump(taxdump)
    nodes, merged = tables["nodes.dmp"], tables.get("merged.dmp", np.empty((0, 2), np.int32))
    size = int(max(nodes.max(), merged.max(initial=0), *roots)) + 1
    parent = np.full(size, _UNKNOWN, np.int32)
    parent[nodes[:, 0]] = nodes[:, 1]
    for taxon in roots:
        if parent[taxon] == _UNKNOWN:
            now = merged[merged[:, 0] == taxon, 1]
            fix = f"it was merged into {now[0]}" if len(now) else "check curate.artificial_taxa"
            raise UserError(f"nodes.dmp has no taxon {taxon}", where=taxdump, fix=fix)
    root = np.where(parent == _UNKNOWN, _UNKNOWN, 0).astype(np.int32)
    root[list(roots)] = roots
    known = nodes[:, 0]
    open_taxa = known[root[known] == 0]
    while len(open_taxa):  # as many rounds as the artificial subtree is deep
        above = root[parent[open_taxa]]
        if not (above > 0).any():
            break
        root[open_taxa] = np.maximum(above, 0)
        open_taxa = open_taxa[above <= 0]
    root[merged[:, 0]] = root[merged[:, 1]]  # an older release may use a taxon that was merged into another
    return ArtificialTaxa(root, "taxdump", complete=True)


def _read_dump(taxdump: Path) -> dict[str, np.ndarray]:
    """The first two columns of nodes.dmp and of merged.dmp, int32[rows, 2], read as a stream.

    They may be in a directory of the archive, as in `./nodes.dmp`. Raises UserError when there are no nodes.
    """
    tables: dict[str, np.ndarray] = {}
    names = []
    fix = "fetch NCBI's taxdump.tar.gz again"
    try:
        with tarfile.open(taxdump, mode="r|gz") as archive:
            for member in archive:
                names.append(member.name)
                name = PurePosixPath(member.name).name
                if name not in _FILES or not member.isfile():
                    continue
                if name in tables:
                    raise UserError(f"two files {name} inside", where=taxdump, fix=fix)
                if not 0 <= member.size <= _LARGEST_FILE:
                    raise UserError(f"{name} of {member.size:,} bytes inside", where=taxdump, fix=fix)
                lines = archive.extractfile(member)
                tables[name] = np.array(list(_two_columns(lines, name, taxdump)), np.int32).reshape(-1, 2)
    except FileNotFoundError:
        raise UserError("no such file", where=taxdump, fix="run the release stage, or leave --taxdump out") from None
    except (tarfile.TarError, EOFError, ValueError, OSError, zlib.error) as error:
        raise UserError(f"not a taxonomy dump ({error})", where=taxdump, fix="fetch taxdump.tar.gz again") from None
    if "nodes.dmp" not in tables:
        raise UserError(f"no nodes.dmp inside; it has {some(names) or 'nothing'}", where=taxdump, fix=fix)
    if not len(tables["nodes.dmp"]):
        raise UserError("no taxa in nodes.dmp", where=taxdump, fix=fix)
    return tables


def _two_columns(lines: Iterable[bytes], name: str, taxdump: Path) -> Iterator[tuple[int, int]]:
    """The taxa in the first two columns; lines that are empty or begin with `#` are skipped."""
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith(b"#"):
            continue
        columns = [column.strip() for column in line.split(b"|", 2)]
        if len(columns) < 3 or not (columns[0].isdigit() and columns[1].isdigit()):
            shown = ascii(line[:40].decode("latin-1").strip())
            what = f"line {number} of {name} does not begin with two taxa: {shown}"
            raise UserError(what, where=taxdump, fix="fetch NCBI's taxdump.tar.gz again")
        taxa = [int(column) if len(column) <= 10 else LARGEST + 1 for column in columns[:2]]
        if max(taxa) > LARGEST:
            what = f"line {number} of {name} has a taxon beyond {LARGEST:,}: {columns[0][:20].decode()}"
            raise UserError(what, where=taxdump, fix="remove that line: NCBI's numbers are smaller")
        yield taxa[0], taxa[1]
