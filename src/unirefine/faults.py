"""Faults of the machine (disk, quota, mount, limits) as one line that says what to do. Bugs keep their traceback."""

import errno
import os
import re

from unirefine.errors import UserError

_NO_SPACE = "free some space and run the stage again; no incomplete file was left"
_NO_ANSWER = (
    "this machine has lost that file system, or its disk fails: repair that and run the stage again; incomplete files"
    " are ignored"
)
_ADVICE = {
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG): _NO_SPACE,
    (errno.EACCES, errno.EPERM): "check the permissions of the directory",
    (errno.EROFS,): "mount it for writing and run the stage again",
    (errno.ENOENT,): "run the stage that writes it, or see whether this machine has lost its directory",
    (errno.EMFILE, errno.ENFILE): "raise `ulimit -n`",
    (errno.ENOMEM,): "give the stage more memory or fewer threads",
    (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.ELOOP): "check the path",
    (
        errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EREMOTEIO, errno.EHOSTDOWN, errno.EHOSTUNREACH,
        errno.ENETDOWN, errno.ENETUNREACH, errno.ENODEV, errno.ENXIO, errno.ESHUTDOWN, errno.ECONNRESET,
        errno.ECONNREFUSED, errno.ECONNABORTED, errno.EAGAIN, errno.EBUSY, errno.ENOLCK, errno.EUCLEAN,
    ): _NO_ANSWER,
}  # fmt: skip
_ADVICE_OF = {number: advice for numbers, advice in _ADVICE.items() for number in numbers}
EXTRAS = {
    **dict.fromkeys(
        ("torch", "megatron", "transformers", "safetensors", "tensorboard", "huggingface_hub", "matplotlib", "jinja2"),
        "train",
    ),
    "pyhmmer": "designs",
    "rocrate": "crate",
    **dict.fromkeys(("Bio", "gemmi"), "structures"),
    "wandb": "wandb",
}
"""The extra of unirefine (pyproject.toml) that installs a module which `pip install unirefine` leaves out."""
_IN_TEXT = re.compile(r"\(os error (\d+)\)")  # how Rust libraries (polars, safetensors) report errno


def as_user_error(error: BaseException) -> UserError | None:
    """The UserError for a fault: the error itself, or one made from errno or a missing extra. None for a bug.

    >>> as_user_error(OSError(errno.ESTALE, "", "clusters.parquet")).where
    'clusters.parquet'
    >>> as_user_error(ZeroDivisionError()) is None
    True
    """
    if isinstance(error, UserError):
        return error
    module = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if extra := EXTRAS.get(module):
        return UserError(f"{module} is not installed", fix=f"pip install 'unirefine[{extra}]'")
    number = _system_error(error)
    advice = _ADVICE_OF.get(number)
    if advice is None:
        return None
    # pyarrow names the file only in the message, if at all
    where = getattr(error, "filename", None) or _named_in(str(error)) or "a file"
    return UserError(os.strerror(number).lower(), where=where, fix=advice)


def _system_error(error: BaseException) -> int:
    """The errno of an exception; 0 where it has none."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _IN_TEXT.search(str(error))
    return int(found[1]) if found is not None else 0


def _named_in(text: str) -> str | None:
    found = re.search(r"file '([^']+)'", text)
    return found[1] if found is not None else None
