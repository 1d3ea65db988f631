"""Extraction from a tarball: every tar format, and nothing that a hostile one could do."""

import gzip
import hashlib
import os
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tars import FILES, checked, gzipped, inner, member, read, release, tar

from unirefine.core.tars import MOST_MEMBERS, BadTar
from unirefine.errors import UserError
from unirefine.release.archive import INNER_TARS, WANTED
from unirefine.release.tarball import extract

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


def extracted(directory, compressed):
    """What is extracted from these bytes, by name; checks the hashes."""
    directory.mkdir(exist_ok=True)
    output = directory / "out"
    output.mkdir()
    (directory / "uniref2024_03.tar.gz").write_bytes(compressed)
    hashes = extract(directory / "uniref2024_03.tar.gz", output, WANTED, INNER_TARS)
    assert sorted(path.name for path in directory.iterdir()) == ["out", "uniref2024_03.tar.gz"]
    found = {path.name: path.read_bytes() for path in output.iterdir()}
    assert hashes == {
        name: {
            "size": len(data), "md5": hashlib.md5(data).hexdigest(), "sha256": hashlib.sha256(data).hexdigest(),
        }
        for name, data in found.items()
    }  # fmt: skip
    return found


def refusal(directory, compressed):
    """The message when these bytes are refused."""
    with pytest.raises(BadTar) as caught:
        extracted(directory, compressed)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    return message


# --- tarballs that are right ----------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    contents=st.lists(st.binary(min_size=1, max_size=1500), min_size=4, max_size=4),
    other=st.binary(max_size=3000),
    fmt=st.sampled_from(FORMATS),
    long=st.booleans(),
)
def test_same_as_tarfile(tmp_path_factory, contents, other, fmt, long):
    folder = "d" * 90 + "/" + "é" * 20 if long and fmt != tarfile.USTAR_FORMAT else "d"
    files = dict(zip(WANTED, contents, strict=True))
    level = tar(
        member("d", kind=tarfile.DIRTYPE), (f"{folder}/README", other),
        *((f"{folder}/{name}", data) for name, data in files.items() if "90" in name), fmt=fmt,
    )  # fmt: skip
    content = tar(
        ("skipped.tar", inner("uniref90")), (f"{folder}/uniref90.tar", level), ("README", other),
        ("uniref50.tar", inner("uniref50", files=files, fmt=fmt)), fmt=fmt,
    )  # fmt: skip
    assert extracted(tmp_path_factory.mktemp("tar"), gzipped(content)) == files


def test_a_release_as_tarfile_reads_it(tmp_path):
    assert extracted(tmp_path, gzipped(release())) == FILES
    assert {name: data for name, data in read(release()).items() if name in WANTED} == FILES


def test_wanted_files_need_not_be_in_an_inner_tar(tmp_path):
    assert extracted(tmp_path, gzipped(tar(*FILES.items()))) == FILES


@pytest.mark.parametrize("piece", [1, 511, 513, 100_000])
def test_gzip_in_several_members_and_padding(tmp_path, piece):
    content = release()
    compressed = b"".join(gzipped(content[i : i + piece]) for i in range(0, len(content), piece)[:50])
    rest = content[min(len(range(0, len(content), piece)), 50) * piece :]
    assert extracted(tmp_path, compressed + gzipped(rest) + bytes(512)) == FILES


@pytest.mark.parametrize("ending", [b"", bytes(512), bytes(20_000)])
def test_a_tar_may_end_without_its_mark_or_with_much_padding(tmp_path, ending):
    assert extracted(tmp_path, gzipped(release()[:-1024] + ending)) == FILES


def test_a_pax_header_for_all_files_is_read_over(tmp_path):
    pax = member("pax_global_header", b"20 comment=a commit\n", kind=tarfile.XGLTYPE)
    assert extracted(tmp_path, gzipped(pax + release())) == FILES


# --- hostile members ------------------------------------------------------------------------------------------------

NOT_PLAIN = {
    "symlink": member("link", kind=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "symlink with a wanted name": member("uniref90.xml.gz", kind=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hard link": member("uniref50.xml.gz", kind=tarfile.LNKTYPE, linkname="uniref90.xml.gz"),
    "long link name": member("link", kind=tarfile.SYMTYPE, linkname="/etc/" + "x" * 200),
    "character device": member("null", kind=tarfile.CHRTYPE),
    "block device": member("sda", kind=tarfile.BLKTYPE),
    "fifo": member("pipe", kind=tarfile.FIFOTYPE),
    "contiguous": member("old", kind=tarfile.CONTTYPE),
    "unknown type": member("odd", kind=b"Z"),
    "sparse": member("uniref50.xml.gz", b"x" * 512, kind=tarfile.GNUTYPE_SPARSE),
    "sparse in pax 0.0": member("s", b"x", pax={"GNU.sparse.size": "9", "GNU.sparse.numblocks": "0"}),
    "sparse in pax 0.1": member("s", b"x", pax={"GNU.sparse.map": "0,1", "GNU.sparse.size": "9"}),
    "sparse in pax 1.0": member("s", b"1\n0\n1\n", pax={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}),
}


@pytest.mark.parametrize("kind", NOT_PLAIN)
@pytest.mark.parametrize("where", ["outer", "inner"])
def test_what_is_no_plain_file_is_refused(tmp_path, kind, where):
    content = release(NOT_PLAIN[kind]) if where == "outer" else release(in_90=[NOT_PLAIN[kind]])
    assert "which is no plain file" in refusal(tmp_path, gzipped(content))


NAMES = ("../uniref90.xml.gz", "a/../../uniref50.xml.gz", "/etc/cron.d/x", "//uniref50.xml.gz", "..", "a/..")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fmt", FORMATS)
def test_names_that_lead_elsewhere_are_refused(tmp_path, name, fmt):
    for number, content in enumerate((release((name, b"x"), fmt=fmt), release(in_90=[(name, b"x")], fmt=fmt))):
        assert "which leads out of its directory" in refusal(tmp_path / str(number), gzipped(content))
    long = member("short", b"x", pax={"path": f"{'d' * 300}/../../../{name}"})
    assert "which leads out of its directory" in refusal(tmp_path / "pax", gzipped(release(long)))


@pytest.mark.parametrize("size", [-1, -512, -(1 << 70), 9 << 30, 1 << 80])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE])
def test_impossible_sizes_are_refused(tmp_path, size, kind):
    content = release(member("uniref50.xml.gz", kind=kind, size=size))
    assert f"with an impossible size of {size:,} bytes" in refusal(tmp_path, gzipped(content))


@pytest.mark.parametrize("size", [-1, -512, 1 << 15, 9 << 30])
@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE])
def test_impossible_sizes_of_extended_headers_are_refused(tmp_path, size, kind):
    content = release(member("x", kind=kind, size=size))
    assert refusal(tmp_path, gzipped(content)) == f"has an extended header of {size:,} bytes"


@pytest.mark.parametrize("size", ["-1", "-512", str(9 << 30), "1" * 30])
def test_impossible_sizes_in_pax_headers_are_refused(tmp_path, size):
    for number, name in enumerate(("uniref50.xml.gz", "other")):
        content = release(member(name, b"x" * 700, pax={"size": size}))
        message = refusal(tmp_path / str(number), gzipped(content))
        assert f"with an impossible size of {int(size):,} bytes" in message


@pytest.mark.parametrize("size", ["1", "511", "1000000"])
def test_pax_sizes_that_lie_are_refused(tmp_path, size):
    """Too small: what follows is no header. Too large: the tar ends within the member."""
    content = release(member("other", os.urandom(1500), pax={"size": size}))
    message = refusal(tmp_path, gzipped(content))
    assert message.startswith(("is not a whole tar", "ends in the middle of a file"))


def test_a_size_that_lies_is_refused(tmp_path):
    content = release(in_90=[member("uniref50.xml.gz", b"x" * 100, size=200_000)])
    assert "ends in the middle of a file" in refusal(tmp_path, gzipped(content))


def test_duplicates_are_refused(tmp_path):
    again = ("uniref90.xml.gz", b"again")
    assert refusal(tmp_path / "a", gzipped(release(again))) == "has uniref90.xml.gz twice"
    assert refusal(tmp_path / "b", gzipped(release(in_90=[again]))) == "has uniref90.xml.gz twice"
    level_again = ("uniref90.tar", inner("uniref90"))
    assert refusal(tmp_path / "c", gzipped(release(level_again))) == "has uniref90.xml.gz twice"


@pytest.mark.parametrize("name", WANTED)
def test_missing_and_empty_files_are_refused(tmp_path, name):
    less = {one: content for one, content in FILES.items() if one != name}
    message = refusal(tmp_path / "missing", gzipped(release(files=less)))
    assert message.startswith(f"has no {name}; it has uniref100.tar, uniref90.tar, README, ")
    assert refusal(tmp_path / "empty", gzipped(release(files=FILES | {name: b""}))) == f"has an empty {name}"


def test_nothing_at_all_is_refused(tmp_path):
    for number, data in enumerate((b"", gzipped(b""), gzipped(bytes(1024)), gzipped(bytes(100)))):
        message = refusal(tmp_path / str(number), data)
        assert message.startswith(("is not a whole tar", "has no uniref90.xml.gz, uniref90.release_note, "))


# --- bombs ----------------------------------------------------------------------------------------------------------

LARGE = 200 << 20
"""Of zeros; a tarball of 200 kB may have 65 MB of content."""


@pytest.mark.parametrize("name", ["uniref50.xml.gz", "other"])
def test_a_member_too_large_for_its_tarball_is_refused(tmp_path, name):
    content = release(member(name, bytes(LARGE)))
    assert f"impossible size of {LARGE:,} bytes" in refusal(tmp_path, gzipped(content))


def test_padding_without_end_is_refused(tmp_path):
    assert "of content, too much for its size" in refusal(tmp_path, gzipped(release() + bytes(LARGE)))


def test_many_members_below_the_limit_each_are_refused(tmp_path):
    content = release(*(member("other", bytes(40 << 20)) for _ in range(5)))
    assert "impossible size" in refusal(tmp_path, gzipped(content))
    content = release(*(member(f"{number}") for number in range(MOST_MEMBERS)))
    assert refusal(tmp_path / "small", gzipped(content)) == "has more than 1,000 members"


HEADERS = {
    "long names": member("x", b"y" * 512, kind=tarfile.GNUTYPE_LONGNAME) * 3000,
    "pax headers": member("x", b"20 comment=a commit\n", kind=tarfile.XHDTYPE) * 3000,
    "global pax headers": member("x", b"20 comment=a commit\n", kind=tarfile.XGLTYPE) * 3000,
    "a sparse map": member(
        "s", b"1" + b"0" * 9 + b"\n" + b"0\n" * (4 << 20), pax={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    ),
    "a sparse map without end of line": member(
        "s", b"1" * (4 << 20), pax={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    ),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_headers_without_end_are_refused(tmp_path, kind):
    message = refusal(tmp_path, gzipped(HEADERS[kind] + release()))
    assert message.startswith(("is not a whole tar", "has a header of more than 1.05 MB"))


def test_a_header_that_takes_a_regular_expression_long(tmp_path):
    """tarfile before 3.12.6 needs time that grows with the square of this."""
    content = release(member("x", b"1" * (1 << 14), kind=tarfile.XHDTYPE) + member("y"))
    assert extracted(tmp_path, gzipped(content)) == FILES


# --- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<html>" * 200, "is not gzip or is corrupt"),
        (gzipped(os.urandom(5000)), "is not a whole tar ("),
        (gzipped(release()[:700]), "ends in the middle of a file"),
        (gzipped(release())[:-9], "ends in the middle of its gzip stream"),
        (gzipped(release())[: len(gzipped(release())) // 2], "ends in the middle of"),
        (gzipped(release()[:9000]), "is not a whole tar (unexpected end of data)"),
        (gzipped(release())[:-8] + b"\0\0\0\0" + gzipped(release())[-4:], "is not gzip or is corrupt"),
        (gzipped(release()) + b"behind it", ("is not gzip or is corrupt", "ends in the middle of its gzip stream")),
    ],
)
def test_damaged_tarballs_are_refused(tmp_path, data, message):
    assert refusal(tmp_path, data).startswith(message)


def test_a_broken_header_is_not_taken_for_the_end(tmp_path):
    """As tarfile does: the members after it, whatever they are, would be lost without a word."""
    broken = bytearray(member("other", b"x"))
    broken[0] ^= 1
    assert refusal(tmp_path, gzipped(release(bytes(broken)))) == "is not a whole tar (bad checksum)"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), pax=st.booleans())
def test_whatever_is_changed_is_refused_or_makes_no_difference(tmp_path_factory, data, pax):
    """Bytes of headers are changed and given a right checksum: no other exception, no file elsewhere."""
    content = bytearray(release(fmt=tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT))
    headers = [at for at in range(0, len(content), 512) if content[at + 257 : at + 262] == b"ustar"]
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.sampled_from(headers))
        field = data.draw(st.sampled_from([(0, 100), (124, 136), (156, 157), (157, 257), (345, 500), (512, 600)]))
        start = at + data.draw(st.integers(*field))
        changed = data.draw(st.binary(min_size=1, max_size=12))
        content[start : start + len(changed)] = changed
        content[at : at + 512] = checked(content[at : at + 512])
    directory = tmp_path_factory.mktemp("changed")
    try:
        found = extracted(directory, gzipped(bytes(content)))
    except BadTar:
        return
    assert sorted(found) == sorted(WANTED)


# --- the disk -------------------------------------------------------------------------------------------------------


def test_each_file_must_have_room(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(UserError, match=r"uniref90\.xml\.gz needs 1.35 kB .*the disk has 1.00 kB free"):
        extracted(tmp_path, gzipped(release()))


def test_level_100_is_read_over(tmp_path):
    large = tar(("uniref100.tar", os.urandom(3 << 20)), ("uniref90.tar", inner("uniref90")), *FILES.items())
    assert "twice" in refusal(tmp_path / "twice", gzipped(large))
    large = tar(("uniref100.tar", os.urandom(3 << 20)), *FILES.items())
    assert extracted(tmp_path / "once", gzip.compress(large)) == FILES
