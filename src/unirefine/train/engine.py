"""What Megatron puts around a model in training: gradient buffers, optimizer, pipeline schedules."""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence

from unirefine.megatron import layers, platform

import torch
from megatron.core import parallel_state
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads
from megatron.core.optimizer import MegatronOptimizer, OptimizerConfig, get_megatron_optimizer
from megatron.core.pipeline_parallel import get_forward_backward_func
from megatron.core.utils import get_model_config

from unirefine.config import Train
from unirefine.core.alphabet import MASK, PAD
from unirefine.model.batch import IGNORE, context_slice
from unirefine.train.data import MicroBatch

# Megatron-core calls names that torch has deprecated, and reads .grad of views of its buffers on purpose
warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
# from 0.19 on it logs advice that applies to its own trainer only
logging.getLogger("megatron.core").setLevel(logging.ERROR)


def wrap(model: torch.nn.Module, config: Train) -> DistributedDataParallel:
    """Megatron's DDP: fp32 gradient buffers, reduced over DP x CP (reduce-scattered for the distributed optimizer).

    The reduction overlaps with the backward pass, and the gathering of updated parameters with the next forward pass.
    """
    sharded = config.parallel.distributed_optimizer
    buffers = DistributedDataParallelConfig(
        grad_reduce_in_fp32=True,
        overlap_grad_reduce=True,
        overlap_param_gather=sharded,
        use_distributed_optimizer=sharded,
    )
    wrapped = DistributedDataParallel(config=get_model_config(model), ddp_config=buffers, module=model)
    if platform.on_gpu():
        layers.accumulate_in_product(wrapped)
    return wrapped


def build_optimizer(model: DistributedDataParallel, config: Train) -> MegatronOptimizer:
    """Megatron's Adam. One-dimensional parameters and biases have no weight decay (Megatron's default).

    Also sets the functions with which the model's pipeline schedule scales and finishes gradients.
    """
    recipe = config.optimizer
    settings = OptimizerConfig(
        optimizer="adam",
        lr=recipe.lr,
        min_lr=recipe.lr * recipe.min_lr_fraction,
        weight_decay=recipe.weight_decay,
        adam_beta1=recipe.betas[0],
        adam_beta2=recipe.betas[1],
        adam_eps=recipe.eps,
        clip_grad=recipe.clip,
        bf16=config.precision == "bf16",
        fp16=config.precision == "fp16",
        initial_loss_scale=config.initial_loss_scale,
        params_dtype={"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[config.precision],
        use_distributed_optimizer=config.parallel.distributed_optimizer,
        overlap_param_gather=model.ddp_config.overlap_param_gather,
    )
    optimizer = get_megatron_optimizer(settings, [model], use_gloo_process_groups=not platform.on_gpu())
    schedules = get_model_config(model)
    schedules.grad_scale_func = optimizer.scale_loss
    schedules.finalize_model_grads_func = finalize_model_grads
    schedules.no_sync_func = model.no_sync
    return optimizer


@contextlib.contextmanager
def parameters_synced(model: DistributedDataParallel) -> Iterator[None]:
    """Within the block all parameters are up to date, for validation and saving.

    With `overlap_param_gather`, updated parameters are gathered only during the next forward pass.
    """
    overlapped = model.ddp_config.overlap_param_gather
    if overlapped:
        model.disable_forward_pre_hook(param_sync=True)
    try:
        yield
    finally:
        if overlapped:
            model.enable_forward_pre_hook()


def set_rate(optimizer: MegatronOptimizer, rate: float, weight_decay: float) -> None:
    """Set learning rate and weight decay of every parameter group for the next update."""
    for group in optimizer.param_groups:
        group["lr"] = rate
        group["weight_decay"] = weight_decay * group["wd_mult"]


def rate(optimizer: MegatronOptimizer) -> float:
    """The learning rate of the last update, also of one before a restart."""
    return float(optimizer.param_groups[0]["lr"])


def forward_backward(model: DistributedDataParallel, batches: Sequence[MicroBatch], *, train: bool) -> torch.Tensor:
    """Run micro-batches forward through the pipeline and, if `train`, backward, up to reduced gradients.

    Gradients are divided by the number of chosen positions in the micro-batches of all processes together. Returns
    float64[n, 2] on the last pipeline stage: summed loss and chosen positions of each micro-batch, of this
    context-parallel rank's slice; float64[0, 2] on the other stages. Unless `train`, two columns more: the same of the
    chosen positions that `<mask>` hides.
    """
    reported = get_forward_backward_func()(
        forward_step_func=_forward_step if train else _validation_step,
        data_iterator=iter(batches),
        model=[model],
        num_microbatches=len(batches),
        seq_length=1,  # these two are unused: lengths vary and are sent with the tensors
        micro_batch_size=1,
        forward_only=not train,
    )
    if not reported:
        return torch.zeros(0, 2 if train else 4, dtype=torch.float64, device=platform.device())
    return torch.stack(reported)


def _forward_step(batches: Iterator[MicroBatch], model: DistributedDataParallel) -> tuple[torch.Tensor, Callable]:
    """Megatron's forward-step function: returns the stage's output, and the loss function for the last stage."""
    micro = next(batches)
    # a byte each on the way, widened where they are used
    tokens, labels = (each.to(platform.device(), non_blocking=True).long() for each in (micro.tokens, micro.labels))
    size, rank = parallel_state.get_context_parallel_world_size(), parallel_state.get_context_parallel_rank()

    def loss(losses: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mine = context_slice(labels, micro.cu_seqlens, size=size, rank=rank)
        total, chosen = losses.sum(), (mine != IGNORE).sum()
        return total, chosen.to(torch.int32), torch.stack([total.detach().double(), chosen.double()])

    return model(tokens, micro.cu_seqlens, labels), loss


def _validation_step(batches: Iterator[MicroBatch], model: DistributedDataParallel) -> tuple[torch.Tensor, Callable]:
    """As `_forward_step`, with the sums over hidden positions beside those over all chosen ones."""
    micro = next(batches)
    output, loss = _forward_step(iter([micro]), model)
    size, rank = parallel_state.get_context_parallel_world_size(), parallel_state.get_context_parallel_rank()

    def both(losses: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        tokens = micro.tokens.masked_fill(micro.labels == IGNORE, PAD).to(platform.device())
        hidden = context_slice(tokens, micro.cu_seqlens, size=size, rank=rank) == MASK
        total, chosen, sums = loss(losses)
        return total, chosen, torch.cat([sums, torch.stack([(losses.detach() * hidden).sum(), hidden.sum()]).double()])

    return output, both


def holds_loss() -> bool:
    """Whether sums over processes count this one's loss: last pipeline stage, first of its TP group."""
    return parallel_state.is_pipeline_last_stage() and parallel_state.get_tensor_model_parallel_rank() == 0


def holds_samples() -> bool:
    """Whether sums over processes count this one's tokens: as `holds_loss`, and first of its CP group."""
    return holds_loss() and parallel_state.get_context_parallel_rank() == 0


def data_rank() -> tuple[int, int]:
    """(rank, size) of this process in the data-parallel group, among which the samples are divided."""
    return parallel_state.get_data_parallel_rank(), parallel_state.get_data_parallel_world_size()


def add_up(values: Sequence[float] | torch.Tensor) -> list[float]:
    """Sum of float64 values over all processes, as Python floats."""
    total = torch.as_tensor(values, dtype=torch.float64, device=platform.device())
    torch.distributed.all_reduce(total)
    return total.tolist()


def largest(value: float) -> float:
    """The largest `value` of all processes."""
    found = torch.tensor(value, dtype=torch.float64, device=platform.device())
    torch.distributed.all_reduce(found, op=torch.distributed.ReduceOp.MAX)
    return found.item()
