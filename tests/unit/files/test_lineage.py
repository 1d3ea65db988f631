import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from unirefine.config import Curate, Split
from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.files.code import PACKAGE, source
from unirefine.files.hashes import recorded

RELEASE = {"release": "2026_03", "date": "2026-09-02", "files": [{"file": "a.gz", "size": 5, "md5": "m", "url": "u"}]}


@pytest.fixture
def chain(tmp_path):
    """curate, then split, which reads curate's directory and one made by hand."""
    lineage.write(tmp_path / "curate", lineage.step("curate", Curate(), counts={"uniref50": {"in": 3}}))
    (tmp_path / "ids.txt").write_text("P12345\n")
    (tmp_path / "hand").mkdir()
    ids = tmp_path / "ids.txt"
    step = lineage.step("split", Split(seed=5), inputs=[ids], tools={"mmseqs": "18"}, packages=["numpy"])
    lineage.write(tmp_path / "split", step, [tmp_path / "curate", tmp_path / "hand"], release=RELEASE)
    return tmp_path


def test_the_last_file_holds_the_whole_way(chain):
    found = lineage.read(chain / "split")
    assert [step["stage"] for step in found["steps"]] == ["curate", "split"]
    assert found["of"] == "split"
    assert found["release"] == RELEASE
    assert found["unknown"] == [str(chain / "hand")]
    split = found["steps"][1]
    assert split["config"]["seed"] == 5
    assert split["inputs"][0]["md5"] == hashlib.md5(b"P12345\n").hexdigest()
    assert set(split["versions"]) == {"unirefine", "python", "numpy"}


def test_what_two_directories_share_is_listed_once(chain):
    lineage.write(chain / "shard", lineage.step("shard", Split()), [chain / "split", chain / "curate"])
    found = lineage.read(chain / "shard")
    assert [step["stage"] for step in found["steps"]] == ["curate", "split", "shard"]
    assert found["release"] == RELEASE, "it is handed on"


def test_a_resumed_step_is_added_only_if_it_differs(chain):
    for config in (Split(seed=5), Split(seed=5), Split(seed=6)):
        lineage.write(chain / "run", lineage.step("train", config), [chain / "run"] if (chain / "run").exists() else [])
    assert [step["config"]["seed"] for step in lineage.read(chain / "run")["steps"]] == [5, 6]


def test_the_commit_is_that_of_the_checkout():
    found = source()
    here = Path(lineage.__file__).parent
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, cwd=here)
    assert found["commit"] == done.stdout.strip()
    assert isinstance(found["modified"], bool)
    assert len(found["digest"]) == 16


@pytest.mark.parametrize(("suffix", "modified"), [("", False), ("-dirty", True)])
def test_an_image_knows_the_commit_that_it_was_built_from(tmp_path, suffix, modified):
    """As envs/Dockerfile and envs/unirefine.def build it: no git history, a note in the package."""
    shutil.copytree(PACKAGE, tmp_path / "unirefine", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "unirefine/commit.txt").write_text(f"{'c0ffee' * 6}{suffix}\n")
    program = "import json; from unirefine.files.code import source; print(json.dumps(dict(source())))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert (found["commit"], found["modified"]) == ("c0ffee" * 6, modified)


def test_people_read_md5_commit_options_and_counts(chain):
    text = "\n".join(lineage.lines(lineage.read(chain / "split")))
    for piece in ("release 2026_03", "md5 m", '"seed": 5', '{"in": 3}', "mmseqs 18", "hand has no"):
        assert piece in text
    assert source()["commit"][:10] in text


def test_a_directory_without_lineage_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no such directory"):
        lineage.read(tmp_path / "none")
    with pytest.raises(UserError, match=r"no lineage\.json in it"):
        lineage.read(tmp_path)
    (tmp_path / lineage.FILE).write_text(json.dumps({"format": "unirefine-lineage", "version": 99}))
    with pytest.raises(UserError, match="not a unirefine-lineage of version 1"):
        lineage.read(tmp_path)


def test_hashes_are_of_the_bytes(tmp_path):
    (tmp_path / "w.bin").write_bytes(b"abc")
    (file,) = recorded(tmp_path, ["w.bin"])
    assert file == {"name": "w.bin", "bytes": 3, "sha256": hashlib.sha256(b"abc").hexdigest()}
