"""Save and continue: the state of a run is its weights, its optimizer's moments, and the numbers in complete.json."""

import contextlib
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from unirefine.megatron import platform

import torch
from megatron.core.distributed import DistributedDataParallel
from megatron.core.optimizer import MegatronOptimizer
from torch.distributed.checkpoint.api import CheckpointException

from unirefine.config import Train
from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.model import checkpoint
from unirefine.train import checkpoints, engine
from unirefine.train.measure import Interval, Progress


@dataclass(frozen=True)
class Saver:
    """Writes and reads a run's checkpoints. Every process has one, and all call it together."""

    directory: Path
    model: DistributedDataParallel
    optimizer: MegatronOptimizer
    config: Train
    identity: dict[str, str]
    """From `checkpoints.identity`."""

    def save(self, progress: Progress) -> None:
        """Write checkpoint `progress.step` and prune. Raises UserError when the disk fails; the previous one stays."""
        path = checkpoints.checkpoint_path(self.directory, progress.step)
        state = {"identity": self.identity, **asdict(progress)}
        main = platform.rank() == 0
        try:
            with engine.settled(self.model):
                checkpoint.save(path, self.model, self.optimizer, extra=state)
        except (OSError, CheckpointException) as error:
            if main:
                with contextlib.suppress(OSError):  # the file system may be lost altogether
                    checkpoints.sweep(self.directory)
            kept = checkpoints.complete(self.directory)
            raise UserError(
                f"the checkpoint could not be written (is the disk full?): {_reason(error)}",
                where=path,
                fix=f"free some space and start again; {kept[-1].name if kept else 'no earlier checkpoint'} is kept",
            ) from error
        if main:
            shutil.copyfile(self.directory.parent / lineage.FILE, path / lineage.FILE)
            checkpoints.prune(self.directory, self.config.keep_checkpoints)

    def resume(self) -> Progress:
        """Load the newest complete checkpoint into model and optimizer, and say where it was; step 0 without one.

        Process 0 looks at the directory and tells the others. Raises UserError when the checkpoint belongs to another
        config or other shards.
        """
        found: list[Any] = [None]
        if platform.rank() == 0:
            checkpoints.sweep(self.directory)
            found = [checkpoints.newest(self.directory, self.identity)]
        torch.distributed.broadcast_object_list(found, src=0)
        if found[0] is None:
            return Progress()
        path, state = found[0]
        checkpoint.load(path, self.model, self.optimizer)
        names = {field.name for field in fields(Progress)} - {"interval"}
        return Progress(interval=Interval(**state["interval"]), **{name: state[name] for name in names})


def _reason(error: Exception) -> str:
    """What a write failed with, on whichever process it did."""
    if not isinstance(error, CheckpointException):
        return str(error)
    # raised on every process, but only process 0 knows the causes
    causes = [", ".join(f"process {rank}: {cause}" for rank, (cause, _trace) in error.failures.items())]
    torch.distributed.broadcast_object_list(causes, src=0)
    return causes[0]
