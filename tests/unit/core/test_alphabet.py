"""The alphabet is fair-esm's, and bytes map to its tokens."""

import esm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unirefine.core.alphabet import (
    AMINO_ACIDS,
    BYTE_TO_TOKEN,
    CLS,
    EOS,
    FIRST_AMINO_ACID,
    LAST_AMINO_ACID,
    MASK,
    PAD,
    TOKEN_TO_BYTE,
    TOKENS,
    UNK,
    decode,
    encode,
)

THEIRS = esm.data.Alphabet.from_architecture("ESM-1b")


def test_same_tokens_as_fair_esm():
    assert list(TOKENS) == THEIRS.all_toks
    special = [THEIRS.cls_idx, THEIRS.padding_idx, THEIRS.eos_idx, THEIRS.unk_idx, THEIRS.mask_idx]
    assert special == [CLS, PAD, EOS, UNK, MASK]


@given(st.text("ACDEFGHIKLMNPQRSTVWYXBZUOJ*.-", max_size=60))
def test_same_encoding_as_fair_esm(sequence):
    assert encode(sequence).tolist() == [THEIRS.get_idx(letter) for letter in sequence]
    assert encode(sequence.lower()).tolist() == encode(sequence.encode()).tolist() == encode(sequence).tolist()


@given(st.text("ACDEFGHIKLMNPQRSTVWYXBZUO.-", max_size=60))
def test_letters_with_a_token_come_back(sequence):
    assert decode(encode(sequence)) == sequence


def test_what_has_no_token_is_unknown_and_shown_as_such():
    assert encode("J*\x00 1").tolist() == [UNK] * 5
    assert decode(np.array([UNK, CLS, MASK, 4], np.uint8)) == "???L"


def test_the_amino_acids_are_one_run_of_ids():
    assert sorted(AMINO_ACIDS) == sorted("ACDEFGHIKLMNPQRSTVWY")
    assert encode("".join(AMINO_ACIDS)).tolist() == list(range(FIRST_AMINO_ACID, LAST_AMINO_ACID + 1))


@pytest.mark.parametrize("table", [BYTE_TO_TOKEN, TOKEN_TO_BYTE])
def test_the_tables_are_bytes_and_cannot_be_changed(table):
    assert table.dtype == np.uint8
    with pytest.raises(ValueError, match="read-only"):
        table[0] = 1
