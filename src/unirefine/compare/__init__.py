"""What differs between two runs: sequences, clusters, sides, validation."""
