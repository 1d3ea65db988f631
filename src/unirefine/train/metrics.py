"""metrics.jsonl and TensorBoard: what a run measured, one line per logged step, continued across restarts."""

import json
import os
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from unirefine.provenance import atomic_path

# Where a metric of metrics.jsonl is shown in TensorBoard
TAGS = {
    "loss": "loss/train",
    "perplexity": "perplexity/train",
    "validation_loss": "loss/validation",
    "validation_perplexity": "perplexity/validation",
    "learning_rate": "optimizer/learning_rate",
    "grad_norm": "optimizer/grad_norm",
    "tokens_per_second": "speed/tokens_per_second",
    "padded_tokens_per_second": "speed/padded_tokens_per_second",
    "data_wait": "speed/data_wait",
    "mfu": "speed/mfu",
    "memory_bytes": "memory/bytes",
}


def truncate(path: Path, step: int) -> None:
    """Drop the lines of `path` beyond `step`, and a torn last line: what a killed run wrote after its checkpoint."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] > step:
                break
        except ValueError:
            break
        kept.append(line + "\n")
    with atomic_path(path) as part:
        part.write_text("".join(kept), encoding="utf-8")


def read(path: Path) -> list[dict[str, Any]]:
    """All lines of a metrics.jsonl."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Metrics:
    """Appends to `<output>/metrics.jsonl` and `<output>/tensorboard/`, continuing after `step`."""

    def __init__(self, output: Path, step: int) -> None:
        output.mkdir(parents=True, exist_ok=True)
        self.path = output / "metrics.jsonl"
        truncate(self.path, step)
        self._lines = self.path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(output / "tensorboard"), purge_step=step + 1 if step else None)

    def write(self, step: int, values: dict[str, float | int]) -> None:
        """One line: `{"step": step, **values}`; a whole line or none of it reaches the file."""
        self._lines.write(json.dumps({"step": step, **values}) + "\n")
        self._lines.flush()
        for name in TAGS.keys() & values.keys():
            self._board.add_scalar(TAGS[name], values[name], step)

    def sync(self) -> None:
        """Make everything written so far durable: called before a checkpoint is declared complete."""
        os.fsync(self._lines.fileno())
        self._board.flush()

    def close(self) -> None:
        """Flush and close both."""
        self.sync()
        self._lines.close()
        self._board.close()
