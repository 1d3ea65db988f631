"""Proteins so long that MMseqs2's alignment of two of them may be cut off.

MMseqs2 keeps scores in 16 bits. An alignment ends where its score reaches 32,767; what is reported covers a part of
both proteins, and the thresholds of coverage drop the pair without a word. No alignment scores higher than the lower of
the two self-scores, so only a pair of giants can be cut off. Such pairs are aligned by `exact` instead.
"""

from unirefine.core import smith_waterman

FULL_SCORE = (1 << 15) - 1
"""The score at which MMseqs2's alignment ends."""
_CORRECTION = 0.25
"""MMseqs2 also corrects a residue's score for the composition around it. That lowers most scores; of 400 proteins of
the demo it raised the score with itself by at most 0.04 a residue."""
SHORTEST = int(FULL_SCORE / (int(smith_waterman.HIGHEST.max()) + _CORRECTION))
"""No shorter protein is a giant: 2,912 residues, all of them tryptophan."""


def is_giant(residues: bytes) -> bool:
    """Whether an alignment with this protein may reach FULL_SCORE. residues: of `smith_waterman.as_residues`.

    True from some 5,800 residues on, by composition.
    """
    if len(residues) < SHORTEST:
        return False
    return smith_waterman.self_score(residues) + _CORRECTION * len(residues) >= FULL_SCORE
