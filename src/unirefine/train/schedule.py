"""The learning rate as a pure function of the step: linear warm-up, linear decay, then flat."""

from unirefine.config import Optimizer


def learning_rate(step: int, steps: int, optimizer: Optimizer) -> float:
    """Learning rate of update `step` (0-based) of a run of `steps` updates.

    Warm-up: the first update already has `lr / warmup_steps`, update number `warmup_steps` the peak. Then a straight
    line that reaches `lr * min_lr_fraction` at `decay_fraction * steps`, and stays there.
    """
    done = step + 1
    if done < optimizer.warmup_steps:
        return optimizer.lr * done / optimizer.warmup_steps
    floor = optimizer.lr * optimizer.min_lr_fraction
    end = optimizer.decay_fraction * steps
    if done >= end:
        return floor
    left = (end - done) / (end - optimizer.warmup_steps)
    return floor + (optimizer.lr - floor) * left
