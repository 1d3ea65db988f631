"""Zero-shot effect of variants: log-odds of the variant's residues against the wild type's.

For a variant that changes the positions T of a wild type x (Meier et al. 2021):

    wild-type marginal  sum over t in T of  log p(mutant_t | x) - log p(wild type_t | x)
    masked marginal     sum over t in T of  log p(mutant_t | x without t) - log p(wild type_t | x without t)

The first takes one forward pass per protein. The second masks each position that some variant changes, one pass per
position. Of a protein longer than a window, the model sees the window that has the position nearest its middle.

Insertions, deletions and stop codons change the length, so whole sequences y and x are compared (Salazar et al. 2020):

    pseudo-log-likelihood  sum over i of  log p(y_i | y without i)  -  sum over i of  log p(x_i | x without i)
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from unirefine.megatron import platform

import numpy as np

from unirefine import progress
from unirefine.config import Evaluate
from unirefine.core.alphabet import AMINO_ACIDS, MASK, encode
from unirefine.errors import UserError
from unirefine.evaluate.benchmarks import nearest_train
from unirefine.evaluate.correlation import correlations, without_model
from unirefine.evaluate.heat_map import heat_map_files, is_heat_map, write_heat_map
from unirefine.evaluate.mutants import (
    Unscored,
    Variant,
    Variants,
    every_substitution,
    load_proteins,
    read_variants,
    variants_of_fasta,
)
from unirefine.evaluate.score import pseudo_nll
from unirefine.files.atomic import write_json, write_text
from unirefine.files.outputs import json_of, refuse_overwriting
from unirefine.model.batching import length_buckets, with_special_tokens
from unirefine.model.inference import Engine, not_finite, open_megatron

WINDOW = 1022
TABLE, SUMMARY = "variants.csv", "variants.json"
MARGINALS = ("masked_marginal", "wild_type_marginal")
WHOLE = ("pseudo_log_likelihood", "pseudo_log_likelihood_per_residue")
KEYS = ("variants", "proteins")
"""Of variants.json, by which it is known."""


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
    """Scores by name, float64[n] each, in the order of the variants; NaN where a score is not for this variant.

    MARGINALS are for variants with substitutions only, WHOLE for the others; names that no variant has are left out.
    Raises UserError when the model's output is not finite.
    """
    whole = [i for i, variant in enumerate(variants) if variant.edited.changes is None]
    names = [*(MARGINALS if len(whole) < len(variants) else ()), *(WHOLE if whole else ())]
    scores = {name: np.full(len(variants), np.nan) for name in names}
    with progress.meter("variants", total=len(proteins), unit="proteins") as done:
        for protein, sequence in proteins.items():
            mine = [
                (i, variant.edited.changes)
                for i, variant in enumerate(variants)
                if variant.protein == protein and variant.edited.changes is not None
            ]
            positions = {change.position for _, changes in mine for change in changes}
            for name in MARGINALS if mine else ():
                masked = name == "masked_marginal"
                log_p = marginals(engine, sequence, positions, masked=masked, batch_tokens=batch_tokens)
                if not all(np.isfinite(values).all() for values in log_p.values()):
                    raise not_finite(protein)
                for i, changes in mine:
                    scores[name][i] = sum(
                        log_p[c.position][encode(c.mutant)[0]] - log_p[c.position][encode(c.wild_type)[0]]
                        for c in changes
                    )
            done.advance(1)
    if whole:
        likelihoods = _pseudo_log_likelihoods(engine, proteins, [variants[i] for i in whole], batch_tokens)
        for name, values in zip(WHOLE, likelihoods, strict=True):
            scores[name][whole] = values
    return scores


def _pseudo_log_likelihoods(
    engine: Engine, proteins: dict[str, str], variants: Sequence[Variant], batch_tokens: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of each variant against its wild type, float64[n] each: the difference of the sums, and that of the means."""
    wild = sorted({variant.protein for variant in variants})
    names = [*wild, *(variant.name for variant in variants)]
    sequences = [*(proteins[name] for name in wild), *(variant.edited.sequence for variant in variants)]
    nll = pseudo_nll(engine, [encode(sequence) for sequence in sequences], batch_tokens)
    for name, values in zip(names, nll, strict=True):
        if not np.isfinite(values).all():
            raise not_finite(name)
    total = np.array([-values.sum() for values in nll])
    mean = total / np.array([len(sequence) for sequence in sequences])
    owner = np.array([wild.index(variant.protein) for variant in variants])
    return total[len(wild) :] - total[owner], mean[len(wild) :] - mean[owner]


def run(
    model: Path,
    fasta: Path,
    output: Path,
    config: Evaluate,
    *,
    csv_path: Path | None = None,
    measured: str | None = None,
    offset: int = 0,
    skip: bool = False,
    scan: bool = False,
    decontaminated: Path | None = None,
) -> dict[str, Any]:
    """Write `output/variants.csv`, one row per variant, and `output/variants.json`, correlations; return the latter.

    model: what `model.source.find` takes. fasta: the wild types; without `csv_path`, one wild type and its
    variants. csv_path, measured, offset, skip: see `mutants.read_variants`. scan: all substitutions of the proteins of
    `fasta`, with a heat map for each. decontaminated: directory of that stage of the model's run, which knows the train
    sequence nearest to each wild type. Raises UserError, and writes nothing, for a mistake in the input.
    """
    proteins, read = _read(fasta, csv_path, measured=measured, offset=offset, skip=skip, scan=scan)
    read.rows = [_too_long(row, proteins, skip=skip) for row in read.rows]
    variants = read.scored()
    if not variants:
        reasons = read.unscored()
        raise UserError(
            f"none of {len(reasons)} variants can be scored: {reasons[0].name}: {reasons[0].reason}"
            if reasons else "no variant to score",
            fix="give a CSV of variants, a FASTA with variants after the wild type, or --scan",
        )  # fmt: skip
    near = {} if decontaminated is None else nearest_train(decontaminated, proteins)
    pictures = heat_map_files(output, proteins) if scan else {}
    ours = {output / TABLE: _is_ours, output / SUMMARY: lambda path: json_of(path, KEYS)}
    ours |= dict.fromkeys(pictures.values(), is_heat_map)
    refuse_overwriting(ours, [fasta, *([csv_path] if csv_path is not None else [])])
    engine = open_megatron(model, config.precision, config.parallel)
    scores = score_variants(engine, proteins, variants, batch_tokens=config.batch_tokens)
    summary = {
        "variants": len(variants),
        "measured_column": read.column,
        "notes": read.notes,
        "unscored": [{"line": row.line, "id": row.protein, "mutant": row.name, "reason": row.reason}
                     for row in read.unscored()],
        "proteins": [_summary(name, variants, scores) | near.get(name, {}) for name in proteins],
    }  # fmt: skip
    if platform.rank() == 0:  # every process has all scores
        write_text(output / TABLE, _table(read, scores))
        write_json(output / SUMMARY, summary)
        for name, path in pictures.items():
            mine = [i for i, variant in enumerate(variants) if variant.protein == name]
            write_heat_map(
                path, name, proteins[name].upper(), scores["masked_marginal"][mine].reshape(-1, len(AMINO_ACIDS))
            )
    return summary


def _read(
    fasta: Path, csv_path: Path | None, *, measured: str | None, offset: int, skip: bool, scan: bool
) -> tuple[dict[str, str], Variants]:
    if csv_path is not None:
        proteins = load_proteins(fasta)
        return proteins, read_variants(csv_path, proteins, offset=offset, measured=measured, skip=skip)
    if scan:
        proteins = load_proteins(fasta)
        return proteins, every_substitution(proteins)
    return variants_of_fasta(fasta, skip=skip)


def _too_long(row: Variant | Unscored, proteins: dict[str, str], *, skip: bool) -> Variant | Unscored:
    """The row; one whose whole sequence the model would have to see, but cannot, is refused."""
    if isinstance(row, Unscored) or row.edited.changes is not None:
        return row
    length = max(len(row.edited.sequence), len(proteins[row.protein]))
    if length <= WINDOW:
        return row
    reason = f"{length:,} residues; the pseudo-log-likelihood needs the whole sequence, ESM-2 knows {WINDOW:,}"
    if not skip:
        raise UserError(f"{row.name}: {reason}", fix="remove it, or add --unscored skip")
    return Unscored(row.protein, row.name, reason, row.line)


def _table(read: Variants, scores: dict[str, np.ndarray]) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["id", "mutant", *scores, "measured"])
    number = 0
    for row in read.rows:
        if isinstance(row, Unscored):
            rows.writerow([row.protein, row.name, *[""] * len(scores), ""])
            continue
        values = ["" if np.isnan(found[number]) else f"{found[number]:.6f}" for found in scores.values()]
        rows.writerow([row.protein, row.name, *values, row.measured])
        number += 1
    return text.getvalue()


def _is_ours(path: Path) -> bool:
    """Whether an earlier call has written a variants.csv: by the names of its columns."""
    with path.open("rb") as file:
        first = file.readline(1000).decode("utf-8", "replace").strip().split(",")
    return first[:2] == ["id", "mutant"] and first[-1] == "measured" and set(first[2:-1]) <= {*MARGINALS, *WHOLE}


def _summary(protein: str, variants: Sequence[Variant], scores: dict[str, np.ndarray]) -> dict[str, Any]:
    mine = np.array([variant.protein == protein for variant in variants])
    measured = np.array([np.nan if variant.measured is None else variant.measured for variant in variants])
    measured[~mine] = np.nan
    by_model, plain = correlations(scores, measured), correlations(without_model(variants), measured)
    return {
        "id": protein,
        "variants": int(mine.sum()),
        "measured": int((~np.isnan(measured)).sum()),
        "spearman": {name: found["spearman"] for name, found in by_model.items()},
        "spearman_interval": {name: found["interval"] for name, found in by_model.items()},
        "without_model": plain,
    }
