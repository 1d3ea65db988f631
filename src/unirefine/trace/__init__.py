"""Follow one id through the files of a run: kept where, removed why, in which cluster, side, shard."""

from unirefine.trace.follow import Step, follow

__all__ = ["Step", "follow"]
