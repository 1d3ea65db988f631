"""Metrics of a run in metrics.jsonl, TensorBoard and Weights & Biases: one line per logged step, across restarts."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from unirefine.errors import UserError
from unirefine.files.atomic import atomic_path
from unirefine.files.documents import read_lines
from unirefine.files.hashes import sha256_json

# Tag in TensorBoard and in Weights & Biases for each metric of metrics.jsonl
TAGS = {
    "loss": "loss/train",
    "perplexity": "perplexity/train",
    "validation_loss": "loss/validation",
    "validation_perplexity": "perplexity/validation",
    "validation_hidden_loss": "loss/validation_hidden",
    "validation_hidden_perplexity": "perplexity/validation_hidden",
    "learning_rate": "optimizer/learning_rate",
    "grad_norm": "optimizer/grad_norm",
    "tokens_per_second": "speed/tokens_per_second",
    "padded_tokens_per_second": "speed/padded_tokens_per_second",
    "data_wait": "speed/data_wait",
    "mfu": "speed/mfu",
    "memory_bytes": "memory/bytes",
}


def tagged(values: Mapping[str, float]) -> dict[str, float]:
    """Metrics by their tag; that of a further validation set ends with its name, as in `loss/validation/general`."""
    found = {}
    for key, value in values.items():
        name, slash, which = key.partition("/")
        if name in TAGS:
            found[f"{TAGS[name]}{slash}{which}"] = value
    return found


def truncate(path: Path, step: int) -> None:
    """Drop the lines after `step` and an incomplete last line, which a killed run wrote after its checkpoint.

    Raises UserError for another line that is damaged.
    """
    if not path.exists():
        return
    kept = [line for line in read(path) if line["step"] <= step]
    with atomic_path(path) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")


def read(path: Path) -> list[dict[str, Any]]:
    """All complete lines of a metrics.jsonl. Raises UserError for one that is damaged."""
    return read_lines(path, torn=True)


def open_wandb(project: str, output: Path, options: dict[str, Any]) -> Any:
    """Open the Weights & Biases run of `output`, the same one when training is continued. options: shown as its config.

    Wandb's own environment variables apply (WANDB_MODE=offline, WANDB_API_KEY, WANDB_ENTITY, ...).
    Raises UserError when the package or the login is missing.
    """
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            "train.wandb_project needs the package wandb",
            fix="pip install 'unirefine[wandb]', or set train.wandb_project to null",
        ) from error
    path = output.resolve()
    try:
        return wandb.init(
            project=project,
            dir=output,
            id=sha256_json(str(path))[:16],
            name=f"{path.parent.name}-{path.name}",
            resume="allow",
            config=options,
            settings=wandb.Settings(silent=True),
        )
    except (wandb.Error, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"Weights & Biases could not be opened: {reason}",
            fix="log in (wandb login, or WANDB_API_KEY), set WANDB_MODE=offline, or set train.wandb_project to null",
        ) from error


class Metrics:
    """Appends to `<output>/metrics.jsonl` and `<output>/tensorboard/`, continuing after `step`.

    wandb_run: from `open_wandb`; None for none.
    """

    def __init__(self, output: Path, step: int, wandb_run: Any = None) -> None:
        output.mkdir(parents=True, exist_ok=True)
        self.path = output / "metrics.jsonl"
        truncate(self.path, step or -1)  # a run that starts over has no step 0 yet
        self._lines = self.path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(output / "tensorboard"), purge_step=step + 1 if step else None)
        self._wandb = wandb_run

    def amend(self, step: int, values: dict[str, float | int], added: dict[str, float | int]) -> None:
        """Add `added` to the line of `step`, the last one; where it is not there, write `values`."""
        last = next(reversed(read(self.path)), {})
        if last.get("step") == step:
            self._lines.close()
            truncate(self.path, step - 1)
            self._lines = self.path.open("a", encoding="utf-8")
            values = {name: value for name, value in last.items() if name != "step"} | added
        self.write(step, values)

    def write(self, step: int, values: dict[str, float | int]) -> None:
        """Append the line `{"step": step, **values}`."""
        self._lines.write(json.dumps({"step": step, **values}) + "\n")
        self._lines.flush()
        found = tagged(values)
        for tag, value in found.items():
            self._board.add_scalar(tag, value, step)
        if self._wandb is not None:
            self._wandb.log(found, step=step)

    def close(self) -> None:
        """Flush everything to disk and close it."""
        os.fsync(self._lines.fileno())
        self._lines.close()
        self._board.flush()
        self._board.close()
        if self._wandb is not None:
            self._wandb.finish()
