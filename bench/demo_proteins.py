"""Real proteins for benchmarks: the demo's UniProtKB entries."""

import lzma
from pathlib import Path

DEMO = Path(__file__).parents[1] / "resources" / "demo"


def proteins() -> list[str]:
    """Sequences of the demo, about 20,000, in file order."""
    sequences = []
    for path in sorted(DEMO.glob("uniprotkb-*.fasta.xz")):
        with lzma.open(path, "rt") as handle:
            for entry in handle.read().split(">")[1:]:
                _header, *lines = entry.splitlines()
                sequences.append("".join(lines))
    return sequences
