"""The fixtures of the shard stage's tests: what is read here is what that stage wrote."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "shard"))

from small_run import *  # noqa: F403 - fixtures
