"""Token shards, read back: open, verify, look up. `ShardDataset` is their form for torch."""

import importlib
from typing import TYPE_CHECKING, Any

from unirefine.dataset.reader import IndexedFiles, Shards, Side, open_shards

if TYPE_CHECKING:
    ShardDataset: Any

__all__ = ["IndexedFiles", "ShardDataset", "Shards", "Side", "open_shards"]


def __getattr__(name: str) -> Any:
    """`ShardDataset` is imported when it is asked for: it needs torch, and the data half has none."""
    if name != "ShardDataset":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return importlib.import_module("unirefine.loading.dataset").ShardDataset
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportError("ShardDataset needs torch: pip install torch, or 'unirefine[train]'") from error
