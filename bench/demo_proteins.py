"""Real proteins for benchmarks: the demo's UniProtKB entries."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "resources"))
from minisite.site import DEMO

from unirefine.core.fasta import read_entries


def proteins() -> list[str]:
    """Sequences of the demo, 20,000, in file order."""
    return [sequence for path in sorted(DEMO.glob("*.fasta.xz")) for _header, sequence, _line in read_entries(path)]
