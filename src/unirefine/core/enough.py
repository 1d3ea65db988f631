"""How many validation clusters are enough to say something."""

import math

FEW_CLUSTERS = 100


def few_clusters(clusters: int) -> str:
    """What to do about a validation side of fewer than FEW_CLUSTERS of `clusters` clusters."""
    fraction = math.ceil(100 * FEW_CLUSTERS / max(clusters, 1)) / 100
    if fraction > 0.5:
        return f"of {clusters:,} clusters in all more cannot be spared: add proteins, or trust its interval alone"
    return f"raise split.validation_fraction to {fraction:g}"
