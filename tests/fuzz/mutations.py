"""Damage: of bytes, of lines, and of the values of a JSON file. A mutation is a function of (seed, case, number)."""

import gzip
import json
import os
import random
from collections.abc import Callable
from typing import Any

SEED = int(os.environ.get("UNIREFINE_FUZZ_SEED", "1"))
MUTATIONS = int(os.environ.get("UNIREFINE_FUZZ", "30"))
"""In a run of all cases."""

Damage = Callable[[random.Random, bytes], bytes]


def flip(random_: random.Random, data: bytes) -> bytes:
    """One bit of one byte."""
    at = random_.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random_.randrange(8)]) + data[at + 1 :]


def overwrite(random_: random.Random, data: bytes) -> bytes:
    """Up to 16 bytes, by zeros, ones or noise."""
    at, count = random_.randrange(len(data)), random_.randint(1, 16)
    noise = random_.choice([bytes(count), b"\xff" * count, random_.randbytes(count)])
    return data[:at] + noise[: len(data) - at] + data[at + count :]


def truncate(random_: random.Random, data: bytes) -> bytes:
    """Everything after some byte is lost."""
    return data[: random_.randrange(len(data))]


def append(random_: random.Random, data: bytes) -> bytes:
    """Something stands behind the end."""
    return data + random_.choice([b"\0" * 512, b"\n", data[-64:], random_.randbytes(40)])


def duplicate(random_: random.Random, data: bytes) -> bytes:
    """A block comes twice."""
    start, end = _block(random_, data)
    return data[:end] + data[start:]


def drop(random_: random.Random, data: bytes) -> bytes:
    """A block is missing."""
    start, end = _block(random_, data)
    return data[:start] + data[end:]


def swap(random_: random.Random, data: bytes) -> bytes:
    """Two neighbouring blocks have changed places."""
    start, end = _block(random_, data)
    middle = random_.randint(start, end)
    return data[:start] + data[middle:end] + data[start:middle] + data[end:]


def clear(random_: random.Random, data: bytes) -> bytes:
    """A block is zeros, as after a crash of the machine."""
    start, end = _block(random_, data)
    return data[:start] + bytes(end - start) + data[end:]


def _block(random_: random.Random, data: bytes) -> tuple[int, int]:
    start = random_.randrange(len(data))
    return start, min(len(data), start + random_.choice([1, 8, 64, 512, 4096]))


def line(random_: random.Random, data: bytes) -> bytes:
    """A line comes twice, is missing, torn, empty, too long, or ends in another way."""
    lines = data.split(b"\n")
    at = random_.randrange(len(lines))
    change = random_.randrange(7)
    if change == 0:
        lines.insert(at, lines[at])
    elif change == 1:
        del lines[at]
    elif change == 2:
        lines[at] = lines[at][: random_.randint(0, len(lines[at]))]
    elif change == 3:
        lines[at] = b""
    elif change == 4:
        lines[at] = lines[at] * 200
    elif change == 5:
        return b"\r".join(lines)
    else:
        return b"\r\n".join(lines)
    return b"\n".join(lines)


def character(random_: random.Random, data: bytes) -> bytes:
    """What text of other programs and languages brings: BOM, NUL, tabs, quotes, UTF-16, letters that are not ASCII."""
    at = random_.randint(0, len(data))
    odd = [b"\0", b"\t", b'"', b"'", b"\xe9", "é".encode(), b"\x1b[31m", b"\xc2\xa0", b"{}", b"[", b"- ", b": "]
    return random_.choice(
        [
            b"\xef\xbb\xbf" + data,
            data.decode("utf-8", "replace").encode("utf-16"),
            b"",
            b"\n",
            *(data[:at] + each + data[at:] for each in odd),
        ]
    )


BYTES: tuple[Damage, ...] = (flip, flip, flip, overwrite, truncate, append, duplicate, drop, swap, clear)
TEXT: tuple[Damage, ...] = (*BYTES, line, line, character, character)


def value(random_: random.Random, data: bytes) -> bytes:
    """One value of a JSON file is of another type, of another size, or missing; or the whole is something else."""
    whole = json.loads(data)
    places = list(_places(whole))
    if random_.random() < 0.05 or not places:
        return json.dumps(random_.choice([None, [], {}, 3, "x", [[]], [{}]])).encode()
    container, key = random_.choice(places)
    old = container[key]
    change = random_.randrange(3)
    if change == 0:
        others = [None, [], {}, "x", 3, -1, 2.5, True, [old], {"x": old}, 10**30]
        container[key] = random_.choice([each for each in others if type(each) is not type(old)])
    elif change == 1 and isinstance(old, int | float):
        container[key] = random_.choice([old + 1, -old - 1, old * 1000 + 7, 2**63])
    elif change == 1 and isinstance(old, str):
        container[key] = random_.choice([old + "x", "", "../" + old, old[::-1] + "y"])
    else:
        del container[key]
    return json.dumps(whole).encode()


def _places(whole: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value inside."""
    keys = whole.keys() if isinstance(whole, dict) else range(len(whole)) if isinstance(whole, list) else ()
    found = [(whole, key) for key in keys]
    for key in keys:
        found += _places(whole[key])
    return found


JSON: tuple[Damage, ...] = (*TEXT, *(value,) * 10)


def inside(random_: random.Random, data: bytes) -> bytes:
    """What a whole gzip file holds is damaged."""
    return gzip.compress(random_.choice(TEXT)(random_, gzip.decompress(data)), 1, mtime=0)


def mutated(data: bytes, kinds: tuple[Damage, ...], case: str, number: int) -> tuple[bytes, str]:
    """Damaged data, which differs from `data`, and the name of the damage."""
    random_ = random.Random(f"{SEED} {case} {number}")
    while True:
        damage = random_.choice(kinds)
        changed = damage(random_, data) if data else b"x"
        if changed != data:
            return changed, damage.__name__
