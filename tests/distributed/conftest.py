"""Puts this directory (`launch`) and that of the model tests (`oracle`) on the import path."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "unit" / "model")]

from shard_fixture import shards  # noqa: E402, F401 - a fixture
