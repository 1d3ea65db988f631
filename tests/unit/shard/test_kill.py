"""kill -9 at the worst moments: nothing half-written is ever opened, and the next build succeeds."""

import signal

import pytest
from forked import Forked

from unirefine.config import Shard
from unirefine.dataset import open_shards
from unirefine.errors import UserError
from unirefine.shard.run import run as build_shards

DIES = """
import os, signal, sys
from pathlib import Path
from unirefine.config import Shard
import unirefine.shard.assemble, unirefine.shard.run as build

def die(*_arguments):
    os.kill(os.getpid(), signal.SIGKILL)

module, name = sys.argv[1].rsplit(".", 1)
setattr(sys.modules[module], name, die)
records, clusters, split, release, output = map(Path, sys.argv[2:])
build.run(
    Shard(parts=2, seed=5), records=records, clusters=clusters, split=split, release=release, output=output, threads=2
)
"""


@pytest.mark.parametrize(
    ("moment", "old_survives"),
    [
        ("unirefine.shard.assemble.write_index", True),
        ("unirefine.shard.run.fsync_directory", False),  # files renamed, no manifest yet
        ("unirefine.shard.run.write_json", False),
    ],
)
def test_a_killed_rebuild_leaves_the_old_shards_or_none(tmp_path, run, moment, old_survives):
    output = tmp_path / "s"
    build_shards(Shard(parts=2, seed=4), **run.inputs, output=output, threads=1)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    (tmp_path / "dies.py").write_text(DIES)
    assert Forked(str(tmp_path / "dies.py"), [moment, *run.inputs.values(), output]).wait() == -signal.SIGKILL
    if old_survives:
        open_shards(output)
        assert {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()} == before
    else:
        with pytest.raises(UserError, match="no manifest"):
            open_shards(output)
    build_shards(Shard(parts=2, seed=5), **run.inputs, output=output, threads=1)
    build_shards(Shard(parts=2, seed=5), **run.inputs, output=tmp_path / "fresh", threads=1)
    assert {p.name: p.read_bytes() for p in output.iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "fresh").iterdir()
    }
