"""Outputs in a directory of the user's: an input, or a file of somebody else's, is never replaced."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from unirefine.errors import UserError


def refuse_overwriting(outputs: Mapping[Path, Callable[[Path], bool]], inputs: Iterable[Path]) -> None:
    """Raises UserError when a file that is about to be written is an input, or exists and was not written by us.

    outputs: the files, each with a function that tells of an existing file whether an earlier call has written it.
    inputs: files that the command reads; one that does not exist is passed over.
    """
    given = [path for path in inputs if path.exists()]
    for path, ours in outputs.items():
        if not os.path.lexists(path):
            continue
        if path.exists() and any(path.samefile(one) for one in given):
            raise UserError("an input, which the output would replace", where=path, fix="choose another --output")
        if not path.is_file() or not ours(path):
            raise UserError(
                "exists, and was not written by this command",
                where=path,
                fix="choose another --output, or move it away",
            )


def json_of(path: Path, keys: Iterable[str]) -> bool:
    """Whether a file is a JSON object with these keys."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(value, dict) and set(keys) <= set(value)


def array_header(path: Path) -> tuple[tuple[int, ...], np.dtype] | None:
    """Shape and dtype of a .npy file; None for another file."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return (array.shape, array.dtype) if isinstance(array, np.ndarray) else None
