"""Logits, loss and gradients of Hugging Face at TP, PP, SP, CP and DP, padded and packed; bit-exact exports."""

from pathlib import Path

from unirefine.megatron import platform

import oracle
import pytest
import torch
from launch import launch
from safetensors.torch import load_file

from unirefine.config.training import Parallel, Train
from unirefine.core.alphabet import PAD
from unirefine.model import checkpoint, convert, huggingface
from unirefine.model.esm2 import build_esm2

pytestmark = pytest.mark.distributed

WORKER = Path(__file__).with_name("model_worker.py")
SIZES = {"16": (3, 64, 4), "24": (3, 96, 4), "64": (3, 128, 2)}  # three layers: two stages are uneven

TWO = [
    *(f"{layout}/16/{form}" for layout in ("dp2", "tp2", "tp2-sp", "pp2", "cp2") for form in ("padded", "packed")),
    "tp2/24/padded", "pp2/24/padded", "tp2-sp/64/packed", "cp2/64/padded", "tp2-sp/16/padded/recompute",
    "pp2/16/padded/recompute", "cp2/16/packed/recompute",
]  # fmt: skip
FOUR = ["tp4/16/padded", "tp2-pp2/16/packed", "tp2-sp-cp2/16/padded", "tp2-sp-cp2/64/packed", "pp2-cp2/24/padded",
        "cp4/16/packed"]  # fmt: skip


class Results:
    """What the ranks wrote for each case, and the expected values."""

    def __init__(self, directory: Path, processes: int, cases: list[str]) -> None:
        self.directory = directory
        tokens = oracle.batch([24, 9, 17, 32, 5, 30, 12, 26], multiple=32, masked=0.3)
        labels = oracle.labels_for(tokens)
        torch.save(tokens, directory / "tokens.pt")
        torch.save(labels, directory / "labels.pt")
        self.tokens, self.expected = tokens, {}
        for size in {case.split("/")[1] for case in cases}:
            theirs = oracle.random_huggingface(*SIZES[size])
            oracle.save_huggingface(theirs, directory / f"hf-{size}")
            loss = oracle.huggingface_loss(theirs, tokens, labels)
            loss.backward()
            gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
            self.expected[size] = oracle.huggingface_logits(theirs, tokens), loss.item(), gradients
        launch(WORKER, processes, directory, *sorted(cases))  # one layout after the other, each makes its groups once

    def of(self, case: str) -> tuple[dict, tuple]:
        return torch.load(self.directory / f"{case.replace('/', '_')}.pt"), self.expected[case.split("/")[1]]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return Results(tmp_path_factory.mktemp("two"), 2, TWO)


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    return Results(tmp_path_factory.mktemp("four"), 4, FOUR)


def check(results: Results, case: str) -> None:
    got, (logits, loss, gradients) = results.of(case)
    real = results.tokens != PAD
    assert (got["logits"] - logits)[real].abs().max() < 1e-4
    assert abs(got["loss"] - loss) < 1e-5
    heads = SIZES[case.split("/")[1]][2]
    compared = 0
    for name, whole in got["gradients"].items():
        names = huggingface.huggingface_names(name)
        tensors = convert.split_qkv(whole, heads) if len(names) == 3 else [whole]
        for theirs, tensor in zip(names, tensors, strict=True):
            difference = (tensor - gradients[theirs]).abs().max()
            assert difference < 1e-5 * max(1, gradients[theirs].abs().max()), (theirs, difference)
            compared += 1
    assert compared == sum(1 for name in gradients if "contact_head" not in name)


def check_export(results: Results, case: str) -> None:
    """The exported tensors are bit for bit the source's, the contact head included."""
    name = case.replace("/", "_")
    source = load_file(results.directory / f"hf-{case.split('/')[1]}" / "model.safetensors")
    exported = load_file(results.directory / f"{name}-hf" / "model.safetensors")
    source = {huggingface.usual_name(key): tensor for key, tensor in source.items()}
    assert exported.keys() == source.keys()
    assert all(torch.equal(exported[key], source[key]) for key in source)


@pytest.mark.parametrize("case", TWO)
def test_two_processes(two, case):
    check(two, case)
    check_export(two, case)


@pytest.mark.slow
@pytest.mark.parametrize("case", FOUR)
def test_four_processes(four, case):
    check(four, case)
    check_export(four, case)


@pytest.mark.parametrize("case", ["tp2/16/padded", "pp2/16/padded", "cp2/16/padded"])
def test_checkpoint_of_two_processes_loads_in_one(two, case, tmp_path):
    """Saved at TP=2, PP=2 or CP=2, loaded in one process and exported: bit for bit the source."""
    platform.initialize(Parallel(processes_per_node=1), seed=0)
    saved = two.directory / f"{case.replace('/', '_')}-checkpoint"
    train = Train(model=checkpoint.model_of(saved), parallel=Parallel(processes_per_node=1), precision="fp32")
    model = build_esm2(train.model, train, weights=False)
    assert checkpoint.load(saved, model) == {"case": case.replace("/", "_")}
    convert.export_huggingface(model, tmp_path / "hf")
    platform.shutdown()
    exported = load_file(tmp_path / "hf/model.safetensors")
    expected = load_file(two.directory / f"{case.replace('/', '_')}-hf/model.safetensors")
    assert exported.keys() == expected.keys()
    assert all(torch.equal(exported[key], expected[key]) for key in expected)
