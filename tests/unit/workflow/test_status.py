"""What needs no Snakemake run: reading params and benchmarks, and what follows a stage. The rest is a workflow test."""

import subprocess
import sys
from importlib.metadata import version

import pytest

from unirefine.config import Split
from unirefine.files import lineage
from unirefine.workflow.status import (
    Stage,
    changed_params,
    is_held,
    made_by_other_code,
    rebuild,
    seconds,
    size,
    stage_of,
)

OLD = {"commit": "0123456789abcdef", "modified": False, "digest": "another"}


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (["""'{"seed":1,"parts":2}'"""], ["""'{"seed":2,"parts":2}'"""], ["option seed"]),
        (["""'{"seed":1}'"""], ["""'{"seed":1,"test_fraction":0.1}'"""], ["option test_fraction"]),
        (["'code:aa'", """'{"seed":1}'"""], ["'code:bb'", """'{"seed":2}'"""], ["code", "option seed"]),
        (["'MMseqs2:14'"], ["'MMseqs2:18'"], ["MMseqs2"]),
        (["'--mmseqs a'"], ["'--mmseqs b'"], ["command line"]),
    ],
)
def test_a_changed_param_is_named(before, now, told):
    assert changed_params(before, now) == told


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


def test_a_workflow_that_ended_holds_nothing_however_it_ended(tmp_path):
    assert not is_held(tmp_path), "none has run"
    program = "import pathlib, sys; from unirefine.workflow.preflight import hold; hold(pathlib.Path(sys.argv[1]));"
    program += "print(1, flush=True); input()"
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as workflow:
        assert workflow.stdout.read(1) == b"1"
        assert is_held(tmp_path)
        workflow.kill()
    assert not is_held(tmp_path)


def test_other_code_is_noted(tmp_path):
    lineage.write(tmp_path, lineage.step("split", Split()))
    assert made_by_other_code(tmp_path) == []
    lineage.write(tmp_path / "uniref50", lineage.step("records", Split()) | {"source": OLD})
    assert made_by_other_code(tmp_path) == [f"made by other code (unirefine {version('unirefine')} at 0123456789)"]
