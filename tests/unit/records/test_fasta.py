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
from unirefine.records import stream
from unirefine.records.columns import EMPTY, INNER_HEADER, INVALID, LONE_RETURN, OK
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
        ("M\rK", LONE_RETURN, 4),
        ("M-V\rK", LONE_RETURN, 6),
        ("M-V>z\nK", INNER_HEADER, 6),
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
        ("UniRef90_P12345", "UniRef90 ids in uniref50 input: UniRef90_P12345 (line 3); give the file of this --level"),
        ("UniRef100_P12345", "UniRef100 ids: UniRef100_P12345 (line 3); there is no such level here"),
        ("P12345", "an id that does not begin with UniRef50_: P12345 (line 3); your own FASTA is for --level uniref90"),
        ("UniRef50_", "no id after UniRef50_: UniRef50_ (line 3)"),
        ("", "a space after `>`: n=1 Tax=x TaxID=1 RepID=y (line 3); remove it"),
        (" x", "a space after `>`: x n=1 Tax=x TaxID=1 RepID=y (line 3); remove it"),
        ("UniRef50_\xe9", "an id with other characters than visible ASCII letters: UniRef50_"),
    ],
)
def test_an_id_that_cannot_be_is_an_error_whatever_the_policy(stage, name, problem):
    first = b">UniRef50_A0A009IHW8\nMKV\n"
    data = first + f">{name} n=1 Tax=x TaxID=1 RepID=y\nMKV\n".encode("latin-1")
    with pytest.raises(UserError, match=re.escape(f"input:3: {problem}")):
        stage.run(data, bad_entries="remove")
    assert not list(stage.output.rglob("*.*"))


LETTERS_ONLY = "ACDEFGHIKLMNPQRSTVWY" * 3


@pytest.mark.parametrize("at", [0, 1, 5])
@pytest.mark.parametrize(
    ("bad", "line", "what"),
    [
        (">m1 x\rMKV\r>m2\rMKL\n", 0, "a carriage return without a line feed"),
        (">a x\rMKV\nMKL\n", 0, "a carriage return without a line feed"),
        (">a\nMKV\nM-V\r>b\rMKL\n", 2, "a carriage return without a line feed"),
        (">a\r\nMKV\r\nMKL\r\r\n", 2, "a carriage return without a line feed"),
        (">a\n\rMKV\n", 1, "a carriage return without a line feed"),
        (">a\nMKV>b x\nMKL\n", 1, "`>` inside a line"),
        (">a\nM-V\n >b x\nMKL\n", 2, "white space before `>`"),
        (">a\nMKV\n\ufeff>b x\nMKL\n", 2, "a byte order mark before `>`"),
    ],
)
def test_a_missing_line_end_is_an_error_whatever_the_policy(stage, monkeypatch, at, bad, line, what):
    """Other entries hide in such a one: to remove it would lose them without a word. At any block boundary."""
    good = [f">g{i}\n{LETTERS_ONLY}\n" for i in range(6)]
    data = "".join([*good[:at], bad, *good[at:]]).encode()
    for size in (50, 64, 100, 2 << 20):
        monkeypatch.setattr(stream, "BLOCK_BYTES", size)
        with pytest.raises(UserError, match=re.escape(f"input:{2 * at + 1 + line}: {what}")):
            stage.run(data, "uniref90", bad_entries="remove")
    assert not list(stage.output.rglob("*.*"))


def test_a_carriage_return_that_ends_the_file_is_alone(stage):
    with pytest.raises(UserError, match=r"input:2: a carriage return .* Macs: a \(line 2\); convert"):
        stage.run(f">a\n{LETTERS_ONLY}\r".encode(), "uniref90")


def test_the_mark_of_an_editor_is_skipped(stage):
    built = stage.run(b"\xef\xbb\xbf\r\n>a\r\nMKV\r\n>b\r\nMKL", "uniref90")
    assert [row["id"] for row in stage.rows("uniref90")] == ["a", "b"]
    assert (built.counts["kept"], built.facts["crlf_line_ends"]) == (2, 3)


GAPPED = "".join(f">s{i}\nMKV\nM{'-.~_ 1@'[i % 7]}V\n" for i in range(40)).encode()


def test_twenty_faults_are_shown_together_with_their_lines(stage):
    with pytest.raises(UserError) as error:
        stage.run(b">good\nMKV\n" + GAPPED, "uniref90")
    text = error.value.line()
    assert "input:5: the first 20 faults: `-` in a sequence: s0 (line 5), s7 (line 26), s14 (line 47)" in text
    assert "`.` in a sequence: s1 (line 8), s8 (line 29), s15 (line 50); remove the gaps of the alignment" in text
    assert "a space in a sequence: s4 (line 17)" in text and "a number in a sequence: s5 (line 20)" in text
    assert text.endswith("or set records.bad_entries: remove to leave such entries out")
    assert "s20" not in text and "fetch" not in text and "byte" not in text


def test_own_mistakes_say_what_to_do(stage):
    for sequence, words in (
        ("MKV.", "`.` at the end of a sequence: x (line 2); remove it, or write a stop codon as `*`"),
        ("MKV ", "a space in a sequence: x (line 2); remove the spaces, also those at the ends of lines"),
        ("", "an entry without residues: x (line 1); complete it, or remove it"),
        ("MK\x01V", "byte 0x01 in a sequence: x (line 2); remove it: only letters are residues"),
    ):
        with pytest.raises(UserError, match=re.escape(words)):
            stage.run(f">x\n{sequence}\n".encode(), "uniref90")


def test_words_behind_the_id_do_not_tell_ids_apart(stage):
    with pytest.raises(UserError) as error:
        stage.run(b">gene 1\nMKV\n>gene 2\nMKL\n>x\nMKV\n>x\nMKVA\n", "uniref90")
    text = error.value.line()
    assert "ids that are there twice, because an id ends at the first space: gene (lines 1 and 3)" in text
    assert "join the words, as in gene_2" in text
    assert "ids that are there twice: x (lines 5 and 7); keep one entry of each" in text
    with pytest.raises(UserError, match=r"ids that cannot be told apart: P12345 and UniRef90_P12345 \(lines 1 and 3\)"):
        stage.run(b">P12345\nMKV\n>UniRef90_P12345\nMKL\n", "uniref90")


def genes(count: int, letters: str = "ACGT") -> str:
    drawn = np.random.default_rng(count).integers(0, len(letters), (count, 300))
    return "".join(f">gene{i}\n{''.join(letters[k] for k in row)}\n" for i, row in enumerate(drawn))


def test_nucleotides_are_refused_by_the_composition_of_the_whole_file(stage, monkeypatch):
    proteins = genes(12, LETTERS[:20]).replace("gene", "protein")
    for text in (genes(8), genes(8, "acgun"), genes(300), genes(200) + proteins[:310]):
        with pytest.raises(
            UserError, match=r"nucleotides, not proteins: \d+\.\d% .*; translate .*records.allow_nucleotides"
        ):
            stage.run(text.encode(), "uniref90")
        monkeypatch.setattr(stream, "BLOCK_BYTES", 5_000)
    assert not list(stage.output.rglob("*.*"))
    assert stage.run(genes(8).encode(), "uniref90", allow_nucleotides=True).counts["kept"] == 8
    for text in (genes(8) + proteins, proteins + genes(8), ">poly\n" + "A" * 500, ">short\nGATTACAGATTACA"):
        assert stage.run(text.encode(), "uniref90").counts["kept"] == text.count(">")


@pytest.mark.parametrize("text", [b"\n" * 800_000, b"A\n" * 400_000], ids=["empty", "one"])
def test_short_lines_after_a_long_one_take_no_longer(text):
    """The width of the last line is tried for the next: it must not cost that much for each of them."""
    parsed(">a\nMKV\n")  # compiled before the clock starts
    began = time.process_time()
    found = parsed(b">a\n" + b"M" * 200_000 + b"\n" + text)
    assert time.process_time() - began < 1
    assert found.records.column("sequence")[0].as_py() == "M" * 200_000 + text.replace(b"\n", b"").decode()
