"""Our model beside EsmForMaskedLM in fp32 on this device: logits, loss and every gradient of the same weights."""

import itertools
import tempfile
from pathlib import Path
from typing import Any

from unirefine.megatron import kernels, platform

import oracle
import torch

from unirefine.config.training import PRESETS, Model, Parallel, Train
from unirefine.core.alphabet import PAD
from unirefine.model import convert
from unirefine.model.batch import IGNORE
from unirefine.model.esm2 import build_esm2
from unirefine.train import launcher

LENGTHS = {"gpu": [1022, 700, 333, 64, 17], "cpu": [30, 21, 7]}
TINY = (2, 64, 4)
FORMS = tuple(itertools.product(("fp32", "bf16"), (False, True)))
"""Precision, and whether packed."""

LIMITS = {
    "fp32": {"logits": 2e-3, "loss": 1e-3, "gradients": 2e-2},
    "bf16": {"logits": 3e-2, "loss": 5e-3, "gradients": 1e-1},
}
"""Largest mean difference of the logits over their standard deviation, relative difference of the loss, and norm of the
gradients' difference over the gradients' norm. fp32 allows for the TF32 of Transformer Engine's matrix products."""


def case(preset: str, device: str) -> dict[str, Any]:
    """All forms of one preset: fp32 and bf16, padded and packed."""
    layers, hidden, heads = PRESETS[preset] if device == "gpu" else TINY
    with launcher.single_rank(), tempfile.TemporaryDirectory() as directory:
        platform.initialize(Parallel(processes_per_node=1), 0)
        # weights whose products are of the size of their input, so that attention is not uniform and nothing overflows
        theirs = oracle.random_huggingface(layers, hidden, heads, noise=1.3 / hidden**0.5)
        source = oracle.save_huggingface(theirs, Path(directory))
        tokens = oracle.batch(LENGTHS[device]).to(platform.device())
        labels = oracle.labels_for(tokens.cpu()).to(platform.device())
        expected = Expected(theirs.to(platform.device()), tokens, labels)
        del theirs
        size = Model(preset=None, layers=layers, hidden=hidden, heads=heads)
        forms = {}
        for precision, packed in FORMS:
            train = Train(model=size, parallel=Parallel(processes_per_node=1), precision=precision, packed=packed)
            name = f"{precision} {'packed' if packed else 'padded'}"
            forms[name] = expected.compare(train, source, tokens, labels)
        platform.shutdown()
    return {"ok": all(form.pop("ok") for form in forms.values()), **forms}


class Expected:
    """Logits of real tokens, loss and gradients of an EsmForMaskedLM."""

    def __init__(self, theirs: torch.nn.Module, tokens: torch.Tensor, labels: torch.Tensor) -> None:
        self.logits = oracle.huggingface_logits(theirs, tokens)[tokens != PAD].float().cpu()
        loss = oracle.huggingface_loss(theirs, tokens, labels)
        loss.backward()
        self.loss = loss.item()
        named = theirs.named_parameters()
        self.gradients = {name: parameter.grad.float().cpu() for name, parameter in named if parameter.grad is not None}

    def compare(self, train: Train, source: Path, tokens: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
        """The differences of our model to this, and whether they are within LIMITS."""
        kernels.refuse_slow(False)  # and forget those of the form before
        model = build_esm2(train.model, train, weights=False)
        convert.load_huggingface(source, model)
        real = tokens != PAD
        bounds = None
        if train.packed:
            bounds = torch.nn.functional.pad(real.sum(1).cumsum(0), (1, 0)).to("cpu", torch.int32)
            tokens, labels = tokens[real][None], labels[real][None]
            real = torch.ones_like(tokens, dtype=torch.bool)
        with torch.no_grad():
            logits = model(tokens, bounds)[real].float().cpu()
        loss = model(tokens, bounds, labels=labels).sum() / (labels != IGNORE).sum()
        loss.backward()
        off = (logits - self.logits).abs()
        squares, worst = 0.0, ("", 0.0)
        whole = torch.stack([gradient.norm() for gradient in self.gradients.values()]).norm().item()
        for name, gradient in gradients_of(model):
            expected = self.gradients[name]
            difference = (gradient.float() - expected).norm().item()
            squares += difference**2
            worst = max(worst, (name, difference / max(expected.norm().item(), 1e-3 * whole)), key=lambda one: one[1])
        found = {
            "logits": (off.mean() / self.logits.std()).item(),
            "loss": abs(loss.item() / self.loss - 1),
            "gradients": squares**0.5 / whole,
        }
        return {
            "ok": all(found[name] <= limit for name, limit in LIMITS[train.precision].items()),
            **found,
            "largest_logit_difference": off.max().item(),
            "worst_gradient": worst[1],
            "of": worst[0],
            "attention": ", ".join(kernels.seen()) or "SDPA",
        }


def gradients_of(model: torch.nn.Module):
    """(transformers' name, gradient) of every parameter. The gradients take the place of the weights."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.grad)
    model.extra_tensors = {}
    return convert.own_tensors(model)
