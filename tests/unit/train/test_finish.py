"""When a training has nothing left to do."""

import unirefine.megatron  # noqa: F401 - before Megatron

import pytest

from unirefine.config import Train
from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.files.atomic import write_json
from unirefine.files.hashes import recorded
from unirefine.train.finish import is_finished

CONFIG, IDENTITY = Train(steps=20), {"model": "x"}


def test_a_final_directory_counts_while_its_files_are_there(tmp_path, capsys):
    final = tmp_path / "final"
    write_json(tmp_path / "checkpoints/step-00000020/complete.json", {})
    assert not is_finished(tmp_path, CONFIG, IDENTITY)
    write_json(final / "train.json", {"identity": IDENTITY, "step": 20})
    write_json(final / "huggingface" / "config.json", {})
    facts = {"format": lineage.FORMAT, "version": lineage.FORMAT_VERSION}
    write_json(final / lineage.FILE, facts | {"files": recorded(final, ["train.json", "huggingface/config.json"])})
    assert is_finished(tmp_path, CONFIG, IDENTITY)
    assert not is_finished(tmp_path, CONFIG, {"model": "y"})
    assert not is_finished(tmp_path, Train(steps=21), IDENTITY)
    assert capsys.readouterr().err == ""
    (final / "huggingface" / "config.json").write_text("")
    assert not is_finished(tmp_path, CONFIG, IDENTITY)
    assert "huggingface/config.json: 0 bytes instead of 3; final/ is made again" in capsys.readouterr().err


def test_a_final_directory_without_checkpoints_is_not_replaced(tmp_path):
    """What a new start would do with it: nothing is left to continue from."""
    final = tmp_path / "final"
    facts = {"format": lineage.FORMAT, "version": lineage.FORMAT_VERSION}
    write_json(final / "train.json", {"identity": IDENTITY, "step": 20})
    write_json(final / lineage.FILE, facts | {"files": recorded(final, ["train.json"])})
    assert is_finished(tmp_path, CONFIG, IDENTITY)
    with pytest.raises(UserError, match=r"final: this is the model of 20 steps, train\.steps is 25, and no"):
        is_finished(tmp_path, Train(steps=25), IDENTITY)
    with pytest.raises(UserError, match=r"other values of train\.model; .* delete checkpoints/ and final/ to"):
        is_finished(tmp_path, CONFIG, {"model": "y"})
    (final / lineage.FILE).unlink()
    with pytest.raises(UserError, match=r"lineage\.json: missing; no checkpoint is left to continue from; delete it"):
        is_finished(tmp_path, CONFIG, IDENTITY)
