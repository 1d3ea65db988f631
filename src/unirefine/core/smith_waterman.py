"""One exact local alignment of two proteins, and its E-value: MMseqs2's definitions without its program and its limits.

The scores are BLOSUM62, gaps cost 11 and 1. To the score of each residue of the query a correction is added for the
composition around it, so that stretches of a few kinds of residues do not make proteins similar. The E-value is that of
ALP (Gumbel parameters with the finite-size correction).
"""

import math
from typing import NamedTuple

import numba
import numpy as np
from scoring_matrices import ScoringMatrix

LETTERS = "ACDEFGHIKLMNPQRSTVWYX"
GAP_OPEN, GAP_EXTEND = 11, 1
"""What the first and each further residue of a gap cost."""
_SAME_AS = {"B": "D", "Z": "E", "J": "L"}  # as MMseqs2 reads them; U, O and * are X
_TO_LETTER = bytes(
    ord(letter if letter in LETTERS else _SAME_AS.get(letter, "X")) for letter in (chr(at).upper() for at in range(256))
)
_TO_CODE = np.zeros(256, np.uint8)
_TO_CODE[list(LETTERS.encode())] = range(len(LETTERS))
SCORES = np.full((len(LETTERS), len(LETTERS)), -1, np.int64)  # of X
SCORES[:-1, :-1] = [[ScoringMatrix.from_name("BLOSUM62")[a, b] for b in LETTERS[:-1]] for a in LETTERS[:-1]]
HIGHEST = SCORES.max(axis=1)
"""The highest score of each letter: that of a residue with itself."""
_FREQUENCY = np.array(
    [0.07422, 0.02469, 0.05363, 0.05431, 0.04742, 0.07415, 0.02621, 0.06792, 0.05815, 0.09891, 0.02499, 0.04465,
     0.03854, 0.03426, 0.05161, 0.05723, 0.05089, 0.07292, 0.01303, 0.03228, 0.0]
)  # fmt: skip
_EXPECTED = (SCORES @ _FREQUENCY).astype(np.float32)  # score of a letter with a random one
_AROUND = 20

# What an alignment is worth, in one integer: its score, then its identical residues (most or fewest), then few columns.
_SCORE, _IDENTICAL, _COLUMN = 1 << 40, 1 << 20, -1
_STEPS = {
    most: SCORES * _SCORE + np.eye(len(LETTERS), dtype=np.int64) * (_IDENTICAL if most else -_IDENTICAL) + _COLUMN
    for most in (True, False)
}
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
    counts = np.bincount(_encoded(residues), minlength=len(LETTERS))
    return int(counts @ HIGHEST)


def corrections(query: bytes) -> np.ndarray:
    """What is added to the scores of each residue of a query for the composition of the 40 around it: int64[n].

    It is the mean score with a random residue less the mean score with those around. query: of `as_residues`.
    """
    return _corrections(_encoded(query), SCORES, _EXPECTED)


def largest_gain(corrected: np.ndarray) -> int:
    """How much corrections may raise a score: their largest sum over a stretch of the query, negative ones by half.

    By half, because gaps can leave residues out: an alignment that leaves out more than half of what they take away may
    gain more. corrected: int64[n], of `corrections`.
    """
    sums = np.concatenate([[0.0], np.cumsum(np.where(corrected < 0, corrected / 2, corrected))])
    return math.ceil(float((sums - np.minimum.accumulate(sums)).max()))


def align(query: bytes, target: bytes, corrected: np.ndarray | None = None, *, most: bool = True) -> Alignment:
    """The best local alignment; of several with the best score the one with most identical residues, or with fewest.

    query, target: of `as_residues`, not empty, at most LONGEST residues. corrected: `corrections` of the query, to save
    time. Memory: 32 bytes a residue of the target.
    """
    assert max(len(query), len(target)) <= LONGEST
    added = corrections(query) if corrected is None else corrected
    gaps = (GAP_OPEN * _SCORE - _COLUMN, GAP_EXTEND * _SCORE - _COLUMN)
    found = _align(_encoded(query), _encoded(target), _STEPS[most], added * _SCORE, *gaps)
    worth, first, last, target_first, target_last = found
    if worth == 0:
        return Alignment(0, 0.0, 0.0, 0.0)
    columns = -worth % _IDENTICAL
    score = (worth + _HALF) // _SCORE
    identical = abs((worth + columns - score * _SCORE) // _IDENTICAL)
    spans = (last - first + 1) / len(query), (target_last - target_first + 1) / len(target)
    return Alignment(score, identical / columns, *spans)


def _encoded(residues: bytes) -> np.ndarray:
    return _TO_CODE[np.frombuffer(residues, np.uint8)]


@numba.njit(nogil=True, cache=True)
def _corrections(query, scores, expected):
    around = np.zeros(len(scores), np.int64)  # letters in the window
    out = np.empty(len(query), np.int64)
    for letter in query[:_AROUND]:
        around[letter] += 1
    for i in range(len(query)):
        if i > _AROUND:
            around[query[i - _AROUND - 1]] -= 1
        if i and i + _AROUND - 1 < len(query):
            around[query[i + _AROUND - 1]] += 1
        total = np.float32((scores[query[i]] * around).sum() - scores[query[i], query[i]])
        value = expected[query[i]] - total / np.float32(around.sum())
        out[i] = int(value - 0.5) if value < 0 else int(value + 0.5)
    return out


@numba.njit(nogil=True, cache=True)
def _align(query, target, steps, added, gap_open, gap_extend):
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
        row = steps[query[i]] + added[i]
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
