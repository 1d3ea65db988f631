"""The sizes of the model that training starts from, out of its small JSON files."""

import json
from pathlib import Path
from typing import Any

_FILES = {
    "config.json": ("num_hidden_layers", "hidden_size", "num_attention_heads"),
    "complete.json": ("layers", "hidden", "heads"),
}
"""Files that state sizes, and their keys; of complete.json, in its `model`."""


def initial_sizes(init: str) -> tuple[int, int, int] | None:
    """(layers, hidden, heads) of the model at `train.init`; None when no file there says so.

    What is wrong with a model is said when it is opened.
    """
    given = Path(init)
    for directory in (given, given / "huggingface", given / "megatron", given / "final" / "huggingface"):
        for name, keys in _FILES.items():
            try:
                stated: Any = json.loads((directory / name).read_text(encoding="utf-8"))
                stated = stated["model"] if name == "complete.json" else stated
                sizes = tuple(stated[key] for key in keys)
            except (OSError, ValueError, LookupError, TypeError, RecursionError):
                continue
            if all(type(size) is int for size in sizes):
                return sizes  # type: ignore[return-value]
    return None
