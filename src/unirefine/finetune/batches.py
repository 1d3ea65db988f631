"""Batches of labelled sequences, their loss, and the predictions for whole sequences."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from unirefine.core.alphabet import PAD, encode
from unirefine.embed.windows import overlapping, truncated
from unirefine.finetune.tasks import Target
from unirefine.model.batching import SPECIAL_TOKENS, length_buckets, with_special_tokens


@dataclass(frozen=True)
class Scales:
    """What the train side says of a target."""

    mean: float
    deviation: float
    """Of a regression, by which its labels are standardised; else 0 and 1."""
    weights: torch.Tensor | None
    """float32[classes]: weight of each class, of a positive (multilabel); None: all 1."""


def scales_of(target: Target, train: np.ndarray, *, balanced: bool) -> Scales:
    """Mean, deviation and class weights of the train rows."""
    values = [target.values[row] for row in train]
    if target.task == "regression":
        numbers = np.concatenate(values)
        numbers = numbers[~np.isnan(numbers)]
        return Scales(float(numbers.mean()), float(numbers.std()) or 1.0, None)
    if not balanced:
        return Scales(0.0, 1.0, None)
    if target.task == "multilabel":
        table = np.stack([value for value in values if not np.isnan(value).any()])
        positive = table.sum(axis=0)
        return Scales(0.0, 1.0, torch.tensor((len(table) - positive) / np.maximum(positive, 1), dtype=torch.float32))
    classes = np.concatenate(values)
    counts = np.bincount(classes[~np.isnan(classes)].astype(int), minlength=len(target.classes))
    weights = counts.sum() / (len(target.classes) * np.maximum(counts, 1))
    return Scales(0.0, 1.0, torch.tensor(weights, dtype=torch.float32))


def inputs(sequences: Sequence[str], device: torch.device) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, int64[b, s], of sequences."""
    rows = [torch.from_numpy(with_special_tokens(encode(sequence)).astype(np.int64)) for sequence in sequences]
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)
    return {"input_ids": tokens.to(device), "attention_mask": (tokens != PAD).long().to(device)}


def labels(target: Target, rows: Sequence[int], length: int, longest: int) -> torch.Tensor:
    """Labels of rows, NaN for none: float32[b] or, multilabel, [b, classes]; of residues [b, length], with tokens.

    longest: residues of a sequence that are kept.
    """
    if not target.is_residue:
        stacked = np.stack([target.values[row] for row in rows])
        return torch.tensor(stacked if target.task == "multilabel" else stacked[:, 0], dtype=torch.float32)
    found = torch.full((len(rows), length), float("nan"))
    for at, row in enumerate(rows):
        kept = target.values[row][:longest]
        found[at, 1 : len(kept) + 1] = torch.tensor(kept, dtype=torch.float32)
    return found


def loss_sum(target: Target, scales: Scales, logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """The loss of a target added up over its labels, on the logits' device.

    logits: float[..., outputs]; truth: float[...], NaN for no label; multilabel: as the logits. Divided by `weight_sum`
    it is the mean that torch's MSELoss, CrossEntropyLoss and BCEWithLogitsLoss give.
    """
    logits, truth = logits.float(), truth.to(logits.device)
    if target.task == "multilabel":
        there = ~truth.isnan().any(dim=-1)
        weights = None if scales.weights is None else scales.weights.to(logits.device)
        return functional.binary_cross_entropy_with_logits(
            logits[there], truth[there], pos_weight=weights, reduction="sum"
        )
    there = ~truth.isnan()
    if target.task == "regression":
        wanted = (truth[there] - scales.mean) / scales.deviation
        return functional.mse_loss(logits[there][:, 0], wanted, reduction="sum")
    weights = None if scales.weights is None else scales.weights.to(logits.device)
    return functional.cross_entropy(logits[there], truth[there].long(), weight=weights, reduction="sum")


def weight_sum(target: Target, scales: Scales, truth: torch.Tensor) -> float:
    """What the sum of losses is divided by: the number, or the weight, of labels."""
    if target.task == "multilabel":
        return float((~truth.isnan()).sum())
    there = truth[~truth.isnan()]
    if scales.weights is None:
        return float(len(there))
    return float(scales.weights[there.long()].double().sum())


def slices(targets: Sequence[Target]) -> list[slice]:
    """The outputs of each target."""
    ends = np.cumsum([target.outputs for target in targets])
    return [slice(int(end - target.outputs), int(end)) for target, end in zip(targets, ends, strict=True)]


@torch.inference_mode()
def predict(
    model: torch.nn.Module,
    sequences: Sequence[str],
    targets: Sequence[Target],
    *,
    longest: int,
    batch_tokens: int,
    device: torch.device,
    advance: Callable[[int], None] = lambda count: None,
    share: tuple[int, int] = (0, 1),
) -> dict[int, list[np.ndarray]]:
    """By index of a sequence and target: float64[outputs], of residues [residues, outputs].

    Numbers as the head gives them, else probabilities. Of residues of long sequences, those of overlapping windows; of
    whole ones, only the first `longest` residues are read. share: (number, of) of this process.
    """
    model.eval()
    cut = overlapping if targets[0].is_residue else truncated
    pieces = [(at, window) for at, sequence in enumerate(sequences) for window in cut(len(sequence), longest)]
    lengths = np.array([window.end - window.start + SPECIAL_TOKENS for _, window in pieces])
    found: dict[int, list[np.ndarray]] = {}
    parts = slices(targets)
    number, of = share
    for batch in length_buckets(lengths, batch_tokens)[number::of]:
        chosen = [pieces[i] for i in batch]
        logits = model(**inputs([sequences[at][w.start : w.end] for at, w in chosen], device)).logits.double().cpu()
        for row, (at, window) in zip(logits, chosen, strict=True):
            if not targets[0].is_residue:
                found[at] = [_scores(target, row[part]) for target, part in zip(targets, parts, strict=True)]
                continue
            kept = row[1 + window.keep_start - window.start : 1 + window.keep_end - window.start]
            whole = found.setdefault(at, [np.full((len(sequences[at]), target.outputs), np.nan) for target in targets])
            for values, target, part in zip(whole, targets, parts, strict=True):
                values[window.keep_start : window.keep_end] = _scores(target, kept[:, part])
        advance(len({at for at, _window in chosen}))
    return found


def _scores(target: Target, logits: torch.Tensor) -> np.ndarray:
    if target.task == "regression":
        return logits.numpy()
    return (logits.sigmoid() if target.task == "multilabel" else logits.softmax(-1)).numpy()
