"""A model with a contact head, as `EsmForMaskedLM` has it: one weight for each attention map, and a bias."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.files.atomic import replace_directory, temporary_path, write_json
from unirefine.files.hashes import recorded
from unirefine.model import checkpoint, convert
from unirefine.model.huggingface import CONFIG, CONTACT_HEAD, HuggingfaceFiles
from unirefine.model.inference import open_megatron
from unirefine.model.settings import DTYPES
from unirefine.model.source import Source

FITTED = "contact_head.json"
"""In a model's directory: on which proteins its head was fitted."""


def write(source: Source, directory: Path, weight: np.ndarray, bias: float, facts: dict[str, Any]) -> None:
    """Write a Hugging Face directory with the weights of a model, bit for bit, and a new contact head.

    weight: float[layers x heads]. facts: for contact_head.json. The source's lineage is passed on. Raises UserError
    when `directory` exists.
    """
    if directory.exists():
        raise UserError("exists already", where=directory, fix="remove it, or choose another --output")
    temporary = temporary_path(directory)
    temporary.mkdir()
    try:
        files = convert.WeightFiles(temporary)
        dtype = torch.float32
        for name, tensor in _tensors(source):
            if not name.startswith(CONTACT_HEAD):
                files.add(name, tensor)
            if name == "lm_head.bias":
                dtype = tensor.dtype
        files.add(f"{CONTACT_HEAD}weight", torch.tensor(weight[None], dtype=torch.float32))
        files.add(f"{CONTACT_HEAD}bias", torch.tensor([bias], dtype=torch.float32))
        files.close()
        write_json(temporary / CONFIG, convert.huggingface_config(*source.model().sizes, dtype))
        convert.write_tokenizer(temporary)
        write_json(temporary / FITTED, facts)
        for origin in (source.huggingface, source.checkpoint, source.directory):
            if origin is not None and (origin / lineage.FILE).is_file():
                names = sorted(path.name for path in temporary.iterdir())
                found = lineage.read(origin) | {"files": recorded(temporary, names)}
                write_json(temporary / lineage.FILE, found)
                break
        replace_directory(temporary, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _tensors(source: Source) -> Iterator[tuple[str, torch.Tensor]]:
    if source.huggingface is not None:
        files = HuggingfaceFiles(source.huggingface)
        for name in files.names():
            yield name, files.tensor(name)
        return
    assert source.checkpoint is not None
    stored = getattr(torch, checkpoint.read(source.checkpoint)["dtype"])
    precision: Any = next(name for name, dtype in DTYPES.items() if dtype == stored)
    yield from convert.own_tensors(open_megatron(source.checkpoint, precision).model)
