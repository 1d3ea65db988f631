"""Contacts predicted from attention maps by the model's contact head, measured against known contacts.

The head (Rao et al. 2021) is a logistic regression over all symmetrised, APC-corrected attention maps. Published
checkpoints have one; for a model trained here `contact_head` fits one. Only transformers' eager attention returns
attention maps, so this runs on EsmForMaskedLM.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unirefine.megatron import platform

import numpy as np
import torch

from unirefine import progress
from unirefine.core.alphabet import encode
from unirefine.errors import UserError
from unirefine.evaluate.known import Known, known_of_files
from unirefine.evaluate.mutants import load_proteins
from unirefine.files.atomic import atomic_path, read_json, write_json
from unirefine.files.hashes import sha256_json
from unirefine.files.outputs import array_header, json_of, refuse_overwriting
from unirefine.model.batching import with_special_tokens
from unirefine.model.contact_head import FITTED
from unirefine.model.inference import load_esm_for_masked_lm, not_finite
from unirefine.model.source import find, has_contact_head

RANGES: dict[str, tuple[int, int | None]] = {"short": (6, 11), "medium": (12, 23), "long": (24, None), "all": (6, None)}
"""Separation |i - j| in residues, both ends included."""
FRACTIONS = {"L/5": 5, "L/2": 2, "L": 1}
"""How many pairs count: the length over this number."""
LONGEST = 1022
"""Residues that ESM-2 was trained on."""
RESULT = "contacts.json"


def open_contact_model(directory: Path) -> torch.nn.Module:
    """EsmForMaskedLM with eager attention. Raises UserError when the checkpoint has no contact head."""
    if not has_contact_head(directory):
        raise UserError(
            "the checkpoint has no contact head", where=directory,
            fix="fit one with a few structures: unirefine evaluate contact-head",
        )  # fmt: skip
    return load_esm_for_masked_lm(directory, attention="eager", head=False)


@torch.inference_mode()
def predict_contacts(model: torch.nn.Module, sequence: str) -> np.ndarray:
    """Contact probability of every pair of residues: float32[L, L], symmetric; not finite when the model is damaged."""
    tokens = torch.from_numpy(with_special_tokens(encode(sequence)).astype(np.int64))[None].to(platform.device())
    return model.predict_contacts(tokens, torch.ones_like(tokens))[0].float().cpu().numpy()


def precision(
    predicted: np.ndarray, known: np.ndarray, *, nearest: int, farthest: int | None, divisor: int
) -> float | None:
    """Fraction of true contacts among the L / divisor most probable pairs with nearest <= |i - j| <= farthest.

    predicted: float[L, L]. known: float[L, L]: 1 contact, 0 none, NaN unknown (excluded). In L / divisor, L counts the
    residues with a known pair. None when no pair is known in the range.
    """
    length = int((~np.isnan(known)).any(axis=1).sum())
    first, second = np.triu_indices(len(known), nearest)
    inside = ~np.isnan(known[first, second])
    if farthest is not None:
        inside &= second - first <= farthest
    first, second = first[inside], second[inside]
    if not len(first):
        return None
    top = np.argsort(-predicted[first, second], kind="stable")[: max(length // divisor, 1)]
    return float(known[first[top], second[top]].mean())


def run(
    model: Path, contacts: list[Path], output: Path, *, fasta: Path | None = None, chain: str | None = None
) -> dict[str, Any]:
    """Write `output/contacts.json`, and the predictions of each protein as `output/<name>.npy`; return the former.

    model: what `model.source.find` takes, with a contact head. contacts: one file per protein, see
    `known.known_contacts`. fasta: sequences for those that are not structures. chain: of the structures. Raises
    UserError, and writes nothing, for a mistake in any of them.
    """
    sequences = load_proteins(fasta) if fasta is not None else {}
    proteins = known_of_files(contacts, sequences, chain=chain)
    for protein in proteins:
        if len(protein.sequence) > LONGEST:
            raise UserError(
                f"{protein.name} has {len(protein.sequence):,} residues, more than the {LONGEST:,} that ESM-2 knows",
                fix="leave it out, choose a shorter chain, or cut the sequence and its contacts to a domain",
            )  # fmt: skip
    targets = {output / f"{protein.name}.npy": _is_ours for protein in proteins}
    given = [*contacts, *([fasta] if fasta is not None else [])]
    refuse_overwriting({**targets, output / RESULT: lambda path: json_of(path, KEYS)}, given)
    opened = open_contact_model(model)
    with progress.meter("contacts", total=len(proteins), unit="proteins") as done:
        found = []
        for protein in proteins:  # all before the first is written
            found.append(predict_contacts(opened, protein.sequence))
            if not np.isfinite(found[-1]).all():
                raise not_finite(protein.name)
            done.advance(1)
    fitted = fitted_on(model)
    rows = [_row(*pair) for pair in zip(proteins, found, strict=True)]
    for row in rows:
        if sequence_digest(row["sequence"]) in fitted:
            row["notes"].append("the contact head was fitted on this sequence: its precision flatters")
    result = {
        "proteins": rows,
        "mean": mean_precisions(row["precision"] for row in rows),
        "mean_nearest": mean_precisions(row["nearest"] for row in rows),
        "mean_chance": {name: _mean_of([row["chance"][name] for row in rows]) for name in RANGES},
    }
    write_json(output / RESULT, result)
    for protein, predicted in zip(proteins, found, strict=True):
        with atomic_path(output / f"{protein.name}.npy") as temporary, temporary.open("wb") as handle:
            np.save(handle, predicted)
    return result


KEYS = ("proteins", "mean")
"""Of contacts.json, by which it is known."""


def fitted_on(model: Path) -> set[str]:
    """Digests of the sequences on which the head of a model was fitted by us."""
    path = find(model).directory / FITTED
    return {one["sequence"] for one in read_json(path)["proteins"]} if path.is_file() else set()


def sequence_digest(sequence: str) -> str:
    """By which a sequence is known again."""
    return sha256_json(sequence.upper())


def _is_ours(path: Path) -> bool:
    """Whether an earlier call has written a matrix: contacts.json beside it names it, with its length."""
    beside = path.parent / RESULT
    rows = read_json(beside)["proteins"] if json_of(beside, KEYS) else []
    lengths = {row["name"]: row["length"] for row in rows}
    length = lengths.get(path.stem)
    return length is not None and array_header(path) == ((length, length), np.dtype(np.float32))


def _row(protein: Known, predicted: np.ndarray) -> dict[str, Any]:
    """A protein's precisions, beside two that need no model: of all pairs, and of those nearest in the sequence.

    Chains are compact, so pairs near in the sequence are often in contact; a predictor that knows only this is no news.
    """
    residues = np.arange(len(protein.sequence))
    apart = np.abs(residues[:, None] - residues)
    return {
        "name": protein.name,
        "chain": protein.chain,
        "sequence_from": protein.sequence_from,
        "sequence": protein.sequence,
        "length": len(protein.sequence),
        "known": int((~np.isnan(protein.contacts)).any(axis=1).sum()),
        "notes": list(protein.notes),
        "precision": precisions(predicted, protein.contacts),
        "nearest": precisions(-apart, protein.contacts),
        "chance": {
            name: _mean_of(protein.contacts[(apart >= near) & (apart <= (far or len(residues)))])
            for name, (near, far) in RANGES.items()
        },
    }


def precisions(predicted: np.ndarray, known: np.ndarray) -> dict[str, dict[str, float | None]]:
    return {
        name: {
            label: precision(predicted, known, nearest=near, farthest=far, divisor=divisor)
            for label, divisor in FRACTIONS.items()
        }
        for name, (near, far) in RANGES.items()
    }


def mean_precisions(rows: Iterable[dict[str, dict[str, float | None]]]) -> dict[str, dict[str, float | None]]:
    """Mean over the proteins that have a value, by separation and number of pairs."""
    rows = list(rows)
    return {name: {label: _mean_of([row[name][label] for row in rows]) for label in FRACTIONS} for name in RANGES}


def _mean_of(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are known (neither None nor NaN); None without any."""
    found = np.array([np.nan if value is None else value for value in values], np.float64)
    found = found[~np.isnan(found)]
    return float(found.mean()) if len(found) else None
