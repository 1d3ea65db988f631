"""Safetensors files, opened in one place: what is missing or damaged is one clear line."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from unirefine.errors import UserError

_FIX = "get the file again, or export the model again"


class WeightsFile:
    """The tensors of one safetensors file, read one at a time."""

    def __init__(self, path: Path) -> None:
        """Raises UserError when it is missing or is no safetensors file."""
        self.path = path
        if not path.is_file():
            raise UserError("no such file", where=path, fix="only safetensors can be read")
        with self._named():
            self._opened = safe_open(path, framework="pt")
            self.names: list[str] = list(self._opened.keys())

    def tensor(self, name: str) -> torch.Tensor:
        """One tensor, on the CPU."""
        with self._named():
            return self._opened.get_tensor(name)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (SafetensorError, ValueError, RuntimeError, TypeError) as error:
            raise UserError(f"not a whole safetensors file ({error})", where=self.path, fix=_FIX) from None


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a file, on the CPU. Raises UserError as WeightsFile does."""
    file = WeightsFile(path)
    return {name: file.tensor(name) for name in file.names}
