"""One writer at a time for a directory: a file lock, which the kernel releases when the process ends in any way.

Slurm jobs go on when the Snakemake that submitted them is killed. The next start submits them again, and without a lock
two processes on two nodes would write the same files.
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
"""Errors of flock on a file system without locks, such as Lustre without the mount option `flock`."""


def take(handle: IO, *, wait: bool = False) -> bool:
    """Lock an open file for this process. Returns False when another process has the lock and `wait` is not set.

    On a file system without locks it prints a warning and returns True.
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
    """Hold a lock on the file `path` inside the block. The file is created if need be, and names its last holder.

    When another process holds the lock: with `wait` print one line and wait until it ends, else raise UserError. When
    the block fails and has written nothing, the directories that were made for the lock are deleted again.
    """
    made = [directory for directory in path.parents if not directory.exists()]
    with _locked(path, wait=wait) as handle:
        with contextlib.suppress(OSError):  # a full disk: the lock is valid without the name
            handle.truncate(0)
            handle.write(_this_process())
            handle.flush()
        try:
            yield
        except BaseException:
            if made and list(path.parent.iterdir()) == [path]:
                with contextlib.suppress(OSError):
                    path.unlink()
                    for directory in made:
                        directory.rmdir()
            raise


def _locked(path: Path, *, wait: bool) -> IO:
    """The file `path`, open and locked."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a+")
        try:
            if not take(handle):
                _announce(handle, path, wait=wait)
                take(handle, wait=True)
            if path.exists() and os.path.samestat(os.fstat(handle.fileno()), path.stat()):
                return handle
        except BaseException:
            handle.close()
            raise
        handle.close()  # its holder has deleted it meanwhile


def _announce(handle: IO, path: Path, *, wait: bool) -> None:
    """Say who holds the lock. Raises UserError unless `wait`."""
    handle.seek(0)
    holder = handle.read().strip() or "another process"
    if not wait:
        raise UserError(
            f"another run is writing here: {holder}",
            where=path.parent,
            fix="wait for it, stop it, or write to another directory",
        )
    print(
        f"unirefine: {path.parent}: {holder} is writing here; waiting for it to end",
        file=sys.stderr,
        flush=True,
    )


def _this_process() -> str:
    job = os.environ.get("SLURM_JOB_ID")
    return f"process {os.getpid()} on {socket.gethostname()}{f' (Slurm job {job})' if job else ''}\n"
