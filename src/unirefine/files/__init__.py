"""How things lie on disk: atomic writes, locks, hashes, counts, file names, lineage."""
