"""Checkpoints are complete or absent, hold all state, and refuse models that do not fit."""

import json

import oracle
import pytest
import torch

from unirefine.config.training import Model
from unirefine.errors import UserError
from unirefine.model import checkpoint, convert

SIZE = (2, 64, 4)


class Counter:
    """A scheduler's interface."""

    def __init__(self, value: int) -> None:
        self.value = value

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value = state["value"]


def test_round_trip(build, tmp_path):
    model = build(*SIZE, seed=5)
    checkpoint.save(tmp_path / "step-1", model, scheduler=Counter(7), extra={"step": 1, "loss": 2.5})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-1"]
    other, counter = build(*SIZE, weights=False), Counter(0)
    assert checkpoint.load(tmp_path / "step-1", other, scheduler=counter) == {"step": 1, "loss": 2.5}
    assert counter.value == 7
    for (name, mine), theirs in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(mine[:33], theirs[:33]), name


def test_read_needs_no_weights(build, tmp_path):
    checkpoint.save(tmp_path / "c", build(*SIZE), extra={"step": 3})
    facts = checkpoint.read(tmp_path / "c")
    assert facts["model"] == {"layers": 2, "hidden": 64, "heads": 4} and facts["extra"] == {"step": 3}
    assert set(facts["versions"]) == {"unirefine", "python", "torch", "megatron-core"}
    assert checkpoint.model_of(tmp_path / "c") == Model(preset=None, layers=2, hidden=64, heads=4)
    assert checkpoint.model_of_sizes(33, 1280, 20) == Model(preset="650M")


def test_the_contact_head_is_kept_in_a_file_with_the_name_of_older_checkpoints(build, tmp_path):
    theirs = oracle.random_huggingface(*SIZE)
    model = build(*SIZE, weights=False)
    convert.load_huggingface(oracle.save_huggingface(theirs, tmp_path / "hf"), model)
    checkpoint.save(tmp_path / "c", model)
    assert (tmp_path / "c" / "aside.safetensors").is_file()
    other = build(*SIZE, weights=False)
    checkpoint.load(tmp_path / "c", other)
    weight = theirs.esm.contact_head.regression.weight
    assert torch.equal(other.extra_tensors["esm.contact_head.regression.weight"], weight)


def test_saving_again_replaces(build, tmp_path):
    checkpoint.save(tmp_path / "c", build(*SIZE, seed=1), extra={"n": 1})
    second = build(*SIZE, seed=2)
    checkpoint.save(tmp_path / "c", second, extra={"n": 2})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c"]
    other = build(*SIZE, weights=False)
    assert checkpoint.load(tmp_path / "c", other) == {"n": 2}
    assert torch.equal(other.head.dense.weight, second.head.dense.weight)


def test_a_failed_save_keeps_the_older_one(build, tmp_path, monkeypatch):
    model = build(*SIZE)
    checkpoint.save(tmp_path / "c", model, extra={"n": 1})

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.dist_checkpointing, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(tmp_path / "c", model, extra={"n": 2})
    assert checkpoint.read(tmp_path / "c")["extra"] == {"n": 1}
    assert not checkpoint.is_complete(tmp_path / ".c.part")


def test_incomplete_checkpoint(build, tmp_path):
    checkpoint.save(tmp_path / "c", build(*SIZE))
    (tmp_path / "c" / checkpoint.MARKER).unlink()
    assert not checkpoint.is_complete(tmp_path / "c")
    with pytest.raises(UserError, match="not a complete checkpoint"):
        checkpoint.load(tmp_path / "c", build(*SIZE, weights=False))


def test_other_model_size(build, tmp_path):
    checkpoint.save(tmp_path / "c", build(*SIZE))
    with pytest.raises(UserError, match=r"'layers': 2.*not .*'layers': 3"):
        checkpoint.load(tmp_path / "c", build(3, 64, 4, weights=False))


def test_later_format(build, tmp_path):
    checkpoint.save(tmp_path / "c", build(*SIZE))
    facts = checkpoint.read(tmp_path / "c")
    (tmp_path / "c" / checkpoint.MARKER).write_text(json.dumps(facts | {"format": 99}))
    with pytest.raises(UserError, match="checkpoint format 99"):
        checkpoint.read(tmp_path / "c")


def test_scheduler_that_was_not_saved(build, tmp_path):
    checkpoint.save(tmp_path / "c", build(*SIZE))
    with pytest.raises(UserError, match="no scheduler state"):
        checkpoint.load(tmp_path / "c", build(*SIZE, weights=False), scheduler=Counter(0))
