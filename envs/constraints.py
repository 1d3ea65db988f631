"""Constraints for pip inside an image: its packages keep their versions, all others have those of constraints.txt.

    pip list --format=freeze | python constraints.py constraints.txt > constraints-of-image.txt

The base image's torch, Transformer Engine and what was compiled with them (numpy, ...) must not be replaced.
"""

import re
import sys
from pathlib import Path

TESTED = {"megatron-core"}
"""Taken from constraints.txt even if the image has another: checkpoints and layouts were tested with it."""


def name_of(line: str) -> str:
    """The normalised name of a requirement."""
    return re.sub(r"[-_.]+", "-", re.split(r"[=<>!~;@ \[]", line.strip(), maxsplit=1)[0]).lower()


def merged(brought: list[str], pinned: list[str]) -> list[str]:
    """Lines of constraints: those `brought` by the image (`name==version`), then what else is `pinned`."""
    stays = [line for line in brought if "==" in line and name_of(line) not in TESTED]
    names = {name_of(line) for line in stays}
    return stays + [line for line in pinned if line and not line.startswith("#") and name_of(line) not in names]


if __name__ == "__main__":
    lines = sys.stdin.read().splitlines()
    print("\n".join(merged(lines, Path(sys.argv[1]).read_text().splitlines())))
