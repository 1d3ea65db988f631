"""FASTA files: what is read, and the one line for each mistake."""

import bz2
import gzip
import lzma
import os

import pyarrow as pa
import pytest

from unirefine.core.fasta import read_entries, read_fasta, write_fasta
from unirefine.errors import UserError


def proteins(path, text: bytes):
    path.write_bytes(text)
    return [tuple(protein) for protein in read_fasta(path)]


def test_wrapped_lines_carriage_returns_case_and_stop_codons(tmp_path):
    text = b">sp|P1|ONE first protein\r\nMKV\r\nLLa\r\n\r\n>two\nACD*\n>three\tx\nX\n"
    text += ">vier\xa0f\u00fcnf sechs\nM\n".encode()  # only ASCII white space ends a name
    expected = [("sp|P1|ONE", "MKVLLa"), ("two", "ACD"), ("three", "X"), ("vier\xa0f\u00fcnf", "M")]
    assert proteins(tmp_path / "a.fasta", text) == expected
    assert proteins(tmp_path / "a.fasta.gz", gzip.compress(text)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", r"no sequence in it"),
        (b"\n\n", r"no sequence in it"),
        (b"MKV\n>a\nMKV\n", r"not a FASTA"),
        (b"PK\x03\x04\x00", r"compressed with zip"),
        (b" >a\nMKV\n", r":1: white space before `>`"),
        (b">a\nMKV\n>\nMKV\n", r":3: a header without an id"),
        (b">a\nMKV\n> b c\nMKV\n", r":3: a space after `>`: b c \(line 3\); remove it"),
        (b">a\n>b\nMKV\n", r":1: an entry without residues: a \(line 1\)"),
        (b">a\nMKV\n>b\n", r":3: an entry without residues: b"),
        (b">a\n**\n", r":1: an entry without residues: a"),
        (b">a\nMK\nV-L\n", r":3: `-` in a sequence: a \(line 3\); remove the gaps"),
        (b">a\nMK*V\n", r":2: `\*` inside a sequence: a \(line 2\); cut the sequence there"),
        (b">a\nMK1\n", r":2: a number in a sequence: a"),
        (
            b">a\nMK V\n>b\nMKV \n",
            r":2: 2 faults: a space in a sequence: a \(line 2\), b \(line 4\); remove the spaces",
        ),
        (
            b">a\nM@\n>b\nMKV\n>c\n>d x\nM\r>e\rM\n",
            r":2: 3 faults: `@` .*; an entry .*; a carriage return .*: d \(line 7\)",
        ),
        (b">a\rMKV\r>b\rMKV\r", r":1: a carriage return without a line feed"),
        (b">a x\rMKV\nMKV\n", r":1: a carriage return without a line feed"),
        (b">a\nMKV>b\nMKV\n", r":2: `>` inside a line: a \(line 2\); begin a new line"),
        (b">a\nMKV\n\xef\xbb\xbf>b\nMKV\n", r":3: a byte order mark before `>`"),
        (
            b">gene 1\nMKV\n>gene 2\nMKV\n",
            r":3: ids that are there twice, because .* gene \(lines 1 and 3\); join .* gene_2",
        ),
        (b">a\nMKV\n>b\nMKV\n>a\nMKV\n", r":5: ids that are there twice: a \(lines 1 and 5\); keep one"),
        (b">a\n" + b"ACGTTGCAAC" * 5 + b"N\n>b\nACGT\n", r"nucleotides, not proteins: 100.0% of all letters"),
        (b">\xff\nMKV\n", r":1: an id that is not UTF-8"),
        (b">a\x1b[31m\nMK1\n", r": a\\x1b\[31m \(line 2\)"),
        (">a\nMKV\n".encode("utf-16"), r"UTF-16 text; save it as UTF-8"),
        (b"BZh91AY", r"damaged compressed file"),
        (b"PK\x03\x04", r"compressed with zip; give it plain, or compressed once with gzip, bzip2, xz or zstd"),
        (gzip.compress(lzma.compress(b">a\nMKV\n"), mtime=0), r"compressed with xz; give it plain, or compressed once"),
        (gzip.compress(b">a\nMKV\n" * 1000, mtime=0)[:-9], r"damaged compressed file"),
        (lzma.compress(b">a\nMKV\n" * 1000)[:-9], r"damaged compressed file"),
        (lzma.compress(b">a\nMKV\n" * 1000)[:-40] + bytes(40), r"damaged compressed file"),
        (lzma.compress(b""), r"no sequence in it"),
    ],
)
def test_each_mistake_is_one_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as error:
        proteins(tmp_path / "bad.fasta", text)
    assert "\n" not in str(error.value) and "bad.fasta" in str(error.value)


def test_a_missing_file_and_a_directory(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        list(read_fasta(tmp_path / "none.fasta"))
    with pytest.raises(UserError, match="a directory"):
        list(read_fasta(tmp_path))


def test_a_pipe_is_refused_before_it_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe: a pipe, which can be read only once; write it to a file"):
        list(read_fasta(tmp_path / "pipe"))


def test_a_byte_order_mark_stops_and_allowed_nucleotides(tmp_path):
    text = b"\xef\xbb\xbf>a\n" + b"ACGTTGCAAC" * 5 + b"**\n"
    (tmp_path / "a.fasta").write_bytes(text)
    assert list(read_fasta(tmp_path / "a.fasta", allow_nucleotides=True)) == [("a", "ACGTTGCAAC" * 5)]
    with pytest.raises(UserError, match=r"or set embed\.allow_nucleotides: true"):
        list(read_fasta(tmp_path / "a.fasta", option="embed.allow_nucleotides"))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_records_written_in_bulk_have_two_lines_each(tmp_path, kind):
    names, sequences = pa.array(["skipped", "1", "2_7"]), pa.array(["M", "MKV" * 50, "ACGT"], kind)
    with (tmp_path / "x.fasta").open("wb") as file:
        write_fasta(file, names.slice(1), sequences.slice(1))
        write_fasta(file, names.slice(3), sequences.slice(3))
    assert (tmp_path / "x.fasta").read_text() == f">1\n{'MKV' * 50}\n>2_7\nACGT\n"
    assert list(read_fasta(tmp_path / "x.fasta")) == [("1", "MKV" * 50), ("2_7", "ACGT")]


@pytest.mark.parametrize(
    "compress",
    [bytes, gzip.compress, lzma.compress, bz2.compress, lambda data: pa.compress(data, "zstd", asbytes=True)],
)
def test_entries_are_as_they_are_in_the_file(tmp_path, compress):
    text = ">sp|P1|ONE first protein OS=Homo sapiens \r\nMK*\r\nV-1\n> é\n>\n\nMä\n".encode()
    (tmp_path / "a.fasta").write_bytes(compress(text))
    assert [tuple(entry) for entry in read_entries(tmp_path / "a.fasta")] == [
        ("sp|P1|ONE first protein OS=Homo sapiens", "MK*V-1", 1), ("é", "", 4), ("", "M\xc3\xa4", 5),
    ]  # fmt: skip
