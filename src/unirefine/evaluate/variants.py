"""Zero-shot effect of substitutions: log-odds of the variant's residues against the wild type's.

For a variant that changes the positions T of a wild type x (Meier et al. 2021):

    wild-type marginal  sum over t in T of  log p(mutant_t | x) - log p(wild type_t | x)
    masked marginal     sum over t in T of  log p(mutant_t | x without t) - log p(wild type_t | x without t)

The first takes one forward pass per protein. The second masks each position that some variant changes, one pass per
position. Of a protein longer than a window, the model sees the window that has the position nearest its middle.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from unirefine.megatron import platform

import numpy as np
import polars as pl

from unirefine import progress
from unirefine.config import Evaluate
from unirefine.core.alphabet import MASK, encode
from unirefine.errors import UserError
from unirefine.evaluate.mutants import Variant, load_proteins, read_variants, variants_of_fasta
from unirefine.files.atomic import write_json, write_text
from unirefine.model.batching import length_buckets, with_special_tokens
from unirefine.model.inference import Engine, open_megatron

WINDOW = 1022


def window_start(position: int, length: int, size: int = WINDOW) -> int:
    """First residue of the window of `size` residues that has `position` nearest its middle."""
    return int(np.clip(position - size // 2, 0, max(length - size, 0)))


def marginals(
    engine: Engine, sequence: str, positions: Iterable[int], *, masked: bool, batch_tokens: int, size: int = WINDOW
) -> dict[int, np.ndarray]:
    """Log-probabilities over the 33 tokens at each position: float64[33] by position.

    masked: mask each position alone; else the unmasked wild type is the input. size: residues of a window.
    """
    tokens = encode(sequence)
    positions = sorted(set(positions))
    starts = [window_start(position, len(tokens), size) for position in positions]
    # unmasked, the positions of a window share a forward pass
    passes = [[i] for i in range(len(positions))] if masked else [
        [i for i, start in enumerate(starts) if start == wanted] for wanted in sorted(set(starts))
    ]  # fmt: skip
    samples, indices = [], []
    for group in passes:
        start = starts[group[0]]
        sample = with_special_tokens(tokens[start : start + size])
        at = np.array([positions[i] - start + 1 for i in group])
        if masked:
            sample[at] = MASK
        samples.append(sample)
        indices.append(at)
    found: dict[int, np.ndarray] = {}
    for batch in length_buckets(np.array([len(sample) for sample in samples]), batch_tokens):
        bounds = np.concatenate([[0], np.cumsum([len(samples[i]) for i in batch])])
        at = np.concatenate([indices[i] + start for i, start in zip(batch, bounds, strict=False)])
        values = engine.log_probabilities(np.concatenate([samples[i] for i in batch]), bounds, at).double().numpy()
        found |= dict(zip((positions[i] for number in batch for i in passes[number]), values, strict=True))
    return found


def score_variants(
    engine: Engine, proteins: dict[str, str], variants: Sequence[Variant], *, batch_tokens: int
) -> dict[str, np.ndarray]:
    """`{"masked_marginal": float64[n], "wild_type_marginal": float64[n]}`, in the order of the variants."""
    scores = {name: np.zeros(len(variants)) for name in ("masked_marginal", "wild_type_marginal")}
    with progress.meter("variants", total=len(proteins), unit="proteins") as done:
        for protein, sequence in proteins.items():
            mine = [(i, variant) for i, variant in enumerate(variants) if variant.protein == protein]
            positions = {change.position for _, variant in mine for change in variant.changes}
            for name, values in scores.items():
                masked = name == "masked_marginal"
                log_p = marginals(engine, sequence, positions, masked=masked, batch_tokens=batch_tokens)
                for i, variant in mine:
                    values[i] = sum(
                        log_p[c.position][encode(c.mutant)[0]] - log_p[c.position][encode(c.wild_type)[0]]
                        for c in variant.changes
                    )
            done.advance(1)
    return scores


def spearman(first: np.ndarray, second: np.ndarray) -> float | None:
    """Spearman's rank correlation, with mean ranks for ties; None for fewer than 2 values or a constant array."""
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    ranks = [pl.Series(values).rank("average").to_numpy() for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


def run(
    model: Path,
    fasta: Path,
    output: Path,
    config: Evaluate,
    *,
    csv_path: Path | None = None,
    measured: str | None = None,
    offset: int = 0,
) -> dict[str, Any]:
    """Write `output/variants.csv`, one row per variant, and `output/variants.json`, correlations; return the latter.

    model: what `model.source.find` takes. fasta: the wild types; without `csv_path`, one wild type and its
    variants. csv_path, measured, offset: see `mutants.read_variants`. Raises UserError.
    """
    if csv_path is None:
        proteins, variants = variants_of_fasta(fasta)
    else:
        proteins = load_proteins(fasta)
        variants = read_variants(csv_path, proteins, offset=offset, measured=measured)
    if not variants:
        raise UserError(
            "no variant to score", fix="give a CSV of variants, or a FASTA with variants after the wild type"
        )
    engine = open_megatron(model, config.precision, config.parallel)
    scores = score_variants(engine, proteins, variants, batch_tokens=config.batch_tokens)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["id", "mutant", *scores, "measured"])
    for i, variant in enumerate(variants):
        values = [f"{found[i]:.6f}" for found in scores.values()]
        rows.writerow([variant.protein, variant.name, *values, variant.measured])
    summary = {"variants": len(variants), "proteins": [_summary(name, variants, scores) for name in proteins]}
    if platform.rank() == 0:  # every process has all scores
        write_text(output / "variants.csv", text.getvalue())
        write_json(output / "variants.json", summary)
    return summary


def _summary(protein: str, variants: Sequence[Variant], scores: dict[str, np.ndarray]) -> dict[str, Any]:
    mine = np.array([variant.protein == protein for variant in variants])
    known = np.array([variant.measured is not None for variant in variants]) & mine
    measured = np.array(
        [variant.measured for variant in variants if variant.measured is not None and variant.protein == protein]
    )
    return {
        "id": protein,
        "variants": int(mine.sum()),
        "measured": int(known.sum()),
        "spearman": {name: spearman(values[known], measured) for name, values in scores.items()},
    }
