"""Contacts predicted from attention maps by the model's contact head, measured against known contacts.

The head (Rao et al. 2021) is a logistic regression over all symmetrised, APC-corrected attention maps. Published
checkpoints have one; training here does not fit one. Only transformers' eager attention returns attention maps, so this
runs on EsmForMaskedLM.
"""

from pathlib import Path
from typing import Any

from unirefine.megatron import platform

import numpy as np
import torch

from unirefine import progress
from unirefine.core.alphabet import encode
from unirefine.errors import UserError
from unirefine.evaluate.mutants import load_proteins
from unirefine.evaluate.structures import known_contacts
from unirefine.files.atomic import atomic_path, write_json
from unirefine.model.batching import with_special_tokens
from unirefine.model.checkpoint import EXTRA_TENSORS
from unirefine.model.huggingface import CONTACT_HEAD, HuggingfaceFiles
from unirefine.model.inference import load_esm_for_masked_lm
from unirefine.model.source import find
from unirefine.model.tensors import SafetensorsFile

RANGES: dict[str, tuple[int, int | None]] = {"short": (6, 11), "medium": (12, 23), "long": (24, None), "all": (6, None)}
"""Separation |i - j| in residues, both ends included."""
FRACTIONS = {"L/5": 5, "L/2": 2, "L": 1}
"""How many pairs count: the length over this number."""
HEAD = f"{CONTACT_HEAD}weight"


def open_contact_model(directory: Path) -> torch.nn.Module:
    """EsmForMaskedLM with eager attention. Raises UserError when the checkpoint has no contact head."""
    found = find(directory)
    if found.huggingface is not None:
        names = HuggingfaceFiles(found.huggingface).names()
    else:
        aside = found.directory / EXTRA_TENSORS
        names = SafetensorsFile(aside).names if aside.is_file() else []
    if HEAD not in names:
        raise UserError(
            "the checkpoint has no contact head", where=directory,
            fix="give a published ESM-2 checkpoint; models trained here have none",
        )  # fmt: skip
    return load_esm_for_masked_lm(directory, attention="eager")


@torch.inference_mode()
def predict_contacts(model: torch.nn.Module, sequence: str) -> np.ndarray:
    """Contact probability of every pair of residues: float32[L, L], symmetric."""
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
    `structures.known_contacts`. fasta: sequences for those that are not structures. chain: of the structures. Raises
    UserError.
    """
    sequences = load_proteins(fasta) if fasta is not None else {}
    proteins = [known_contacts(path, sequences.get(path.stem), chain=chain) for path in contacts]
    opened = open_contact_model(model)
    rows = []
    with progress.meter("contacts", total=len(proteins), unit="proteins") as done:
        for protein in proteins:
            predicted = predict_contacts(opened, protein.sequence)
            with atomic_path(output / f"{protein.name}.npy") as temporary, temporary.open("wb") as handle:
                np.save(handle, predicted)
            found = {
                name: {
                    label: precision(predicted, protein.contacts, nearest=near, farthest=far, divisor=divisor)
                    for label, divisor in FRACTIONS.items()
                }
                for name, (near, far) in RANGES.items()
            }
            rows.append({"name": protein.name, "length": len(protein.sequence), "precision": found})
            done.advance(1)
    result = {"proteins": rows, "mean": _mean(rows)}
    write_json(output / "contacts.json", result)
    return result


def _mean(rows: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    means: dict[str, dict[str, float | None]] = {}
    for name in RANGES:
        means[name] = {}
        for label in FRACTIONS:
            values = [row["precision"][name][label] for row in rows]
            values = [value for value in values if value is not None]
            means[name][label] = float(np.mean(values)) if values else None
    return means
