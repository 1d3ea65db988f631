"""The read side of token shards: open, verify, look up."""

from unirefine.dataset.reader import IndexedFiles, Shards, Side, open_shards

__all__ = ["IndexedFiles", "Shards", "Side", "open_shards"]
