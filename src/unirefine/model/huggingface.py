"""A Hugging Face ESM-2 directory: its config, its vocabulary and its tensors, held against each other before use."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from unirefine.config.training import Model
from unirefine.core.alphabet import MASK, PAD, TOKENS
from unirefine.errors import UserError
from unirefine.model import integrity
from unirefine.model.checkpoint import model_of_sizes
from unirefine.model.layout import EMBEDDING
from unirefine.model.rotary import STORED, stored_frequencies
from unirefine.model.settings import LAYER_NORM_EPS, ROPE_THETA, VOCABULARY
from unirefine.model.tensors import SafetensorsFile

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
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
CONTACT_HEAD = "esm.contact_head.regression."
OTHER_HEADS = re.compile(r"classifier\.|qa_outputs\.|esm\.pooler\.dense\.")
"""Tensors that transformers' other models with ESM-2's body have: EsmModel, and those that classify."""
EXTRA = re.compile(r"esm\.contact_head\.regression\.|esm\.embeddings\.position_|.*\.?rotary_embeddings\.inv_freq$")
# transformers 5 writes layer norms under the names of TensorFlow checkpoints and reads both
ALIASES = {".LayerNorm.gamma": ".LayerNorm.weight", ".LayerNorm.beta": ".LayerNorm.bias"}
KINDS = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
"""dtypes of weights, by their name in safetensors."""
_LARGEST = 1 << 20
_OF_ANY = "esm.encoder.emb_layer_norm_after.bias"


def usual_name(name: str) -> str:
    """A tensor's name as in transformers' modules, from its name in a file."""
    for stored, usual in ALIASES.items():
        name = name.replace(stored, usual)
    return name


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


def shapes(layers: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter of an `EsmForMaskedLM`, by transformers' name."""
    found: dict[str, tuple[int, ...]] = {}
    for name in parameter_names(layers):
        for theirs in huggingface_names(name):
            if name in (EMBEDDING, "output_layer.bias"):
                shape: tuple[int, ...] = (VOCABULARY, hidden) if name == EMBEDDING else (VOCABULARY,)
            elif "linear_fc1." in name and "layer_norm" not in name:
                shape = (4 * hidden, hidden) if name.endswith("weight") else (4 * hidden,)
            elif name.endswith("linear_fc2.weight"):
                shape = (hidden, 4 * hidden)
            elif name.endswith("weight") and "norm" not in name:
                shape = (hidden, hidden)
            else:
                shape = (hidden,)
            found[theirs] = shape
    return found


class HuggingfaceFiles:
    """The tensors of a Hugging Face directory, read one at a time from its safetensors file or files."""

    def __init__(self, directory: Path | str, *, head: bool = True) -> None:
        """Open a directory and hold config, vocabulary, names, shapes and dtypes against each other.

        head: whether it must have the language model's. Else the body is enough, as an EsmModel or one of transformers'
        classifiers has it; what these have beside it is left out. Reads the headers of the files only. Raises UserError
        for what is missing, damaged, or contradicts the rest.
        """
        self.directory = Path(directory)
        self.config = read_config(self.directory)
        check_vocabulary(self.directory)
        self._of: dict[str, tuple[SafetensorsFile, str]] = {}
        for file in _weight_files(self.directory):
            opened = SafetensorsFile(self.directory / file)
            for name in opened.names:
                if usual_name(name) in self._of:
                    raise self._refuse(f"tensor {name} is stored twice")
                self._of[usual_name(name)] = opened, name
        if any(name.startswith("encoder.layer.") for name in self._of):  # an EsmModel
            self._of = {f"esm.{name}": where for name, where in self._of.items()}
        self.headless = not any(name.startswith("lm_head.") for name in self._of)
        if self.headless:
            self._of = {name: where for name, where in self._of.items() if not OTHER_HEADS.match(name)}
        self._check_tensors()
        if self.headless and head:
            raise self._refuse(
                "it has no language-model head (lm_head), as an EsmModel or a fine-tuned classifier",
                "give the EsmForMaskedLM that it was made from; vectors and contacts can be had without it",
            )

    def names(self) -> list[str]:
        """Names of all tensors that are of use, as in transformers' modules."""
        return list(self._of)

    def extra(self) -> list[str]:
        """Names of the tensors that the language model does not use."""
        return [name for name in self._of if EXTRA.match(name)]

    def tensor(self, name: str) -> torch.Tensor:
        """One tensor, on the CPU. Raises UserError when it is missing."""
        if name not in self._of:
            raise self._refuse(f"no tensor {name}")
        opened, stored = self._of[name]
        return opened.tensor(stored)

    def dtype(self) -> torch.dtype:
        """dtype of the stored weights."""
        return KINDS[self._kind(_OF_ANY)]

    def model(self) -> Model:
        """The `config.Model` of these weights."""
        return model_of_sizes(*_sizes(self.config))

    def tied(self) -> Iterator[tuple[str, str]]:
        """(stored copy of a tied tensor, the tensor) that differ."""
        for copy, tensor in TIED.items():
            if copy in self._of and not torch.equal(self.tensor(copy), self.tensor(tensor)):
                yield copy, tensor

    def not_finite(self) -> str | None:
        """The first tensor with a value that is no number, in words; None when there is none. Reads all weights."""
        for name in self._of:
            tensor = self.tensor(name)
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                return f"{name} has values that are not finite"
        return None

    def _kind(self, name: str) -> str:
        opened, stored = self._of[name]
        return opened.kind(stored)

    def _refuse(self, what: str, fix: str = "is this an EsmForMaskedLM?") -> UserError:
        return UserError(what, where=self.directory, fix=fix)

    def _check_tensors(self) -> None:
        layers, hidden, heads = _sizes(self.config)
        numbers = {int(match[1]) for name in self._of if (match := re.match(r"esm\.encoder\.layer\.(\d{1,6})\.", name))}
        if not numbers:
            raise self._refuse("no layer of an ESM-2 in it")
        if max(numbers) + 1 != layers:
            raise self._refuse(
                f"its tensors have {max(numbers) + 1} layers, its {CONFIG} says {layers}", "correct num_hidden_layers"
            )
        parameters = {
            name: shape
            for name, shape in shapes(layers, hidden).items()
            if not (self.headless and name.startswith("lm_head."))
        }
        wanted = dict(parameters)
        unknown = sorted(set(self._of) - set(wanted) - set(TIED) - set(self.extra()))
        if unknown:
            raise self._refuse(f"unknown tensors {unknown[:3]}")
        wanted |= {copy: wanted[tensor] for copy, tensor in TIED.items() if copy in self._of}
        wanted |= {name: shape for name, shape in _extra_shapes(layers, hidden, heads).items() if name in self._of}
        inverse = [name for name in self._of if name.endswith(STORED)]
        wanted |= dict.fromkeys(inverse, (hidden // heads // 2,))
        for name, shape in wanted.items():
            if name not in self._of:
                raise self._refuse(f"no tensor {name}")
            opened, stored = self._of[name]
            if opened.shape(stored) != shape:
                raise self._refuse(
                    f"tensor {name} has shape {opened.shape(stored)}, not {shape}, which follows from its {CONFIG} "
                    f"({layers} layers, hidden {hidden}, {heads} heads)",
                    f"correct {CONFIG}, or get the model again",
                )
            if self._kind(name) not in KINDS:
                raise self._refuse(f"tensor {name} is {self._kind(name)}", f"known are {', '.join(KINDS)}")
        other = next((name for name in parameters if self._kind(name) != self._kind(_OF_ANY)), None)
        if other is not None:
            kinds = f"{other} is {self._kind(other)}, {_OF_ANY} {self._kind(_OF_ANY)}"
            raise self._refuse(f"its weights have several dtypes: {kinds}", "save it in one dtype")
        stored_frequencies({name: self.tensor(name) for name in inverse}, hidden // heads, self.directory)


def _extra_shapes(layers: int, hidden: int, heads: int) -> dict[str, tuple[int, ...]]:
    return {f"{CONTACT_HEAD}weight": (1, layers * heads), f"{CONTACT_HEAD}bias": (1,)}


def _weight_files(directory: Path) -> list[str]:
    """Names of the safetensors files, those that transformers takes. Raises UserError for an index that is not one."""
    index = directory / INDEX
    if (directory / WEIGHTS).is_file() or not index.is_file():
        return [WEIGHTS]
    weight_map = _read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError("no weight_map", where=index, fix="get it again")
    for file in weight_map.values():
        if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
            raise UserError(f"{file!r} is not the name of a safetensors file", where=index, fix="get it again")
    return sorted(set(weight_map.values()))


def has_safetensors(directory: Path) -> bool:
    """Whether a directory has weights that can be opened, or an index of them."""
    return next(directory.glob("*.safetensors*"), None) is not None


def _read_object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"not valid JSON ({error})", where=path, fix="get it again") from None
    if not isinstance(found, dict):
        raise UserError(f"a {type(found).__name__}, not an object", where=path, fix="get it again")
    return found


def _sizes(config: Mapping[str, Any]) -> tuple[int, int, int]:
    return config["num_hidden_layers"], config["hidden_size"], config["num_attention_heads"]


def read_config(directory: Path) -> dict[str, Any]:
    """`config.json` of an ESM-2. Raises UserError when it is missing, damaged, or of another architecture."""
    path = directory / CONFIG
    if not path.is_file():
        raise UserError(f"no {CONFIG}", where=directory, fix="give a directory of a Hugging Face ESM-2")
    config = _read_object(path)

    def refuse(key: str, wanted: Any) -> UserError:
        if key not in config:
            return UserError(f"no {key}", where=path, fix="give a directory of a Hugging Face ESM-2")
        return UserError(f"{key} is {config[key]!r}, in ESM-2 it is {wanted}", where=path)

    if config.get("model_type") != "esm":
        raise refuse("model_type", repr("esm"))
    for key in ("num_hidden_layers", "hidden_size", "num_attention_heads"):
        if type(config.get(key)) is not int or not 0 < config[key] <= _LARGEST:
            raise refuse(key, "a whole number above 0")
    _layers, hidden, heads = _sizes(config)
    if hidden % heads or hidden // heads % 2:
        raise UserError(f"hidden_size {hidden} over num_attention_heads {heads} is no whole even number", where=path)
    config.setdefault("rope_theta", ROPE_THETA)  # only later versions of transformers write it
    wanted = {
        "vocab_size": VOCABULARY,
        "position_embedding_type": "rotary",
        "token_dropout": True,
        "emb_layer_norm_before": False,
        "intermediate_size": 4 * hidden,
        "layer_norm_eps": LAYER_NORM_EPS,
        "rope_theta": ROPE_THETA,
    }
    stated = {  # where a config has them
        "hidden_act": ("gelu",),
        "mask_token_id": (MASK,),
        "pad_token_id": (PAD,),
        "tie_word_embeddings": (True,),
        "is_folding_model": (False, None),
        "is_decoder": (False, None),
        "add_cross_attention": (False, None),
        "rope_scaling": (None,),
        "vocab_list": (None, list(TOKENS)),
    }
    for key, value in wanted.items():
        if config.get(key) != value or isinstance(config.get(key), bool) != isinstance(value, bool):
            raise refuse(key, repr(value))
    for key, values in stated.items():
        if key in config and config[key] not in values:
            raise refuse(key, repr(values[0]))
    return config


def check_vocabulary(directory: Path) -> None:
    """Raise UserError when `vocab.txt`, where there is one, has other tokens than ESM-2's, or another order."""
    path = directory / "vocab.txt"
    if not path.is_file():
        return
    try:
        tokens = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError:
        tokens = []
    if tokens != list(TOKENS):
        differs = next(
            (i for i, pair in enumerate(zip(tokens, TOKENS, strict=False)) if pair[0] != pair[1]), len(TOKENS)
        )
        raise UserError(
            f"not ESM-2's vocabulary: {len(tokens)} tokens, of which number {differs} is the first that differs",
            where=path, fix="get the model again; one trained with other tokens cannot be read",
        )  # fmt: skip


def check_whole(directory: Path, *, head: bool = True) -> HuggingfaceFiles:
    """Open a directory whose files are those of its lineage, where it has one. Collective. Raises UserError."""
    files = HuggingfaceFiles(directory, head=head)
    integrity.check_lineage(files.directory)
    return files


def model_of(directory: Path | str, *, head: bool = True) -> Model:
    """The `config.Model` of a Hugging Face ESM-2 directory. Raises UserError when it is something else."""
    return HuggingfaceFiles(directory, head=head).model()
