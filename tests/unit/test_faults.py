"""Real faults of system calls, as the libraries that write our files raise them."""

import errno
import os
import sys
from pathlib import Path
from traceback import StackSummary

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from forked import Forked, completed
from safetensors.torch import save_file
from torch.distributed.checkpoint.api import CheckpointException

from unirefine.errors import UserError
from unirefine.faults import as_user_error

LOST = (
    errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EREMOTEIO, errno.ENODEV,
)  # fmt: skip


@pytest.mark.parametrize("number", LOST)
def test_a_lost_file_system_is_named_as_such(number):
    line = as_user_error(OSError(number, "x", "a.bin")).line()
    assert line == (
        f"a.bin: {os.strerror(number).lower()}; this machine has lost that file system, or its disk fails: repair that"
        " and run the stage again; incomplete files are ignored"
    )


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_space_is_named_as_such(number):
    assert "free some space and run the stage again" in as_user_error(OSError(number, "x", "a.bin")).line()


@pytest.mark.parametrize("bug", [ZeroDivisionError(), OSError("no number"), OSError(errno.EBADF, "x"), KeyError("y")])
def test_a_bug_is_not_a_user_error(bug):
    assert as_user_error(bug) is None


def test_a_user_error_is_returned_as_it_is():
    error = UserError("bad", where="x")
    assert as_user_error(error) is error


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: np.empty(1 << 60, np.uint8),
        lambda: torch.empty(1 << 50),
        lambda: pa.allocate_buffer(1 << 60),
        lambda: bytearray(1 << 60),
    ],
)
def test_no_memory_is_one_line_whatever_library_asks_for_it(allocate):
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        allocate()
    line = as_user_error(caught.value).line()
    assert line.startswith("out of memory (") and line.endswith(
        "give it more memory, or fewer threads, or a smaller batch"
    )


def test_a_fault_in_a_checkpoint_is_that_of_the_rank_that_failed():
    inner = OSError(errno.ENOSPC, "x", "__0_0.distcp")
    error = CheckpointException("save", {0: (inner, StackSummary())})
    assert as_user_error(error).line().startswith("__0_0.distcp: no space left on device; free some space")
    worker = RuntimeError("Worker failure: [Errno 28] No space left on device")
    line = as_user_error(CheckpointException("save", {0: (worker, StackSummary())})).line()
    assert line.startswith("the checkpoint: no space left on device; free some space")
    assert as_user_error(CheckpointException("load", {0: (KeyError("x"), StackSummary())})) is None


def write_parquet(path):
    pq.write_table(pa.table({"x": list(range(200_000))}), path, compression="none")


WRITERS = {
    "python": lambda path: path.write_bytes(bytes(1 << 20)),
    "pyarrow": write_parquet,
    "polars": lambda path: pl.DataFrame({"x": range(200_000)}).write_parquet(path, compression="uncompressed"),
    "safetensors": lambda path: save_file({"x": torch.zeros(1 << 18)}, path),
}


@pytest.mark.parametrize("library", WRITERS)
def test_a_file_that_cannot_grow_is_one_line_whatever_library_writes(tmp_path, library):
    """In a process of its own whose files may have 64 kB."""
    done = completed(Forked(__file__, [library, tmp_path / "x"], file_size=1 << 16), timeout=60)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
    assert "file too large; free some space and run the stage again" in done.stdout


if __name__ == "__main__":
    try:
        WRITERS[sys.argv[1]](Path(sys.argv[2]))
    except Exception as error:
        print(as_user_error(error) or f"a traceback of {error!r}")
