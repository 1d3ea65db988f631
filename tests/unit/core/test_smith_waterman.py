"""The exact alignment of one pair, beside Biopython's aligner. Tests of decontaminate compare it with MMseqs2's."""

import math

import numpy as np
import pytest
from Bio.Align import PairwiseAligner, substitution_matrices

from unirefine.core.smith_waterman import (
    Alignment,
    align,
    as_residues,
    bits,
    corrections,
    evalue,
    lowest_score,
    self_score,
)

LETTERS_IN_ORDER = "ARNDCQEGHILKMFPSTWYV"
FREQUENCY = [0.074, 0.052, 0.045, 0.054, 0.025, 0.034, 0.054, 0.074, 0.026, 0.068, 0.099, 0.058, 0.025, 0.047, 0.039,
             0.057, 0.051, 0.013, 0.032, 0.073]  # fmt: skip
"""Of BLOSUM62, to three decimals as its output has them."""
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
    """Biopython's best score, and its alignments: (identical, columns, query coverage, target coverage)."""
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
        for most, choose in ((True, max), (False, min)):
            found = align(query, target, np.zeros(len(query), np.int64), most=most)
            assert found.score == score
            assert found[1:] in {(identical / columns, *rest) for identical, columns, *rest in expected}
            count = choose(identical for identical, *_ in expected)
            assert found.identity in {identical / columns for identical, columns, *_ in expected if identical == count}


def test_a_pair_without_a_positive_score_has_no_alignment():
    assert align(b"WWW", b"PPP") == Alignment(0, 0.0, 0.0, 0.0)


def test_letters_are_read_as_mmseqs2_reads_them():
    assert as_residues("bzjuo*xwA") == b"DELXXXXWA"


@pytest.mark.parametrize("sequence", ["ACDEFGHIKLMNPQRSTVWY", "WXW", "MKBZJ"])
def test_no_alignment_scores_higher_than_a_sequence_with_itself(sequence):
    residues = as_residues(sequence)
    score = align(residues, residues, np.zeros(len(residues), np.int64)).score
    assert score <= self_score(residues)
    assert "X" in sequence or score == self_score(residues)


def test_corrections_are_the_mean_score_with_a_random_residue_less_that_with_those_around():
    """By the definition, one residue at a time."""
    query = as_residues("W" * 30 + "ACDEFGHIKLMNPQRSTVWY" * 4 + "DDDDX")
    matrix = substitution_matrices.load("BLOSUM62")
    frequency = dict(zip(LETTERS_IN_ORDER, FREQUENCY, strict=True))
    text, found = query.decode(), corrections(query).tolist()
    for at in range(len(text) - 5):
        around = [other for other in text[max(0, at - 20) : at + 20] if other != "X"]
        mean = (sum(matrix[text[at]][other] for other in around) - matrix[text[at]][text[at]]) / len(around)
        by_chance = sum(frequency[other] * matrix[text[at]][other] for other in LETTERS_IN_ORDER)
        if "X" not in text[max(0, at - 20) : at + 20]:
            assert found[at] == math.floor(by_chance - mean + 0.5) or abs((by_chance - mean) % 1 - 0.5) < 1e-6
    assert min(found[:10]) < -9  # tryptophan among its like


def test_of_a_composition_that_is_its_own_less_is_similar():
    query = b"WCWCWCWC" * 6
    plain = align(query, query, np.zeros(len(query), np.int64)).score
    assert align(query, query).score < 0.7 * plain


def test_the_lowest_score_is_the_first_whose_evalue_passes():
    for length, residues in ((30, 10_000), (300, 10**8), (35_000, 10**11)):
        score = lowest_score(length, residues, 1e-3)
        assert evalue(score, length, residues) <= 1e-3 < evalue(score - 1, length, residues)
    assert bits(100) == pytest.approx((0.2736 * 100 - math.log(0.04462)) / math.log(2), abs=0.01)
