"""The published schedule: linear warm-up, linear to 10% at 90% of the steps, then flat."""

from pathlib import Path

import pytest

from unirefine.config import Optimizer, load_config
from unirefine.errors import UserError
from unirefine.train.forecast import Data
from unirefine.train.schedule import check, describe, learning_rate
from unirefine.train.sizing import fitted

PUBLISHED = Optimizer()
CONFIGS = Path(__file__).parents[3] / "config"


@pytest.mark.parametrize(
    ("updates", "expected"),
    [(1, 2e-7), (1000, 2e-4), (2000, 4e-4), (226_000, 2.2e-4), (450_000, 4e-5), (500_000, 4e-5)],
)
def test_published_schedule(updates, expected):
    assert learning_rate(updates - 1, 500_000, PUBLISHED) == pytest.approx(expected, rel=1e-12)


def test_no_warmup_starts_at_the_peak_line():
    optimizer = Optimizer(lr=1.0, warmup_steps=0, decay_fraction=1.0, min_lr_fraction=0.0)
    assert [learning_rate(step, 4, optimizer) for step in range(4)] == pytest.approx([0.75, 0.5, 0.25, 0.0])


def test_warmup_longer_than_the_decay_never_rises_above_the_peak():
    optimizer = Optimizer(lr=1.0, warmup_steps=100)
    assert max(learning_rate(step, 50, optimizer) for step in range(50)) == pytest.approx(0.5)


def refused(steps: int, done: int = 0, **options) -> str | None:
    try:
        check(steps, Optimizer(**options), done)
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize("steps", [1, 20, 1_999, 2_000, 2_222])
def test_a_warmup_that_ends_after_the_decay_is_refused(steps):
    text = refused(steps)
    assert (
        text is not None and "set train.optimizer.warmup_steps to " in text and "train.steps to 2,223 at least" in text
    )
    assert ("longer than the training" if steps < 2_000 else "straight to its minimum") in text
    assert max(learning_rate(step, steps, PUBLISHED) for step in range(steps)) < PUBLISHED.lr


@pytest.mark.parametrize(
    ("steps", "options"),
    [
        (2_223, {}), (500_000, {}), (1, {"warmup_steps": 0}), (1, {"warmup_steps": 1}),
        (11, {"warmup_steps": 5}), (2_000, {"min_lr_fraction": 1}), (2_001, {"decay_fraction": 1}),
    ],
)  # fmt: skip
def test_what_reaches_the_peak_and_comes_down_is_not_refused(steps, options):
    assert refused(steps, **options) is None
    optimizer = Optimizer(**options)
    highest = max(learning_rate(step, steps, optimizer) for step in range(steps))
    assert steps == 1 or highest == pytest.approx(optimizer.lr, rel=1e-9)


def test_a_run_that_has_begun_is_told_what_it_can_still_do():
    assert "set train.steps to 2,223 at least, or to 1,500 to get the model as it is" in refused(1_600, done=1_500)
    assert refused(1_500, done=1_500) is None


def test_the_schedule_in_words():
    assert describe(500_000, PUBLISHED) == "2,000 steps up to 0.0004, down to 4e-05 at step 450,000 of 500,000"
    assert describe(100, Optimizer(lr=0.1, warmup_steps=5, min_lr_fraction=1)) == "5 steps up to 0.1, which it keeps"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_no_config_of_ours_is_refused(path):
    train = load_config(path).train
    if train.epochs:
        train = fitted(train, Data(clusters=300, validation=100, mean_length=200.0))
    check(train.steps, train.optimizer)
