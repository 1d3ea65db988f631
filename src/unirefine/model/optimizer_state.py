"""The distributed optimizer's state in a checkpoint: whole tensors, each in the hands of one rank only.

Megatron lays the parameters of a bucket end to end and cuts the row into equal pieces, one per rank of DP x CP, so a
piece begins and ends inside a parameter. Its own format that loads at any layout (`fully_reshardable`) gathers fp32
weights and both moments of all of them in the memory of every rank. Here each parameter is given to one of the ranks
that hold pieces of it, the one with the least to write so far; the others send it theirs. Names and shapes are those
of Megatron's format, whose loading is kept.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from megatron.core.dist_checkpointing.mapping import ShardedTensor
from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer

KEYS = ("param", "exp_avg", "exp_avg_sq")
"""What is kept per parameter: fp32 weights, Adam's first and second moments."""


class Span(NamedTuple):
    """Where a parameter lies in its bucket."""

    start: int
    """First element."""
    end: int
    """Behind the last one."""
    piece: int
    """Elements of the bucket per rank."""

    def holders(self) -> range:
        """Ranks that hold some of it."""
        return range(self.start // self.piece, (self.end - 1) // self.piece + 1)

    def part(self, rank: int) -> slice:
        """Which elements of the parameter `rank` holds."""
        begin, end = max(self.start, rank * self.piece), min(self.end, (rank + 1) * self.piece)
        return slice(begin - self.start, end - self.start)


def share_out(part: Any) -> None:
    """Let `part` (one of Megatron's optimizers) describe its state as above, if it is a distributed optimizer."""
    if isinstance(part, DistributedOptimizer):
        part.sharded_param_state_fully_reshardable = lambda weights, loading=False, metadata=None: _state(
            part, weights, loading=loading
        )


def owners(spans: Sequence[Span], ranks: int) -> list[int]:
    """The rank that writes each parameter; every rank comes to the same answer."""
    loads, chosen = [0] * ranks, []
    for span in spans:
        chosen.append(min(span.holders(), key=loads.__getitem__))
        loads[chosen[-1]] += span.end - span.start
    return chosen


def _state(part: DistributedOptimizer, weights: dict[str, ShardedTensor], *, loading: bool) -> dict[int, dict]:
    """{number of the parameter: {key: its tensor}}: on saving, of the parameters that this rank writes; on loading, of
    those that it holds a piece of. All ranks of the optimizer's group call it together.
    """
    described = {tensor.data: tensor for tensor in weights.values()}
    group = part.data_parallel_group
    parameters, spans = [], []
    for buffer in part.buffers:
        for parameter, (start, end, bucket_id) in buffer.param_index_map.items():
            bucket = buffer.buckets[bucket_id]
            parameters.append(parameter)
            spans.append(Span(start - bucket.offset, end - bucket.offset, bucket.grad_data.numel() // group.size()))
    state: dict[int, dict] = {}
    # Megatron finds a parameter by its number when it loads
    for number, (parameter, span, owner) in enumerate(zip(parameters, spans, owners(spans, group.size()), strict=True)):
        if group.rank() not in span.holders():
            continue
        whole = described[parameter]
        if loading:
            tensors = {key: torch.empty(whole.data.shape, dtype=torch.float32) for key in KEYS}
        else:
            mine = part._get_main_param_and_optimizer_states(parameter)
            tensors = {key: _collect(mine[key].detach(), span, owner, group) for key in KEYS}
        if loading or group.rank() == owner:
            state[number] = {
                key: replace(
                    whole,
                    key=f"optimizer.state.{key}.{whole.key}",
                    data=tensor.view(whole.data.shape),
                    dtype=tensor.dtype,
                    replica_id=(*whole.replica_id[:2], int(group.rank() != owner)),
                )
                for key, tensor in tensors.items()
            }
    return state


def _collect(mine: torch.Tensor, span: Span, owner: int, group: torch.distributed.ProcessGroup) -> torch.Tensor:
    """On rank `owner` of `group` a whole flat parameter, on the CPU if it had to be put together; elsewhere `mine`,
    this rank's piece of it.
    """
    others = [rank for rank in span.holders() if rank != owner]
    if not others:
        return mine
    peers = torch.distributed.get_process_group_ranks(group)
    whole = mine
    if group.rank() != owner:
        transfers = [torch.distributed.P2POp(torch.distributed.isend, mine, peers[owner], group)]
    else:
        whole = mine.new_empty(span.end - span.start)
        whole[span.part(owner)] = mine
        transfers = [
            torch.distributed.P2POp(torch.distributed.irecv, whole[span.part(rank)], peers[rank], group)
            for rank in others
        ]
    for request in torch.distributed.batch_isend_irecv(transfers):
        request.wait()
    return whole.cpu() if group.rank() == owner else mine
