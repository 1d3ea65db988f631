"""Shards as the shard stage's tests write them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "shard"))

from small_run import *  # noqa: F403 - fixtures
