"""The question for room on the disk."""

import shutil
from collections import namedtuple

import pytest

from unirefine.errors import UserError
from unirefine.files.space import require_space

Usage = namedtuple("Usage", "total used free")


def test_what_does_not_fit_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(0, 0, 3_000_000))
    require_space(tmp_path, 3_000_000, "the export", "choose another disk")
    require_space(tmp_path, 2_000_000, "the export", "choose another disk", spare=1_000_000)
    with pytest.raises(UserError) as caught:
        require_space(tmp_path, 3_000_001, "the export", "choose another disk")
    needs = "the export needs 3.00 MB; the disk has 3.00 MB free; free some space or choose another disk"
    assert caught.value.line() == f"{tmp_path}: {needs}"
    with pytest.raises(UserError, match=r"needs 2.00 MB \(and 1.00 MB to spare\); the disk has 3.00 MB free"):
        require_space(tmp_path, 2_000_001, "the export", "choose another disk", spare=1_000_000)
