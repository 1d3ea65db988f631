"""Masked samples from shards: compiled pure functions of (seed, index), without shuffle buffer or worker state."""

from unirefine.core.prefetch import prefetch
from unirefine.sampling.stream import Batch, FixedStream, PackedBatch, SampleStream, Windows, fixed_batch

__all__ = ["Batch", "FixedStream", "PackedBatch", "SampleStream", "Windows", "fixed_batch", "prefetch"]
