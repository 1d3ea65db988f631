"""Masked samples from shards: pure functions of (seed, index), compiled, without shuffle buffers or worker state."""

from unirefine.core.prefetch import prefetch
from unirefine.sampling.stream import Batch, FixedStream, PackedBatch, SampleStream, Windows, fixed_batch

__all__ = ["Batch", "FixedStream", "PackedBatch", "SampleStream", "Windows", "fixed_batch", "prefetch"]
