"""One writer for a directory: a lock that the kernel releases when its process ends, however it ends.

Slurm jobs run on when the Snakemake that submitted them is killed. The next start submits them a second time, and then
two processes on two nodes write the same files.
"""

import contextlib
import errno
import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from unirefine.errors import UserError

NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
"""What flock says on a file system that has no locks, as Lustre does without its mount option `flock`."""


def take(handle: IO, *, wait: bool = False) -> bool:
    """Lock an open file for this process. False: another process has it, and `wait` was not set.

    Where the file system has no locks nothing is locked, a warning is printed, and the answer is True.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK:
            return False
        if error.errno not in NO_LOCKS:
            raise
        print(
            f"unirefine: warning: {handle.name}: this file system has no file locks ({error.strerror});"
            " nothing keeps a second run from writing here at the same time",
            file=sys.stderr,
        )
    return True


@contextlib.contextmanager
def exclusive(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold the lock file `path`, which is made and stays; it names its last holder.

    While another process has it: with `wait` say so in one line and wait for it to end, else raise UserError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as handle:
        if not take(handle):
            handle.seek(0)
            who = handle.read().strip() or "another process"
            if not wait:
                raise UserError(
                    f"another run is writing here: {who}",
                    where=path.parent,
                    fix="wait for it, stop it, or write to another directory",
                )
            print(
                f"unirefine: {path.parent}: {who} is writing here; waiting for it to end", file=sys.stderr, flush=True
            )
            take(handle, wait=True)
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a name too
            handle.truncate(0)
            handle.write(_me())
            handle.flush()
        yield


def _me() -> str:
    job = os.environ.get("SLURM_JOB_ID")
    return f"process {os.getpid()} on {socket.gethostname()}{f' (Slurm job {job})' if job else ''}\n"
