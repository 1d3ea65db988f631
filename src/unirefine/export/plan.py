"""Which file of an export holds which sequences. It depends on the shards and the format alone."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unirefine.dataset.reader import Side
from unirefine.export.blocks import Block, Shard, block_end, blocks, open_shard

_ALL = 1 << 62


@dataclass(frozen=True)
class Piece:
    """Sequences first .. end - 1 of a shard."""

    shard: Shard
    first: int
    end: int


@dataclass(frozen=True)
class File:
    """One file of an export: the sequences of its pieces, in order."""

    name: str
    """Path below the output."""
    side: str
    first: int
    """Number of its first sequence within the side."""
    pieces: tuple[Piece, ...]
    write: Callable[["File", Path, Iterable[Block]], None]
    """Writes it to a path, given its blocks."""
    letters: bool = True
    """Whether it needs the residues."""

    @property
    def sequences(self) -> int:
        """How many it holds."""
        return sum(piece.end - piece.first for piece in self.pieces)

    @property
    def residues(self) -> int:
        """How many are written."""
        pieces = self.pieces if self.letters else ()
        return sum(int(piece.shard.index.lengths[piece.first : piece.end].sum(dtype=np.int64)) for piece in pieces)

    def blocks(self) -> Iterator[Block]:
        """Its sequences."""
        for piece in self.pieces:
            yield from blocks(piece.shard, piece.first, piece.end, letters=self.letters)


Shards = Mapping[str, list[Shard]]
"""The opened shards of each side."""
Write = Callable[[File, Path, Iterable[Block]], None]


def open_sides(sides: Mapping[str, Side]) -> Shards:
    """Open the shards of all sides for reading in order."""
    return {name: [open_shard(prefix) for prefix in side.prefixes] for name, side in sides.items()}


def whole(sides: Shards, pattern: str, write: Write, *, letters: bool = True) -> list[File]:
    """One file a side. pattern: its name, with `{side}`. letters: see `File`."""
    files = []
    for name, shards in sides.items():
        pieces = tuple(Piece(shard, 0, shard.sequences) for shard in shards)
        files.append(File(pattern.format(side=name), name, 0, pieces, write, letters))
    return files


def cut(sides: Shards, pattern: str, write: Write, residues: int) -> list[File]:
    """Files of at most `residues` letters (or one sequence), none with sequences of two shards.

    pattern: the name of a file, with `{side}` and `{number}`, which counts from 0 in each side.
    """
    files = []
    for name, shards in sides.items():
        number = before = 0
        for shard in shards:
            first = 0
            while first < shard.sequences:
                end = block_end(shard.index, first, shard.sequences, _ALL, residues)
                named = pattern.format(side=name, number=number)
                files.append(File(named, name, before + first, (Piece(shard, first, end),), write))
                first, number = end, number + 1
            before += shard.sequences
    return files
