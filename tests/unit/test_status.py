"""What needs no Snakemake run: reading params and benchmarks, and what follows a stage. The rest is a workflow test."""

import pytest

from unirefine.config import parse_config
from unirefine.status import Stage, changed_params, rebuild, seconds, size, stage_directory, stage_of


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


def test_rules_and_directories_of_a_stage():
    assert stage_of("decontaminate_search") == stage_of("decontaminate") == "decontaminate"
    config = parse_config({"run": {"name": "x"}, "release": {"directory": "shared"}})
    assert str(stage_directory(config, "release")) == "shared"
    assert str(stage_directory(config, "split")) == "results/x/split"
