"""Shards as torch's data sets, for training loops of others. `unirefine.dataset.ShardDataset` is its entry."""
