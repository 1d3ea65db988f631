"""All pairs: what is aligned by length, what passes, and scores beyond the 16 bits of MMseqs2."""

import numpy as np
import pytest

from unirefine.core.exact import Limits, align_all, is_covered, length_window
from unirefine.core.giants import FULL_SCORE, SHORTEST, is_giant
from unirefine.core.smith_waterman import align, evalue, self_score

LETTERS = np.frombuffer(b"LAGVSERTIDPKQNFYMHWC", np.uint8)


def random_protein(random, length, letters=LETTERS):
    return random.choice(letters, length).tobytes()


def mutated(random, sequence, identity):
    raw = np.frombuffer(sequence, np.uint8).copy()
    places = random.random(len(raw)) > identity
    raw[places] = random.choice(LETTERS, int(places.sum()))
    return raw.tobytes()


def allowed(query, target, coverage, mode):
    """Whether lengths allow the coverage, as MMseqs2's Util::canBeCovered defines it."""
    query, target, coverage = np.float32(query), np.float32(target), np.float32(coverage)
    target_long, query_long = target / query >= coverage, query / target >= coverage
    return bool(
        {
            0: target_long and query_long,
            1: query_long,
            2: target_long,
            3: target_long and target <= query,
            4: query_long and query <= target,
            5: min(query, target) / max(query, target) >= coverage,
        }[mode]
    )


@pytest.mark.parametrize("mode", range(6))
@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.95])
def test_the_window_holds_the_lengths_that_allow_the_coverage(mode, coverage):
    lengths = np.sort(np.random.default_rng(2).integers(1, 60, 80))
    for query in range(1, 80):
        first, end = length_window(query, lengths, Limits(coverage, mode, 1e-3))
        inside = [allowed(query, target, coverage, mode) for target in lengths]
        assert [first <= at < end for at in range(len(lengths))] == inside, query


@pytest.fixture(scope="module")
def proteins():
    random = np.random.default_rng(3)
    targets = [random_protein(random, int(length)) for length in random.integers(40, 160, 60)]
    queries = [mutated(random, targets[at], random.uniform(0.3, 0.9)) for at in range(25)]
    # of few kinds of residues, where the correction for composition matters
    few = [random_protein(random, 90, np.frombuffer(b"EKQLA", np.uint8)) for _ in range(6)]
    targets += few
    queries += [mutated(random, sequence, 0.7) for sequence in few]
    # a domain shared by longer proteins, and a part of one
    queries += [targets[30][:60] + random_protein(random, 100), targets[31][: len(targets[31]) // 2]]
    return queries, targets


@pytest.mark.parametrize("mode", [0, 1, 2, 5])
def test_every_pair_that_passes_is_found_and_no_other(proteins, mode):
    queries, targets = proteins
    limits, residues = Limits(0.8, mode, 1e-3), sum(map(len, targets))
    expected = {
        (at, to): found
        for at, query in enumerate(queries)
        for to, target in enumerate(targets)
        if allowed(len(query), len(target), 0.8, mode)
        and evalue((found := align(query, target)).score, len(query), residues) <= 1e-3
        and is_covered(found, limits)
    }
    pairs, aligned = align_all(queries, targets, limits)
    found = list(zip(pairs.query.tolist(), pairs.target.tolist(), strict=True))
    assert found == sorted(expected) and len(found) > 15
    assert pairs.identity.tolist() == [expected[pair].identity for pair in found]
    assert aligned == sum(allowed(len(q), len(t), 0.8, mode) for q in queries for t in targets)


def test_threads_and_slices_change_nothing(proteins, monkeypatch):
    queries, targets = proteins
    limits = Limits(0.8, 0, 1e-3)
    once, count = align_all(queries, targets, limits)
    monkeypatch.setattr("unirefine.core.exact._LANES", 7)
    again, same = align_all(queries, targets, limits, threads=3)
    assert count == same
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))


def test_nothing_to_align():
    for queries, targets in (([], [b"MK"]), ([b"MK"], []), ([b"MK"], [b"M" * 90])):
        pairs, aligned = align_all(queries, targets, Limits(0.8, 0, 1e-3))
        assert (len(pairs.query), aligned) == (0, 0)


def test_a_score_beyond_16_bits():
    random = np.random.default_rng(5)
    first = random_protein(random, 6500)
    second = mutated(random, first, 0.96)
    pairs, _ = align_all([first], [second], Limits(0.8, 0, 1e-3))
    same = np.mean(np.frombuffer(first, np.uint8) == np.frombuffer(second, np.uint8))
    assert pairs.identity[0] == pytest.approx(same, abs=0.01)
    assert min(pairs.query_coverage[0], pairs.target_coverage[0]) > 0.999
    assert align(first, second).score > FULL_SCORE
    assert is_giant(first) and is_giant(second)


def test_who_is_a_giant():
    assert not is_giant(b"W" * (SHORTEST - 1)) and is_giant(b"W" * (SHORTEST + 1))
    random = np.random.default_rng(1)
    first = next(length for length in range(4000, 7000, 50) if is_giant(random_protein(random, length)))
    assert 5400 < first < 6200
    assert self_score(random_protein(random, first)) < FULL_SCORE
