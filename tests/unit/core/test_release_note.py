"""Release notes: what they state, and what takes an expression long."""

import time

import pytest

from unirefine.core.release_note import ReleaseNote, read_note
from unirefine.errors import UserError

NOTES = {
    "UniRef50 Release 2026_03 consists of 38,840,027 clusters.": ReleaseNote("2026_03", 38_840_027),
    "Release: 2024_03\nUniRef50\nNumber of clusters: 65,672,139\n": ReleaseNote("2024_03", 65_672_139),
    "number of entries 12. 7 files": ReleaseNote(None, 127),
    "UniRef50: 120 entries": ReleaseNote(None, 120),
}


@pytest.mark.parametrize("text", NOTES)
def test_what_a_note_states(text, tmp_path):
    (tmp_path / "note").write_text(text)
    assert read_note(tmp_path / "note", "uniref50") == NOTES[text]


HOSTILE = {
    "blanks": "Number of clusters" + " " * 200_000,
    "blanks and signs": "Number of clusters: " * 10_000 + " " * 100_000,
    "digits": "1" * 200_000,
    "numbers": "1 " * 100_000,
    "digits and blanks": ("1" * 100 + " " * 100) * 1000,
    "a number of 5,000 digits": "9" * 5000 + " clusters",
    "numbers in other digits": "\N{ARABIC-INDIC DIGIT FIVE} clusters",
    "far too long": "x" * (5 << 20) + " 5 clusters",
    "releases": "Release" * 50_000 + " " * 50_000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_note_is_one_line_soon(kind, tmp_path):
    (tmp_path / "note").write_text(HOSTILE[kind])
    began = time.process_time()
    with pytest.raises(UserError, match="note: states no number of clusters"):
        read_note(tmp_path / "note", "uniref50")
    assert time.process_time() - began < 0.5
