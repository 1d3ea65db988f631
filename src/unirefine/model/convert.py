"""ESM-2 to and from Hugging Face's `EsmForMaskedLM`, bit for bit, at any TP and PP.

    load_huggingface(directory, model)       # every rank reads its slice
    export_huggingface(model, directory)     # gathered to rank 0: model.safetensors, config.json, tokenizer files

Megatron fuses query, key and value into one matrix, interleaved per head: [head, (q, k, v), head_dim]. Tensors that
the language model does not use (the contact head, old position tables) go to `model.extra_tensors` and are exported.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unirefine.megatron import platform

import torch
from megatron.core import parallel_state
from safetensors.torch import save_file

from unirefine.core.alphabet import CLS, EOS, MASK, PAD, TOKENS, UNK
from unirefine.errors import UserError
from unirefine.files.atomic import atomic_path, replace_directory, write_json, write_text
from unirefine.model import integrity
from unirefine.model.checkpoint import not_finite, temporary_directory, unwrap
from unirefine.model.esm2 import Esm2
from unirefine.model.huggingface import CONFIG, INDEX, WEIGHTS, check_whole, huggingface_names, parameter_names
from unirefine.model.layout import EMBEDDING, global_parameters, is_vocabulary, local_slice, split_dimension
from unirefine.model.settings import LAYER_NORM_EPS, VOCABULARY, pipeline_stages

SHARD_BYTES = 5_000_000_000
"""Weights beyond this are split into several safetensors files with an index, as transformers does."""


def fuse_qkv(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int) -> torch.Tensor:
    """Three [hidden, ...] tensors to one [3 x hidden, ...], interleaved per head."""
    per_head = [tensor.reshape(heads, 1, -1, *tensor.shape[1:]) for tensor in (query, key, value)]
    return torch.cat(per_head, dim=1).reshape(-1, *query.shape[1:])


def split_qkv(fused: torch.Tensor, heads: int) -> list[torch.Tensor]:
    """The inverse of `fuse_qkv`."""
    per_head = fused.reshape(heads, 3, -1, *fused.shape[1:])
    return [per_head[:, i].reshape(-1, *fused.shape[1:]).contiguous() for i in range(3)]


# ---------------------------------------------------------------- reading


@torch.no_grad()
def load_huggingface(directory: Path | str, model: Any, *, head: bool = True) -> None:
    """Load a Hugging Face ESM-2 directory into an `Esm2` (wrapped or not), at its layout and dtype.

    head: see `HuggingfaceFiles`; without one the head's parameters are zeros. Collective: every rank reads its own
    slice. Raises UserError for another model size, and for whatever contradicts the rest; values that are not finite,
    and files that are not those of its lineage.
    """
    esm2, files = unwrap(model), check_whole(Path(directory), head=head)
    config = esm2.config
    ours = (config.num_layers, config.hidden_size, config.num_attention_heads)
    if files.model().sizes != ours:
        raise UserError(f"(layers, hidden, heads) are {files.model().sizes}, not {ours}", where=directory)
    for copy, tied in files.tied():
        raise UserError(f"{copy} is not {tied}", where=directory, fix="in ESM-2 the head is tied to the embedding")
    for name, parameter in global_parameters(esm2):
        names = huggingface_names(name)
        if files.headless and names[0].startswith("lm_head."):
            parameter.zero_()
            continue
        tensors = [files.tensor(theirs) for theirs in names]
        whole = fuse_qkv(*tensors, heads=config.num_attention_heads) if len(tensors) == 3 else tensors[0]
        parameter.copy_(local_slice(name, whole, esm2))
    esm2.keep_beside({name: files.tensor(name) for name in files.extra()}, directory)
    if wrong := integrity.agree(not_finite(esm2)):
        raise UserError(wrong, where=directory, fix="get the model again")


# ---------------------------------------------------------------- writing


@torch.no_grad()
def own_tensors(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """(transformers' name, tensor on the CPU) of every tensor of a model at TP = PP = 1. Not collective."""
    esm2 = unwrap(model)
    for name, parameter in global_parameters(esm2):
        whole = parameter.detach()[:VOCABULARY] if is_vocabulary(name) else parameter.detach()
        yield from _as_huggingface(name, whole.cpu(), esm2)
    yield from esm2.extra_tensors.items()


def _as_huggingface(name: str, whole: torch.Tensor, esm2: Esm2) -> Iterator[tuple[str, torch.Tensor]]:
    names = huggingface_names(name)
    tensors = split_qkv(whole, esm2.config.num_attention_heads) if len(names) == 3 else [whole.contiguous()]
    return zip(names, tensors, strict=True)


@torch.no_grad()
def whole_tensors(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """(global name, whole tensor on the CPU) of every parameter, on rank 0; other ranks yield nothing.

    Collective: every rank must exhaust it. One whole tensor is in memory at a time.
    """
    esm2 = unwrap(model)
    mine = dict(global_parameters(esm2))
    layers, stages = esm2.config.num_layers, esm2.pp_group.size()
    replica = parallel_state.get_data_parallel_rank(with_context_parallel=True)
    rank, stage = torch.distributed.get_rank(), esm2.pp_group.rank()
    for name in parameter_names(layers):
        owner = stage_of(name, layers, stages)
        whole = _gather_tensor_parallel(name, mine[name], esm2) if stage == owner and replica == 0 else None
        if owner > 0:  # rank 0 is in the first stage; the first TP rank of the owner sends
            if whole is not None and esm2.tp_group.rank() == 0:
                torch.distributed.send_object_list([tuple(whole.shape)], dst=0)
                torch.distributed.send(whole.contiguous(), dst=0)
            elif rank == 0:
                source = _first_rank_of_stage(owner)
                shape: list[Any] = [None]
                torch.distributed.recv_object_list(shape, src=source)
                whole = torch.empty(shape[0], dtype=esm2.config.params_dtype, device=mine[EMBEDDING].device)
                torch.distributed.recv(whole, src=source)
        if rank == 0:
            yield name, whole.detach().cpu()


def stage_of(name: str, layers: int, stages: int) -> int:
    """Pipeline stage that holds a parameter. Of the embedding it is the first; the last has a copy."""
    if name == EMBEDDING:
        return 0
    match = re.match(r"encoder\.layers\.(\d+)\.", name)
    if match is None:
        return stages - 1
    layer = int(match[1])
    for stage, count in enumerate(pipeline_stages(layers, stages)):
        if layer < count:
            return stage
        layer -= count
    raise AssertionError(name)


def _first_rank_of_stage(stage: int) -> int:
    return torch.distributed.get_process_group_ranks(parallel_state.get_pipeline_model_parallel_group())[stage]


def _gather_tensor_parallel(name: str, parameter: torch.Tensor, esm2: Esm2) -> torch.Tensor:
    dim, group = split_dimension(name), esm2.tp_group
    whole = parameter.detach()
    if dim is not None and group.size() > 1:
        slices = [torch.empty_like(whole) for _ in range(group.size())]
        torch.distributed.all_gather(slices, whole.contiguous(), group=group)
        whole = torch.cat(slices, dim)
    return whole[:VOCABULARY] if is_vocabulary(name) else whole


def export_huggingface(model: Any, directory: Path | str) -> None:
    """Write a directory that `EsmForMaskedLM.from_pretrained` and `EsmTokenizer.from_pretrained` load.

    Collective. Rank 0 writes to a temporary directory and renames it. The dtype is the model's.
    """
    esm2, directory = unwrap(model), Path(directory)
    with platform.until_all_are_done():
        _export(esm2, directory)


def _export(esm2: Esm2, directory: Path) -> None:
    temporary = temporary_directory(directory)
    writer = None
    if torch.distributed.get_rank() == 0:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        writer = WeightFiles(temporary)
    for name, whole in whole_tensors(esm2):
        for theirs, tensor in _as_huggingface(name, whole, esm2):
            writer.add(theirs, tensor)
    if writer is not None:
        for name, tensor in esm2.extra_tensors.items():
            writer.add(name, tensor)
        writer.close()
        config = esm2.config
        sizes = config.num_layers, config.hidden_size, config.num_attention_heads
        write_json(temporary / CONFIG, huggingface_config(*sizes, config.params_dtype))
        write_tokenizer(temporary)
        replace_directory(temporary, directory)


class WeightFiles:
    """Safetensors files of at most SHARD_BYTES, named as transformers names them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._pending: dict[str, torch.Tensor] = {}
        self._files: list[list[str]] = []
        self._bytes = self._total = 0

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Queue one tensor. A file is written when it is full."""
        if self._pending and self._bytes + tensor.nbytes > SHARD_BYTES:
            self._flush()
        self._pending[name] = tensor
        self._bytes += tensor.nbytes
        self._total += tensor.nbytes

    def _flush(self) -> None:
        with atomic_path(self.directory / f"part-{len(self._files)}") as path:
            save_file(self._pending, path, metadata={"format": "pt"})
        self._files.append(list(self._pending))
        self._pending, self._bytes = {}, 0

    def close(self) -> None:
        """Write the last file, name all files, and write the index if there are several."""
        self._flush()
        count = len(self._files)
        weight_map = {}
        for i, names in enumerate(self._files):
            file = WEIGHTS if count == 1 else f"model-{i + 1:05d}-of-{count:05d}.safetensors"
            (self.directory / f"part-{i}").rename(self.directory / file)
            weight_map |= dict.fromkeys(names, file)
        if count > 1:
            index = {"metadata": {"total_size": self._total}, "weight_map": weight_map}
            write_json(self.directory / INDEX, index)


def huggingface_config(layers: int, hidden: int, heads: int, dtype: torch.dtype) -> dict[str, Any]:
    """`config.json` of an ESM-2 of these sizes."""
    return {
        "architectures": ["EsmForMaskedLM"],
        "model_type": "esm",
        "vocab_size": VOCABULARY,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": 1026,
        "initializer_range": 0.02,
        "layer_norm_eps": LAYER_NORM_EPS,
        "position_embedding_type": "rotary",
        "use_cache": True,
        "emb_layer_norm_before": False,
        "token_dropout": True,
        "is_folding_model": False,
        "esmfold_config": None,
        "vocab_list": None,
        "cls_token_id": CLS,
        "pad_token_id": PAD,
        "eos_token_id": EOS,
        "mask_token_id": MASK,
        "tie_word_embeddings": True,
        "torch_dtype": str(dtype).removeprefix("torch."),
    }


def write_tokenizer(directory: Path) -> None:
    """vocab.txt, tokenizer_config.json and special_tokens_map.json for `EsmTokenizer`."""
    special = {"cls": CLS, "pad": PAD, "eos": EOS, "unk": UNK, "mask": MASK}
    names = {f"{kind}_token": TOKENS[token] for kind, token in special.items()}
    write_text(directory / "vocab.txt", "\n".join(TOKENS))
    write_json(directory / "special_tokens_map.json", names)
    limits = {"tokenizer_class": "EsmTokenizer", "model_max_length": int(1e30), "clean_up_tokenization_spaces": False}
    write_json(directory / "tokenizer_config.json", limits | names)
