"""ESM-2 for inference: hidden states and log-probabilities, from Megatron-core or from transformers.

    engine = open_megatron(Path("final"))        # final/megatron, or the weights of a Hugging Face directory
    engine = open_huggingface(Path("final"))     # final/huggingface, or the weights of a checkpoint
    states = engine.states(tokens, bounds)       # float32[t, hidden]

Both take a batch as sequences end to end (`<cls>` ... `<eos>` each) and return results in that order. Inside,
Megatron-core takes the batch packed, transformers padded. `<pad>` must not occur inside a sequence.

A model too big for one GPU is opened with a layout: `open_megatron(directory, layout=Layout(tensor=8))`. The processes
of a TP x PP group make the same calls and all get the result; the groups divide the work (`Share`).
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from unirefine.megatron import platform

import numpy as np
import torch
from megatron.core import parallel_state as state
from megatron.core.tensor_parallel.mappings import gather_from_tensor_model_parallel_region

from unirefine.config import Parallel, Train
from unirefine.config.evaluation import Layout
from unirefine.config.training import Model
from unirefine.core.alphabet import PAD
from unirefine.errors import UserError
from unirefine.model import convert, source
from unirefine.model.esm2 import Esm2, build_esm2
from unirefine.model.huggingface import check_whole
from unirefine.model.settings import DTYPES, VOCABULARY, pipeline_stages

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Share:
    """The share of the work that this process has: every `of`-th piece from `number` on."""

    number: int
    of: int
    leads: bool
    """Whether this process, of those with the same share, writes the results."""


class Engine(Protocol):
    """A loaded ESM-2. tokens: integer[t], sequences end to end; bounds: int[n + 1], where each starts, then t.

    Processes with the same `share.number` must make the same calls in the same order.
    """

    name: str
    layers: int
    hidden: int
    share: Share

    def states(self, tokens: np.ndarray, bounds: np.ndarray, layer: int = -1) -> torch.Tensor:
        """Hidden states float32[t, hidden] on the CPU. layer 0: embeddings; -1 or `layers`: after the final norm."""
        ...

    def log_probabilities(self, tokens: np.ndarray, bounds: np.ndarray, at: np.ndarray) -> torch.Tensor:
        """Log-softmax over the 33 tokens at positions at: int[m] of the batch; float32[m, 33] on the CPU."""
        ...


def not_finite(protein: str) -> UserError:
    """The error for a result of the model that is NaN or infinite."""
    return UserError(
        f"the model's output is not finite at protein {protein}",
        fix="its weights are damaged, or the precision is too low: fp16 overflows above 65,504; try bf16 or fp32",
    )


def start(layout: Layout | None = None) -> None:
    """Start Megatron's groups over all processes of the job (one without torchrun), unless they fit `layout` already.

    layout: TP and PP; the rest is data parallel. None: any that is up, else TP = PP = 1. Raises UserError.
    """
    if torch.distributed.is_initialized() and state.model_parallel_is_initialized():
        sizes = state.get_tensor_model_parallel_world_size(), state.get_pipeline_model_parallel_world_size()
        if layout is None or sizes == (layout.tensor, layout.pipeline):
            return
    layout = layout or Layout()
    world = platform.world_size()
    if world % layout.processes:
        raise UserError(
            f"{world} processes are not a multiple of tensor x pipeline = {layout.tensor} x {layout.pipeline}",
            fix=f"start a multiple of {layout.processes}, as in torchrun --nproc-per-node {layout.processes}",
        )
    platform.initialize(_parallel(layout), seed=0)


def _before_cuda(precision: Precision) -> None:
    """fp32 means fp32 here: what is compared with transformers must not differ from it by TF32."""
    if precision == "fp32":
        platform.exact_fp32()


def _parallel(layout: Layout) -> Parallel:
    return Parallel(processes_per_node=platform.world_size(), tensor=layout.tensor, pipeline=layout.pipeline)


def open_megatron(
    directory: Path, precision: Precision = "fp32", layout: Layout = Layout(), *, head: bool = True,  # noqa: B008 - a constant
) -> "MegatronEngine":  # fmt: skip
    """The Megatron-core ESM-2 of `directory`, which is anything that `source.find` takes. head: see there.

    Every process reads its slice. Starts the process group if needed. Raises UserError when `directory` is no model, or
    `layout` does not fit the model or the number of processes.
    """
    _before_cuda(precision)
    start(layout)
    found = source.find(directory, head=head)
    model = _empty(found.model(), precision, layout)
    found.load(model)
    return MegatronEngine(model.eval())


def open_huggingface(directory: Path, precision: Precision = "fp32", *, head: bool = True) -> "HuggingfaceEngine":
    """transformers' EsmForMaskedLM of `directory`, which is anything that `source.find` takes. Raises UserError."""
    _before_cuda(precision)
    if platform.world_size() > 1:
        start()  # the processes divide the work, which needs a process group
    return HuggingfaceEngine(load_esm_for_masked_lm(directory, precision, head=head))


def load_esm_for_masked_lm(
    directory: Path, precision: Precision = "fp32", attention: str = "sdpa", *, head: bool = True
) -> torch.nn.Module:
    """`EsmForMaskedLM` in eval mode on this process's device; of a checkpoint, with its weights in memory.

    head: see `source.find`; where there is none its `lm_head` is random. Raises UserError when there is no model in
    `directory`, or it is damaged.
    """
    from transformers import EsmConfig, EsmForMaskedLM
    from transformers.utils import logging

    _before_cuda(precision)
    found = source.find(directory, head=head)
    if found.huggingface is not None:
        check_whole(found.huggingface, head=head)
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # it would warn about a missing contact head
    logging.disable_progress_bar()
    try:
        options: dict[str, Any] = {"dtype": DTYPES[precision], "attn_implementation": attention}
        if found.huggingface is not None:
            model = EsmForMaskedLM.from_pretrained(found.huggingface, use_safetensors=True, **options)
        else:
            start(Layout())
            ours = _empty(found.model(), precision, Layout())
            found.load(ours)
            model = EsmForMaskedLM.from_pretrained(
                None, config=EsmConfig(**convert.huggingface_config(*found.model().sizes, DTYPES[precision])),
                state_dict=dict(convert.own_tensors(ours)), **options,
            )  # fmt: skip
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise UserError(f"{name} has values that are not finite", where=directory, fix="get the model again")
    return model.eval().to(platform.device())


def _empty(model: Model, precision: Precision, layout: Layout) -> Esm2:
    layers, _hidden, heads = model.sizes
    if heads % layout.tensor or layers < layout.pipeline:
        possible = [n for n in range(1, heads + 1) if heads % n == 0]
        raise UserError(
            f"tensor {layout.tensor}, pipeline {layout.pipeline} of a model with {layers} layers of {heads} heads",
            fix=f"tensor must be one of {possible}, pipeline at most {layers}",
        )
    parallel = _parallel(layout)
    config = Train(model=model, parallel=parallel, micro_batch=1, global_batch=parallel.data, precision=precision)
    return build_esm2(model, config, weights=False)


def layer_number(layer: int, layers: int) -> int:
    """Number of a layer, 0 .. layers. Raises UserError for one that the model does not have."""
    number = layer + layers + 1 if layer < 0 else layer
    if not 0 <= number <= layers:
        raise UserError(
            f"layer {layer} of a model with {layers} layers",
            fix=f"choose 0 (embeddings) to {layers}, or -1 for the last",
        )
    return number


class MegatronEngine:
    """`Esm2` at any TP and PP, CP = 1. Each group of TP x PP processes works independently."""

    name = "Megatron-core"

    def __init__(self, model: Esm2) -> None:
        self.model = model
        self.layers, self.hidden = model.config.num_layers, model.config.hidden_size
        self._stage, self._stages = model.pp_group.rank(), model.pp_group.size()
        self.share = Share(
            number=state.get_data_parallel_rank(),
            of=state.get_data_parallel_world_size(),
            leads=self._stage == 0 and model.tp_group.rank() == 0,
        )
        # Transformer Engine's packed attention kernels have no fp32
        self._packed = not (model.gpu and model.config.params_dtype == torch.float32)

    @torch.inference_mode()
    def states(self, tokens: np.ndarray, bounds: np.ndarray, layer: int = -1) -> torch.Tensor:
        """See `Engine`."""
        number = layer_number(layer, self.layers)
        owner = self._owner(number)
        found = None
        if self._stage <= owner:
            inside = number < self.layers and self._stage == owner
            module = self._module(number) if inside else None
            hidden = self._run(tokens, bounds, until=module, last=owner)
            found = self._flat(hidden, bounds).float() if self._stage == owner else None
        return self._broadcast(found, (len(tokens), self.hidden), owner).cpu()

    @torch.inference_mode()
    def log_probabilities(self, tokens: np.ndarray, bounds: np.ndarray, at: np.ndarray) -> torch.Tensor:
        """See `Engine`."""
        found = None
        hidden = self._run(tokens, bounds, until=None, last=self._stages - 1)
        if self._stage == self._stages - 1:
            last = self._flat(hidden, bounds)
            logits = self.model.logits(last[torch.as_tensor(at, device=last.device)][:, None])
            whole = gather_from_tensor_model_parallel_region(logits, group=self.model.tp_group)
            found = whole[:, 0, :VOCABULARY].log_softmax(-1)
        return self._broadcast(found, (len(at), VOCABULARY), self._stages - 1).cpu()

    def _run(self, tokens: np.ndarray, bounds: np.ndarray, *, until: torch.nn.Module | None, last: int) -> torch.Tensor:
        """Run this pipeline stage: receive from the stage before, and send to the next up to stage `last`.

        Returns the stage's output or, with `until`, that of this module of it: [t, 1, h] or padded [s, b, h].
        """
        device, group = platform.device(), self.model.pp_group
        whole = np.asarray(tokens, np.int64)[None] if self._packed else _padded(tokens, bounds)
        batch = torch.from_numpy(whole).to(device)
        if self._stage > 0:
            shape = (batch.shape[1], batch.shape[0], self.hidden)
            received = torch.empty(shape, dtype=self.model.config.params_dtype, device=device)
            torch.distributed.recv(received, group=group, group_src=self._stage - 1)
            self.model.set_input_tensor(received)
        ends = torch.from_numpy(np.asarray(bounds, np.int32)) if self._packed else None
        if until is None:
            hidden = self.model.hidden(batch, ends)
        else:
            with _output_of(until) as output, contextlib.suppress(_ReachedError):
                self.model.hidden(batch, ends)
            (hidden,) = output
        if self._stage < last:
            torch.distributed.send(hidden.contiguous(), group=group, group_dst=self._stage + 1)
        return hidden

    def _broadcast(self, found: torch.Tensor | None, shape: tuple[int, int], owner: int) -> torch.Tensor:
        """The result of stage `owner`, on every stage: float32."""
        if self._stages == 1:
            assert found is not None
            return found
        result = torch.empty(shape, device=platform.device()) if found is None else found.contiguous()
        torch.distributed.broadcast(result, group=self.model.pp_group, group_src=owner)
        return result

    def _owner(self, number: int) -> int:
        """Pipeline stage that computes hidden states `number` (0: embeddings, then the output of each layer)."""
        ends = np.cumsum(pipeline_stages(self.layers, self._stages))
        return int(np.searchsorted(ends, number))

    def _module(self, number: int) -> torch.nn.Module:
        """The module of this stage whose output is hidden states `number`."""
        layers = self.model.encoder.layers
        return layers[number - layers[0].layer_number] if number else self.model.embedding

    def _flat(self, hidden: torch.Tensor, bounds: np.ndarray) -> torch.Tensor:
        """[t, 1, h] or padded [s, b, h] to [t, h]."""
        if self._packed:
            return hidden[:, 0]
        return hidden.transpose(0, 1)[_real(bounds).to(hidden.device)]


class _ReachedError(Exception):
    """Ends a forward pass at the layer that was asked for."""


@contextlib.contextmanager
def _output_of(module: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """A list that gets the output of `module`, which then raises _ReachedError."""
    found: list[torch.Tensor] = []

    def stop(_module: torch.nn.Module, _inputs: tuple, output: torch.Tensor | tuple) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)
        raise _ReachedError

    handle = module.register_forward_hook(stop)
    try:
        yield found
    finally:
        handle.remove()


class HuggingfaceEngine:
    """transformers' EsmForMaskedLM, on padded batches with an attention mask."""

    name = "Hugging Face"

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        self.layers, self.hidden = model.config.num_hidden_layers, model.config.hidden_size
        self.share = Share(number=platform.rank(), of=platform.world_size(), leads=True)

    @torch.inference_mode()
    def states(self, tokens: np.ndarray, bounds: np.ndarray, layer: int = -1) -> torch.Tensor:
        """See `Engine`."""
        number = layer_number(layer, self.layers)
        inputs, real = padded_inputs(tokens, bounds)
        if number == self.layers:
            hidden = self.model.esm(**inputs).last_hidden_state
        else:
            hidden = self.model.esm(**inputs, output_hidden_states=True).hidden_states[number]
        return hidden[real].float().cpu()

    @torch.inference_mode()
    def log_probabilities(self, tokens: np.ndarray, bounds: np.ndarray, at: np.ndarray) -> torch.Tensor:
        """See `Engine`."""
        inputs, real = padded_inputs(tokens, bounds)
        last = self.model.esm(**inputs).last_hidden_state[real]
        logits = self.model.lm_head(last[torch.as_tensor(at, device=last.device)])
        return logits.float().log_softmax(-1).cpu()


def padded_inputs(tokens: np.ndarray, bounds: np.ndarray) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Arguments for a model of transformers, and which positions of them hold tokens: bool[n, s]."""
    device = platform.device()
    real = _real(bounds).to(device)
    ids = torch.from_numpy(_padded(tokens, bounds)).to(device)
    # without a mask transformers counts `<pad>` as tokens
    return {"input_ids": ids, "attention_mask": real.long()}, real


def _real(bounds: np.ndarray) -> torch.Tensor:
    """bool[n, s]: which positions of the padded batch hold tokens."""
    lengths = np.diff(bounds)
    return torch.from_numpy(np.arange(int(lengths.max())) < lengths[:, None])


def _padded(tokens: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """int64[n, s]: sequences that lie end to end as padded rows."""
    real = _real(bounds).numpy()
    padded = np.full(real.shape, PAD, np.int64)
    padded[real] = tokens
    return padded
