"""The tar walk against Python's tarfile: every format, every cut of the stream, state saved between any two pieces."""

import io
import json
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unirefine.release.tarwalk import TarWalker


def tar(files, fmt=tarfile.GNU_FORMAT, directory=None):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=fmt) as out:
        if directory:
            entry = tarfile.TarInfo(directory)
            entry.type = tarfile.DIRTYPE
            out.addfile(entry)
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            out.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def walk(data, pieces, wanted=("a.gz", "b.gz")):
    """Feed in pieces, with a new walker restored from JSON before each."""
    found, sizes = {}, {}

    def write(name, size, content):
        found[name] = found.get(name, b"") + bytes(content)
        sizes[name] = size

    walker, at = TarWalker(["in.tar"], wanted, write), 0
    for size in pieces:
        state = json.loads(json.dumps(walker.state()))
        walker = TarWalker(["in.tar"], wanted, write)
        walker.restore(state)
        walker.feed(data[at : at + size])
        at += size
    walker.feed(data[at:])
    assert walker.complete
    assert {name: len(content) for name, content in found.items()} == sizes
    return found, walker.seen


@settings(max_examples=60, deadline=None)
@given(
    contents=st.lists(st.binary(max_size=1500), min_size=4, max_size=4),
    fmt=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    pieces=st.lists(st.integers(0, 3000), max_size=20),
    long=st.booleans(),
)
def test_same_as_tarfile(contents, fmt, pieces, long):
    folder = "d" * 90 + "/" + "é" * 20 if long and fmt != tarfile.USTAR_FORMAT else "d"
    first = tar({f"{folder}/a.gz": contents[0], "other": contents[1]}, fmt, directory="d")
    inner = tar({"README": contents[2], f"{folder}/b.gz": contents[3]}, fmt)
    data = tar({"skip.tar": first, "in.tar": inner, "a.gz": contents[1]}, fmt)
    found, seen = walk(data, pieces)
    assert found == {"b.gz": contents[3], "a.gz": contents[1]}
    assert seen == ["skip.tar", "in.tar", "README", f"{folder}/b.gz", "a.gz"]


@pytest.mark.parametrize("fmt", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_sizes_above_8_gib(fmt):
    """Written base-256 by GNU, in an extended header by pax: both must be passed over by their true size."""
    entry = tarfile.TarInfo("huge.tar")
    entry.size = 9 << 30
    walker = TarWalker([], [], lambda *_: None)
    walker.feed(entry.tobuf(fmt))
    assert walker.state()["left"] == 9 << 30 and walker.state()["mode"] == "skip"


def test_damage_is_told():
    walker = TarWalker([], [], lambda *_: None)
    with pytest.raises(ValueError, match="no header at byte 0"):
        walker.feed(b"\x01" * 512)
    data = tar({"a.gz": b"x" * 100})
    walker = TarWalker([], ["a.gz"], lambda *_: None)
    walker.feed(data[:600])
    assert not walker.complete
