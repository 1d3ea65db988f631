"""The curate stage: which records are removed, and why."""
