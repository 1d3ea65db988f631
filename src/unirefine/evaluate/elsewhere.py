"""Our perplexities beside those that others measured of the same weights on the same validation set."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from unirefine.config import Evaluate
from unirefine.errors import UserError
from unirefine.model.source import find


def judge(parity: Iterable[Mapping[str, Any]], models: Mapping[str, Path], config: Evaluate) -> list[dict[str, Any]]:
    """For each model that `config.elsewhere` has: both perplexities, their ratio - 1, and whether they agree.

    parity: rows with `model` and `ours`. models: the directory of each, by name. Raises UserError for a checkpoint in
    `config.elsewhere` that is not among the models.
    """
    found, used = [], set()
    for row in parity:
        preset = find(models[row["model"]]).model().preset or ""
        name = next((name for name in (row["model"], preset) if name in config.elsewhere), None)
        if name is None:
            continue
        used.add(name)
        value = config.elsewhere[name]
        difference = row["ours"] / value - 1
        found.append(
            {
                "model": row["model"],
                "elsewhere": value,
                "ours": row["ours"],
                "relative_difference": difference,
                "tolerance": config.elsewhere_tolerance,
                "agrees": abs(difference) <= config.elsewhere_tolerance,
            }
        )
    if missing := sorted(set(config.elsewhere) - used):
        raise UserError(f"evaluate.elsewhere has {', '.join(missing)}, which is none of the models", fix="correct it")
    return found


def lines(judged: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line for each model."""
    return [
        f"{row['model']}: {row['ours']:.3f} here, {row['elsewhere']:.3f} elsewhere ({row['relative_difference']:+.2%}):"
        f" {'agrees' if row['agrees'] else 'DIFFERS'} within {row['tolerance']:.1%}"
        for row in judged
    ]
