"""Real proteins for benchmarks: the demo's UniProtKB entries."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "resources"))
from minisite.proteins import read_fasta
from minisite.site import DEMO


def proteins() -> list[str]:
    """Sequences of the demo, 20,000, in file order."""
    return [sequence for path in sorted(DEMO.glob("*.fasta.xz")) for _path, _header, sequence in read_fasta(path)]
