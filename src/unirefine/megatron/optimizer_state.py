"""The distributed optimizer's state in a checkpoint: each parameter is written whole, by one rank.

Megatron lays the parameters of a bucket end to end and cuts the row into equal pieces, one per rank of DP x CP, so a
piece begins and ends inside a parameter. Megatron's own format that loads at any layout (`fully_reshardable`) gathers
fp32 weights and both moments of all parameters in the memory of every rank. Here each parameter has an owner: of the
ranks that hold pieces of it, the one with the least to write so far. The others send it theirs. Names and shapes are
those of Megatron's format, so Megatron's loading is used.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from megatron.core.dist_checkpointing.mapping import ShardedTensor
from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer

KEYS = ("param", "exp_avg", "exp_avg_sq")
"""What is stored per parameter: fp32 weights, Adam's first and second moments."""


class Span(NamedTuple):
    """Where a parameter lies in its bucket, in elements."""

    start: int
    end: int
    per_rank: int
    """Elements of the bucket that each rank holds."""

    def ranks(self) -> range:
        """Ranks that hold some of the parameter."""
        return range(self.start // self.per_rank, (self.end - 1) // self.per_rank + 1)

    def held_by(self, rank: int) -> slice:
        """Elements of the parameter that `rank` holds."""
        begin, end = max(self.start, rank * self.per_rank), min(self.end, (rank + 1) * self.per_rank)
        return slice(begin - self.start, end - self.start)


def owners(spans: Sequence[Span], ranks: int) -> list[int]:
    """The rank that writes each parameter: a pure function, so every rank computes the same."""
    loads, chosen = [0] * ranks, []
    for span in spans:
        chosen.append(min(span.ranks(), key=loads.__getitem__))
        loads[chosen[-1]] += span.end - span.start
    return chosen


def sharded_state(
    optimizer: DistributedOptimizer, model_sharded_state_dict: dict[str, ShardedTensor], *, is_loading: bool
) -> dict[int, dict[str, ShardedTensor]]:
    """{number of the parameter: {key: its tensor}}: on saving, of the parameters that this rank writes; on loading, of
    those that it holds a piece of. Collective over the optimizer's group.

    `patches.optimizer_state_by_owner` makes it a method of Megatron's optimizer.
    """
    weights = {tensor.data: tensor for tensor in model_sharded_state_dict.values()}
    group = optimizer.data_parallel_group
    parameters, spans = [], []
    for buffer in optimizer.buffers:
        for parameter, (start, end, bucket_id) in buffer.param_index_map.items():
            bucket = buffer.buckets[bucket_id]
            parameters.append(parameter)
            spans.append(Span(start - bucket.offset, end - bucket.offset, bucket.grad_data.numel() // group.size()))
    state: dict[int, dict[str, ShardedTensor]] = {}
    # Megatron finds a parameter by its number when it loads
    for number, (parameter, span, owner) in enumerate(zip(parameters, spans, owners(spans, group.size()), strict=True)):
        if group.rank() not in span.ranks():
            continue
        weight = weights[parameter]
        if is_loading:
            tensors = {key: torch.empty(weight.data.shape, dtype=torch.float32) for key in KEYS}
        else:
            held = optimizer._get_main_param_and_optimizer_states(parameter)
            tensors = {key: _collect(held[key].detach(), span, owner, group) for key in KEYS}
        if is_loading or group.rank() == owner:
            state[number] = {
                key: replace(
                    weight,
                    key=f"optimizer.state.{key}.{weight.key}",
                    data=tensor.view(weight.data.shape),
                    dtype=tensor.dtype,
                    replica_id=(*weight.replica_id[:2], int(group.rank() != owner)),
                )
                for key, tensor in tensors.items()
            }
    return state


def _collect(held: torch.Tensor, span: Span, owner: int, group: torch.distributed.ProcessGroup) -> torch.Tensor:
    """On rank `owner` of `group` the whole flat parameter, on the CPU if it came from several ranks; on other ranks
    `held`, this rank's piece of it.
    """
    others = [rank for rank in span.ranks() if rank != owner]
    if not others:
        return held
    peers = torch.distributed.get_process_group_ranks(group)
    whole = held
    if group.rank() != owner:
        transfers = [torch.distributed.P2POp(torch.distributed.isend, held, peers[owner], group)]
    else:
        whole = held.new_empty(span.end - span.start)
        whole[span.held_by(owner)] = held
        transfers = [
            torch.distributed.P2POp(torch.distributed.irecv, whole[span.held_by(rank)], peers[rank], group)
            for rank in others
        ]
    for request in torch.distributed.batch_isend_irecv(transfers):
        request.wait()
    return whole.cpu() if group.rank() == owner else held
