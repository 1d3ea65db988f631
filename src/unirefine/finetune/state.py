"""What a killed training goes on from: weights, optimizer state and progress in one file, and no pickle."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from unirefine.errors import UserError
from unirefine.files.atomic import atomic_path
from unirefine.model.tensors import SafetensorsFile

STATE, BEST = "state.safetensors", "best.safetensors"
_AGAIN = "delete it: the training then starts from the beginning"


def save(path: Path, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors (on the CPU) and facts (JSON) to one file, atomically, with a digest of both."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(facts, sort_keys=True)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"facts": text, "digest": _digest(tensors, text)})


def load(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """(tensors, facts) as `save` wrote them. Raises UserError when the file is damaged."""
    file = SafetensorsFile(path)
    tensors = {name: file.tensor(name) for name in file.names}
    with safe_open(path, framework="pt") as opened:
        written = opened.metadata() or {}
    text = written.get("facts", "")
    if written.get("digest") != _digest(tensors, text):
        raise UserError("its content is not what was written (digest)", where=path, fix=_AGAIN)
    return tensors, json.loads(text)


def _digest(tensors: Mapping[str, torch.Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, named: Mapping[str, torch.nn.Parameter]
) -> dict[str, torch.Tensor]:
    """Adam's moments by name of the parameter."""
    return {
        f"{moment}/{name}": optimizer.state[parameter][moment]
        for name, parameter in named.items()
        if parameter in optimizer.state
        for moment in ("exp_avg", "exp_avg_sq")
    }


def restore(
    tensors: Mapping[str, torch.Tensor], step: int, named: Mapping[str, torch.nn.Parameter], optimizer: Any
) -> None:
    """Set weights and Adam's moments, in place, to those that were saved after `step` steps."""
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(tensors[f"weight/{name}"])
            if f"exp_avg/{name}" in tensors:
                moments = {moment: tensors[f"{moment}/{name}"].clone() for moment in ("exp_avg", "exp_avg_sq")}
                optimizer.state[parameter] = {"step": torch.tensor(float(step)), **moments}
