"""One training: epochs until the validation loss stops falling, a state to go on from, the best epoch in the end."""

import contextlib
import dataclasses
import datetime
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, gather_object

from unirefine import progress
from unirefine.config import Finetune
from unirefine.errors import UserError
from unirefine.files.atomic import write_text
from unirefine.files.documents import read_lines
from unirefine.finetune import batches, state
from unirefine.finetune.model import trainable
from unirefine.finetune.split import Split
from unirefine.finetune.tasks import Target
from unirefine.model.batching import SPECIAL_TOKENS, length_buckets
from unirefine.model.inference import not_finite

METRICS = "metrics.jsonl"
_PATIENCE = datetime.timedelta(hours=6)
"""So long the other processes wait while the first one searches, or fits baselines."""


@dataclass
class Progress:
    """How far a training is."""

    step: int = 0
    epoch: int = 0
    """Epochs that are finished."""
    best: float | None = None
    """Lowest validation loss."""
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    """Lines of metrics.jsonl."""

    def ended(self, config: Finetune) -> bool:
        """Whether the last epoch is done, or patience is at its end."""
        return self.epoch >= config.epochs or self.epoch - self.best_epoch >= config.patience


def accelerator(device: str, precision: str) -> Accelerator:
    """accelerate's: of this process alone, or of all that torchrun or `accelerate launch` has started."""
    if os.environ.get("MASTER_ADDR") in ("127.0.0.1", "localhost"):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("torch sees no GPU", where="--device cuda", fix="give --device cpu, or see nvidia-smi")
    return Accelerator(
        cpu=device == "cpu" or not torch.cuda.is_available(),
        mixed_precision="bf16" if precision == "bf16" else "no",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
    )


def train(
    model: torch.nn.Module,
    sequences: Sequence[str],
    targets: Sequence[Target],
    split: Split,
    config: Finetune,
    directory: Path,
    helper: Accelerator,
) -> Progress:
    """Train `model` in place until `Progress.ended`; it then has the weights of the best epoch.

    directory: of `state.safetensors`, from which it goes on if it is there, `best.safetensors` and `metrics.jsonl`.
    Raises UserError when the loss is not finite.
    """
    scales = [batches.scales_of(one, split.train, balanced=config.class_weights == "balanced") for one in targets]
    named = trainable(model)
    optimizer = torch.optim.AdamW(named.values(), lr=config.peak, weight_decay=config.weight_decay)
    done = Progress()
    if (directory / state.STATE).exists():
        tensors, facts = state.load(directory / state.STATE)
        state.restore(tensors, facts["step"], named, optimizer)
        before = [line for line in read_lines(directory / METRICS) if line["step"] <= facts["step"]]
        done = Progress(facts["step"], facts["epoch"], facts["best"], facts["best_epoch"], before)
        if helper.is_main_process and not done.ended(config):
            print(f"{split.name or 'training'}: goes on after step {done.step:,}")
    model, optimizer = helper.prepare(model, optimizer)
    named = trainable(helper.unwrap_model(model))
    work = _Work(model, sequences, targets, scales, config, helper)
    title = f"finetune{f' {split.name}' if split.name else ''}"
    per_epoch = -(-len(split.train) // config.batch)
    meter = progress.meter(title, total=config.epochs * len(split.train), unit="sequences")
    shown = meter if helper.is_main_process and not done.ended(config) else contextlib.nullcontext()
    with shown as bar:
        if bar is not None:
            bar.advance(min(done.step * config.batch, config.epochs * len(split.train)))
        while not done.ended(config):
            order = np.random.Generator(np.random.Philox([config.seed, done.epoch])).permutation(split.train)
            for first in range((done.step - done.epoch * per_epoch) * config.batch, len(order), config.batch):
                rows = order[first : first + config.batch]
                rate = config.peak * schedule(done.step, config.epochs * per_epoch, config.warmup)
                loss = _step(work, optimizer, rows, rate, done.step)
                done.step += 1
                done.history.append({"step": done.step, "epoch": done.epoch + 1, "loss": loss, "lr": rate})
                if done.step % config.checkpoint_every == 0 and first + config.batch < len(order):
                    _save(directory, named, optimizer, done, helper)
                if bar is not None:
                    bar.advance(len(rows))
            _end_of_epoch(work, split, done, directory, named)
            _save(directory, named, optimizer, done, helper)
    tensors, _facts = state.load(directory / state.BEST)
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(tensors[name])
    return done


@dataclass(frozen=True)
class _Work:
    model: torch.nn.Module
    sequences: Sequence[str]
    targets: Sequence[Target]
    scales: Sequence[batches.Scales]
    config: Finetune
    helper: Accelerator

    def truth(self, target: Target, rows: Sequence[int]) -> torch.Tensor:
        """Labels of rows, padded to the longest of them."""
        return batches.labels(target, rows, self.longest(rows) + SPECIAL_TOKENS, self.config.max_residues)

    def longest(self, rows: Sequence[int]) -> int:
        """Residues of the longest of the rows, cut."""
        return min(max(len(self.sequences[row]) for row in rows), self.config.max_residues)

    def parts(self, rows: np.ndarray) -> list[np.ndarray]:
        """Rows of this process, in parts of at most `batch_tokens`; none where rows are fewer than processes."""
        mine = rows[self.helper.process_index :: self.helper.num_processes]
        if not len(mine):
            return []
        lengths = np.array([min(len(self.sequences[row]), self.config.max_residues) + SPECIAL_TOKENS for row in mine])
        return [mine[part] for part in length_buckets(lengths, self.config.batch_tokens)]

    def sums(self, rows: np.ndarray) -> list[torch.Tensor]:
        """The summed loss of each target over rows, with gradients."""
        cut = [self.sequences[row][: self.config.max_residues] for row in rows]
        logits = self.model(**batches.inputs(cut, self.helper.device)).logits
        parts = batches.slices(self.targets)
        return [
            batches.loss_sum(target, scale, logits[..., part], self.truth(target, rows))
            for target, scale, part in zip(self.targets, self.scales, parts, strict=True)
        ]

    def weights(self, rows: np.ndarray) -> list[float]:
        """What the sums of all processes are divided by."""
        return [
            batches.weight_sum(target, scale, self.truth(target, rows))
            for target, scale in zip(self.targets, self.scales, strict=True)
        ]


def _step(work: _Work, optimizer: Any, rows: np.ndarray, rate: float, step: int) -> float:
    """One optimizer step. Returns the loss of all rows: the mean over targets that have a label among them."""
    helper = work.helper
    work.model.train()
    if work.config.dropout:
        torch.manual_seed(work.config.seed * 1_000_003 + step * 1009 + helper.process_index)  # the same after a resume
    for group in optimizer.param_groups:
        group["lr"] = rate
    weights = work.weights(rows)
    present = sum(weight > 0 for weight in weights)
    parts = work.parts(rows)
    total = torch.zeros((), dtype=torch.float64)
    optimizer.zero_grad()
    for number, part in enumerate(parts or [rows[:1]]):
        last = number == max(len(parts), 1) - 1
        with contextlib.nullcontext() if last else helper.no_sync(work.model):
            sums = work.sums(part)
            terms = [one / weight for one, weight in zip(sums, weights, strict=True) if weight]
            loss = sum(terms, sums[0] * 0) / max(present, 1)
            # processes that only wait for the others add nothing; DDP takes the mean of the gradients
            loss = loss * (helper.num_processes if parts else 0)
            helper.backward(loss)
            total += loss.detach().double().cpu() / helper.num_processes
    helper.clip_grad_norm_(work.model.parameters(), work.config.clip)
    optimizer.step()
    found = float(helper.reduce(total.to(helper.device) if helper.num_processes > 1 else total, "sum"))
    if not np.isfinite(found):
        raise UserError(f"the loss of step {step + 1} is {found}", fix="give a lower finetune.lr, or check the labels")
    return found


def _end_of_epoch(
    work: _Work, split: Split, done: Progress, directory: Path, named: dict[str, torch.nn.Parameter]
) -> None:
    """Measure the validation loss, and keep the weights when it is the lowest so far."""
    done.epoch += 1
    # not through DDP, in which processes with more batches would wait for the others
    loss = validation_loss(dataclasses.replace(work, model=work.helper.unwrap_model(work.model)), split.validation)
    done.history.append({"step": done.step, "epoch": done.epoch, "validation_loss": loss})
    if done.best is None or loss < done.best:
        done.best, done.best_epoch = loss, done.epoch
        if work.helper.is_main_process:
            state.save(directory / state.BEST, named, {"epoch": done.epoch})


@torch.inference_mode()
def validation_loss(work: _Work, rows: np.ndarray) -> float:
    """The mean over targets of their loss on rows."""
    work.model.eval()
    mine = work.parts(rows)
    sums = torch.zeros(len(work.targets), dtype=torch.float64)
    for part in mine:
        sums += torch.stack([one.detach().double().cpu() for one in work.sums(part)])
    if work.helper.num_processes > 1:
        sums = work.helper.reduce(sums.to(work.helper.device), "sum").cpu()
    weights = work.weights(rows)
    return float(np.mean([one / weight for one, weight in zip(sums.tolist(), weights, strict=True) if weight]))


def _save(
    directory: Path, named: dict[str, torch.nn.Parameter], optimizer: Any, done: Progress, helper: Accelerator
) -> None:
    """Write metrics.jsonl, then the state: a state never lacks lines."""
    if helper.is_main_process:
        write_text(directory / METRICS, "".join(json.dumps(line) + "\n" for line in done.history))
        inner = getattr(optimizer, "optimizer", optimizer)
        tensors = {f"weight/{name}": parameter for name, parameter in named.items()}
        tensors |= state.optimizer_tensors(inner, named)
        facts = {"step": done.step, "epoch": done.epoch, "best": done.best, "best_epoch": done.best_epoch}
        state.save(directory / state.STATE, tensors, facts)
    helper.wait_for_everyone()


def schedule(step: int, steps: int, warmup: float) -> float:
    """Factor of the learning rate at a step, from 0: up in a straight line, then down to 0 after the last step."""
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return (steps - step) / max(steps - rising, 1)


def predict_all(
    model: torch.nn.Module, sequences: Sequence[str], targets: Sequence[Target], config: Finetune, helper: Accelerator,
    advance: Callable[[int], None] = lambda count: None,
) -> list[list[np.ndarray]]:  # fmt: skip
    """What `batches.predict` gives of each sequence, in their order, on every process. Raises UserError for NaN."""
    share = helper.process_index, helper.num_processes
    with helper.autocast():
        mine = batches.predict(
            model, sequences, targets, longest=config.max_residues, batch_tokens=config.batch_tokens,
            device=helper.device, advance=advance, share=share if not targets[0].is_residue else (0, 1),
        )  # fmt: skip
    found = mine
    if helper.num_processes > 1 and not targets[0].is_residue:  # windows of one sequence may be on several
        found = {at: values for each in gather_object([mine]) for at, values in each.items()}
    for at, values in found.items():
        if not all(np.isfinite(value).all() for value in values):
            raise not_finite(f"number {at + 1}")
    return [found[at] for at in range(len(sequences))]
