"""Negative log-likelihoods of masked residues, computed by all processes of the job."""

import time

from unirefine.megatron import platform

import numpy as np
import torch

from unirefine import progress
from unirefine.core.alphabet import MASK
from unirefine.evaluate.masked import MaskedSide, Positions
from unirefine.model.batching import length_buckets, with_special_tokens
from unirefine.model.inference import Engine, not_finite


def score(engine: Engine, side: MaskedSide, positions: Positions, batch_tokens: int) -> tuple[np.ndarray, float]:
    """Negative log-likelihood of every position in nats, float64[n], and the duration in seconds.

    Processes divide the batches; each returns the complete result. Raises UserError when one is not finite.
    """
    begun = time.monotonic()
    nll = np.zeros(len(positions.target))
    batches = length_buckets(side.lengths, batch_tokens)[engine.share.number :: engine.share.of]
    total = sum(int(side.lengths[batch].sum()) for batch in batches)
    with progress.meter(f"evaluate {engine.name}", total=total, unit="tokens") as done:
        for batch in batches:
            tokens, bounds, at = side.batch(batch)
            where = np.concatenate([np.arange(positions.first[i], positions.first[i + 1]) for i in batch])
            if len(at):
                found = engine.log_probabilities(tokens, bounds, at)
                chosen = found.gather(1, torch.from_numpy(positions.target[where].astype(np.int64))[:, None])
                nll[where] = -chosen[:, 0].double().numpy()
            done.advance(len(tokens))
    nll = _add_up(engine, nll)
    if len(wrong := np.flatnonzero(~np.isfinite(nll))):
        raise not_finite(side.side.ids(int(positions.sequence[wrong[0]]))[0])
    return nll, time.monotonic() - begun


def pseudo_nll(engine: Engine, sequences: list[np.ndarray], batch_tokens: int) -> list[np.ndarray]:
    """-log p(residue | all others) in nats of every residue: float64[length] for each sequence.

    Each residue is masked alone, in a row of its own (Salazar et al. 2020). sequences: residue tokens uint8[length].
    """
    results = [np.zeros(len(sequence)) for sequence in sequences]
    work = list(enumerate(sequences))[engine.share.number :: engine.share.of]
    with progress.meter("pseudo-perplexity", total=sum(len(s) for _, s in work), unit="residues") as done:
        for number, sequence in work:
            whole = with_special_tokens(sequence)
            rows = max(1, batch_tokens // len(whole))
            for first in range(0, len(sequence), rows):
                masked = np.arange(first, min(first + rows, len(sequence)))
                copies = np.tile(whole, (len(masked), 1))
                copies[np.arange(len(masked)), masked + 1] = MASK
                bounds = np.arange(len(masked) + 1) * len(whole)
                found = engine.log_probabilities(copies.reshape(-1), bounds, bounds[:-1] + masked + 1)
                results[number][masked] = -found[np.arange(len(masked)), sequence[masked].astype(np.int64)].numpy()
                done.advance(len(masked))
    return [_add_up(engine, result) for result in results]


def _add_up(engine: Engine, values: np.ndarray) -> np.ndarray:
    """Sum over the leading processes of all shares, each of which has 0 where another has the value."""
    if platform.world_size() == 1:
        return values
    summed = torch.from_numpy(values if engine.share.leads else np.zeros_like(values)).to(platform.device())
    torch.distributed.all_reduce(summed)
    return summed.cpu().numpy()
