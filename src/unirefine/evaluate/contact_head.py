"""Fit a contact head: a logistic regression on attention maps with a few known structures (Rao et al. 2021).

Features of a pair of residues are all attention maps, symmetrised and corrected for their average product, just as
EsmForMaskedLM's contact head sees them. The penalty is L1 with C = 0.15, and pairs nearer than 6 do not count.
"""

import os
from pathlib import Path
from typing import Any

from unirefine.megatron import platform

import numpy as np
import torch

from unirefine import progress
from unirefine.core.alphabet import encode
from unirefine.errors import UserError
from unirefine.evaluate.contacts import LONGEST, sequence_digest
from unirefine.evaluate.known import NEAREST, Known, known_of_files
from unirefine.evaluate.mutants import load_proteins
from unirefine.model import contact_head
from unirefine.model.batching import with_special_tokens
from unirefine.model.inference import load_esm_for_masked_lm, not_finite
from unirefine.model.source import find

PENALTY = 0.15
"""scikit-learn's C: the larger, the weaker the penalty."""
_BYTES = 4 + 8 + 16
"""Of memory for each feature of a pair: ours, scikit-learn's and liblinear's."""


def run(
    model: Path,
    contacts: list[Path],
    output: Path,
    *,
    fasta: Path | None = None,
    chain: str | None = None,
    penalty: float = PENALTY,
) -> dict[str, Any]:
    """Write `output`, a Hugging Face directory of the model with a head; return what is in its contact_head.json.

    model: what `model.source.find` takes. contacts, fasta, chain: see `contacts.run`. penalty: scikit-learn's C. Raises
    UserError, also when the penalty leaves no attention map.
    """
    from sklearn.linear_model import LogisticRegression

    if output.exists():
        raise UserError("exists already", where=output, fix="remove it, or choose another --output")
    proteins = known_of_files(contacts, load_proteins(fasta) if fasta is not None else {}, chain=chain)
    found = find(model)
    layers, _hidden, heads = found.model().sizes
    _check(proteins, layers * heads)
    opened = load_esm_for_masked_lm(found.directory, attention="eager")
    parts, labels = [], []
    with progress.meter("attention maps", total=len(proteins), unit="proteins") as done:
        for protein in proteins:
            maps, known = features(opened, protein.sequence), protein.contacts
            first, second = np.triu_indices(len(known), NEAREST)
            inside = ~np.isnan(known[first, second])
            first, second = first[inside], second[inside]
            parts.append(maps[first, second])
            if not np.isfinite(parts[-1]).all():
                raise not_finite(protein.name)
            labels.append(known[first, second] > 0)
            done.advance(1)
    pairs, contact = np.concatenate(parts), np.concatenate(labels)
    if contact.all() or not contact.any():
        what = "only contacts" if contact.all() else "no contact"
        raise UserError(f"{what} among the {len(contact):,} known pairs", fix="give other structures")
    # liblinear, whose result is the same each time; l1_ratio 1 is the L1 penalty
    regression = LogisticRegression(l1_ratio=1.0, C=penalty, solver="liblinear", random_state=0)
    regression.fit(pairs, contact)
    weight, bias = regression.coef_[0], float(regression.intercept_[0])
    if not weight.any():
        raise UserError(
            f"with C = {penalty:g} no attention map keeps a weight ({len(contact):,} pairs, {len(proteins)} proteins)",
            where=model, fix="give more structures, or a weaker penalty (--penalty 10), or train the model longer",
        )  # fmt: skip
    facts = {
        "proteins": [{"name": one.name, "sequence": sequence_digest(one.sequence)} for one in proteins],
        "pairs": len(contact),
        "contacts": int(contact.sum()),
        "maps": len(weight),
        "used": int(np.count_nonzero(weight)),
        "C": penalty,
        "separation": NEAREST,
    }
    contact_head.write(found, output, weight, bias, facts)
    return facts


@torch.inference_mode()
def features(model: torch.nn.Module, sequence: str) -> np.ndarray:
    """What EsmForMaskedLM's contact head multiplies by its weights: float32[L, L, layers x heads]."""
    seen: list[torch.Tensor] = []
    hook = model.esm.contact_head.regression.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    try:
        tokens = torch.from_numpy(with_special_tokens(encode(sequence)).astype(np.int64))[None].to(platform.device())
        model.predict_contacts(tokens, torch.ones_like(tokens))
    finally:
        hook.remove()
    return seen[0][0].float().cpu().numpy()


def line(facts: dict[str, Any], output: Path) -> str:
    """What the command prints."""
    return (
        f"fitted on {facts['pairs']:,} pairs ({facts['contacts']:,} contacts) of {len(facts['proteins'])} proteins: "
        f"{facts['used']} of {facts['maps']} attention maps have a weight\nwrote {output}; judge it on other proteins: "
        f"unirefine evaluate contacts --model {output}"
    )


def _check(proteins: list[Known], maps: int) -> None:
    """Raises UserError for a protein that is too long, and for more pairs than memory holds."""
    for protein in proteins:
        if len(protein.sequence) > LONGEST:
            raise UserError(
                f"{protein.name} has {len(protein.sequence):,} residues, more than the {LONGEST:,} that ESM-2 knows",
                fix="leave it out, or choose a shorter chain",
            )
    counts = [int((~np.isnan(one.contacts[np.triu_indices(len(one.contacts), NEAREST)])).sum()) for one in proteins]
    needed, there = sum(counts) * maps * _BYTES, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > 0.8 * there:
        raise UserError(
            f"{sum(counts):,} pairs with {maps} attention maps each take {needed / 1e9:.0f} GB of memory",
            fix="give fewer or shorter chains; 20 of some 200 residues are usual",
        )
