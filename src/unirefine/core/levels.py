"""Names that all stages share: the two levels of UniRef, the sides of a split, the stages of the workflow."""

LEVELS = ("uniref50", "uniref90")
"""The members of a UniRef50 cluster are UniRef90 clusters. Your own FASTA has records at the second level only."""

TRAIN, VALIDATION, TEST = 0, 1, 2
"""Sides of a split in `split.parquet`, one uint8 for each cluster."""
REMOVED = 255
"""The side of a cluster that decontamination removed."""
NO_SIDE = 254
"""In place of a side: the source gives none."""
SIDES = ("train", "validation", "test")
"""Names of sides 0, 1, 2."""

DATA_STAGES = ("release", "records", "curate", "cluster", "split", "decontaminate", "shard")
"""The stages of the data half, in the order of the workflow. One run can share them with another."""
STAGES = (*DATA_STAGES, "train", "evaluate", "embed", "cards", "report")
"""All stages, in the order of the workflow."""
