"""How a result was made, for those who read it later: the command, the time, the CPU."""

import datetime
import os
import platform
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

COMMAND = "UNIREFINE_COMMAND"
"""Environment variable: the command that started the workflow, or the training, of which this process is a part."""
_SECRET = re.compile(r"^--.*(secret|key|token|password|credential)")
"""Names of options whose values are nobody else's business."""
CPU_FACTS = Path("/proc/cpuinfo")
"""Linux's description of each core."""


def command() -> str:
    """The command in COMMAND, else that of this process."""
    return os.environ.get(COMMAND) or without_secrets(["unirefine", *sys.argv[1:]])


def without_secrets(words: Sequence[str]) -> str:
    """A command as it is typed, with `***` for the values of options such as --storage-s3-secret-key.

    Results are published, with the command in them.
    """
    shown, secret = [], False
    for word in words:
        name, equals, _value = word.partition("=")
        hidden = secret and not word.startswith("-")
        secret = bool(_SECRET.search(name)) and not equals
        shown.append("***" if hidden else f"{name}=***" if equals and _SECRET.search(name) else word)
    return shlex.join(shown)


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
