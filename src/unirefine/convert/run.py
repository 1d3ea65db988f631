"""Convert a Hugging Face ESM-2 to a Megatron checkpoint or back, in one process."""

from pathlib import Path
from typing import Any

from unirefine.megatron import platform

import torch

from unirefine.config.training import Model, Parallel, Train
from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.files.atomic import delete, write_json
from unirefine.files.hashes import recorded
from unirefine.model import checkpoint, convert, pickled
from unirefine.model.esm2 import Esm2, build_esm2
from unirefine.model.huggingface import HuggingfaceFiles
from unirefine.model.settings import DTYPES
from unirefine.model.source import find


def run(source: str, target: Path | str) -> str:
    """Convert `source` (what `model.source.find` takes) to the other layout at `target`; a pickle to Hugging Face's.

    Of a model with both layouts, Hugging Face's is converted. The source's lineage is copied along, with the hashes of
    what was written. Returns one line about that. Raises UserError when the source is no model, when it is damaged, or
    when the target exists.
    """
    target = Path(target)
    if target.exists():
        raise UserError("exists already", where=target, fix="remove it, or choose another --to")
    if weights := pickled.weights_in(source):
        sizes = pickled.to_huggingface(weights, target)
        return f"Hugging Face directory ({sizes}) in {target}"
    found = find(source)
    platform.initialize(Parallel(processes_per_node=1), seed=0)
    try:
        if found.huggingface is not None:
            files = HuggingfaceFiles(found.huggingface)
            model = _empty(files.model(), files.dtype())
            convert.load_huggingface(files.directory, model)
            checkpoint.save(target, model, extra={"source": str(source)})
            kind, origin = "Megatron checkpoint", files.directory
        else:
            assert found.checkpoint is not None
            dtype = getattr(torch, checkpoint.read(found.checkpoint)["dtype"])
            model = _empty(found.model(), dtype)
            found.load(model)
            convert.export_huggingface(model, target)
            kind, origin = "Hugging Face directory", found.checkpoint
        if (origin / lineage.FILE).is_file():
            _write_lineage(lineage.read(origin), target)
    finally:
        delete(checkpoint.temporary_directory(target))  # what a full disk has left
        platform.shutdown()
    config = model.config
    sizes = f"{config.num_layers} layers, hidden {config.hidden_size}, {config.num_attention_heads} heads"
    dtype = str(config.params_dtype).removeprefix("torch.")
    return f"{kind} ({sizes}, {dtype}) in {target}"


def _write_lineage(found: dict[str, Any], target: Path) -> None:
    names = sorted(path.name for path in target.iterdir())
    write_json(target / lineage.FILE, found | {"files": recorded(target, names)})


def _empty(size: Model, dtype: torch.dtype) -> Esm2:
    precision = next((name for name, known in DTYPES.items() if known == dtype), None)
    if precision is None:
        raise UserError(f"weights are {dtype}", fix=f"known are {', '.join(map(str, DTYPES.values()))}")
    train = Train(model=size, parallel=Parallel(processes_per_node=1), precision=precision)
    return build_esm2(size, train, weights=False)
