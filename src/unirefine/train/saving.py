"""Save and load the state of a run: weights, the optimizer's moments, and the numbers in complete.json."""

import contextlib
import shutil
import sys
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
    """Writes and reads the checkpoints of a run. Its methods are collective."""

    directory: Path
    model: DistributedDataParallel
    optimizer: MegatronOptimizer
    config: Train
    identity: dict[str, str]
    """From `checkpoints.identity`."""

    def save(self, progress: Progress) -> None:
        """Write the checkpoint of `progress.step` and delete old ones.

        Raises UserError when writing fails; the previous checkpoint stays.
        """
        path = checkpoints.checkpoint_path(self.directory, progress.step)
        state = {"identity": self.identity, **asdict(progress)}
        main = platform.rank() == 0
        try:
            with engine.parameters_synced(self.model):
                checkpoint.save(path, self.model, self.optimizer, extra=state)
        except (OSError, CheckpointException) as error:
            if main:
                with contextlib.suppress(OSError):  # the whole file system may be gone
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
        """Load the newest good checkpoint into model and optimizer, and return its progress: step 0 without any.

        A damaged one is renamed and named on stderr, and the one before it is taken. Raises UserError when all are
        damaged, or when the newest good one belongs to another config or to other shards, or is of a later step than
        `train.steps`.
        """
        main = platform.rank() == 0
        if main:
            checkpoints.sweep(self.directory)
        found: list[Any] = [checkpoints.complete(self.directory) if main else None]
        torch.distributed.broadcast_object_list(found, src=0)
        left: list[Path] = found[0]
        damaged = ""
        while left:
            path = left.pop()
            wrong = checkpoint.problem(path)
            if wrong is None:
                return self._load(path)
            damaged = f"{path} is damaged: {wrong}"
            if main and left:
                aside = checkpoints.set_aside(path)
                print(
                    f"unirefine train: warning: {damaged}; renamed to {aside.name}, trying {left[-1].name}",
                    file=sys.stderr,
                )
        if damaged:
            raise UserError(
                damaged, fix="no good checkpoint is left; delete the directory of checkpoints to start over"
            )
        return Progress()

    def _load(self, path: Path) -> Progress:
        state = checkpoint.read(path)["extra"]
        checkpoints.check_identity(path, state, self.identity)
        checkpoints.check_steps(path, state["step"], self.config.steps)
        checkpoint.load(path, self.model, self.optimizer, checked=True)
        names = {field.name for field in fields(Progress)} - {"interval"}  # an older version had no hardware
        return Progress(interval=Interval(**state["interval"]), **{name: state[name] for name in names & state.keys()})


def _reason(error: Exception) -> str:
    """Why a write failed, on any process."""
    if not isinstance(error, CheckpointException):
        return str(error)
    # every process raises it, but only process 0 has the causes
    causes = [", ".join(f"process {rank}: {cause}" for rank, (cause, _trace) in error.failures.items())]
    torch.distributed.broadcast_object_list(causes, src=0)
    return causes[0]
