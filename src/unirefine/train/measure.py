"""Sums over steps: since the last line of metrics.jsonl, and since the run began."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from unirefine.config import Train
from unirefine.files.made_by import now
from unirefine.train.flops import batch_flops


@dataclass
class Interval:
    """Sums over the steps since the last line of metrics.jsonl.

    Checkpoints hold them, so that an interrupted run writes the same lines as an uninterrupted one, except for times.
    """

    loss: float = 0.0
    """Summed loss over chosen positions."""
    chosen: float = 0.0
    """Positions with a loss: those that the masking chose."""
    tokens: float = 0.0
    """Tokens without padding (`<cls>` and `<eos>` count)."""
    padded_tokens: float = 0.0
    """Tokens with padding."""
    squared_lengths: float = 0.0
    """Sum of squared sequence lengths, for the attention's FLOPs."""
    data_wait: float = 0.0
    """Seconds of waiting for batches, mean over processes."""
    seconds: float = 0.0
    """Duration of the steps, without validation and checkpoints."""

    def add(self, other: "Interval") -> None:
        """Add the sums of another interval."""
        for name in (each.name for each in fields(self)):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def speed(self, config: Train, peak: float | None) -> dict[str, float]:
        """`tokens_per_second`, `padded_tokens_per_second`, `data_wait` (fraction of the time) and, with a peak, `mfu`.

        peak: FLOP/s of one process's hardware; None when unknown.
        """
        seconds = max(self.seconds, 1e-9)
        values = {
            "tokens_per_second": self.tokens / seconds,
            "padded_tokens_per_second": self.padded_tokens / seconds,
            "data_wait": self.data_wait / seconds,
        }
        if peak is not None:
            layers, hidden, _heads = config.model.sizes
            done = batch_flops(layers, hidden, self.tokens, self.squared_lengths)
            values["mfu"] = done / seconds / (peak * config.parallel.world)
        return values


@dataclass
class Progress:
    """How far a run has come."""

    step: int = 0
    """Updates done."""
    samples: int = 0
    """Samples seen, which is the index of the next one."""
    tokens: int = 0
    """Tokens seen, without padding."""
    seconds: float = 0.0
    """Duration of all steps, before and after restarts."""
    interval: Interval = field(default_factory=Interval)
    """Sums since the last logged line."""
    latest: dict[str, float] = field(default_factory=dict)
    """The last `loss` and what `Validation.run` returned last, and `validated_step`."""
    hardware: list[dict[str, Any]] = field(default_factory=list)
    """What has trained the model: another entry where a start had other hardware or another command than the last."""

    def count(self, samples: int, sums: Interval, seconds: float) -> None:
        """Count one more update. samples: index of the next sample. sums: over all processes. seconds: its duration."""
        self.step += 1
        self.samples = samples
        self.tokens += int(sums.tokens)
        self.seconds += seconds
        self.interval.add(sums)
        self.interval.seconds += seconds

    def start(self, command: str, hardware: Mapping[str, Any]) -> None:
        """Record what trains from here on, unless it is what trained before. hardware: of `machine.hardware`."""
        given = {"command": command, **hardware}
        if self.hardware and given.items() <= self.hardware[-1].items():
            return
        self.hardware.append({"after_step": self.step, "date": now(), **given})

    def forget_sets(self, kept: Collection[str]) -> None:
        """Forget the losses of further validation sets that are no longer measured. kept: names of those that are."""
        self.latest = {key: value for key, value in self.latest.items() if "/" not in key or key.split("/")[1] in kept}

    def line(
        self,
        config: Train,
        *,
        peak: float | None,
        learning_rate: float,
        grad_norm: float,
        memory: int,
        **validation: float,
    ) -> dict[str, float | int]:
        """Values for a line of metrics.jsonl, over the steps since the last line. Resets the interval.

        Without a step since then, as when a finished run is only validated, those of that line stay.
        memory: bytes of the process that uses most.
        """
        new = self.interval.chosen > 0 or "loss" not in self.latest
        loss = self.interval.loss / max(self.interval.chosen, 1) if new else self.latest["loss"]
        values: dict[str, float | int] = {
            "samples": self.samples,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "loss": loss,
            "perplexity": math.exp(min(loss, 100.0)),
            "learning_rate": learning_rate,
            **(self.interval.speed(config, peak) if self.interval.seconds > 0 else {}),
            "memory_bytes": memory,
            **validation,
        }
        if math.isfinite(grad_norm):  # it is NaN when fp16 loss scaling skipped the update
            values["grad_norm"] = grad_norm
        self.interval = Interval()
        self.latest |= {"loss": loss, **validation} | ({"validated_step": self.step} if validation else {})
        return values
