"""Train ESM-2 on Megatron-core: from a shard directory and a config to a checkpoint that anyone can load.

`run.run` starts one process per GPU (or CPU core) with `launcher.launch`; each of them executes `loop.train`.
"""
