"""The sizes of the model that training starts from, out of its small JSON files."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FILES = {
    "config.json": ("num_hidden_layers", "hidden_size", "num_attention_heads"),
    "complete.json": ("layers", "hidden", "heads"),
}
"""Files that state sizes, and their keys; of complete.json, in its `model`."""
_HUB_ID = re.compile(r"[\w.-]+/esm2_t\d+_(\w+)_UR50D")
"""How the published models are called."""

Sizes = tuple[int, int, int]
"""(layers, hidden, heads)."""


def initial_sizes(init: str, presets: Mapping[str, Sizes]) -> Sizes | None:
    """The sizes of the model at `train.init`, from its files or from its hub id; None when nothing there says so.

    What is wrong with a model is said when it is opened.
    """
    given = Path(init)
    if (match := _HUB_ID.fullmatch(init)) and not given.exists():
        return presets.get(match[1])
    places = ("", "huggingface", "megatron", "final/huggingface", "final/megatron")
    for directory in (given / place for place in places):
        for name, keys in _FILES.items():
            try:
                stated: Any = json.loads((directory / name).read_text(encoding="utf-8"))
                stated = stated["model"] if name == "complete.json" else stated
                sizes = tuple(stated[key] for key in keys)
            except (OSError, ValueError, LookupError, TypeError, RecursionError):
                continue
            if all(type(size) is int and size > 0 for size in sizes) and sizes[1] % (2 * sizes[2]) == 0:
                return sizes  # type: ignore[return-value]
    return None


def contradiction(model: Sizes, init: Sizes) -> str:
    """The message for sizes of `train.model` that are not those of `train.init`."""
    ours, theirs = ("{} layers, hidden {}, {} heads".format(*sizes) for sizes in (model, init))
    return (
        f"train.model has {ours}, and the model of train.init {theirs}; leave train.model out, then its sizes are "
        "taken, or train from random weights (init: null)"
    )
