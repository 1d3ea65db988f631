"""How a result was made, for those who read it later: the command, the time, the CPU."""

import datetime
import os
import platform
import shlex
import sys
from pathlib import Path

COMMAND = "UNIREFINE_COMMAND"
"""Environment variable: the command that started the workflow, or the training, of which this process is a part."""
CPU_FACTS = Path("/proc/cpuinfo")
"""Linux's description of each core."""


def command() -> str:
    """The command in COMMAND, else that of this process."""
    return os.environ.get(COMMAND) or shlex.join(["unirefine", *sys.argv[1:]])


def now() -> str:
    """The date and time, UTC, as in `2026-09-02T10:15:00+00:00`."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def cpu_name() -> str:
    """The model of the CPU; where Linux names none, as on ARM, its architecture."""
    try:
        lines = CPU_FACTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    facts = (line.partition(":") for line in lines)
    return next((value.strip() for name, _colon, value in facts if name.strip() == "model name"), platform.machine())
