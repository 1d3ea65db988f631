"""The fixtures of `small_run`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from small_run import *  # noqa: F403 - fixtures
