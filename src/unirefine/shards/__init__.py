"""Token shards in Megatron's indexed format: build, verify, open, look up."""

from unirefine.shards.reader import IndexedFiles, Shards, Side, open_shards

__all__ = ["IndexedFiles", "Shards", "Side", "open_shards"]
