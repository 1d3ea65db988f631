"""Logits and gradients of the Transformer Engine layer spec are EsmForMaskedLM's; the kernels are torch's."""

import functools

import unirefine.megatron  # noqa: F401 - before Megatron

import oracle
import pytest
import torch
import torch_kernels
from megatron.core.extensions.transformer_engine import TEDotProductAttention
from transformer_engine.pytorch import quantization

from unirefine.config.training import Model, Parallel, Train
from unirefine.core.alphabet import MASK, PAD
from unirefine.dataset import open_shards
from unirefine.model import batch, convert
from unirefine.sampling import SampleStream
from unirefine.train.data import training_steps

LENGTHS = [37, 12, 50, 5, 28]
HEADS = {16: (2, 320, 20), 24: (2, 480, 20), 32: (3, 128, 4), 64: (2, 128, 2)}
"""Head size: (layers, hidden, heads)."""


class Case:
    """A random EsmForMaskedLM, a batch, and what it makes of it: logits, summed loss and its gradients."""

    def __init__(self, sizes: tuple[int, int, int], directory, masked: float = 0.2) -> None:
        self.sizes = sizes
        self.theirs = oracle.random_huggingface(*sizes)
        self.source = oracle.save_huggingface(self.theirs, directory)
        self.tokens = oracle.batch(LENGTHS, masked=masked)
        self.labels = oracle.labels_for(self.tokens)
        self.logits = oracle.huggingface_logits(self.theirs, self.tokens)
        (
            oracle.huggingface_loss(self.theirs, self.tokens, self.labels) * (self.labels != batch.IGNORE).sum()
        ).backward()
        self.gradients = {name: parameter.grad for name, parameter in self.theirs.named_parameters()}

    def rows(self, values: torch.Tensor) -> list[torch.Tensor]:
        """Values of each sequence without padding."""
        return [row[:length] for row, length in zip(values, LENGTHS, strict=True)]

    def slots(self, multiple: int, whole: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(tokens [1, t], labels [1, t], bounds): packed, each slot and the row rounded up with padding."""
        widths = [-(-length // multiple) * multiple for length in LENGTHS]
        rest = -sum(widths) % whole
        widths += [rest] if rest else []
        tokens, labels = torch.full((1, sum(widths)), PAD), torch.full((1, sum(widths)), batch.IGNORE)
        bounds = torch.tensor([0, *widths]).cumsum(0).to(torch.int32)
        for start, row, wanted in zip(bounds.tolist(), self.rows(self.tokens), self.rows(self.labels), strict=False):
            tokens[0, start : start + len(row)], labels[0, start : start + len(row)] = row, wanted
        return tokens, labels, bounds

    def model(self, build, rank: int = 0, **options):
        layers, hidden, heads = self.sizes
        size = Model(preset=None, layers=layers, hidden=hidden, heads=heads)
        # some options exist for bf16 only; what is compared is computed in fp32
        model = build(size, rank, device="cpu", **({"precision": "fp32"} | options)).float()
        convert.load_huggingface(self.source, model)  # with rotary frequencies, which to_empty() has left unset
        return model

    def check_logits(self, logits: list[torch.Tensor], tolerance: float = 2e-4) -> None:
        for ours, theirs in zip(logits, self.rows(self.logits), strict=True):
            assert (ours - theirs).abs().max() < tolerance

    def check_gradients(self, *models) -> None:
        """Of a loss that was summed over tokens; those of the given models add up."""
        sums: dict[str, torch.Tensor] = {}
        for model in models:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.copy_(parameter.grad)
            model.extra_tensors = {}
            for name, gradient in convert.own_tensors(model):
                sums[name] = sums.get(name, 0) + gradient
        assert sums.keys() == {name for name in self.gradients if "contact_head" not in name}
        for name, gradient in sums.items():
            expected = self.gradients[name]
            assert (gradient - expected).abs().max() < 1e-4 * max(1, expected.abs().max()), name


@pytest.fixture(scope="module")
def case_of(tmp_path_factory):
    """case_of(head size, masked fraction): one Case each for all tests."""
    return functools.cache(lambda head, masked=0.2: Case(HEADS[head], tmp_path_factory.mktemp("hf"), masked))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_logits_and_gradients(head, packed, case_of, build, monkeypatch):
    torch_kernels.install(monkeypatch)
    case = case_of(head)
    model = case.model(build)
    if packed:
        tokens, labels, bounds = case.slots(1)
        case.check_logits(model(tokens, bounds)[0].split(LENGTHS))
        losses = model(tokens, bounds, labels=labels)
    else:
        case.check_logits(case.rows(model(case.tokens)))
        losses = model(case.tokens, labels=case.labels)
    losses.sum().backward()
    case.check_gradients(model)


@pytest.mark.parametrize("masked", [0.0, 0.7])
@pytest.mark.parametrize("packed", [False, True])
def test_token_dropout(masked, packed, case_of, build, monkeypatch):
    """Embeddings are scaled by how many tokens of a sequence are masked, which differs from row to row."""
    torch_kernels.install(monkeypatch)
    case = case_of(32, masked)
    fractions = [(row == MASK).float().mean() for row in case.rows(case.tokens)]
    assert max(fractions) == 0 if masked == 0 else max(fractions) - min(fractions) > 0.1
    model = case.model(build)
    if packed:
        tokens, _, bounds = case.slots(1)
        case.check_logits(model(tokens, bounds)[0].split(LENGTHS))
    else:
        case.check_logits(case.rows(model(case.tokens)))


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("packed", [False, True])
def test_context_parallel(size, packed, case_of, build, monkeypatch):
    """Ranks hold chunks of each sequence and see all of its keys. Their gradients add up to those of one process."""
    ranks = torch_kernels.Ranks(size)
    torch_kernels.install(monkeypatch, ranks)
    monkeypatch.setattr(TEDotProductAttention, "cp_stream", object())  # a CUDA stream
    case = case_of(64)
    layout = {"layout": {"context": size}, "precision": "bf16"}
    models = [case.model(build, rank, **layout) for rank in range(size)]
    if packed:
        tokens, labels, bounds = case.slots(2 * size)
    else:
        wide = torch.nn.functional.pad(case.tokens, (0, -case.tokens.shape[1] % (2 * size)), value=PAD)
        tokens, bounds = wide, None
        labels = torch.nn.functional.pad(case.labels, (0, wide.shape[1] - case.labels.shape[1]), value=batch.IGNORE)
    slots = batch.row_bounds(tokens) if bounds is None else bounds

    def forward(rank: int, wanted: torch.Tensor | None = None) -> torch.Tensor:
        return models[rank](tokens, bounds, labels=wanted)

    whole = torch.empty(tokens.numel(), 33)
    for rank, logits in enumerate(ranks.run(forward)):
        whole[chunks(slots, size, rank)] = logits.reshape(-1, 33).float()
    case.check_logits([whole[start : start + length] for start, length in zip(slots.tolist(), LENGTHS, strict=False)])
    torch.stack([losses.sum() for losses in ranks.run(lambda rank: forward(rank, labels))]).sum().backward()
    case.check_gradients(*models)


def chunks(slots: torch.Tensor, size: int, rank: int) -> torch.Tensor:
    """Positions that a rank holds: of each slot the r-th and the (2n - 1 - r)-th of 2n chunks."""
    held = []
    for start, end in zip(slots.tolist(), slots[1:].tolist(), strict=False):
        parts = torch.arange(start, end).view(2 * size, -1)
        held += [parts[rank], parts[2 * size - 1 - rank]]
    return torch.cat(held)


CAPABILITY = {"delayed": (9, 0), "current": (9, 0), "blockwise": (9, 0), "mxfp8": (10, 0), "nvfp4": (10, 0)}
"""Compute capability of the first GPUs with the recipe."""


@pytest.mark.parametrize(("packed", "context"), [(False, 1), (True, 1), (True, 2)])
@pytest.mark.parametrize("fp8", CAPABILITY)
def test_fp8_padding(fp8, packed, context, case_of, shards, build, monkeypatch):
    """The trainer's micro-batches have the sizes that FP8 matrix products take, and the padding changes nothing.

    Transformer Engine's own checks run; nothing is rounded to FP8.
    """
    monkeypatch.setattr(quantization, "get_device_compute_capability", lambda: CAPABILITY[fp8])
    for name in (name for name in vars(quantization) if name.endswith("_SUPPORT")):  # what it remembers of a device
        monkeypatch.setattr(quantization, name, None)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    ranks = torch_kernels.Ranks(context)
    torch_kernels.install(monkeypatch, ranks)
    monkeypatch.setattr(TEDotProductAttention, "cp_stream", object())
    case = case_of(32)
    train = Train(
        model=Model(preset=None, layers=3, hidden=128, heads=4),
        parallel=Parallel(processes_per_node=context, context=context), sampling={"max_tokens": 64},
        micro_batch=8, global_batch=8, packed=packed, fp8=fp8,
    )  # fmt: skip
    (step,) = training_steps(SampleStream(open_shards(shards).train, train.sampling), train, 0, 1, 0, 1)
    micro = step.micro_batches[0]
    tokens = micro.tokens.long()
    models = [
        case.model(build, rank, layout={"context": context}, precision="bf16", fp8=fp8) for rank in range(context)
    ]
    entered = []
    entering = quantization.FP8GlobalStateManager.autocast_enter
    monkeypatch.setattr(
        quantization.FP8GlobalStateManager, "autocast_enter", lambda **given: (entered.append(given), entering(**given))
    )
    slots = batch.row_bounds(tokens) if micro.cu_seqlens is None else micro.cu_seqlens
    whole = torch.empty(tokens.numel(), 33)
    for rank, logits in enumerate(ranks.run(lambda rank: models[rank](tokens, micro.cu_seqlens))):
        whole[chunks(slots, context, rank) if context > 1 else slice(None)] = logits.reshape(-1, 33).float()
    assert entered and all(given["enabled"] for given in entered)
    for start, length in zip(slots.tolist(), micro.lengths, strict=False):
        sample = slice(start, start + length)
        expected = oracle.huggingface_logits(case.theirs, tokens.reshape(1, -1)[:, sample])[0]
        assert (whole[sample] - expected).abs().max() < 2e-4
