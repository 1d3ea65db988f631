"""`unirefine export`: the shards of a run in the formats that other trainers read."""
