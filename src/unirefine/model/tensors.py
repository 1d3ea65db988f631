"""Files of tensors: safetensors, read with one line for what is damaged."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from unirefine.errors import UserError

LFS_POINTER = b"version https://git-lfs"


class SafetensorsFile:
    """An open safetensors file, of which only the header is in memory.

    Every method raises UserError when the file is missing, cut, empty, a pointer, or something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _explained(path):
            self._file = safe_open(path, framework="pt")
            self.names: list[str] = list(self._file.keys())

    def tensor(self, name: str) -> torch.Tensor:
        """A tensor, on the CPU."""
        with _explained(self.path):
            return self._file.get_tensor(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, from the header."""
        with _explained(self.path):
            return tuple(self._file.get_slice(name).get_shape())

    def kind(self, name: str) -> str:
        """dtype of a tensor as the format names it, from the header: F32, BF16, I64."""
        with _explained(self.path):
            return self._file.get_slice(name).get_dtype()


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise UserError("no such file", where=path, fix="only safetensors can be read") from None
    except SafetensorError as error:
        raise damaged(path, str(error)) from None


def damaged(path: Path, why: str) -> UserError:
    """The error for a file of weights that cannot be read: a pointer of Git LFS, empty, cut, or something else."""
    size = path.stat().st_size
    with path.open("rb") as file:
        pointer = file.read(len(LFS_POINTER)) == LFS_POINTER
    if pointer:
        return UserError("a Git LFS pointer, not the file", where=path, fix="run `git lfs pull` in its directory")
    return UserError(f"damaged or incomplete ({size:,} bytes; {why})", where=path, fix="get it again")
