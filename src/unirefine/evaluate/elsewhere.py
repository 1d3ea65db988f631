"""Our perplexities beside those that others measured of the same weights on the same validation set."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from unirefine.config import Evaluate
from unirefine.errors import UserError
from unirefine.model.source import find


def values_of(models: Mapping[str, Path], config: Evaluate) -> dict[str, float]:
    """What `config.elsewhere` says of the models that it names, by their names. models: the directory of each.

    Raises UserError for a checkpoint in `config.elsewhere` that is not among the models.
    """
    found, used = {}, set()
    for model, directory in models.items() if config.elsewhere else ():
        preset = find(directory).model().preset or ""
        name = next((name for name in (model, preset) if name in config.elsewhere), None)
        if name is not None:
            used.add(name)
            found[model] = config.elsewhere[name]
    if missing := sorted(set(config.elsewhere) - used):
        raise UserError(f"evaluate.elsewhere has {', '.join(missing)}, which is none of the models", fix="correct it")
    return found


def judge(parity: Iterable[Mapping[str, Any]], values: Mapping[str, float], tolerance: float) -> list[dict[str, Any]]:
    """For each model that was measured elsewhere: both perplexities, their ratio - 1, and whether they agree.

    parity: rows with `model` and `ours`. values: of `values_of`.
    """
    return [
        {
            "model": row["model"],
            "elsewhere": values[row["model"]],
            "ours": row["ours"],
            "relative_difference": row["ours"] / values[row["model"]] - 1,
            "tolerance": tolerance,
            "agrees": abs(row["ours"] / values[row["model"]] - 1) <= tolerance,
        }
        for row in parity
        if row["model"] in values
    ]


def lines(judged: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line for each model."""
    return [
        f"{row['model']}: {row['ours']:.3f} here, {row['elsewhere']:.3f} elsewhere ({row['relative_difference']:+.2%}):"
        f" {'agrees' if row['agrees'] else 'DIFFERS'} within {row['tolerance']:.1%}"
        for row in judged
    ]
