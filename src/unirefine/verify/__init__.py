"""Whether files are still as they were written: shards, models, and the files of any stage."""
