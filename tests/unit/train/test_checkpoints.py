"""The checkpoint directory: only complete ones count, old ones are deleted, other configs are refused."""

import pytest

from unirefine.config import Train
from unirefine.errors import UserError
from unirefine.files.atomic import read_json, write_json
from unirefine.train import checkpoints

CONFIG = Train()
WANTED = checkpoints.identity(CONFIG, "manifest")


def save(directory, step, **latest):
    path = checkpoints.checkpoint_path(directory, step)
    path.mkdir(parents=True)
    (path / "weights").write_text(str(step))
    write_json(path / checkpoints.MARKER, {"extra": {"step": step, "identity": WANTED, "latest": latest}})


def test_the_newest_complete_one_is_found_and_old_ones_are_deleted(tmp_path):
    for step in (5, 10, 100, 1000):
        save(tmp_path, step)
    checkpoints.prune(tmp_path, 3)
    assert [path.name for path in checkpoints.complete(tmp_path)] == ["step-00000010", "step-00000100", "step-00001000"]
    assert (checkpoints.complete(tmp_path)[-1] / "weights").read_text() == "1000"


def test_the_best_validated_one_is_kept(tmp_path):
    for step, loss, validated in [(1, 2.0, 1), (2, 1.0, 1), (3, 2.5, 3), (4, 2.7, 4), (5, 2.8, 5)]:
        save(tmp_path, step, validation_loss=loss, validated_step=validated)
    checkpoints.prune(tmp_path, 2)
    assert [path.name[-1] for path in checkpoints.complete(tmp_path)] == ["1", "4", "5"]


def test_incomplete_ones_do_not_count_and_are_deleted(tmp_path):
    save(tmp_path, 10)
    (tmp_path / ".step-00000020.part").mkdir()
    (tmp_path / "step-00000030").mkdir()
    assert [path.name for path in checkpoints.complete(tmp_path)] == ["step-00000010"]
    checkpoints.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000010"]


def test_no_checkpoint(tmp_path):
    assert checkpoints.complete(tmp_path / "checkpoints") == []


def test_a_damaged_one_is_set_aside_and_no_longer_counts(tmp_path):
    save(tmp_path, 10, validation_loss=2.0, validated_step=10)
    save(tmp_path, 20, validation_loss=1.0, validated_step=20)
    (tmp_path / "step-00000020" / "complete.json").write_text("{")
    assert checkpoints.best(tmp_path) == tmp_path / "step-00000010"
    for _again in range(2):
        assert checkpoints.set_aside(tmp_path / "step-00000020") == tmp_path / "damaged-step-00000020"
        assert [path.name for path in checkpoints.complete(tmp_path)] == ["step-00000010"]
        checkpoints.sweep(tmp_path)
        assert (tmp_path / "damaged-step-00000020" / "weights").exists()
        save(tmp_path, 20)


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"optimizer": {"lr": 1e-3}}, "train.optimizer"),
        ({"sampling": {"seed": 9}}, "train.sampling"),
        ({"model": {"preset": "8M"}}, "train.model"),
        ({"steps": 10, "log_every": 3, "keep_checkpoints": 1, "validate_every": 2}, None),
        ({"parallel": {"processes_per_node": 2, "tensor": 2}, "micro_batch": 4}, None),
    ],
)
def test_only_options_that_decide_the_model_are_refused(tmp_path, changes, refused):
    save(tmp_path, 10)
    wanted = checkpoints.identity(Train.model_validate(changes), "manifest")
    (path,) = checkpoints.complete(tmp_path)
    state = read_json(path / "complete.json")["extra"]
    if refused is None:
        checkpoints.check_identity(path, state, wanted)
    else:
        with pytest.raises(UserError, match=f"step-00000010: .* other values of {refused}"):
            checkpoints.check_identity(path, state, wanted)


def test_other_shards_are_refused(tmp_path):
    state = {"identity": checkpoints.identity(CONFIG, "manifest")}
    with pytest.raises(UserError, match="the shards"):
        checkpoints.check_identity(tmp_path, state, checkpoints.identity(CONFIG, "another manifest"))
