"""Puts this directory on the import path, and prints the seed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from mutations import MUTATIONS, SEED


def pytest_report_header() -> str:
    """How to repeat a run."""
    return f"fuzz: {MUTATIONS} mutations, UNIREFINE_FUZZ_SEED={SEED} (UNIREFINE_FUZZ=N for another number)"
