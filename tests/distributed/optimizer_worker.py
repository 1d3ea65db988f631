"""One rank of test_model_optimizer.py: train, save, train on; then load the checkpoint at another layout and train on.

Usage: optimizer_worker.py DIRECTORY HOP... with HOP = <layout>:<layout>; writes <hop>.pt from rank 0: the weights after
the last step, without and with the checkpoint in between, and how many optimizer values each rank had to write.
"""

import sys
from pathlib import Path

from unirefine.megatron import platform

import torch
from megatron.core import parallel_state as state
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads
from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer
from megatron.core.pipeline_parallel import get_forward_backward_func

from unirefine.config.training import Model, Parallel, Train
from unirefine.model import checkpoint, convert
from unirefine.model.batch import IGNORE, context_slice
from unirefine.model.esm2 import build_esm2

LAYOUTS = {
    "dp2": {},
    "tp2": {"tensor": 2},
    "pp2": {"pipeline": 2},
    "cp2": {"context": 2},
    "dp4": {},
    "tp2-dp2": {"tensor": 2},
    "pp2-cp2": {"pipeline": 2, "context": 2},
}
# hidden 48: no size is a multiple of 128 x DP, so that buckets are padded; three layers: uneven stages
SIZE = Model(preset=None, layers=3, hidden=48, heads=4)
# about one matrix a bucket: several buckets, and matrices that lie on every rank
BUCKET = 8_000


def main(directory: Path, hops: list[str]) -> None:
    for hop in hops:
        first, second = hop.split(":")
        model, optimizer = build(first)
        step(model, optimizer, 0)
        step(model, optimizer, 1)
        checkpoint.save(directory / f"{hop}-checkpoint", model, optimizer, extra={"step": 2})
        written = values_to_write(model, optimizer)
        step(model, optimizer, 2)
        expected = dict(convert.whole_tensors(model))
        model, optimizer = build(second)
        checkpoint.load(directory / f"{hop}-checkpoint", model, optimizer)
        step(model, optimizer, 2)
        got = dict(convert.whole_tensors(model))
        if torch.distributed.get_rank() == 0:
            torch.save((expected, got, written), directory / f"{hop}.pt")
    platform.shutdown()


def build(layout: str):
    parallel = Parallel(processes_per_node=platform.world_size(), **LAYOUTS[layout])
    train = Train(model=SIZE, parallel=parallel, precision="fp32", global_batch=parallel.data, micro_batch=1)
    platform.initialize(parallel, seed=0)
    module = build_esm2(train.model, train)
    ddp = DistributedDataParallelConfig(use_distributed_optimizer=True, overlap_grad_reduce=False, bucket_size=BUCKET)
    model = DistributedDataParallel(module.config, ddp, module)
    settings = OptimizerConfig(
        optimizer="adam", lr=1e-2, weight_decay=0.01, adam_beta2=0.98, use_distributed_optimizer=True, clip_grad=1.0
    )
    module.config.finalize_model_grads_func = finalize_model_grads
    return model, get_megatron_optimizer(settings, [model])


def values_to_write(model, optimizer) -> list[int]:
    """Optimizer values that each rank has in memory when it writes a checkpoint."""
    state = checkpoint._sharded_state(checkpoint.unwrap(model), optimizer, loading=False)["optimizer"]["param_state"]
    mine = sum(tensor.data.numel() for tensors in state.values() for tensor in tensors.values())
    everyone = [0] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyone, mine)
    return everyone


def step(model, optimizer, number: int) -> None:
    generator = torch.Generator().manual_seed(number)
    tokens = torch.randint(4, 24, (4, 16), generator=generator)
    rows = 4 // state.get_data_parallel_world_size()
    tokens = tokens[state.get_data_parallel_rank() * rows :][:rows]
    labels = torch.where(tokens > 12, tokens, IGNORE)

    def forward(_iterator, module):
        size, rank = state.get_context_parallel_world_size(), state.get_context_parallel_rank()
        count = (context_slice(labels, size=size, rank=rank) != IGNORE).sum().int()
        return module(tokens, labels=labels), lambda out: (out.sum(), count, {})

    model.zero_grad_buffer()
    optimizer.zero_grad()
    get_forward_backward_func()(
        forward_step_func=forward, data_iterator=None, model=[model], num_microbatches=1,
        seq_length=16, micro_batch_size=rows, forward_only=False,
    )  # fmt: skip
    optimizer.step()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
