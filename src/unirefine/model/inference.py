"""ESM-2 without training: hidden states and log-probabilities, from Megatron-core or from transformers.

    engine = open_megatron(Path("final"))        # final/megatron, or the weights of a Hugging Face directory
    engine = open_huggingface(Path("final"))     # final/huggingface, or a Hugging Face directory itself
    states = engine.states(tokens, bounds)       # float32[t, hidden]

Both take a batch as sequences end to end (`<cls>` ... `<eos>` each), so what they return does not show how they batch
inside: Megatron-core takes the batch packed, transformers takes it padded. `<pad>` must not occur inside a sequence.
"""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch

from unirefine.alphabet import PAD
from unirefine.config import Parallel, Train
from unirefine.config.training import Model
from unirefine.errors import UserError
from unirefine.model import checkpoint, convert
from unirefine.model.esm2 import Esm2, build_esm2
from unirefine.model.settings import DTYPES, VOCABULARY
from unirefine.train import platform

Precision = Literal["fp32", "bf16", "fp16"]


class Engine(Protocol):
    """A loaded ESM-2. tokens: integer[t], sequences end to end; bounds: int[n + 1], where each starts, then t."""

    name: str
    layers: int
    hidden: int

    def states(self, tokens: np.ndarray, bounds: np.ndarray, layer: int = -1) -> torch.Tensor:
        """Hidden states float32[t, hidden] on the CPU. layer 0: embeddings; -1 or `layers`: after the final norm."""
        ...

    def log_probabilities(self, tokens: np.ndarray, bounds: np.ndarray, at: np.ndarray) -> torch.Tensor:
        """Log-softmax over the 33 tokens at positions at: int[m] of the batch; float32[m, 33] on the CPU."""
        ...


def start() -> None:
    """Bring up Megatron's groups, data parallel over all processes of the job (one without torchrun)."""
    platform.initialize(Parallel(processes_per_node=platform.world_size()), seed=0)


def open_megatron(directory: Path, precision: Precision = "fp32") -> "MegatronEngine":
    """The Megatron-core ESM-2 of `directory`: `final/`, a distributed checkpoint, or a Hugging Face directory.

    Starts the process group when it is not up. Raises UserError when `directory` is none of them.
    """
    start_if_needed()
    source = next((path for path in (directory / "megatron", directory) if checkpoint.is_complete(path)), None)
    if source is not None:
        model = _empty(checkpoint.model_of(source), precision)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's, about what Megatron's checkpoints are made of
            checkpoint.load(source, model)
    else:
        source = _huggingface_directory(directory)
        model = _empty(convert.model_of(source), precision)
        convert.load_huggingface(source, model)
    return MegatronEngine(model.eval())


def open_huggingface(directory: Path, precision: Precision = "fp32") -> "HuggingfaceEngine":
    """transformers' EsmForMaskedLM of `directory`: `final/` or a Hugging Face directory. Raises UserError."""
    if platform.world_size() > 1:
        start_if_needed()  # what shares the work needs a process group
    return HuggingfaceEngine(load_esm_for_masked_lm(directory, precision))


def load_esm_for_masked_lm(directory: Path, precision: Precision = "fp32", attention: str = "sdpa") -> torch.nn.Module:
    """`EsmForMaskedLM` in eval mode on this process's device. Raises UserError when there is none in `directory`."""
    from transformers import EsmForMaskedLM
    from transformers.utils import logging

    source = _huggingface_directory(directory)
    convert.model_of(source)  # one line about whatever is not an ESM-2
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # a model without contact head is none of the user's concern
    logging.disable_progress_bar()
    try:
        model = EsmForMaskedLM.from_pretrained(source, dtype=DTYPES[precision], attn_implementation=attention)
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
    return model.eval().to(platform.device())


def start_if_needed() -> None:
    """`start`, unless a process group with Megatron's groups is up."""
    from megatron.core import parallel_state

    if not (torch.distributed.is_initialized() and parallel_state.model_parallel_is_initialized()):
        start()


def _huggingface_directory(directory: Path) -> Path:
    for path in (directory / "huggingface", directory):
        if (path / "config.json").is_file():
            return path
    if not directory.is_dir():
        raise UserError(
            "no such directory", where=directory, fix="give final/ of a training run or a Hugging Face directory"
        )
    raise UserError(
        "neither a finished training run nor a Hugging Face ESM-2",
        where=directory,
        fix="give final/ of a training run, or a directory with config.json and model.safetensors",
    )


def _empty(model: Model, precision: Precision) -> Esm2:
    layout = Parallel(processes_per_node=platform.world_size())
    config = Train(model=model, parallel=layout, micro_batch=1, global_batch=layout.data, precision=precision)
    return build_esm2(model, config, weights=False)


def _layer_number(layer: int, layers: int) -> int:
    """0 .. layers. Raises UserError for a layer that the model does not have."""
    number = layer + layers + 1 if layer < 0 else layer
    if not 0 <= number <= layers:
        raise UserError(
            f"layer {layer} of a model with {layers} layers",
            fix=f"choose 0 (embeddings) to {layers}, or -1 for the last",
        )
    return number


class MegatronEngine:
    """`Esm2` at TP = PP = CP = 1, every data-parallel rank for itself."""

    name = "Megatron-core"

    def __init__(self, model: Esm2) -> None:
        self.model = model
        self.layers, self.hidden = model.config.num_layers, model.config.hidden_size
        # Transformer Engine's packed attention kernels have no fp32
        self._packed = not (model.gpu and model.config.params_dtype == torch.float32)

    @torch.inference_mode()
    def states(self, tokens: np.ndarray, bounds: np.ndarray, layer: int = -1) -> torch.Tensor:
        """See `Engine`."""
        number = _layer_number(layer, self.layers)
        if number == self.layers:
            return self._last(tokens, bounds).float().cpu()
        module = self.model.encoder.layers[number - 1] if number else self.model.embedding
        with _caught(module) as caught, contextlib.suppress(_ReachedError):
            self._last(tokens, bounds)
        return self._flat(caught[0], bounds).float().cpu()

    @torch.inference_mode()
    def log_probabilities(self, tokens: np.ndarray, bounds: np.ndarray, at: np.ndarray) -> torch.Tensor:
        """See `Engine`."""
        last = self._last(tokens, bounds)
        chosen = last[torch.as_tensor(at, device=last.device)]
        logits = self.model._logits(chosen[:, None])[:, 0, :VOCABULARY]
        return logits.log_softmax(-1).cpu()

    def _last(self, tokens: np.ndarray, bounds: np.ndarray) -> torch.Tensor:
        """Last hidden states [t, h] on the device."""
        if self._packed:
            batch = torch.from_numpy(np.asarray(tokens, np.int64)[None]).to(platform.device())
            hidden = self.model.hidden(batch, torch.from_numpy(np.asarray(bounds, np.int32)))
        else:
            batch = torch.from_numpy(_padded(tokens, bounds)).to(platform.device())
            hidden = self.model.hidden(batch)
        return self._flat(hidden, bounds)

    def _flat(self, hidden: torch.Tensor, bounds: np.ndarray) -> torch.Tensor:
        """[t, 1, h] or padded [s, b, h] to [t, h]."""
        if self._packed:
            return hidden[:, 0]
        return hidden.transpose(0, 1)[_real(bounds).to(hidden.device)]


class _ReachedError(Exception):
    """Ends a forward pass at the layer that was asked for."""


@contextlib.contextmanager
def _caught(module: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    caught: list[torch.Tensor] = []

    def stop(_module: torch.nn.Module, _inputs: tuple, output: torch.Tensor | tuple) -> None:
        caught.append(output[0] if isinstance(output, tuple) else output)
        raise _ReachedError

    handle = module.register_forward_hook(stop)
    try:
        yield caught
    finally:
        handle.remove()


class HuggingfaceEngine:
    """transformers' EsmForMaskedLM, on padded batches with an attention mask."""

    name = "Hugging Face"

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        self.layers, self.hidden = model.config.num_hidden_layers, model.config.hidden_size

    @torch.inference_mode()
    def states(self, tokens: np.ndarray, bounds: np.ndarray, layer: int = -1) -> torch.Tensor:
        """See `Engine`."""
        number = _layer_number(layer, self.layers)
        inputs, real = self._inputs(tokens, bounds)
        if number == self.layers:
            hidden = self.model.esm(**inputs).last_hidden_state
        else:
            hidden = self.model.esm(**inputs, output_hidden_states=True).hidden_states[number]
        return hidden[real].float().cpu()

    @torch.inference_mode()
    def log_probabilities(self, tokens: np.ndarray, bounds: np.ndarray, at: np.ndarray) -> torch.Tensor:
        """See `Engine`."""
        inputs, real = self._inputs(tokens, bounds)
        last = self.model.esm(**inputs).last_hidden_state[real]
        logits = self.model.lm_head(last[torch.as_tensor(at, device=last.device)])
        return logits.float().log_softmax(-1).cpu()

    def _inputs(self, tokens: np.ndarray, bounds: np.ndarray) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        device = platform.device()
        real = _real(bounds).to(device)
        ids = torch.from_numpy(_padded(tokens, bounds)).to(device)
        # without a mask transformers counts pads as tokens
        return {"input_ids": ids, "attention_mask": real.long()}, real


def _real(bounds: np.ndarray) -> torch.Tensor:
    """bool[n, s]: which positions of the padded batch hold tokens."""
    lengths = np.diff(bounds)
    return torch.from_numpy(np.arange(int(lengths.max())) < lengths[:, None])


def _padded(tokens: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """int64[n, s] of sequences that lie end to end."""
    real = _real(bounds).numpy()
    padded = np.full(real.shape, PAD, np.int64)
    padded[real] = tokens
    return padded
