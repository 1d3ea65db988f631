"""Constraints for pip inside an image: its packages keep their versions, all others are those of the lock.

    pip list --format=freeze | python envs/constraints.py envs/lock.txt > constraints-of-image.txt

The base image's torch, Transformer Engine and what was compiled with them (numpy, ...) must not be replaced.
"""

import re
import sys
from pathlib import Path

FROM_LOCK = {"megatron-core", "typing-extensions"}
"""Taken from the lock even if the image has another: checkpoints and layouts were tested with that Megatron, and the
lock's pydantic needs a newer typing-extensions, which is pure Python, than images of 2025 have."""


def name_of(line: str) -> str:
    """The normalised name of a requirement."""
    return re.sub(r"[-_.]+", "-", re.split(r"[=<>!~;@ \[]", line.strip(), maxsplit=1)[0]).lower()


def entries(lock: str) -> list[str]:
    """The entries of a lock, each with the lines of its hashes."""
    lines = lock.replace("\\\n", "\0").splitlines()
    return [line.replace("\0", "\\\n") for line in lines if line and not line.startswith("#")]


def merged(brought: list[str], locked: list[str]) -> list[str]:
    """Constraints: those `brought` by the image (`name==version`), then what else is `locked`."""
    stays = [line for line in brought if "==" in line and name_of(line) not in FROM_LOCK]
    names = {name_of(line) for line in stays}
    return stays + [entry for entry in locked if name_of(entry) not in names]


if __name__ == "__main__":
    lines = sys.stdin.read().splitlines()
    print("\n".join(merged(lines, entries(Path(sys.argv[1]).read_text(encoding="utf-8")))))
