"""Train ESM-2 on Megatron-core: from a shard directory and a config to a checkpoint that anyone can load.

`loop.train` is the program of one process; `launcher.launch` starts one such process per GPU (or CPU core).
"""
