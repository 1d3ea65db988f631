"""Which clusters validate: by keyed hash of the cluster's key, or from a published id list."""

from unirefine.split.assign import exact_floor, sides_by_hash, smallest_hashes
from unirefine.split.run import Counts, run_split

__all__ = ["Counts", "exact_floor", "run_split", "sides_by_hash", "smallest_hashes"]
