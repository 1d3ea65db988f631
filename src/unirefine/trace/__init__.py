"""Follow one id through the files of a run: which stages kept it, which one removed it, its cluster, side and shard."""
