"""One rank of test_model_layouts.py: logits, loss and gradients of the same weights and batch at several layouts.

Usage: model_worker.py DIRECTORY CASE... where DIRECTORY holds hf-<size>/, tokens.pt, labels.pt; writes <case>.pt
(logits, loss, gradients) and the exported Hugging Face directory <case>-hf from rank 0.
"""

import sys
from pathlib import Path

from unirefine.megatron import platform

import torch
from megatron.core import parallel_state as state
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads
from megatron.core.pipeline_parallel import get_forward_backward_func

from unirefine.config.training import Parallel, Train
from unirefine.core.alphabet import PAD
from unirefine.model import batch, checkpoint, convert, huggingface
from unirefine.model.esm2 import build_esm2

LAYOUTS = {
    "dp2": {},
    "tp2": {"tensor": 2},
    "tp2-sp": {"tensor": 2, "sequence": True},
    "pp2": {"pipeline": 2},
    "cp2": {"context": 2},
    "tp4": {"tensor": 4},
    "pp3": {"pipeline": 3},
    "tp2-pp2": {"tensor": 2, "pipeline": 2},
    "tp2-sp-cp2": {"tensor": 2, "sequence": True, "context": 2},
    "pp2-cp2": {"pipeline": 2, "context": 2},
    "cp4": {"context": 4},
}


def main(directory: Path, cases: list[str]) -> None:
    """Case: <layout>/<size>/<padded|packed>[/recompute]."""
    for case in cases:
        layout, size, form, *options = case.split("/")
        run(directory, case.replace("/", "_"), LAYOUTS[layout], size, packed=form == "packed", options=options)
    platform.shutdown()


def run(directory: Path, name: str, layout: dict, size: str, *, packed: bool, options: list[str]) -> None:
    source = directory / f"hf-{size}"
    tokens, labels = torch.load(directory / "tokens.pt"), torch.load(directory / "labels.pt")
    parallel = Parallel(processes_per_node=platform.world_size(), **layout)
    platform.initialize(parallel, seed=0)
    rows = len(tokens) // parallel.data
    train = Train(
        model=huggingface.model_of(source), parallel=parallel, precision="fp32", global_batch=2 * parallel.data,
        micro_batch=1, recompute="full" if "recompute" in options else "none",
    )  # fmt: skip
    model = build_esm2(train.model, train)
    convert.load_huggingface(source, model)
    data_rank = state.get_data_parallel_rank()
    mine = slice(data_rank * rows, (data_rank + 1) * rows)
    share = Batch(tokens[mine], labels[mine], packed)

    logits = gather(forward(model.eval(), share), share)
    loss, gradients = gradients_of(model.train(), share)
    convert.export_huggingface(model, directory / f"{name}-hf")
    checkpoint.save(directory / f"{name}-checkpoint", model, extra={"case": name})
    with torch.no_grad():
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter.copy_(gradient)
    whole = dict(convert.whole_tensors(model))
    if torch.distributed.get_rank() == 0:
        torch.save({"logits": logits, "loss": loss, "gradients": whole}, directory / f"{name}.pt")


class Batch:
    """Rows of the batch, padded or as packed slots of the padded length."""

    def __init__(self, tokens: torch.Tensor, labels: torch.Tensor, packed: bool) -> None:
        self.rows = tokens.shape[0]
        self.bounds = None
        if packed:  # slots of different lengths: whatever of a row is only padding beyond a multiple of 8 goes
            lengths = [-(-n // 8) * 8 for n in (tokens != PAD).sum(1).tolist()]
            keep = torch.arange(tokens.shape[1]) < torch.tensor(lengths)[:, None]
            self.bounds = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
            self.keep, tokens, labels = keep, tokens[keep][None], labels[keep][None]
        self.tokens, self.labels = tokens, labels


def forward(model, share: Batch) -> torch.Tensor | None:
    """Local logits on the last stage, None elsewhere, through Megatron's own schedule."""
    found = []

    def step(_iterator, module):
        return module(share.tokens, share.bounds), lambda out: (found.append(out) or out.sum(), {})

    with torch.no_grad():
        get_forward_backward_func()(
            forward_step_func=step, data_iterator=None, model=[model], num_microbatches=1,
            seq_length=share.tokens.shape[1], micro_batch_size=share.tokens.shape[0], forward_only=True,
        )  # fmt: skip
    return found[0] if found else None


def gather(local: torch.Tensor | None, share: Batch) -> torch.Tensor | None:
    """Logits of the whole batch [b, s, 33] on rank 0 (packed: zeros where a row was cut)."""
    ranks = (state.get_data_parallel_rank(), state.get_context_parallel_rank(), state.get_tensor_model_parallel_rank())
    parts = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, (ranks, local, share))
    if torch.distributed.get_rank() != 0:
        return None
    size, rows = state.get_context_parallel_world_size(), []
    for rank in range(state.get_data_parallel_world_size()):
        held = {cp: (out, s) for (dp, cp, tp), out, s in parts if dp == rank and tp == 0 and out is not None}
        piece = held[0][1]
        bounds = batch.row_bounds(piece.tokens) if piece.bounds is None else piece.bounds
        flat = torch.empty(piece.tokens.numel(), 33)
        for cp in range(size):
            index = batch.context_index(bounds, size, cp) if size > 1 else slice(None)
            flat[index] = held[cp][0].reshape(-1, 33)
        if piece.bounds is None:
            rows.append(flat.view(piece.rows, -1, 33))
        else:
            rows.append(torch.zeros(*piece.keep.shape, 33))
            rows[-1][piece.keep] = flat
    return torch.cat(rows)


def gradients_of(model, share: Batch) -> tuple[float, list[torch.Tensor]]:
    """Mean loss of the whole batch, and this rank's gradients of it, by Megatron's DDP in two micro-batches."""
    config = model.config
    wrapped = DistributedDataParallel(config, DistributedDataParallelConfig(overlap_grad_reduce=False), model)
    config.finalize_model_grads_func = finalize_model_grads
    if share.bounds is None:
        half = share.rows // 2
        micro = [(share.tokens[part], share.labels[part], None) for part in (slice(half), slice(half, None))]
    else:
        middle = int(share.bounds[share.rows // 2])
        first = share.bounds[: share.rows // 2 + 1]
        second = share.bounds[share.rows // 2 :] - middle
        micro = [
            (share.tokens[:, :middle], share.labels[:, :middle], first),
            (share.tokens[:, middle:], share.labels[:, middle:], second),
        ]
    sums = torch.zeros(2, dtype=torch.float64)

    def step(iterator, module):
        tokens, labels, bounds = next(iterator)
        losses = module(tokens, bounds, labels=labels)
        size, rank = state.get_context_parallel_world_size(), state.get_context_parallel_rank()
        count = (batch.context_slice(labels, bounds, size=size, rank=rank) != batch.IGNORE).sum()

        def loss(out):
            sums.add_(torch.tensor([out.sum().item(), count.item()]))
            return out.sum(), count.int(), {}

        return losses, loss

    get_forward_backward_func()(
        forward_step_func=step, data_iterator=iter(micro), model=[wrapped], num_microbatches=2,
        seq_length=share.tokens.shape[1], micro_batch_size=share.tokens.shape[0], forward_only=False,
    )  # fmt: skip
    if state.is_pipeline_last_stage():
        torch.distributed.all_reduce(sums, group=state.get_data_parallel_group(with_context_parallel=True))
    everyone = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyone, (state.is_pipeline_last_stage(), (sums[0] / sums[1]).item()))
    loss = next(value for last, value in everyone if last)
    return loss, [parameter.main_grad.clone() for parameter in model.parameters()]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
