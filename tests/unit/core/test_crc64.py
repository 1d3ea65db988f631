"""UniProt's CRC64 against Biopython's."""

import numpy as np
from Bio.SeqUtils.CheckSum import crc64 as biopython
from hypothesis import given, settings
from hypothesis import strategies as st

from unirefine.core.crc64 import crc64, crc64_hex


@settings(max_examples=200, deadline=None)
@given(st.text("ACDEFGHIKLMNPQRSTVWYXBZUOJ*", max_size=100))
def test_same_as_biopython(sequence):
    assert f"CRC-{crc64_hex(sequence)}" == biopython(sequence)


def test_a_checksum_that_uniprot_published():
    """Q6GZX4 (001R_FRG3G), 256 residues."""
    sequence = (
        "MAFSAEDVLKEYDRRRRMEALLLSLYYPNDRKLLDYKEWSPPRVQVECPKAPVEWNNPPS"
        "EKGLIVGHFSGIKYKGEKAQASEVDVNKMCCWVSKFKDAMRRYQGIQTCKIPGKVLSDLD"
        "AKIKAYNLTVEGVEGFVRYSRVTKQHVAAFLKELRHSKQYENVNLIHYILTDKRVDIQHL"
        "EKDLVKDFKALVESAHRMRQGHMINVKYILYQLLKKHGHGPDGPDILTVKTGSKGVLYDD"
        "SFRKIYTDLGWKFTPL"
    )
    assert len(sequence) == 256
    assert crc64_hex(sequence) == "B4840739BF7D4121"


def test_a_part_of_an_array():
    raw = np.frombuffer(b"xxMKVLAAGHWDExx", np.uint8)
    assert f"{crc64(raw, 2, 13):016X}" == crc64_hex(b"MKVLAAGHWDE")
    assert crc64(raw, 2, 2) == 0
