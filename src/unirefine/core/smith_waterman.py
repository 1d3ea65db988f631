"""One exact local alignment of two proteins, and its E-value: independent of MMseqs2, without limits on score or length.

Scores are BLOSUM62 with gaps of 11 and 1, as in MMseqs2. What MMseqs2 adds and this does not is its correction for the
composition around each residue. The E-value is its formula (ALP: Gumbel parameters with the finite-size correction).
"""

import math
from typing import NamedTuple

import numba
import numpy as np
from scoring_matrices import ScoringMatrix

MATRIX = ScoringMatrix.from_name("BLOSUM62")
GAP_OPEN, GAP_EXTEND = 11, 1
"""What the first and each further residue of a gap cost."""
_LETTERS = MATRIX.alphabet
_SCORES = np.array([list(row) for row in MATRIX], np.int64)
_SAME_AS = {"B": "D", "Z": "E", "J": "L"}  # as MMseqs2 reads them; U, O and * are X
_KNOWN = "ACDEFGHIKLMNPQRSTVWY"
_TO_LETTER = bytes(
    ord(_SAME_AS.get(chr(byte).upper(), chr(byte).upper() if chr(byte).upper() in _KNOWN else "X"))
    for byte in range(256)
)
_TO_CODE = np.zeros(256, np.uint8)
_TO_CODE[list(_LETTERS.encode())] = range(len(_LETTERS))
HIGHEST = _SCORES.max(axis=1)
"""The highest score of each letter: that of a residue with itself."""

# What an alignment is worth, in one integer: its score, then its identical residues, then the fewest columns.
_SCORE, _IDENTICAL, _COLUMN = 1 << 40, 1 << 20, -1
_STEPS = _SCORES * _SCORE + np.eye(len(_LETTERS), dtype=np.int64) * _IDENTICAL + _COLUMN
_HALF = _SCORE >> 1  # more than identical residues and columns can make up, less than a score of 1
_LOW = -(1 << 60)
LONGEST = (1 << 18) - 1
"""Residues of the longest protein that can be aligned."""

# Of MMseqs2's matrix with gaps of 11 and 1.
_LAMBDA, _K = 0.27359865037097330642, 0.044620920658722244834
_A, _B = 1.5938724404943873658, -19.959867650284412122
_ALPHA, _BETA = 30.455610143099914211, -622.28684628915891608
_SIGMA, _TAU = 29.602444874818868215, -601.81087985041381216


class Alignment(NamedTuple):
    """The best local alignment of two proteins."""

    score: int
    identity: float
    """Identical residues of all columns, gaps included."""
    query_coverage: float
    target_coverage: float


def as_residues(sequence: str | bytes) -> bytes:
    """A sequence in the letters that are aligned: the 20 amino acids and X."""
    return (sequence.encode() if isinstance(sequence, str) else sequence).translate(_TO_LETTER)


def self_score(residues: bytes) -> int:
    """The score of a sequence with itself: no alignment with it has a higher one. residues: of `as_residues`."""
    counts = np.bincount(_encoded(residues), minlength=len(_LETTERS))
    return int(counts @ HIGHEST)


def align(query: bytes, target: bytes) -> Alignment:
    """The best local alignment; of several with the best score the one with most identical residues.

    query, target: of `as_residues`, not empty, at most LONGEST residues. Memory: 32 bytes a residue of the target.
    """
    assert max(len(query), len(target)) <= LONGEST
    gaps = (GAP_OPEN * _SCORE - _COLUMN, GAP_EXTEND * _SCORE - _COLUMN)
    worth, first, last, target_first, target_last = _align(_encoded(query), _encoded(target), _STEPS, *gaps)
    if worth == 0:
        return Alignment(0, 0.0, 0.0, 0.0)
    columns = -worth % _IDENTICAL
    score, identical = divmod((worth + columns) // _IDENTICAL, _SCORE // _IDENTICAL)
    spans = (last - first + 1) / len(query), (target_last - target_first + 1) / len(target)
    return Alignment(score, identical / columns, *spans)


def _encoded(residues: bytes) -> np.ndarray:
    return _TO_CODE[np.frombuffer(residues, np.uint8)]


@numba.njit(nogil=True, cache=True)
def _align(query, target, steps, gap_open, gap_extend):
    """(worth of the best alignment, first and last residue of the query, first and last of the target).

    One row of the matrix of Gotoh's algorithm is kept; beside each worth goes where its alignment began.
    """
    width, half = len(target), np.int64(_HALF)
    best = np.zeros(width + 1, np.int64)
    best_start = np.zeros(width + 1, np.int64)
    down = np.full(width + 1, _LOW, np.int64)  # ends with a gap in the target
    down_start = np.zeros(width + 1, np.int64)
    top, top_start, top_i, top_j = np.int64(0), np.int64(0), 0, 0
    for i in range(len(query)):
        row = steps[query[i]]
        diagonal, diagonal_start = np.int64(0), np.int64(0)
        left, left_start = np.int64(0), np.int64(0)
        right, right_start = np.int64(_LOW), np.int64(0)  # ends with a gap in the query
        for j in range(1, width + 1):
            opened, extended = best[j] - gap_open, down[j] - gap_extend
            below, below_start = (opened, best_start[j]) if opened > extended else (extended, down_start[j])
            down[j], down_start[j] = below, below_start
            opened, extended = left - gap_open, right - gap_extend
            right, right_start = (opened, left_start) if opened > extended else (extended, right_start)
            left = diagonal + row[target[j - 1]]
            left_start = diagonal_start if diagonal > 0 else (np.int64(i) << 32) | np.int64(j - 1)
            left, left_start = (below, below_start) if below > left else (left, left_start)
            left, left_start = (right, right_start) if right > left else (left, left_start)
            left = left if left > half else np.int64(0)  # an alignment of score 0 is none
            diagonal, diagonal_start = best[j], best_start[j]
            best[j], best_start[j] = left, left_start
            if left > top + half:  # a higher score, not only more identical residues
                top, top_start, top_i, top_j = left, left_start, i, j - 1
    return top, top_start >> 32, top_i, top_start & 0xFFFFFFFF, top_j


def bits(score: float) -> float:
    """The score in bits."""
    return (_LAMBDA * score - math.log(_K)) / math.log(2)


def evalue(score: float, length: int, residues: int) -> float:
    """How many alignments of this score a query of `length` residues has by chance with a database of `residues`."""
    along_query = _expected_rest(length, score)
    along_database = _expected_rest(residues, score)
    both_fit = along_query[1] * along_database[1]
    area = along_query[0] * along_database[0] + max(_SIGMA * score + _TAU, 2 * _SIGMA / _LAMBDA) * both_fit
    return area * _K * math.exp(-_LAMBDA * score)


def _expected_rest(length: int, score: float) -> tuple[float, float]:
    """Expected number of residues at which an alignment of this score can begin, and the chance that it fits at all.

    The length of such an alignment is normal with mean _A x score + _B and variance _ALPHA x score + _BETA.
    """
    rest = length - (_A * score + _B)
    deviation = math.sqrt(max(_ALPHA * score + _BETA, 2 * _ALPHA / _LAMBDA))
    chance = 0.5 * math.erfc(-rest / deviation / math.sqrt(2))
    return rest * chance + deviation * math.exp(-0.5 * (rest / deviation) ** 2) / math.sqrt(2 * math.pi), chance


def lowest_score(length: int, residues: int, limit: float) -> int:
    """The lowest score whose E-value is at most `limit`."""
    low, high = 0, 1
    while evalue(high, length, residues) > limit:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if evalue(middle, length, residues) <= limit else (middle, high)
    return high
