"""Weights in pickles of PyTorch, made into a Hugging Face directory: fair-esm's `.pt` and Hugging Face's `.bin`.

torch reads them with weights_only, which builds tensors and plain values and runs nothing else.
"""

import argparse
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch

from unirefine.errors import UserError
from unirefine.files.atomic import replace_directory, write_json
from unirefine.model import convert
from unirefine.model.checkpoint import temporary_directory
from unirefine.model.huggingface import (
    CONFIG,
    TIED,
    HuggingfaceFiles,
    check_vocabulary,
    has_safetensors,
    read_config,
    usual_name,
)  # fmt: skip
from unirefine.model.tensors import damaged

SUFFIXES = (".pt", ".pth", ".bin")
FAIR_ESM = {
    r"embed_tokens\.weight": "esm.embeddings.word_embeddings.weight",
    r"layers\.(\d+)\.self_attn\.q_proj\.": r"esm.encoder.layer.\1.attention.self.query.",
    r"layers\.(\d+)\.self_attn\.k_proj\.": r"esm.encoder.layer.\1.attention.self.key.",
    r"layers\.(\d+)\.self_attn\.v_proj\.": r"esm.encoder.layer.\1.attention.self.value.",
    r"layers\.(\d+)\.self_attn\.out_proj\.": r"esm.encoder.layer.\1.attention.output.dense.",
    r"layers\.(\d+)\.self_attn\.rot_emb\.": r"esm.encoder.layer.\1.attention.self.rotary_embeddings.",
    r"layers\.(\d+)\.self_attn_layer_norm\.": r"esm.encoder.layer.\1.attention.LayerNorm.",
    r"layers\.(\d+)\.fc1\.": r"esm.encoder.layer.\1.intermediate.dense.",
    r"layers\.(\d+)\.fc2\.": r"esm.encoder.layer.\1.output.dense.",
    r"layers\.(\d+)\.final_layer_norm\.": r"esm.encoder.layer.\1.LayerNorm.",
    r"emb_layer_norm_after\.": "esm.encoder.emb_layer_norm_after.",
    r"contact_head\.": "esm.contact_head.",
    r"lm_head\.weight": "lm_head.decoder.weight",
}
"""transformers' names for those of fair-esm; `lm_head.dense`, `lm_head.layer_norm` and `lm_head.bias` are the same."""


def weights_in(given: Path | str) -> list[Path]:
    """The pickles of weights that are meant by a file, or by a directory without safetensors; none: something else."""
    path = Path(given)
    if path.is_file():
        return [path] if path.suffix in SUFFIXES else []
    if not path.is_dir() or has_safetensors(path):
        return []
    return sorted(path.glob("pytorch_model*.bin"))


def to_huggingface(weights: list[Path], target: Path) -> str:
    """Write the model in `weights` to `target` as a Hugging Face directory with safetensors; returns its sizes as text.

    weights: from `weights_in`. Raises UserError for what is no ESM-2, or damaged; then nothing is written.
    """
    if weights[0].suffix == ".bin" or (weights[0].parent / CONFIG).is_file():
        config, tensors = _huggingface(weights)
    else:
        config, tensors = _fair_esm(weights[0])
    for copy, tied in TIED.items():  # safetensors has no two names for one tensor
        if copy in tensors and tied in tensors and not torch.equal(tensors.pop(copy), tensors[tied]):
            raise UserError(f"{copy} is not {tied}", where=weights[0], fix="in ESM-2 the head is tied to the embedding")
    temporary = temporary_directory(target)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        writer = convert.WeightFiles(temporary)
        for name, tensor in tensors.items():
            writer.add(name, tensor.contiguous())
        writer.close()
        write_json(temporary / CONFIG, config)
        convert.write_tokenizer(temporary)
        files = _checked(temporary, weights[0])
        replace_directory(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    layers, hidden, heads = files.model().sizes
    return f"{layers} layers, hidden {hidden}, {heads} heads, {str(files.dtype()).removeprefix('torch.')}"


def _checked(directory: Path, weights: Path) -> HuggingfaceFiles:
    try:
        files = HuggingfaceFiles(directory, head=False)
    except UserError as error:
        raise UserError(error.what, where=weights, fix="is this an ESM-2?") from None
    if wrong := files.not_finite():
        raise UserError(wrong, where=weights, fix="get the model again")
    return files


def _huggingface(weights: list[Path]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    directory = weights[0].parent
    config = read_config(directory)
    check_vocabulary(directory)
    found: dict[str, torch.Tensor] = {}
    for path in weights:
        found |= {usual_name(name): tensor for name, tensor in _tensors(_load(path), path).items()}
    return config, found


def _fair_esm(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    loaded = _load(path)
    try:
        settings, state = vars(loaded["cfg"]["model"]), loaded["model"]
        sizes = [settings[name] for name in ("encoder_layers", "encoder_embed_dim", "encoder_attention_heads")]
        dropout = settings["token_dropout"]
    except (KeyError, TypeError):
        raise UserError(
            "not a checkpoint of fair-esm's ESM-2 (no cfg.model with its sizes)", where=path,
            fix="give a file like esm2_t6_8M_UR50D.pt",
        ) from None  # fmt: skip
    if not all(type(size) is int and size > 0 for size in sizes) or dropout is not True:
        raise UserError(f"not an ESM-2: sizes {sizes}, token_dropout {dropout!r}", where=path)
    state = dict(_tensors(state, path))
    head = path.with_name(f"{path.stem}-contact-regression.pt")
    if head.is_file():
        state |= _tensors(_load(head).get("model"), head)
    found = {}
    for name, tensor in state.items():
        name = re.sub(r"^encoder\.(sentence_encoder\.)?", "", name)
        for theirs, usual in FAIR_ESM.items():
            name = re.sub(f"^{theirs}", usual, name)
        found[name] = tensor
    dtype = found["lm_head.bias"].dtype if "lm_head.bias" in found else torch.float32
    return convert.huggingface_config(*sizes, dtype), found


def _load(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except OSError:
        raise
    except Exception as error:  # damaged archives and pickles raise nearly anything
        if "global" in str(error).lower():  # torch names what it does not build
            raise UserError(
                "not read, because it holds more than tensors and plain values, which could run a program", where=path,
                fix="get the model as safetensors, or from a source that you trust",
            ) from None  # fmt: skip
        raise damaged(path, type(error).__name__) from None


def _tensors(found: Any, path: Path) -> dict[str, torch.Tensor]:
    if not isinstance(found, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in found.values()):
        raise UserError("not the tensors of a model by name", where=path, fix="is this an ESM-2?")
    return found
