"""FASTA: against Biopython, and everything odd that a header or a sequence may contain."""

import io
import re
import time

import numpy as np
import pytest
from Bio.SeqIO.FastaIO import SimpleFastaParser
from hypothesis import given, settings
from hypothesis import strategies as st

from unirefine.core.ids import key_of
from unirefine.errors import UserError
from unirefine.records.columns import EMPTY, INVALID, OK
from unirefine.records.fasta import parse
from unirefine.records.stream import Block

LETTERS = "ACDEFGHIKLMNPQRSTVWYXBZUOJ"


def parsed(text: bytes | str, *, prefix: str = "UniRef50_", strict: bool = False, offset: int = 0):
    buffer = bytearray(text if isinstance(text, bytes) else text.encode("latin-1"))
    return parse(Block(np.frombuffer(buffer, np.uint8), buffer, offset, True, 0), prefix, strict=strict)


def row(header: str, **options) -> dict:
    found = parsed(f">{header}\nMKV\n", **options)
    assert found.status.tolist() == [OK]
    return found.records.to_pylist()[0]


@pytest.mark.parametrize(
    ("header", "count", "taxon", "representative"),
    [
        ("x n=1 Tax=Corticium candelabrum TaxID=121492 RepID=UPI002E2621C6", 1, 121492, "UPI002E2621C6"),
        ("x n=1 Tax=Frog virus 3 (isolate Goorha) (FV-3) RepID=001R_FRG3G", 1, None, "001R_FRG3G"),
        ("of n=7 Tax=a TaxID=5 RepID=B n=12 Tax=y TaxID=3 RepID=C_D", 12, 3, "C_D"),
        ("chain > of n=2 n=x [fragment] n=4 Tax=y z TaxID=3 RepID=C_D", 4, 3, "C_D"),
        ("x n=4 Tax=odd TaxID=name TaxID=3 RepID=C_D", 4, 3, "C_D"),
        ("x n=4 Tax=odd n=5 name TaxID=3 RepID=C_D", 4, 3, "C_D"),
        ("x n=4 Tax= TaxID=3 RepID=C_D", 4, 3, "C_D"),
        ("x n=4 TaxID=3 RepID=C_D", 4, 3, "C_D"),
        ("x n=4", 4, None, None),
        ("x Tax=y TaxID=3 RepID=C_D  ", None, 3, "C_D"),
        ("x n=4 Tax=y TaxID=99999999999 RepID=C D", 4, None, None),
        ("", None, None, None),
        ("n=4 Tax=y TaxID=2147483647 RepID=C_D", 4, 2147483647, "C_D"),
    ],
)
def test_header_fields_are_read_from_the_right(header, count, taxon, representative):
    found = row(f"UniRef50_P10636-7 {header}")
    assert (found["member_count"], found["taxon_id"], found["representative"]) == (count, taxon, representative)
    assert (found["id"], found["key"]) == ("UniRef50_P10636-7", key_of("P10636-7"))
    assert found["rep_taxon_id"] is None and found["length"] == 3


@pytest.mark.parametrize("name", ["tr|W0FSK4|W0FSK4_9FLAV", "P12345", "my_protein.1", "UniRef_x", "UniRef50"])
def test_own_ids_are_taken_whole_and_their_headers_are_free_text(name):
    found = row(f"{name}\tx n=4 Tax=y TaxID=3 RepID=C")
    assert (found["id"], found["key"]) == (name, key_of(name))
    assert found["member_count"] is found["taxon_id"] is found["representative"] is None


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text("ABCxyz019_|.-", min_size=1, max_size=12),
            st.text(">n= TaxID\t[](),x\xe9", max_size=30),
            st.text(LETTERS + LETTERS.lower(), min_size=1, max_size=300),
            st.sampled_from([1, 7, 59, 60, 61, 80, 1000]),
        ),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.integers(0, 2),
)
def test_same_ids_and_sequences_as_biopython(entries, newline, final, blank):
    text = newline * blank
    for name, description, sequence, width in entries:
        lines = [sequence[i : i + width] for i in range(0, len(sequence), width)]
        text += newline.join([f">{name} {description}", *lines, *[""] * blank]) + newline
    text = text if final else text.rstrip("\r\n")
    found = parsed(text)
    universal = io.StringIO(text, newline=None)
    expected = [(title.split()[0], sequence.upper()) for title, sequence in SimpleFastaParser(universal)]
    assert [(r["id"], r["sequence"]) for r in found.records.to_pylist()] == expected
    assert [r["length"] for r in found.records.to_pylist()] == [len(sequence) for _name, sequence in expected]
    assert found.begin.tolist() == [match.start() for match in re.finditer(r"^>", text, re.MULTILINE)]
    found.records.validate(full=True)


def test_lower_case_stops_and_line_ends_are_put_right_and_counted():
    found = parsed(">a\nmkV\r\nAC*\n>b\nMK*V\n>c\r\nMKV**\n>d\nMKV")
    assert [r["sequence"] for r in found.records.to_pylist()] == ["MKVAC", "MK*V", "MKV", "MKV"]
    assert found.stats.tolist() == [1, 1, 2, 2, 0, 0, 0, 15]


@pytest.mark.parametrize(
    ("sequence", "status", "at"),
    [
        ("", EMPTY, 0),
        ("*", EMPTY, 0),
        ("\n\n", EMPTY, 0),
        ("MK-V", INVALID, 5),
        ("MK V", INVALID, 5),
        ("M\x00K", INVALID, 4),
        ("MKV\nM\xe9\n", INVALID, 8),
        ("M\rK", INVALID, 4),
        ("MK1", INVALID, 5),
        ("A" * 60 + "\n" + "A" * 59 + "@", INVALID, 123),
    ],
)
def test_bad_sequences_are_marked_where_they_go_wrong(sequence, status, at):
    found = parsed(f">x\n{sequence}\n>y\nMKV\n", offset=1000)
    assert found.status.tolist() == [status, OK]
    assert int(found.detail[0, 0]) == at
    assert found.begin.tolist() == [1000, 1000 + 3 + len(sequence) + 1]
    assert [r["sequence"] for r in found.records.to_pylist()] == ["", "MKV"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("UniRef90_P12345", "UniRef90_P12345 at byte 5 (decompressed) in uniref50 input"),
        ("UniRef100_P12345", "UniRef100_P12345 at byte 5 (decompressed) in uniref50 input"),
        ("P12345", "'P12345' at byte 5 (decompressed) does not begin with UniRef50_"),
        ("UniRef50_", "no usable id at byte 5"),
        ("", "no usable id at byte 5"),
        (" x", "no usable id at byte 5"),
        ("UniRef50_\xe9", "no usable id at byte 5"),
    ],
)
def test_an_id_that_cannot_be_is_an_error_whatever_the_policy(stage, name, problem):
    first = b">UniRef50_A0A009IHW8\nMKV\n"
    data = first + f">{name} n=1 Tax=x TaxID=1 RepID=y\nMKV\n".encode("latin-1")
    problem = problem.replace("byte 5", f"byte {len(first)}")
    with pytest.raises(UserError, match=re.escape(problem)):
        stage.run(data, bad_entries="remove")
    assert not list(stage.output.rglob("*.*"))


@pytest.mark.parametrize("text", [b"\n" * 800_000, b"A\n" * 400_000], ids=["empty", "one"])
def test_short_lines_after_a_long_one_take_no_longer(text):
    """The width of the last line is tried for the next: it must not cost that much for each of them."""
    parsed(">a\nMKV\n")  # compiled before the clock starts
    began = time.process_time()
    found = parsed(b">a\n" + b"M" * 200_000 + b"\n" + text)
    assert time.process_time() - began < 1
    assert found.records.column("sequence")[0].as_py() == "M" * 200_000 + text.replace(b"\n", b"").decode()
