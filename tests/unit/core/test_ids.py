"""Ids as 64-bit keys: lossless where it is promised, pinned, and the same one by one, in bulk and compiled."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unirefine.core.ids import ACCESSION, OTHER, UPI, id_of, key_of, keys_of

# UniProt's published pattern of an accession
accessions = st.from_regex(
    r"[OPQ][0-9][A-Z0-9]{3}[0-9]|[A-NR-Z][0-9]([A-Z][A-Z0-9]{2}[0-9]){1,2}", fullmatch=True
).filter(str.isascii)
isoforms = st.builds("{}-{}".format, accessions, st.integers(1, 511))
upis = st.from_regex(r"UPI[0-9A-F]{10}", fullmatch=True).filter(str.isascii)
uniprot = accessions | isoforms | upis


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("P12345", 0x180FB0BE2A5ABC00),
        ("P10636-7", 0x180F5BE22CA77607),
        ("A0A009IHW8", 0x0A30AECA66FF4C00),
        ("UPI002E2621C6", 0x400000002E2621C6),
        ("UPI0000000000", 0x4000000000000000),
        ("my_protein|1", 0x8A5B8C799743835E),
    ],
)
def test_golden_keys(name, key):
    assert key_of(name) == key


@settings(max_examples=500)
@given(uniprot)
def test_uniprot_ids_come_back(name):
    key = key_of(name)
    assert id_of(key) == name
    assert key >> 62 == (UPI if name.startswith("UPI") else ACCESSION)


@given(st.lists(uniprot, unique=True, max_size=50))
def test_keys_of_accessions_order_as_their_strings(names):
    plain = sorted(name for name in names if "-" not in name and len(name) == 6)
    assert sorted(plain, key=key_of) == plain
    assert len({key_of(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    "name",
    ["", "P1234", "P12345-", "P12345-0", "P12345-01", "P12345-512", "P12345-1000", "P12345-1x", "p12345", "P12345 ",
     "A0A009IHW", "A0A009IHW8X", "UPI002E2621CG", "UPI002e2621c6", "UPI002E2621C", "sp|P12345|X", "Pé2345"],
)  # fmt: skip
def test_any_other_id_is_hashed_and_cannot_come_back(name):
    key = key_of(name)
    assert key >> 62 == OTHER
    with pytest.raises(ValueError, match="is a hash"):
        id_of(key)


def test_similar_other_ids_have_different_keys():
    names = [f"protein_{i}" for i in range(200_000)]
    raw = np.frombuffer("".join(names).encode(), np.uint8)
    offsets = np.concatenate([[0], np.cumsum([len(name) for name in names])])
    assert len(np.unique(keys_of(raw, offsets))) == len(names)


@given(st.lists(uniprot | st.text(max_size=12), max_size=30))
def test_in_bulk_as_one_by_one(names):
    encoded = [name.encode() for name in names]
    offsets = np.concatenate([[0], np.cumsum([len(name) for name in encoded])]).astype(np.int32)
    raw = np.frombuffer(b"".join(encoded), np.uint8)
    assert keys_of(raw, offsets).tolist() == [key_of(name) for name in names]
    assert keys_of(raw, offsets).dtype == np.uint64
