"""Lets test modules use the small shards of the distributed tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "distributed"))

from shard_fixture import shards  # noqa: F401 - a fixture
