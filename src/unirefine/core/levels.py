"""Names that every stage shares: the two levels of UniRef, the sides of a split, the stages of the workflow."""

import numpy as np

LEVELS = ("uniref50", "uniref90")
"""A UniRef50 cluster is made of UniRef90 members. A lab's own FASTA has the second level only."""

TRAIN, VALIDATION, TEST = 0, 1, 2
"""Sides of a split as `split.parquet` holds them: one uint8 per cluster."""
REMOVED = 255
"""On no side: decontamination removed the cluster."""
SIDES = ("train", "validation", "test")
"""Names of sides 0, 1, 2."""

NONE = np.uint32(0xFFFFFFFF)
"""A row number that stands for no row. Files of 2^32 - 1 rows are refused."""

DATA_STAGES = ("release", "records", "curate", "cluster", "split", "decontaminate", "shard")
"""The data half, in the order of the workflow: what one run can share with another."""
STAGES = (*DATA_STAGES, "train", "evaluate", "embed", "cards", "report")
"""All stages, in the order of the workflow."""
