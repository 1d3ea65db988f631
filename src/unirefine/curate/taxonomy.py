"""Artificial taxa: the subtrees of the configured roots in NCBI's taxonomy, or the pinned list of the package."""

import importlib.resources
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np

from unirefine.core.idlist import some
from unirefine.core.tars import BadTar, Content, files
from unirefine.errors import UserError

PINNED_ROOT = 81077
LARGEST = 2**27 - 1
"""Largest number of a taxon that is taken; NCBI's have reached 4 million. It bounds the memory, 4 bytes a number."""
_FILES = ("nodes.dmp", "merged.dmp")
_EXPANSION = 20
_SLACK_BYTES = 64 << 20
"""The dump's content is at most that many times its size, and this: NCBI's is six times its size."""
_LONGEST_LINE = 1 << 16
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


def subtrees(roots: Sequence[int], dump: "Dump | None") -> ArtificialTaxa:
    """As `artificial_taxa`, of a dump that has been read."""
    return _pinned(roots) if dump is None else _below(roots, dump)


def _pinned(roots: Sequence[int]) -> ArtificialTaxa:
    text = importlib.resources.files("unirefine.curate").joinpath("artificial_taxa.txt").read_text(encoding="ascii")
    taxa = np.array([int(line) for line in text.splitlines() if not line.startswith("#")], np.int32)
    root = np.zeros(max(taxa.max(), *roots, PINNED_ROOT) + 1, np.int32)
    for taxon in roots:
        root[taxa if taxon == PINNED_ROOT else taxon] = taxon
    return ArtificialTaxa(root, "pinned list", complete=False)


@dataclass(frozen=True)
class Dump:
    """NCBI's taxonomy."""

    path: Path
    nodes: np.ndarray
    """int32[n, 2]: taxon and parent."""
    merged: np.ndarray
    """int32[m, 2]: a taxon that is gone, and the one that it was merged into."""


def read_dump(taxdump: Path | str) -> Dump:
    """Read a taxdump.tar.gz. Raises UserError for one that cannot be read."""
    path = Path(taxdump)
    tables = _read_dump(path)
    return Dump(path, tables["nodes.dmp"], tables.get("merged.dmp", np.empty((0, 2), np.int32)))


def _below(roots: Sequence[int], dump: Dump) -> ArtificialTaxa:
    nodes, merged = dump.nodes, dump.merged
    size = int(max(nodes.max(), merged.max(initial=0), *roots)) + 1
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
    up = np.where(is_root | (parent == _UNKNOWN), np.arange(size, dtype=np.int32), parent)
    for _ in range(size.bit_length()):  # each round doubles the steps up; in a tree of any depth that is enough
        further = up[up]
        if np.array_equal(further, up):
            break
        up = further
    root[is_root[up]] = up[is_root[up]]
    root[merged[:, 0]] = root[merged[:, 1]]  # an older release may use a taxon that was merged into another
    return ArtificialTaxa(root, "taxdump", complete=True)


def _read_dump(taxdump: Path) -> dict[str, np.ndarray]:
    """The first two columns of nodes.dmp and of merged.dmp, int32[rows, 2], read as a stream.

    They may be in a directory of the archive, as in `./nodes.dmp`. Raises UserError when there are no nodes.
    """
    tables: dict[str, np.ndarray] = {}
    fix = "fetch NCBI's taxdump.tar.gz again"
    try:
        with taxdump.open("rb", buffering=0) as file:
            content = Content(file, _EXPANSION * taxdump.stat().st_size + _SLACK_BYTES)
            for member, data in files(content, content):
                name = PurePosixPath(member.name).name
                if name not in _FILES:
                    continue
                if name in tables:
                    raise UserError(f"two files {name} inside", where=taxdump, fix=fix)
                tables[name] = np.fromiter(_two_columns(data, name, taxdump), np.int32).reshape(-1, 2)
            names = content.names
    except FileNotFoundError:
        raise UserError("no such file", where=taxdump, fix="run the release stage, or leave --taxdump out") from None
    except (BadTar, tarfile.TarError, EOFError, ValueError, OSError) as error:
        raise UserError(f"not a taxonomy dump ({error})", where=taxdump, fix="fetch taxdump.tar.gz again") from None
    if "nodes.dmp" not in tables:
        raise UserError(f"no nodes.dmp inside; it has {some(names) or 'nothing'}", where=taxdump, fix=fix)
    if not len(tables["nodes.dmp"]):
        raise UserError("no taxa in nodes.dmp", where=taxdump, fix=fix)
    return tables


def _two_columns(file: IO[bytes], name: str, taxdump: Path) -> Iterator[int]:
    """First and second column of each line, one after the other; lines that are empty or begin with `#` are skipped."""
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        if not line.strip() or line.startswith(b"#"):
            continue
        columns = [column.strip() for column in line.split(b"|", 2)]
        if len(columns) < 3 or not (columns[0].isdigit() and columns[1].isdigit()):
            shown = ascii(line[:40].decode("latin-1").strip())
            what = f"line {number} of {name} does not begin with two taxa: {shown}"
            raise UserError(what, where=taxdump, fix="fetch NCBI's taxdump.tar.gz again")
        for column in columns[:2]:
            if len(column) > 10 or int(column) > LARGEST:
                what = f"line {number} of {name} has a taxon beyond {LARGEST:,}: {column[:20].decode()}"
                raise UserError(what, where=taxdump, fix="remove that line: NCBI's numbers are smaller")
            yield int(column)
