"""The exact alignment of one pair, beside Biopython's aligner and parasail's published example of MMseqs2's statistics."""

import math

import numpy as np
import pytest
from Bio.Align import PairwiseAligner, substitution_matrices

from unirefine.core.smith_waterman import Alignment, align, as_residues, bits, evalue, lowest_score, self_score

LETTERS = np.frombuffer(b"LAGVSERTIDPKQNFYMHWC", np.uint8)


def relatives(random):
    """Two proteins with substitutions, insertions and deletions, of 20 to 150 residues."""
    first = random.choice(LETTERS, int(random.integers(20, 150)))
    identity, second = random.uniform(0.2, 1), []
    for letter in first:
        kind = random.random()
        if kind > 0.04:
            second.append(letter if random.random() < identity else random.choice(LETTERS))
        elif kind > 0.02:
            second += random.choice(LETTERS, int(random.integers(1, 6))).tolist()
    return first.tobytes(), bytes([*random.choice(LETTERS, int(random.integers(1, 40))).tolist(), *map(int, second)])


def oracle(query, target):
    """Biopython's best score, its alignments of that score, as (identical, columns, query coverage, target coverage)."""
    aligner = PairwiseAligner(mode="local", open_gap_score=-11, extend_gap_score=-1)
    aligner.substitution_matrix = substitution_matrices.load("BLOSUM62")
    found = set()
    alignments = aligner.align(query.decode(), target.decode())
    for alignment, _ in zip(alignments, range(300), strict=False):
        first, second = alignment.indices
        spans = [int(row[row >= 0][-1] - row[row >= 0][0] + 1) for row in (first, second)]
        counts = alignment.counts().identities, len(first)
        found.add((*counts, spans[0] / len(query), spans[1] / len(target)))
    return int(alignments.score), found


def test_alignments_are_among_the_best_of_biopython():
    random = np.random.default_rng(7)
    for _ in range(60):
        query, target = relatives(random)
        score, expected = oracle(query, target)
        found = align(query, target)
        assert found.score == score
        best = {(identical / columns, *rest) for identical, columns, *rest in expected}
        assert found[1:] in best, (query, target)
        most = max(identical for identical, *_ in expected)
        assert round(found.identity * 1e6) in {
            round(identical / columns * 1e6) for identical, columns, *_ in expected if identical == most
        }


def test_a_pair_without_a_positive_score_has_no_alignment():
    assert align(b"WWW", b"PPP") == Alignment(0, 0.0, 0.0, 0.0)


def test_letters_are_read_as_mmseqs2_reads_them():
    assert as_residues("bzjuo*xwA") == b"DELXXXXWA"


@pytest.mark.parametrize("sequence", ["ACDEFGHIKLMNPQRSTVWY", "WXW", "MKBZJ"])
def test_no_alignment_scores_higher_than_a_sequence_with_itself(sequence):
    residues = as_residues(sequence)
    assert align(residues, residues).score <= self_score(residues)
    assert "X" in sequence or align(residues, residues).score == self_score(residues)


def test_the_lowest_score_is_the_first_whose_evalue_passes():
    for length, residues in ((30, 10_000), (300, 10**8), (35_000, 10**11)):
        score = lowest_score(length, residues, 1e-3)
        assert evalue(score, length, residues) <= 1e-3 < evalue(score - 1, length, residues)
    assert bits(100) == pytest.approx((0.2736 * 100 - math.log(0.04462)) / math.log(2), abs=0.01)
