import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unirefine.curate.letters import count_letters


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@settings(deadline=None)
@given(sequences=st.lists(st.text("ACDXBZUOJ*x.j", max_size=30), max_size=12), start=st.integers(0, 3))
def test_counts_agree_with_str_count_on_slices_too(kind, sequences, start):
    totals = np.zeros(256, np.int64)
    unknown, tokenless = count_letters(pa.array(sequences, kind).slice(start), totals)
    sequences = sequences[start:]
    assert tokenless.tolist() == [sum(sequence.count(letter) for letter in "Jj*") for sequence in sequences]
    assert unknown.tolist() == [sum(sequence.count(letter) for letter in "XxJj*") for sequence in sequences]
    whole = "".join(sequences)
    assert {chr(byte): int(totals[byte]) for byte in np.flatnonzero(totals)} == {x: whole.count(x) for x in set(whole)}
