"""The sides of a split, as `split.parquet` holds them: one uint8 per cluster."""

TRAIN, VALIDATION, TEST = 0, 1, 2
REMOVED = 255
"""Neither: the decontamination took the cluster out."""
SIDES = ("train", "validation", "test")
"""Names of sides 0, 1, 2."""
