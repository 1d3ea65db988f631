"""The stage as a whole: policy, counts, faults, and the same bytes for any number of threads."""

import bz2
import errno
import gzip
import json
import lzma
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirefine.cli.main import main
from unirefine.core import parquet
from unirefine.core.ids import key_of
from unirefine.core.tables import find_parts
from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.records import stream
from unirefine.records.parts import FIRST_STRIPE

NOTE = "   UniProt Reference Clusters - UniRef50\n\n  Release: 2024_03, 29-May-2024\n  Number of clusters: {}\n"


def fasta(count: int, level: str = "50", length: int = 40) -> bytes:
    """`count` entries with different sequences."""
    letters = np.frombuffer(b"ACDEFGHIKLMNPQRSTVWY", np.uint8)
    drawn = letters[np.random.default_rng(count).integers(0, 20, (count, length))]
    return b"".join(
        b">UniRef%s_A0A%07d p n=%d Tax=x TaxID=9 RepID=R%d\n%s\n" % (level.encode(), i, i + 1, i, row.tobytes())
        for i, row in enumerate(drawn)
    )


def files(directory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@pytest.mark.parametrize("level", ["uniref50", "uniref90"])
def test_fasta_and_xml_of_a_release_give_the_same_records(site, tmp_path, level, capsys):
    for kind in ("fasta", "xml"):
        command = ["records", "--level", level, "--input", str(site / level / f"{level}.{kind}.gz"), "--threads", "2"]
        command += ["--release-note", str(site / level / f"{level}.release_note"), "--output", str(tmp_path / kind)]
        assert main([*command, "--set", "parts=5"]) == 0
        said = r"([\d,]+) of \1 entries kept, as the release note states; .* in 5 parts; \w+ of"
        assert re.search(said, capsys.readouterr().out)
    same = ["key", "id", "taxon_id", "member_count", "representative", "length", "sequence"]
    for fasta_path, xml_path in zip(
        find_parts(tmp_path / "fasta", level).paths, find_parts(tmp_path / "xml", level).paths, strict=True
    ):
        ours, theirs = pq.read_table(fasta_path), pq.read_table(xml_path)
        assert ours.schema == theirs.schema
        assert ours.select(same).equals(theirs.select(same)) and len(ours)
        assert ours["rep_taxon_id"].null_count == len(ours) > theirs["rep_taxon_id"].null_count
        assert theirs["listed_members"].equals(theirs["member_count"])
        for name in ("listed_members", "other_taxa"):
            assert (ours[name].null_count, theirs[name].null_count) == (len(ours), 0)
    counts = [json.loads((tmp_path / kind / level / "counts.json").read_text()) for kind in ("fasta", "xml")]
    assert counts[0]["levels"] == counts[1]["levels"] and counts[0]["residues"] == counts[1]["residues"] > 0
    assert find_parts(tmp_path / "fasta", level, "members") is None
    assert find_parts(tmp_path / "xml", level, "members").rows == counts[1]["members"] > 0


def test_the_membership_of_a_release_is_whole(site, tmp_path):
    """Every UniRef90 entry is a member of exactly the UniRef50 entry that uniref90.xml names."""
    for level in ("uniref50", "uniref90"):
        command = ["records", "--level", level, "--input", str(site / level / f"{level}.xml.gz")]
        assert main([*command, "--output", str(tmp_path), "--set", "parts=2"]) == 0
    pairs = {}
    for level in ("uniref50", "uniref90"):
        tables = [pq.read_table(path) for path in find_parts(tmp_path, level, "members").paths]
        pairs[level] = [(r["cluster_key"], r["member_key"]) for table in tables for r in table.to_pylist()]
    assert sorted(pairs["uniref50"]) == sorted((b, a) for a, b in pairs["uniref90"])


@pytest.mark.parametrize("compress", [bytes, lambda data: gzip.compress(data, 1)], ids=["plain", "gzip"])
def test_same_bytes_for_any_number_of_threads(stage, monkeypatch, compress):
    monkeypatch.setattr(stream, "BLOCK_BYTES", 20_000)
    written = []
    for threads in (1, 2, 5):
        stage.run(compress(fasta(3000)), threads=threads)
        written.append(files(stage.output / "uniref50"))
    assert written[0] == written[1] == written[2]
    monkeypatch.setattr(stream, "BLOCK_BYTES", 7_001)
    stage.run(compress(fasta(3000)), threads=2)
    assert {n: b for n, b in files(stage.output / "uniref50").items() if n != "counts.json"} == {
        n: b for n, b in written[0].items() if n != "counts.json"
    }


def test_records_are_distributed_over_the_parts_in_growing_stripes(stage):
    first, second = 3 * FIRST_STRIPE, 3 * 5 * FIRST_STRIPE  # records before round 1 and round 2
    count = second + 5
    stage.run(fasta(count), parts=3)
    parts = [pq.read_table(path)["member_count"].to_pylist() for path in find_parts(stage.output, "uniref50").paths]
    order = list(range(1, count + 1))
    assert parts[0] == order[:FIRST_STRIPE] + order[first : first + 4 * FIRST_STRIPE] + order[second:]
    assert parts[2] == order[2 * FIRST_STRIPE : first] + order[first + 8 * FIRST_STRIPE : second]
    assert sum(map(len, parts)) == count


def test_fewer_records_than_parts_leave_empty_parts_of_the_same_schema(stage, entry, xml):
    stage.run(xml(entry("P12345")), parts=4)
    for kind, rows in (("records", 1), ("members", 1)):
        paths = find_parts(stage.output, "uniref50", kind).paths
        assert [pq.ParquetFile(path).metadata.num_rows for path in paths] == [rows, 0, 0, 0]
        assert len({str(pq.read_schema(path).remove_metadata()) for path in paths}) == 1


BAD = {
    "wrong_length": ({"length": 5}, "declared length 5, found 4"),
    "wrong_checksum": ({"checksum": "00"}, "declared CRC64 0000000000000000, computed 6DC2C336F0000000"),
    "empty_sequence": ({"sequence": ""}, "empty sequence"),
    "invalid_byte": ({"sequence": "MK-A"}, "'-' in the sequence, at byte"),
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_entry_stops_the_stage_or_is_removed_with_its_members(stage, entry, xml, reason):
    change, evidence = BAD[reason]
    good, bad = entry("P12345", members=(("P54321", "P54321", 7),)), entry("Q6GZX4", **change)
    data = xml(good, bad, entry("O15492"))
    offset = data.index(bad.encode())
    with pytest.raises(UserError, match=re.escape(f"UniRef50_Q6GZX4 at byte {offset:,} (decompressed): {evidence}")):
        stage.run(data)
    assert not list(stage.output.rglob("*.*"))

    built = stage.run(data, bad_entries="remove", note=NOTE.format(3))
    assert built.counts == {"in": 3, "kept": 2, "removed": {reason: 1}}
    assert [row["id"] for row in stage.rows()] == ["UniRef50_P12345", "UniRef50_O15492"]
    keys = [key_of(name) for name in ("P12345", "P54321", "O15492")]
    assert [row["member_key"] for row in stage.rows(kind="members")] == keys
    (removed,) = stage.removed()
    assert (removed["level"], removed["id"], removed["reason"]) == ("uniref50", "UniRef50_Q6GZX4", reason)
    assert removed["evidence"].startswith(f"at byte {offset}: {evidence}")
    if reason == "invalid_byte":
        at = int(removed["evidence"].rsplit(" ", 1)[1])
        assert data[at : at + 1] == b"-"


def test_checksums_are_not_verified_when_not_wanted(stage, entry, xml):
    data = xml(entry("P12345", checksum="00"), entry("Q6GZX4", length=99))
    assert stage.run(data, verify_checksums=False).counts["kept"] == 2


def test_a_checksum_is_verified_before_the_sequence_is_normalised(stage, entry, xml):
    """UniProt's checksum is of the letters as they are in the file."""
    built = stage.run(xml(entry("P12345", "mkVA*"), entry("Q6GZX4", "MK*A")))
    assert [row["sequence"] for row in stage.rows()] == ["MKVA", "MK*A"]
    facts = built.facts
    assert (
        facts["entries_upper_cased"] == facts["entries_with_trailing_stop_cut"] == facts["entries_with_inner_stop"] == 1
    )


@pytest.mark.parametrize("make", ["fasta", "xml"])
def test_a_duplicate_id_is_an_error_with_both_places(stage, entry, xml, make, monkeypatch):
    monkeypatch.setattr(stream, "BLOCK_BYTES", 300)
    names = ["P12345", "Q6GZX4", "P123456", "O15492", "P12345-2", "P12345", "P54321"]
    if make == "xml":
        data = xml(*(entry(name) for name in names))
        offsets = [found.start() for found in re.finditer(rb'<entry id="UniRef50_P12345"', data)]
        message = "duplicate id: UniRef50_P12345 at byte {:,} and UniRef50_P12345 at byte {:,} (decompressed)".format(
            *offsets
        )
    else:
        data = "".join(f">UniRef50_{name} n=1 Tax=x RepID=y\nMKV\n" for name in names).encode()
        message = "input:11: ids that are there twice: UniRef50_P12345 (lines 1 and 11)"
    with pytest.raises(UserError, match=re.escape(message)):
        stage.run(gzip.compress(data), bad_entries="remove")
    assert not list(stage.output.rglob("*.*"))


def test_a_custom_fasta(stage):
    data = b">sp|P12345|X_Y my n=4\nMKV\n>b\nmkv*\n\n>c d\r\nMK\r\nVA"
    built = stage.run(data, "uniref90")
    assert [(row["id"], row["sequence"]) for row in stage.rows("uniref90")] == [
        ("sp|P12345|X_Y", "MKV"), ("b", "MKV"), ("c", "MKVA"),
    ]  # fmt: skip
    assert built.facts["crlf_line_ends"] == 2
    with pytest.raises(UserError, match=r"does not begin with UniRef50_: .*; your own FASTA is for --level uniref90"):
        stage.run(data, "uniref50")
    with pytest.raises(UserError, match=r"does not begin with UniRef90_: sp\|P12345\|X_Y \(line 1\), b \(line 3\)"):
        stage.run(data, "uniref90", note=NOTE.replace("UniRef50", "UniRef90").format(3))


@pytest.mark.parametrize(
    ("note", "problem"),
    [
        (NOTE.format("1,002"), "1,003 entries, but the release note states 1,002"),
        (NOTE.format("1,003").replace("UniRef50", "UniRef90"), "the release note of UniRef90, not of uniref50"),
        ("nothing", "states no number of clusters"),
        (NOTE.format("1003"), None),
        ("UniRef50 release 2024_03 consists of 1,003 entries.", None),
    ],
)
def test_the_release_note_states_how_many_entries_there_must_be(stage, note, problem):
    data = fasta(1003)
    if problem is None:
        assert stage.run(data, note=note).facts["release_note_entries"] == 1003
        return
    with pytest.raises(UserError, match=problem):
        stage.run(data, note=note)
    assert not list(stage.output.rglob("*.*"))


def test_the_release_note_of_another_release_is_an_error(stage, entry, xml):
    with pytest.raises(UserError, match="release 2024_03, but its release note is of 2025_01"):
        stage.run(xml(entry("P12345")), note=NOTE.format(1).replace("2024_03", "2025_01"))


GZIPPED = gzip.compress(fasta(2000), 1, mtime=0)
PACK = {
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: pa.compress(data, "zstd", asbytes=True),
}
PACKED = {name: pack(fasta(2000)) for name, pack in PACK.items()}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "an empty file"),
        (b"MKV\n>x\nMKV\n", "neither FASTA nor UniRef XML: it begins with b'MKV"),
        (">x\nMKV\n".encode("utf-16"), "UTF-16 text; save it as UTF-8 or ASCII"),
        (b"BZh91AY", "truncated: the bzip2 stream ends without its end mark, after byte 0"),
        (b"PK\x03\x04", "compressed with zip; give it plain, or compressed once with gzip, bzip2, xz or zstd"),
        *((packed[:-30], f"truncated: the {name} stream ends without its end mark") for name, packed in PACKED.items()),
        *((PACKED[name][:900] + bytes(9) + PACKED[name][909:], f"corrupt {name} stream") for name in ("bzip2", "xz")),
        *((packed + b"garbage behind it", f"corrupt {name} stream") for name, packed in PACKED.items()),
        (b"  \n>UniRef50_x\nMKV\n", "input:1: white space before the first header: line 1; begin with"),
        (b" >x\nMKV\n", "input:1: white space before `>`: line 1; remove it"),
        (b">x\nM-V\n", "input:1: an id that does not begin with UniRef50_"),
        (GZIPPED[:-9], "truncated: the gzip stream ends without its end mark, after byte"),
        (GZIPPED[:40_000], "truncated: the gzip stream ends"),
        (GZIPPED[:12], "truncated: the gzip stream ends"),
        (GZIPPED[:-8] + b"\0\0\0\0" + GZIPPED[-4:], "corrupt gzip stream"),
        (GZIPPED[:30_000] + bytes(64) + GZIPPED[30_064:], "corrupt gzip stream after byte"),
        (GZIPPED + b"garbage behind the stream", "corrupt gzip stream"),
        (gzip.compress(b"", mtime=0), "an empty file"),
    ],
)
def test_broken_files_are_one_clear_line_and_leave_nothing(stage, data, problem):
    with pytest.raises(UserError, match=re.escape(problem)):
        stage.run(data)
    assert not list(stage.output.rglob("*.*"))


@pytest.mark.parametrize("pack", PACK.values(), ids=PACK)
def test_other_compressions_are_read_in_one_stream_and_in_several(stage, pack):
    data = fasta(2000)
    stage.run(data)
    expected = stage.table()
    for packed in (pack(data), pack(data[:1001]) + pack(data[1001:])):
        stage.run(packed)
        assert stage.table() == expected


def test_gzip_in_several_members_is_one_stream(stage):
    half = fasta(2000)
    data = gzip.compress(half[:1001]) + gzip.compress(half[1001:]) + bytes(512)  # padded, as tapes are
    assert stage.run(data).counts["kept"] == 2000


def test_an_entry_larger_than_a_block(stage, monkeypatch, entry, xml):
    monkeypatch.setattr(stream, "BLOCK_BYTES", 100)
    members = tuple((f"P{10000 + i}", f"P{10000 + i}", 3) for i in range(50))
    built = stage.run(xml(entry("Q6GZX4", members=members), entry("P12345")))
    assert built.counts["kept"] == 2 and built.facts["members"] == 52
    stage.run(b">UniRef50_P12345\n" + b"A" * 1000 + b"\n>UniRef50_Q6GZX4\n" + b"C" * 99)
    assert [row["length"] for row in stage.rows()] == [1000, 99]


def test_input_without_entries_stops_before_it_fills_the_memory(stage, monkeypatch):
    monkeypatch.setattr(stream, "BLOCK_BYTES", 100)
    monkeypatch.setattr(stream, "MAX_ENTRY_BYTES", 4000)
    with pytest.raises(UserError, match="no end of an entry within"):
        stage.run(b">UniRef50_P12345\n" + b"A" * 100_000)


def test_a_second_run_replaces_everything_and_a_failed_one_nothing(stage, entry, xml):
    stage.run(xml(entry("P12345"), entry("Q6GZX4")), parts=5)
    before = files(stage.output / "uniref50")
    (stage.output / "uniref50" / ".records-000-of-005.parquet.1.tmp").write_bytes(b"of a killed run")
    with pytest.raises(UserError, match="CRC64"):
        stage.run(xml(entry("P12345", checksum="00")), parts=5)
    assert files(stage.output / "uniref50") == before
    stage.run(fasta(10), parts=2)
    assert set(files(stage.output / "uniref50")) == {
        "counts.json", "lineage.json", "removed.parquet", "records-000-of-002.parquet", "records-001-of-002.parquet",
    }  # fmt: skip


def test_a_fasta_of_your_own_leaves_nothing_of_a_release(stage, entry, xml):
    """It has one level and no members. A UniRef90 FASTA leaves the other level."""
    stage.run(xml(entry("P12345"), entry("Q6GZX4")), parts=2)
    (stage.output / "uniref50/notes.txt").touch()
    stage.run(b">UniRef90_P12345\nMKV\n", level="uniref90", parts=2)
    assert "records-000-of-002.parquet" in files(stage.output / "uniref50")
    stage.run(b">mine\nMKV\n", level="uniref90", parts=1)
    assert set(files(stage.output / "uniref50")) == {"notes.txt"}
    assert set(files(stage.output / "uniref90")) == {
        "counts.json", "lineage.json", "removed.parquet", "records-000-of-001.parquet",
    }  # fmt: skip


def test_a_stage_called_from_python_writes_its_lineage(stage):
    built = stage.run(fasta(10), parts=2)
    recorded = lineage.read(stage.output / "uniref50")
    assert recorded["of"] == "records"
    assert recorded["steps"][-1]["counts"] == {"uniref50": built.counts}
    assert recorded["steps"][-1]["config"]["parts"] == 2


def test_a_missing_input_is_one_line(tmp_path, capsys):
    command = ["records", "--level", "uniref50", "--input", str(tmp_path / "no.fasta"), "--output", str(tmp_path)]
    assert main(command) == 1
    assert "no.fasta: no such file; check --input" in capsys.readouterr().err


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capfd, after):
    """`after` row groups fit; the footers do not."""
    written = []

    def write(self, *arguments, **options):
        written.append(arguments)
        if len(written) > after:
            raise OSError(errno.ENOSPC, "no space")

    def close(self):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(parquet.Writer, "write_table", write)
    monkeypatch.setattr(parquet.Writer, "close", close)
    (tmp_path / "input").write_bytes(fasta(200))
    command = ["records", "--level", "uniref50", "--input", str(tmp_path / "input"), "--output", str(tmp_path / "out")]
    assert main([*command, "--set", "parts=2"]) == 1
    error = capfd.readouterr().err
    assert f"error: {tmp_path / 'out' / 'uniref50'}: no space left on device; free some space" in error
    assert "Traceback" not in error
    assert not list(tmp_path.glob("out/**/*.*"))
