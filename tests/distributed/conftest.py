"""Lets test modules import their neighbours (`launch`) and the model tests' oracles."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "unit" / "model")]

from train_shards import shards  # noqa: E402, F401 - a fixture
