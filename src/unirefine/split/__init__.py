"""The split stage: which clusters validate, by keyed hash of the cluster's key or from a published id list."""
