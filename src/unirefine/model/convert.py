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

import torch
from megatron.core import parallel_state
from safetensors import safe_open
from safetensors.torch import save_file

from unirefine.config.training import Model
from unirefine.core.alphabet import CLS, EOS, MASK, PAD, TOKENS, UNK
from unirefine.errors import UserError
from unirefine.files.atomic import read_json, replace_directory, write_json
from unirefine.model.checkpoint import model_of_sizes, temporary_directory, unwrap
from unirefine.model.esm2 import Esm2
from unirefine.model.layout import EMBEDDING, global_parameters, is_vocabulary, local_slice, split_dimension
from unirefine.model.settings import LAYER_NORM_EPS, ROPE_THETA, VOCABULARY, pipeline_stages

SHARD_BYTES = 5_000_000_000
"""Weights beyond this are split into several safetensors files with an index, as transformers does."""

LAYER = {
    "self_attention.linear_qkv.layer_norm_": "attention.LayerNorm.",
    "self_attention.linear_proj.": "attention.output.dense.",
    "mlp.linear_fc1.layer_norm_": "LayerNorm.",
    "mlp.linear_fc1.": "intermediate.dense.",
    "mlp.linear_fc2.": "output.dense.",
}
OUTSIDE = {
    EMBEDDING: "esm.embeddings.word_embeddings.weight",
    "encoder.final_layernorm.": "esm.encoder.emb_layer_norm_after.",
    "head.dense.": "lm_head.dense.",
    "head.layer_norm.": "lm_head.layer_norm.",
    "output_layer.bias": "lm_head.bias",
}
# copies of tied tensors that older checkpoints store
TIED = {
    "lm_head.decoder.weight": "esm.embeddings.word_embeddings.weight",
    "lm_head.decoder.bias": "lm_head.bias",
}
EXTRA = re.compile(r"esm\.contact_head\.|esm\.embeddings\.position_|.*\.?rotary_embeddings\.inv_freq$")
# transformers 5 writes layer norms under the names of TensorFlow checkpoints and reads both
ALIASES = {".LayerNorm.gamma": ".LayerNorm.weight", ".LayerNorm.beta": ".LayerNorm.bias"}


def parameter_names(layers: int) -> list[str]:
    """Global names of all parameters of a model, from the embedding to the head."""
    names = [EMBEDDING]
    for layer in range(layers):
        for module in ("self_attention.linear_qkv.", *LAYER):
            names += [f"encoder.layers.{layer}.{module}{kind}" for kind in ("weight", "bias")]
    for module in ("encoder.final_layernorm.", "head.dense.", "head.layer_norm."):
        names += [module + kind for kind in ("weight", "bias")]
    return [*names, "output_layer.bias"]


def huggingface_names(name: str) -> list[str]:
    """Hugging Face's name of a parameter; for a fused QKV those of query, key and value."""
    match = re.fullmatch(r"encoder\.layers\.(\d+)\.(.*)", name)
    if match is None:
        return [next(theirs + name.removeprefix(ours) for ours, theirs in OUTSIDE.items() if name.startswith(ours))]
    prefix, rest = f"esm.encoder.layer.{match[1]}.", match[2]
    if rest in ("self_attention.linear_qkv.weight", "self_attention.linear_qkv.bias"):
        kind = rest.rpartition(".")[2]
        return [f"{prefix}attention.self.{which}.{kind}" for which in ("query", "key", "value")]
    return [next(prefix + theirs + rest.removeprefix(ours) for ours, theirs in LAYER.items() if rest.startswith(ours))]


def fuse_qkv(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int) -> torch.Tensor:
    """Three [hidden, ...] tensors to one [3 x hidden, ...], interleaved per head."""
    per_head = [tensor.reshape(heads, 1, -1, *tensor.shape[1:]) for tensor in (query, key, value)]
    return torch.cat(per_head, dim=1).reshape(-1, *query.shape[1:])


def split_qkv(fused: torch.Tensor, heads: int) -> list[torch.Tensor]:
    """The inverse of `fuse_qkv`."""
    per_head = fused.reshape(heads, 3, -1, *fused.shape[1:])
    return [per_head[:, i].reshape(-1, *fused.shape[1:]).contiguous() for i in range(3)]


# ---------------------------------------------------------------- reading


class HuggingfaceFiles:
    """The tensors of a Hugging Face directory, read one at a time from its safetensors file or files."""

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self.config = _read_config(self.directory)
        index = self.directory / "model.safetensors.index.json"
        if index.is_file():
            files = sorted(set(read_json(index)["weight_map"].values()))
        else:
            files = ["model.safetensors"]
        self._of: dict[str, Any] = {}
        for file in files:
            if not (self.directory / file).is_file():
                raise UserError("no such file", where=self.directory / file, fix="only safetensors can be read")
            opened = safe_open(self.directory / file, framework="pt")
            self._of |= {usual_name(name): (opened, name) for name in opened.keys()}  # noqa: SIM118

    def names(self) -> list[str]:
        """Names of all tensors, as in transformers' modules."""
        return list(self._of)

    def tensor(self, name: str) -> torch.Tensor:
        """One tensor, on the CPU. Raises UserError when it is missing."""
        if name not in self._of:
            raise UserError(f"no tensor {name}", where=self.directory, fix="is this an EsmForMaskedLM?")
        opened, stored = self._of[name]
        return opened.get_tensor(stored)

    def dtype(self) -> torch.dtype:
        """dtype of the stored weights."""
        return self.tensor("lm_head.bias").dtype

    def model(self) -> Model:
        """The `config.Model` of these weights."""
        config = self.config
        return model_of_sizes(config["num_hidden_layers"], config["hidden_size"], config["num_attention_heads"])


def usual_name(name: str) -> str:
    """A tensor's name as in transformers' modules, from its name in a file."""
    for stored, usual in ALIASES.items():
        name = name.replace(stored, usual)
    return name


def _read_config(directory: Path) -> dict[str, Any]:
    path = directory / "config.json"
    if not path.is_file():
        raise UserError("no config.json", where=directory, fix="give a directory of a Hugging Face ESM-2")
    config = read_json(path)
    wanted = {
        "model_type": "esm",
        "vocab_size": VOCABULARY,
        "position_embedding_type": "rotary",
        "token_dropout": True,
        "emb_layer_norm_before": False,
        "intermediate_size": 4 * config.get("hidden_size", 0),
        "layer_norm_eps": LAYER_NORM_EPS,
        "rope_theta": ROPE_THETA,
    }
    config.setdefault("rope_theta", ROPE_THETA)  # only later versions of transformers write it
    for key, value in wanted.items():
        if config.get(key) != value:
            raise UserError(f"{key} is {config.get(key)!r}, in ESM-2 it is {value!r}", where=path)
    return config


def local_directory(source: str) -> Path:
    """`source` itself when it is a directory, else the hub model of that id, downloaded (safetensors only).

    Raises UserError when it is neither, or the hub cannot be reached.
    """
    if Path(source).is_dir():
        return Path(source)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        raise UserError(
            "no such directory", where=source, fix="give a directory or a hub id like facebook/esm2_t6_8M_UR50D"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(source, allow_patterns=["config.json", "*.safetensors", "*.safetensors.index.json"])
        )
    except Exception as error:  # the hub's client raises its own, httpx's and OS errors
        raise UserError(
            f"cannot download from the hub ({type(error).__name__})", where=source, fix="check the id and the network"
        ) from error


def model_of(directory: Path | str) -> Model:
    """The `config.Model` of a Hugging Face ESM-2 directory. Raises UserError when it is something else."""
    return HuggingfaceFiles(directory).model()


@torch.no_grad()
def load_huggingface(directory: Path | str, model: Any) -> None:
    """Load a Hugging Face ESM-2 directory into an `Esm2` (wrapped or not), at its layout and dtype.

    Every rank calls it and reads its own slice. Raises UserError for a missing tensor, an unknown one, or another model
    size.
    """
    esm2, files = unwrap(model), HuggingfaceFiles(directory)
    config = esm2.config
    ours = (config.num_layers, config.hidden_size, config.num_attention_heads)
    if files.model().sizes != ours:
        raise UserError(f"(layers, hidden, heads) are {files.model().sizes}, not {ours}", where=directory)
    known = {theirs for name in parameter_names(config.num_layers) for theirs in huggingface_names(name)}
    extra = [name for name in files.names() if EXTRA.match(name)]
    unknown = sorted(set(files.names()) - known - set(extra) - set(TIED))
    if unknown:
        raise UserError(f"unknown tensors {unknown[:3]}", where=directory, fix="is this an EsmForMaskedLM?")
    for copy, tied in TIED.items():
        if copy in files.names() and not torch.equal(files.tensor(copy), files.tensor(tied)):
            raise UserError(f"{copy} is not {tied}", where=directory, fix="in ESM-2 the head is tied to the embedding")
    for name, parameter in global_parameters(esm2):
        tensors = [files.tensor(theirs) for theirs in huggingface_names(name)]
        whole = fuse_qkv(*tensors, heads=config.num_attention_heads) if len(tensors) == 3 else tensors[0]
        parameter.copy_(local_slice(name, whole, esm2))
    esm2.extra_tensors = {name: files.tensor(name) for name in extra}


# ---------------------------------------------------------------- writing


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
    heads = esm2.config.num_attention_heads
    temporary = temporary_directory(directory)
    writer = None
    if torch.distributed.get_rank() == 0:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        writer = WeightFiles(temporary)
    for name, whole in whole_tensors(esm2):
        names = huggingface_names(name)
        tensors = split_qkv(whole, heads) if len(names) == 3 else [whole.contiguous()]
        for theirs, tensor in zip(names, tensors, strict=True):
            writer.add(theirs, tensor)
    if writer is not None:
        for name, tensor in esm2.extra_tensors.items():
            writer.add(name, tensor)
        writer.close()
        write_json(temporary / "config.json", huggingface_config(esm2.config))
        write_tokenizer(temporary)
        replace_directory(temporary, directory)
    torch.distributed.barrier()


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
        save_file(self._pending, self.directory / f"part-{len(self._files)}", metadata={"format": "pt"})
        self._files.append(list(self._pending))
        self._pending, self._bytes = {}, 0

    def close(self) -> None:
        """Write the last file, name all files, and write the index if there are several."""
        self._flush()
        count = len(self._files)
        weight_map = {}
        for i, names in enumerate(self._files):
            file = "model.safetensors" if count == 1 else f"model-{i + 1:05d}-of-{count:05d}.safetensors"
            (self.directory / f"part-{i}").rename(self.directory / file)
            weight_map |= dict.fromkeys(names, file)
        if count > 1:
            index = {"metadata": {"total_size": self._total}, "weight_map": weight_map}
            write_json(self.directory / "model.safetensors.index.json", index)


def huggingface_config(config: Any) -> dict[str, Any]:
    """`config.json` of an ESM-2 of these sizes (config: Megatron's TransformerConfig)."""
    return {
        "architectures": ["EsmForMaskedLM"],
        "model_type": "esm",
        "vocab_size": VOCABULARY,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_attention_heads,
        "intermediate_size": config.ffn_hidden_size,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": 1026,
        "initializer_range": 0.02,
        "layer_norm_eps": config.layernorm_epsilon,
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
        "torch_dtype": str(config.params_dtype).removeprefix("torch."),
    }


def write_tokenizer(directory: Path) -> None:
    """vocab.txt, tokenizer_config.json and special_tokens_map.json for `EsmTokenizer`."""
    special = {"cls": CLS, "pad": PAD, "eos": EOS, "unk": UNK, "mask": MASK}
    names = {f"{kind}_token": TOKENS[token] for kind, token in special.items()}
    (directory / "vocab.txt").write_text("\n".join(TOKENS), encoding="utf-8")
    write_json(directory / "special_tokens_map.json", names)
    limits = {"tokenizer_class": "EsmTokenizer", "model_max_length": int(1e30), "clean_up_tokenization_spaces": False}
    write_json(directory / "tokenizer_config.json", limits | names)
