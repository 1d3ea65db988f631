"""Any masked language model of proteins that transformers loads, if it has ESM-2's 33 tokens."""

from pathlib import Path

from unirefine.megatron import platform

import numpy as np
import torch

from unirefine.core.alphabet import TOKENS
from unirefine.errors import UserError
from unirefine.model import huggingface, source
from unirefine.model.inference import HuggingfaceEngine, Precision, open_huggingface, padded_inputs


def open_any(given: Path | str, precision: Precision = "fp32") -> HuggingfaceEngine:
    """The engine of an ESM-2 that `source.find` takes, or of another model of transformers with the same tokens.

    Of the latter nothing is run that is not in transformers, and only safetensors are read. Raises UserError.
    """
    found = source.find(given)
    if found.huggingface is None or is_esm2(found.huggingface):
        return open_huggingface(given, precision)
    return LoadedEngine(_load(found.huggingface, precision))


def is_esm2(directory: Path) -> bool:
    """Whether a directory's config.json is that of an ESM-2."""
    try:
        huggingface.read_config(directory)
    except UserError:
        return False
    return True


def _load(directory: Path, precision: Precision) -> torch.nn.Module:
    from transformers import AutoModelForMaskedLM

    from unirefine.model.settings import DTYPES

    if not (directory / "vocab.txt").is_file():
        raise UserError(
            "not an ESM-2, and without a vocab.txt", where=directory, fix="give a model with ESM-2's 33 tokens"
        )
    huggingface.check_vocabulary(directory)
    try:
        model = AutoModelForMaskedLM.from_pretrained(
            directory, use_safetensors=True, trust_remote_code=False, dtype=DTYPES[precision]
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"transformers cannot load it ({reason})", where=directory) from error
    if model.get_input_embeddings().num_embeddings < len(TOKENS):
        raise UserError(f"fewer than {len(TOKENS)} tokens", where=directory, fix="give a model with ESM-2's tokens")
    return model.eval().to(platform.device())


class LoadedEngine(HuggingfaceEngine):
    """transformers' AutoModelForMaskedLM, on padded batches with an attention mask."""

    @torch.inference_mode()
    def states(self, tokens: np.ndarray, bounds: np.ndarray, layer: int = -1) -> torch.Tensor:
        """See `Engine`."""
        inputs, real = padded_inputs(tokens, bounds)
        return self.model(**inputs, output_hidden_states=True).hidden_states[layer][real].float().cpu()

    @torch.inference_mode()
    def log_probabilities(self, tokens: np.ndarray, bounds: np.ndarray, at: np.ndarray) -> torch.Tensor:
        """See `Engine`."""
        inputs, real = padded_inputs(tokens, bounds)
        logits = self.model(**inputs).logits[real]
        chosen = logits[torch.as_tensor(at, device=logits.device), : len(TOKENS)]
        return chosen.float().log_softmax(-1).cpu()
