"""Convert a Hugging Face ESM-2 to a Megatron checkpoint or back, in one process."""

import shutil
from pathlib import Path

from unirefine.megatron import platform

import torch

from unirefine.config.training import Model, Parallel, Train
from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.files.atomic import delete
from unirefine.model import checkpoint, convert
from unirefine.model.esm2 import Esm2, build_esm2
from unirefine.model.settings import DTYPES


def run(source: str, target: Path | str) -> str:
    """Convert `source` (a complete checkpoint, a Hugging Face directory or a hub id) to the other layout at `target`.

    The source's lineage is copied along. Returns one line about what was written. Raises UserError when the source is
    none of these or the target exists.
    """
    target = Path(target)
    if target.exists():
        raise UserError("exists already", where=target, fix="remove it, or choose another --to")
    platform.initialize(Parallel(processes_per_node=1), seed=0)
    try:
        if checkpoint.is_complete(source):
            dtype = getattr(torch, checkpoint.read(source)["dtype"])
            model = _empty(checkpoint.model_of(source), dtype)
            checkpoint.load(source, model)
            convert.export_huggingface(model, target)
            kind = "Hugging Face directory"
        else:
            files = convert.HuggingfaceFiles(convert.local_directory(source))
            model = _empty(files.model(), files.dtype())
            convert.load_huggingface(files.directory, model)
            checkpoint.save(target, model, extra={"source": str(source)})
            kind = "Megatron checkpoint"
        if (Path(source) / lineage.FILE).is_file():
            shutil.copyfile(Path(source) / lineage.FILE, target / lineage.FILE)
    finally:
        delete(checkpoint.temporary_directory(target))  # what a full disk has left
        platform.shutdown()
    config = model.config
    sizes = f"{config.num_layers} layers, hidden {config.hidden_size}, {config.num_attention_heads} heads"
    dtype = str(config.params_dtype).removeprefix("torch.")
    return f"{kind} ({sizes}, {dtype}) in {target}"


def _empty(size: Model, dtype: torch.dtype) -> Esm2:
    precision = next((name for name, known in DTYPES.items() if known == dtype), None)
    if precision is None:
        raise UserError(f"weights are {dtype}", fix=f"known are {', '.join(map(str, DTYPES.values()))}")
    train = Train(model=size, parallel=Parallel(processes_per_node=1), precision=precision)
    return build_esm2(size, train, weights=False)
