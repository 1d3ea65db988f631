"""A Megatron-core loop: parallel state, DDP, optimizer and pipeline schedule on packed batches of ShardDataset.

    torchrun --nproc-per-node 2 examples/megatron_loop.py results/demo/shard --steps 20 --tensor 2

`unirefine.megatron` makes Megatron-core run without a GPU; with one it changes nothing. The loss of a step is the mean
over the chosen positions of all ranks, so it is the same at every layout.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from unirefine.megatron import platform

import torch
from megatron.core import parallel_state
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads
from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer
from megatron.core.pipeline_parallel import get_forward_backward_func
from megatron.core.utils import get_model_config

from unirefine.config import Train
from unirefine.dataset import ShardDataset
from unirefine.model.esm2 import build_esm2


def forward_step(batches: Iterator[dict], model: torch.nn.Module):
    """What Megatron's schedules call: the output of this stage, and the loss of the last one."""
    batch = next(batches)

    def loss(losses: torch.Tensor):
        total, chosen = losses.sum(), (batch["labels"] != -100).sum()
        return total, chosen.to(torch.int32), {"loss": torch.stack([total.detach().double(), chosen.double()])}

    return model(batch["input_ids"], batch["cu_seqlens"], batch["labels"]), loss


def build(config: Train):
    """(model in Megatron's DDP, optimizer)"""
    model = build_esm2(config.model, config)
    settings = get_model_config(model)
    ddp = DistributedDataParallelConfig(grad_reduce_in_fp32=True, use_distributed_optimizer=True)
    wrapped = DistributedDataParallel(config=settings, ddp_config=ddp, module=model)
    adam = OptimizerConfig(
        optimizer="adam", lr=config.optimizer.lr, adam_beta2=0.98, clip_grad=1.0, use_distributed_optimizer=True,
        params_dtype=torch.float32,
    )  # fmt: skip
    optimizer = get_megatron_optimizer(adam, [wrapped])
    settings.grad_scale_func = optimizer.scale_loss
    settings.finalize_model_grads_func = finalize_model_grads
    return wrapped, optimizer


def main() -> None:
    """Train; rank 0 prints every loss."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8, help="samples of a step")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--tensor", type=int, default=1, help="tensor parallel size")
    arguments = parser.parse_args()
    config = Train.model_validate(
        {
            "model": {"preset": None, "layers": arguments.layers, "hidden": arguments.hidden, "heads": 4},
            "parallel": {"processes_per_node": platform.world_size(), "tensor": arguments.tensor},
            "precision": "fp32",
            "global_batch": arguments.batch,
            "micro_batch": 1,
        }
    )
    platform.initialize(config.parallel, config.seed)
    model, optimizer = build(config)
    ranks = parallel_state.get_data_parallel_world_size()
    loader = ShardDataset(arguments.shards, max_tokens=arguments.max_tokens).loader(
        arguments.batch // ranks, packed=True, rank=parallel_state.get_data_parallel_rank(), ranks=ranks
    )
    batches = iter(loader)
    for step in range(1, arguments.steps + 1):
        model.zero_grad_buffer()
        optimizer.zero_grad()
        batch = next(batches, None)
        if batch is None:  # the next epoch
            batches = iter(loader)
            batch = next(batches)
        reported = get_forward_backward_func()(
            forward_step_func=forward_step, data_iterator=iter([batch]), model=[model], num_microbatches=1,
            seq_length=arguments.max_tokens, micro_batch_size=1, forward_only=False,
        )  # fmt: skip
        optimizer.step()
        sums = sum((one["loss"] for one in reported), torch.zeros(2, dtype=torch.float64))
        torch.distributed.all_reduce(sums, group=parallel_state.get_data_parallel_group())
        if torch.distributed.get_rank() == 0:
            print(f"step {step} loss {(sums[0] / sums[1]).item():.6f}", flush=True)
    platform.shutdown()


if __name__ == "__main__":
    main()
