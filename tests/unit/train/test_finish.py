"""When a training has nothing left to do."""

import unirefine.megatron  # noqa: F401 - before Megatron

from unirefine.config import Train
from unirefine.files import lineage
from unirefine.files.atomic import write_json
from unirefine.files.hashes import recorded
from unirefine.train.finish import is_finished

CONFIG, IDENTITY = Train(steps=20), {"model": "x"}


def test_a_final_directory_counts_while_its_files_are_there(tmp_path, capsys):
    final = tmp_path / "final"
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
