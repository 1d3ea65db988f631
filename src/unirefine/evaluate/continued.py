"""A model beside the one that its training continued: on its own validation set, and on others, for what it forgot."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from unirefine.megatron import platform

import numpy as np

from unirefine.config import Evaluate
from unirefine.dataset import open_shards
from unirefine.dataset.held_out import changed_validation
from unirefine.dataset.manifest import REBUILD
from unirefine.dataset.verify import CHANGED
from unirefine.errors import UserError
from unirefine.evaluate import statistics
from unirefine.evaluate.masked import MaskedSide, Positions
from unirefine.evaluate.score import score
from unirefine.files.stages import shards_of
from unirefine.model.inference import open_megatron

BEFORE, AFTER = "before", "after"


@dataclass(frozen=True)
class Measured:
    """A validation set, masked."""

    shards: Path
    side: MaskedSide
    positions: Positions

    @cached_property
    def cluster(self) -> np.ndarray:
        """int64[sequences]: cluster of each."""
        return np.searchsorted(self.side.side.document_offsets, np.arange(self.side.sequences), side="right") - 1


def open_sets(sets: Mapping[str, Path], config: Evaluate) -> dict[str, Measured]:
    """Further validation sets by name, cropped and masked as the model's own. sets: runs, or their shards.

    Raises UserError, which names the set, for what is none and for files that have changed.
    """
    found = {}
    for name, given in sets.items():
        directory = shards_of(given)
        try:
            side = MaskedSide(open_shards(directory).validation, config)
            if changed := changed_validation(directory, platform.rank(), platform.world_size()):
                raise UserError(CHANGED, where=changed[0], fix=REBUILD)
        except UserError as error:
            raise UserError(f"validation set {name}: {error.what}", where=error.where, fix=error.fix) from None
        found[name] = Measured(directory, side, side.positions())
    return found


def compare(
    before: Path | None, after: Path, own: Measured, losses: np.ndarray, others: Mapping[str, Measured],
    config: Evaluate,
) -> dict[str, Any]:  # fmt: skip
    """`continued` of perplexity.json: `{before, sets}`, a row for each set with both perplexities and their ratio.

    before: the model that was continued; None to measure `after` alone. own: the model's own set, at whose positions
    `losses` are those of `after`, float64[n] in nats.
    """
    sets = {"validation": own, **others}
    nll: dict[str, dict[str, np.ndarray]] = {name: {} for name in sets}
    for when, model, chosen in ((BEFORE, before, list(sets)), (AFTER, after, list(others))):
        if model is None or not chosen:
            continue
        engine = open_megatron(model, config.precision, config.parallel)
        for name in chosen:
            nll[name][when] = score(engine, sets[name].side, sets[name].positions, config.batch_tokens)[0]
        del engine  # free it before the next is loaded
    nll["validation"][AFTER] = losses
    rows = [_row(name, sets[name], found, config.seed) for name, found in nll.items()]
    return {"before": None if before is None else str(before), "sets": rows}


def _row(name: str, measured: Measured, nll: Mapping[str, np.ndarray], seed: int) -> dict[str, Any]:
    """`{set, shards, sequences, clusters, all, hidden}`; the last two `{residues, before, after, ratio, ...}`."""
    group = measured.cluster[measured.positions.sequence]
    groups = int(measured.cluster.max()) + 1
    kinds = {"all": np.ones(len(group), bool), "hidden": measured.positions.kinds()["hidden"]}
    row: dict[str, Any] = {
        "set": name,
        "shards": str(measured.shards),
        "sequences": measured.side.sequences,
        "clusters": groups,
    }
    for kind, where in kinds.items():
        sums = {when: statistics.sum_by(group[where], values[where], groups) for when, values in nll.items()}
        found = statistics.bootstrap(sums, seed=seed, reference=AFTER)
        pair = {
            when: {key: found[when][key] for key in ("perplexity", "interval")} if when in found else None
            for when in (BEFORE, AFTER)
        }
        ratio = {key: found[BEFORE][key] for key in ("ratio", "ratio_interval")} if BEFORE in found else {}
        row[kind] = {"residues": found[AFTER]["residues"], **pair, **ratio}
    return row
