"""What is looked at before a workflow starts: can results be written, and are they dated in the future?"""

import datetime
import os
import time
from pathlib import Path

from unirefine.errors import UserError

SLACK = 60.0
"""Seconds that clocks of several machines may differ."""


def require_writable(*directories: Path | str) -> None:
    """Raises UserError for the first directory that exists and cannot be written: read-only, or another user's."""
    for directory in directories:
        if Path(directory).is_dir() and not os.access(directory, os.W_OK):
            read_only = os.statvfs(directory).f_flag & os.ST_RDONLY
            raise UserError(
                "is on a read-only file system" if read_only else "cannot be written by this user",
                where=f"{directory}/",
                fix="nothing was started; mount it for writing or give it another owner, or use another run.name",
            )


def warning_of_future(directory: Path | str, now: float | None = None) -> str | None:
    """One line about the file below `directory` that is dated furthest ahead of `now` (seconds; the clock), if any is.

    Snakemake compares dates: what was made from such a file looks out of date until the clock has passed it.
    """
    now = time.time() if now is None else now
    dates = ((path.lstat().st_mtime, path) for path in Path(directory).rglob("*") if path.is_file())
    date, path = max(dates, default=(now, None))
    if path is None or date <= now + SLACK:
        return None
    ahead = datetime.timedelta(seconds=round(date - now))
    return (
        f"{path} is dated {ahead} ahead of this machine's clock, so what is made from it looks out of date and is made"
        f" again; set the clock right, then: find {directory} -newermt now -exec touch {{}} +"
    )
