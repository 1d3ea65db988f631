"""The learning rate as a pure function of the step: linear warm-up, linear decay, then flat."""

from unirefine.config import Optimizer
from unirefine.errors import UserError


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


def describe(steps: int, optimizer: Optimizer) -> str:
    """The schedule in words."""
    end, flat = optimizer.decay_fraction * steps, optimizer.min_lr_fraction == 1
    warmup = f"{optimizer.warmup_steps:,} steps up to {optimizer.lr:g}"
    if flat:
        return f"{warmup}, which it keeps"
    return f"{warmup}, down to {optimizer.lr * optimizer.min_lr_fraction:g} at step {end:,.0f} of {steps:,}"


def check(steps: int, optimizer: Optimizer, done: int = 0) -> None:
    """Raise UserError for a schedule that cannot be meant: at the end of the warm-up the decay has ended already.

    Then the rate never reaches its peak, or falls from there to the minimum at once. done: updates of the run so far;
    when nothing is left to do, every schedule is good.
    """
    warmup, flat = optimizer.warmup_steps, optimizer.min_lr_fraction == 1
    end = steps + 1 if flat else optimizer.decay_fraction * steps
    if done >= steps or warmup <= 1 or warmup < end:
        return
    if warmup > steps:
        what = f"the warm-up of {warmup:,} steps is longer than the training, whose train.steps are {steps:,}"
    else:
        what = (
            f"the learning rate would fall from its peak straight to its minimum: the warm-up ends at step {warmup:,}, "
            f"the decay (train.optimizer.decay_fraction) at step {end:,.0f} of {steps:,}"
        )
    least = warmup if flat else int(warmup / optimizer.decay_fraction) + 1
    if done:  # another optimizer would be another training
        fix = f"set train.steps to {least:,} at least, or to {done:,} to get the model as it is"
    else:
        fix = f"set train.optimizer.warmup_steps to {max(1, steps // 10):,}, say, or train.steps to {least:,} at least"
    raise UserError(what, where="train.optimizer.warmup_steps", fix=fix)
