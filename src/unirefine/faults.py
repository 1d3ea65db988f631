"""Faults of the machine (disk, quota, mount, limits) as one line that says what to do. Bugs keep their traceback."""

import errno
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from unirefine.errors import UserError, no_directory

_NO_SPACE = "free some space and run the stage again; no incomplete file was left"
_NO_ANSWER = (
    "this machine has lost that file system, or its disk fails: repair that and run the stage again; incomplete files"
    " are ignored"
)
_OUT_OF_MEMORY = "give it more memory, or fewer threads, or a smaller batch"
_ADVICE = {
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG): _NO_SPACE,
    (errno.EACCES, errno.EPERM): "check the permissions of the directory",
    (errno.EROFS,): "mount it for writing and run the stage again",
    (errno.ENOENT,): "run the stage that writes it, or see whether this machine has lost its directory",
    (errno.EMFILE, errno.ENFILE): "raise `ulimit -n`",
    (errno.ENOMEM,): _OUT_OF_MEMORY,
    (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.ELOOP): "check the path",
    (
        errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EREMOTEIO, errno.EHOSTDOWN, errno.EHOSTUNREACH,
        errno.ENETDOWN, errno.ENETUNREACH, errno.ENODEV, errno.ENXIO, errno.ESHUTDOWN, errno.ECONNRESET,
        errno.ECONNREFUSED, errno.ECONNABORTED, errno.EAGAIN, errno.EBUSY, errno.ENOLCK, errno.EUCLEAN,
    ): _NO_ANSWER,
}  # fmt: skip
_ADVICE_OF = {number: advice for numbers, advice in _ADVICE.items() for number in numbers}
_OF_A_PATH = (
    errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY,
    errno.ENAMETOOLONG, errno.ELOOP,
)  # fmt: skip
"""A wrong path gives these: outside faults only where the path is one that the user named, else bugs of ours."""
_TEMPORARY = ("tmp", "unirefine-")
"""How the names of our temporary files and directories begin."""
EXTRAS = {
    **dict.fromkeys(
        ("torch", "megatron", "transformers", "safetensors", "tensorboard", "huggingface_hub", "matplotlib", "jinja2"),
        "train",
    ),
    "transformer_engine": "gpu",
    "pyhmmer": "designs",
    "rocrate": "crate",
    "mlcroissant": "croissant",
    **dict.fromkeys(("Bio", "gemmi"), "structures"),
    "wandb": "wandb",
    **dict.fromkeys(("accelerate", "peft", "sklearn"), "finetune"),
    "umap": "map",
}
"""The extra of unirefine (pyproject.toml) that installs a module which `pip install unirefine` leaves out."""
LOST_PEER = "lost the connection to another process of the job"
_OF_A_PEER = ("DistBackendError", "DistNetworkError", "DistStoreError")
"""torch's errors of NCCL and of the store through which processes meet. Gloo's are a RuntimeError with its text."""
_OF_A_GPU = ("no kernel image is available", "driver version is insufficient", "CUDA-capable device(s) is/are busy")
"""What CUDA says of a GPU that this torch or this process cannot use. Its other errors may be bugs of ours."""
_IN_TEXT = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]")
"""How Rust libraries (polars, safetensors) quote an errno, and Megatron that of a process that writes a checkpoint."""


def as_user_error(error: BaseException, named: Iterable[Path | str] = ()) -> UserError | None:
    """The UserError for a fault: the error itself, or one made from errno, from a lack of memory or of an extra. None
    for a bug.

    named: files and directories that the user named. What a path alone can be to blame for (it does not exist, it is a
    directory, permissions) is a fault only at or below one of them, and below the directory for temporary files.

    >>> as_user_error(OSError(errno.ESTALE, "", "clusters.parquet")).where
    'clusters.parquet'
    >>> as_user_error(ZeroDivisionError()) is None
    True
    >>> as_user_error(FileNotFoundError(errno.ENOENT, "", "a/b"), named=["a"]).where
    'a/b'
    >>> as_user_error(FileNotFoundError(errno.ENOENT, "", "c/b"), named=["a"]) is None
    True
    """
    elsewhere, error = "a file" if _root(error) is error else "the checkpoint", _root(error)
    if isinstance(error, UserError):
        return error
    module = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if extra := EXTRAS.get(module):
        return UserError(f"{module} is not installed", fix=f"pip install 'unirefine[{extra}]'")
    if _is_out_of_memory(error):
        return UserError(f"out of memory ({_in_short(error)})", fix=_OUT_OF_MEMORY)
    if _is_lost_peer(error):
        return UserError(
            f"{LOST_PEER} ({_in_short(error)})",
            fix="see what ended the others; start again to continue, a training from its newest checkpoint",
        )
    if isinstance(error, RuntimeError) and any(text in str(error) for text in _OF_A_GPU):
        return UserError(
            f"the GPU cannot be used ({_in_short(error)})",
            fix="install a torch that is built for this GPU and its driver; see nvidia-smi for who uses it",
        )
    if isinstance(error, RuntimeError) and "cannot cache function" in str(error):  # numba, at import
        return UserError(
            "no directory to keep compiled code in", fix="set TMPDIR or NUMBA_CACHE_DIR to one that can be written"
        )
    if isinstance(error, FileNotFoundError) and "No usable temporary directory" in str(error):
        return UserError("no directory for temporary files can be written", fix="set TMPDIR to one that can")
    number = _system_error(error)
    advice = _ADVICE_OF.get(number)
    if advice is None:
        return None
    # pyarrow names the file only in the message, if at all
    where = getattr(error, "filename", None) or _named_in(str(error))
    where = os.fsdecode(where) if isinstance(where, bytes) else where
    if number in _OF_A_PATH and not _is_below(where, named):
        return None
    # a directory that is to be made or locked
    is_file = number == errno.EEXIST and where is not None and Path(where).is_file()
    what = no_directory(Path(where)) if is_file else os.strerror(number).lower()
    return UserError(what, where=where or elsewhere, fix=advice)


def _root(error: BaseException) -> BaseException:
    """The error itself or, for torch's CheckpointException, that of the first rank that failed."""
    failures = getattr(error, "failures", None)
    if type(error).__name__ == "CheckpointException" and isinstance(failures, dict) and failures:
        first = failures[min(failures)]
        return first[0] if isinstance(first, tuple) else first  # (exception, its stack)
    return error


def _is_out_of_memory(error: BaseException) -> bool:
    """Python's, numpy's and Arrow's are a MemoryError; torch's are known by name, or by their text on a CPU."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
    )


def _is_lost_peer(error: BaseException) -> bool:
    return type(error).__name__ in _OF_A_PEER or (isinstance(error, RuntimeError) and "/gloo/transport/" in str(error))


def _in_short(error: BaseException) -> str:
    text = re.sub(r"^\[\S+\] ", "", " ".join(str(error).split()))  # gloo begins with its source file
    return text[:120] if text else type(error).__name__


def _is_below(where: object, named: Iterable[Path | str]) -> bool:
    """Whether a path is one of `named` or below one; also where the system keeps temporary files."""
    if not isinstance(where, str):
        return False
    path = _absolute(where)
    if any(path == root or root in path.parents for root in map(_absolute, filter(None, named))):
        return True
    temporary = _absolute(tempfile.tempdir or "/tmp")  # it may hold the whole checkout, so the name counts too
    return path.is_relative_to(temporary) and str(path.relative_to(temporary)).startswith(_TEMPORARY)


def _absolute(path: object) -> Path:
    """An absolute path without `..`. Nothing is looked up: the directory may be lost."""
    return Path(os.path.normpath(Path.cwd() / str(path)))


def _system_error(error: BaseException) -> int:
    """The errno of an exception; 0 where it has none."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _IN_TEXT.search(str(error))
    return int(found[1] or found[2]) if found is not None else 0


def _named_in(text: str) -> str | None:
    found = re.search(r"file '([^']+)'", text)
    return found[1] if found is not None else None
