"""The published schedule: linear warm-up, linear to 10% at 90% of the steps, then flat."""

import pytest

from unirefine.config import Optimizer
from unirefine.train.schedule import learning_rate

PUBLISHED = Optimizer()


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
