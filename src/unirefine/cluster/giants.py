"""Join clusters of proteins that are too long for MMseqs2's alignment (core.giants).

MMseqs2 leaves two such proteins in two clusters, however similar they are. Their representatives are compared once
more, by an exact aligner.
"""

from dataclasses import dataclass

import numpy as np

from unirefine.core.exact import Limits, align_all
from unirefine.core.giants import SHORTEST, is_giant
from unirefine.core.rows import NONE
from unirefine.core.smith_waterman import as_residues
from unirefine.core.tables import Parts, read_column, strings_at
from unirefine.progress import meter

EVALUE = 1e-3
"""MMseqs2's own default."""


@dataclass(frozen=True)
class Joined:
    """What was done at one level."""

    giants: int
    """Clusters whose representative is too long for MMseqs2."""
    pairs: int
    """Pairs of these representatives that were aligned."""
    joined: int
    """Clusters that became part of another one."""

    def plus(self, other: "Joined") -> "Joined":
        """The sum of both."""
        return Joined(self.giants + other.giants, self.pairs + other.pairs, self.joined + other.joined)


def join_giants(
    representative: np.ndarray, parts: Parts, identity: float, coverage: float, *, threads: int
) -> tuple[np.ndarray, Joined]:
    """Join clusters whose representatives are similar giants: the longest one takes all that are similar to it.

    representative: uint32[records], row of each record's representative, or NONE. Returns a new one, and the counts.
    """
    rows = np.unique(representative[representative != NONE]).astype(np.int64)
    lengths = read_column(parts, "length", np.int32)[rows]
    rows = rows[lengths >= SHORTEST]
    residues = [as_residues(text.as_py()) for text in strings_at(parts, "sequence", rows)]
    giants = [at for at in range(len(rows)) if is_giant(residues[at])]
    giants.sort(key=lambda at: (-len(residues[at]), rows[at]))
    if len(giants) < 2:
        return representative, Joined(len(giants), 0, 0)
    limits = Limits(coverage, 0, EVALUE)
    moves: dict[int, int] = {}
    pairs, total = 0, len(giants)
    with meter(f"proteins too long for MMseqs2 at {identity}", total=total, unit="clusters") as progress:
        while giants:
            first, *rest = giants
            found, aligned = align_all([residues[first]], [residues[at] for at in rest], limits, threads=threads)
            pairs += aligned
            similar = {rest[at] for at in found.target[found.identity >= identity].tolist()}
            moves |= {int(rows[at]): int(rows[first]) for at in similar}
            giants = [at for at in rest if at not in similar]
            progress.advance(1 + len(similar))
    joined = representative.copy()
    for row, target in moves.items():
        joined[representative == row] = target
    return joined, Joined(total, pairs, len(moves))
