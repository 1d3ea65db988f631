"""Puts the programs for a GPU on the import path, and what they import."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("tests/gpu", "tests/distributed", "tests/unit/model", "bench")]
