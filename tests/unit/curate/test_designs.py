"""jackhmmer's two options that decide what is found: every target is scored (`--max`), and there is one iteration."""

import numpy as np
import pyhmmer
import pytest

from unirefine.curate.designs import find_designs, read_designs
from unirefine.errors import UserError

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
DESIGN = "MGDIQVQVNIDDNGKNFDYTYTVTTESELQKVLNELMDYIKKQGAKRVRISITARTKKEAEKFAAILIKVFAELGYNDINVTFDGDTVTVEGQLEGGSLEHHHHHH"
ALPHABET = pyhmmer.easel.Alphabet.amino()
MAX = {"bias_filter": False, "F1": 1.0, "F2": 1.0, "F3": 1.0}
SMALL = 2
"""Database size: E-values this small let a target through that is too weak for HMMER's filters, which are P-values."""


def mutated(sequence, identity, random):
    """A copy in which 1 - identity of the positions differ."""
    letters = list(sequence)
    for place in random.permutation(len(letters))[round(identity * len(letters)) :]:
        letters[place] = random.choice([letter for letter in LETTERS if letter != letters[place]])
    return "".join(letters)


def digital(name, sequence):
    return pyhmmer.easel.TextSequence(name=name, sequence=sequence).digitize(ALPHABET)


def ours(targets, evalue):
    return set(find_designs([digital("d", DESIGN)], targets, database_size=SMALL, evalue=evalue, threads=1))


def hmmer(targets, evalue, *, iterations=1, **filters):
    """What pyhmmer finds with other options: target positions."""
    block = pyhmmer.easel.DigitalSequenceBlock(ALPHABET, [digital(str(i), one) for i, one in enumerate(targets)])
    query = [digital("d", DESIGN)]
    (found,) = pyhmmer.hmmer.jackhmmer(query, block, max_iterations=iterations, cpus=1, Z=SMALL, E=evalue, **filters)
    return {int(hit.name) for hit in found.hits.reported}


@pytest.fixture(scope="module")
def distant():
    """100 targets at 22% identity."""
    random = np.random.default_rng(0)
    return [mutated(DESIGN, 0.22, random) for _ in range(100)]


def test_finds_targets_that_the_default_filters_lose(distant):
    found = ours(distant, evalue=1e-3)
    assert found == hmmer(distant, 1e-3, **MAX)
    assert len(found - hmmer(distant, 1e-3)) > 5


@pytest.mark.parametrize(("name", "default"), [("F1", 0.02), ("F2", 1e-3), ("F3", 1e-5)])
def test_each_filter_is_off(distant, name, default):
    assert hmmer(distant, 2.0, **MAX | {name: default}) < ours(distant, evalue=2.0)


def test_one_iteration_does_not_go_on_from_what_it_found():
    """A relative of the design, and relatives of that relative, which only a profile of both would find."""
    random = np.random.default_rng(0)
    bridge = mutated(DESIGN, 0.4, random)
    targets = [bridge, *(mutated(bridge, 0.35, random) for _ in range(10))]
    found = ours(targets, evalue=1e-3)
    assert 0 in found
    assert len(hmmer(targets, 1e-3, iterations=2, **MAX) - found) > 5


def test_designs_are_read_with_their_names(tmp_path):
    path = tmp_path / "designs.fasta"
    path.write_text(f">6MRS a design\n{DESIGN[:50]}\n{DESIGN[50:].lower()}\n>again\nMKX\n")
    first, second = read_designs(path)
    assert (first.textize().sequence.upper(), second.textize().sequence) == (DESIGN, "MKX")
    assert [as_text(design.name) for design in (first, second)] == ["6MRS", "again"]


def as_text(name):
    return name.decode() if isinstance(name, bytes) else name


@pytest.mark.parametrize("content", [None, "", ">one\nMK-V\n", ">one\n>two\nMKV\n", "MKV\n"])
def test_a_file_that_is_no_fasta_of_designs_is_one_line(tmp_path, content):
    path = tmp_path / "designs.fasta"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"designs\.fasta.*; check curate\.designs") as caught:
        read_designs(path)
    assert "\n" not in str(caught.value)
