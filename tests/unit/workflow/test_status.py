"""The status of stages, without a run of Snakemake: that is tests/workflow/test_status.py."""

import subprocess
import sys
from importlib.metadata import version

from unirefine.config import Split, Train
from unirefine.files import lineage
from unirefine.workflow.preflight import training_note
from unirefine.workflow.status import Stage, is_running, other_code, other_code_note, rebuild, seconds, size, stage_of

OLD = {"commit": "0123456789abcdef", "modified": False, "digest": "another"}
OLD_CODE = f"unirefine {version('unirefine')} at 0123456789"


def test_the_time_is_that_of_the_benchmark_file(tmp_path):
    (tmp_path / "split.tsv").write_text("s\th:m:s\tmax_rss\n12.5\t0:00:12\t-\n")
    assert seconds(tmp_path / "split.tsv") == 12.5
    assert seconds(tmp_path / "none.tsv") == 0.0


def test_a_directory_is_as_large_as_its_files(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/a").write_bytes(b"123")
    assert size(tmp_path) == 3
    assert size(tmp_path / "none") == 0


def test_what_follows_a_stage_is_made_again_with_it():
    stages = [Stage(name="split", after={"shard"}), Stage(name="shard"), Stage(name="embed")]
    assert [stage.name for stage in rebuild(stages, "split")] == ["split", "shard"]


def test_the_stage_of_a_rule():
    assert stage_of("decontaminate_search") == stage_of("decontaminate") == "decontaminate"


def test_a_workflow_that_has_ended_is_not_running_however_it_ended(tmp_path):
    assert not is_running(tmp_path), "none has run"
    program = "import pathlib, sys; from unirefine.workflow.preflight import mark_running;"
    program += "mark_running(pathlib.Path(sys.argv[1])); print(1, flush=True); input()"
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as workflow:
        assert workflow.stdout.read(1) == b"1"
        assert is_running(tmp_path)
        workflow.kill()
    assert not is_running(tmp_path)


def test_other_code_is_named(tmp_path):
    lineage.write(tmp_path, lineage.step("split", Split()))
    assert other_code("split", tmp_path) == []
    lineage.write(tmp_path, lineage.step("split", Split()) | {"code": "another", "source": OLD})
    assert other_code("split", tmp_path) == [OLD_CODE]
    assert other_code_note("split", OLD_CODE) == f"made by other code ({OLD_CODE})"


def test_a_commit_that_leaves_the_stage_alone_is_not_other_code(tmp_path):
    lineage.write(tmp_path / "uniref50", lineage.step("records", Split()) | {"source": OLD})
    assert other_code("records", tmp_path) == []


def test_a_training_by_other_code_is_one_line_that_says_how_to_repeat_it(tmp_path):
    final = tmp_path / "final"
    assert training_note(str(final)) is None, "no model"
    lineage.write(final, lineage.step("train", Train(), packages=[]))
    assert training_note(str(final)) is None
    lineage.write(final, lineage.step("train", Train(), packages=[]) | {"code": "another", "source": OLD})
    note = f"made by other code ({OLD_CODE}); no edit of code trains again, `snakemake -R train` does"
    assert training_note(str(final)) == f"{final}: {note}"
    assert other_code("train", tmp_path) == [OLD_CODE], "below final/"
