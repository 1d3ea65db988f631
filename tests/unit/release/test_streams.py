"""The two streams whose state can be saved, against hashlib and zlib."""

import gzip
import hashlib
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unirefine.release.inflate import Boundary, Inflater
from unirefine.release.md5 import ResumableMD5


@settings(deadline=None)
@given(data=st.binary(max_size=700), cuts=st.lists(st.integers(0, 700), max_size=6))
def test_md5_is_hashlibs(data, cuts):
    hasher, at = ResumableMD5(), 0
    for cut in sorted(min(cut, len(data)) for cut in cuts):
        hasher.update(data[at:cut])
        hasher = ResumableMD5.restore(json.loads(json.dumps(hasher.state())))
        at = cut
    hasher.update(memoryview(data)[at:])
    assert hasher.hexdigest() == hashlib.md5(data).hexdigest()
    assert hasher.size == len(data)


def inflate(compressed, rng, restart):
    """Inflate in random pieces; at every block boundary, if `restart`, with a new inflater."""
    output, position, restarts = bytearray(), 0, 0
    inflater = Inflater()
    while position < len(compressed):
        piece = compressed[position : position + rng.choice([1, 100, 5_000, 200_000])]
        for used, content in inflater.inflate(piece, stop_at_block=restart):
            position += used
            output += content
        if inflater.boundary is not None:
            boundary = Boundary.from_json(json.loads(json.dumps(inflater.boundary.to_json())))
            inflater.__exit__()
            inflater = Inflater(boundary)
            restarts += 1
    assert inflater.ended
    inflater.__exit__()
    return bytes(output), restarts


@pytest.mark.parametrize("level", [0, 1, 6, 9])
@pytest.mark.parametrize("kind", ["protein", "noise", "one byte", "empty"])
def test_inflate_is_zlibs(level, kind):
    rng = random.Random(level)
    data = {
        "protein": "".join(rng.choices("ACDEFGHIKLMNPQRSTVWY", k=300_000)).encode(),
        "noise": rng.randbytes(300_000),
        "one byte": b"A",
        "empty": b"",
    }[kind]
    compressed = gzip.compress(data, level) + b"padding that follows"
    assert inflate(compressed, rng, restart=False) == (data, 0)
    output, restarts = inflate(compressed, rng, restart=True)
    assert output == data
    assert restarts >= (5 if len(data) > 1 else 0)


def test_boundary_within_a_byte_occurs():
    """The awkward case, without which the test above would prove little."""
    data = "".join(random.Random(0).choices("ACDEFGHIKLMNPQRSTVWY", k=300_000)).encode()
    compressed, bits = gzip.compress(data), set()
    with Inflater() as inflater:
        while not inflater.ended:
            for used, _ in inflater.inflate(compressed, stop_at_block=True):
                compressed = compressed[used:]
            if inflater.boundary is not None:
                bits.add(inflater.boundary.bits)
                assert len(inflater.boundary.window) <= 32768
    assert len(bits) > 1


def test_not_gzip():
    with (
        Inflater() as inflater,
        pytest.raises(ValueError, match=r"not gzip or is corrupt \(incorrect header"),
    ):
        list(inflater.inflate(b"<html>"))
