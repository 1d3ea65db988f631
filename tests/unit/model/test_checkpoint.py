"""Checkpoints are complete or absent, hold all state, and refuse models that do not fit."""

import json
import os
import pickle
import shutil

import oracle
import pytest
import torch

from unirefine.config.training import Model
from unirefine.errors import UserError
from unirefine.files.atomic import write_json
from unirefine.files.hashes import recorded, sha256_json
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


def damage(path, how):
    raw = bytearray(path.read_bytes())
    if how == "flip":
        raw[len(raw) // 2] ^= 16
    path.write_bytes(raw[: len(raw) // 3] if how == "cut" else raw)
    if how == "remove":
        path.unlink()


@pytest.mark.parametrize("how", ["flip", "cut", "remove"])
def test_damage_of_any_file_is_one_line_that_names_it(build, tmp_path, how):
    model = build(*SIZE)
    model.extra_tensors = {"esm.contact_head.regression.bias": torch.zeros(1)}
    checkpoint.save(tmp_path / "c", model, extra={"step": 3})
    names = sorted(path.name for path in (tmp_path / "c").iterdir())
    assert {".metadata", "metadata.json", "aside.safetensors", "__0_0.distcp"} <= set(names)
    assert [file["name"] for file in checkpoint.read(tmp_path / "c")["files"]] == sorted({*names} - {checkpoint.MARKER})
    assert checkpoint.problem(tmp_path / "c") is None
    empty = build(*SIZE, weights=False)
    for name in names:
        copy = shutil.copytree(tmp_path / "c", tmp_path / name)
        damage(copy / name, how)
        with pytest.raises(UserError) as caught:
            checkpoint.load(copy, empty)
        assert name in str(caught.value) and "\n" not in str(caught.value)
        assert name == checkpoint.MARKER or name in checkpoint.problem(copy)


def test_a_number_in_complete_json_cannot_be_changed(build, tmp_path):
    checkpoint.save(tmp_path / "c", build(*SIZE), extra={"step": 3, "loss": 0.1})
    path = tmp_path / "c" / checkpoint.MARKER
    path.write_text(path.read_text().replace('"step": 3', '"step": 7'))
    with pytest.raises(UserError, match=r"complete\.json: its content is not what was written"):
        checkpoint.read(tmp_path / "c")


@pytest.mark.parametrize(
    "change",
    [
        {"model": [2, 64, 4]}, {"model": {"layers": 2, "hidden": "64", "heads": 4}}, {"model": None}, {"extra": 3},
        {"model": {"layers": 2, "hidden": 64, "heads": 5}},
        {"dtype": "load"}, {"files": 7}, {"files": [{"name": "../x", "bytes": 1, "sha256": ""}]}, {"files": ["x"]},
    ],
)  # fmt: skip
def test_facts_of_another_shape_are_one_line(tmp_path, change):
    (tmp_path / "c").mkdir()
    facts = {
        "format": 1,
        "model": {"layers": 2, "hidden": 64, "heads": 4},
        "dtype": "float32",
        "extra": {},
        "files": [],
    }
    facts |= change
    write_json(tmp_path / "c" / checkpoint.MARKER, facts | {"sha256": sha256_json(facts)})
    assert checkpoint.problem(tmp_path / "c") is not None


def test_a_checkpoint_of_an_earlier_version_is_read(build, tmp_path):
    model = build(*SIZE, seed=4)
    checkpoint.save(tmp_path / "c", model, extra={"step": 3})
    facts = checkpoint.read(tmp_path / "c")
    facts.pop("files")
    (tmp_path / "c" / checkpoint.MARKER).write_text(json.dumps(facts))
    other = build(*SIZE, weights=False)
    assert checkpoint.load(tmp_path / "c", other) == {"step": 3}
    assert torch.equal(other.head.dense.weight, model.head.dense.weight)


def as_recorded(directory):
    """Make complete.json fit the files, as somebody would who wants a changed checkpoint to be accepted."""
    facts = checkpoint.read(directory)
    facts["files"] = recorded(directory, [file["name"] for file in facts["files"]])
    write_json(directory / checkpoint.MARKER, facts | {"sha256": sha256_json(facts)})


def test_a_checkpoint_with_a_program_in_it_is_refused_though_its_hashes_fit(build, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'executed'}",)

    empty = build(*SIZE, weights=False)
    for name, write in ((".metadata", pickle.dump), ("common.pt", torch.save)):
        checkpoint.save(tmp_path / "c", build(*SIZE))
        with (tmp_path / "c" / name).open("wb") as file:
            write(Evil(), file)
        as_recorded(tmp_path / "c")
        with pytest.raises(UserError, match=name):
            checkpoint.load(tmp_path / "c", empty)
    assert not (tmp_path / "executed").exists()


def test_values_that_are_not_finite_are_refused(build, tmp_path):
    model = build(*SIZE)
    model.head.dense.weight.data[3, 4] = float("nan")
    checkpoint.save(tmp_path / "c", model)
    with pytest.raises(UserError, match=r"head\.dense\.weight has values that are not finite"):
        checkpoint.load(tmp_path / "c", build(*SIZE, weights=False))


def test_sizes_that_contradict_the_stored_tensors_are_refused(build, tmp_path):
    checkpoint.save(tmp_path / "c", build(*SIZE))
    facts = checkpoint.read(tmp_path / "c")
    for change, message in (
        ({"hidden": 32}, r"has shape \(40, 64\), not \(40, 32\)"),
        ({"layers": 3}, "shape|no tensor"),
    ):
        changed = facts | {"model": facts["model"] | change}
        write_json(tmp_path / "c" / checkpoint.MARKER, changed | {"sha256": sha256_json(changed)})
        sizes = tuple((dict(zip(("layers", "hidden", "heads"), SIZE, strict=True)) | change).values())
        with pytest.raises(UserError, match=message):
            checkpoint.load(tmp_path / "c", build(*sizes, weights=False))


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
