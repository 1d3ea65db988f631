"""`python killed.py N WORDS...`: `unirefine WORDS...`, killed when its N-th file is complete but not renamed yet."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from unirefine.cli.main import main

HERE = Path(__file__)


def kill_at(count: int) -> None:
    """Let the `count`-th renaming of a file in this process be its end, as `kill -9` is."""
    rename, done = Path.replace, []

    def replace(self: Path, target: Any) -> Path:
        done.append(target)
        if len(done) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(self, target)

    Path.replace = replace


if __name__ == "__main__":
    kill_at(int(sys.argv[1]))
    raise SystemExit(main(sys.argv[2:]))
