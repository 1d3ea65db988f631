"""docs/reruns.md, row by row, on one finished run; then status, clean, and the guard of a long training."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ROOT = Path(__file__).parents[2]
REPORT = {"report", "all"}
EVALUATE = {"evaluate", "cards"} | REPORT
TRAIN = {"train", "embed"} | EVALUATE
SHARD = {"shard"} | TRAIN
SEARCH = {"decontaminate_prepare", "decontaminate_search", "decontaminate_remove", "decontaminate"} | SHARD
SPLIT = {"split"} | SEARCH
CURATE = {"curate", "cluster"} | SPLIT
RECORDS = {"records_uniref50", "records_uniref90"} | CURATE
DOWNLOAD = {"release_fetch", "release"}


def options(**blocks):
    """The row's change is one of the config."""
    return lambda run, _tmp: (run, run.config_with("row", blocks))


def edited_input(run, tmp):
    shutil.copytree(run.directory, tmp / "copy", symlinks=True)
    with (tmp / "copy/purge.txt").open("a") as purge:
        purge.write("P99999\n")
    return type(run)(tmp / "copy"), None


def one_more_purge_list(run, tmp):
    lists = yaml.safe_load((run.directory / "small.yaml").read_text())["release"]["purge_lists"]
    (run.directory / "more.txt").write_text("P99998\n")
    return options(release={"purge_lists": [*lists, "more.txt"]})(run, tmp)


def edited_code(package):
    """A copy of the source with one more comment in a package, in place of the checkout's."""

    def change(run, tmp):
        shutil.copytree(ROOT / "src", tmp / "src", ignore=shutil.ignore_patterns("__pycache__"))
        module = tmp / "src/unirefine" / package / "__init__.py"
        module.write_text(module.read_text() + "# edited\n")
        return type(run)(run.directory, source=tmp / "src"), None

    return change


def another_mmseqs(run, tmp):
    tool = tmp / "mmseqs"
    tool.write_text("#!/bin/sh\necho another-version\n")
    tool.chmod(0o755)
    return options(tools={"mmseqs": str(tool)})(run, tmp)


ROWS = {
    "nothing": (lambda run, _tmp: (run, None), set()),
    "release.mirrors, attempts, stall_seconds": (
        options(release={"attempts": 5, "stall_seconds": 9, "mirrors": ["file:elsewhere", "file:site"]}), set()),
    "release.name": (options(release={"name": "2026_04"}), DOWNLOAD | RECORDS),
    "one more purge list": (one_more_purge_list, DOWNLOAD | CURATE),
    "a purge list or another input file edited": (edited_input, DOWNLOAD | CURATE),
    "option of records": (options(records={"verify_checksums": False}), RECORDS),
    "option of curate": (options(curate={"min_length": 30}), CURATE),
    "option of split": (options(split={"seed": 1}), SPLIT),
    "option of a search": (options(decontaminate={"search": {"sensitivity": 5.7}}), SEARCH),
    "decontaminate.audit_sample": (options(decontaminate={"audit_sample": 50}), {"decontaminate"} | EVALUATE),
    "option of shard": (options(shard={"seed": 1}), SHARD),
    "option of train": (options(train={"steps": 40}), TRAIN),
    "option of evaluate": (options(evaluate={"seed": 1}), EVALUATE),
    "option of embed": (options(embed={"layer": 1}), {"embed", "all"}),
    "option of report": (options(report={"title": "another"}), REPORT),
    "code of split": (edited_code("split"), SPLIT),
    "code of shards": (edited_code("shards"), SHARD),
    "code of train or model": (edited_code("train"), set()),
    "code of report": (edited_code("report"), REPORT),
    "another version of MMseqs2": (another_mmseqs, SEARCH),
    "another run.name": (
        options(run={"name": "second"}, release={"directory": "results/small/release"}), RECORDS),
}  # fmt: skip


def test_the_documented_rows_are_the_tested_ones():
    table = (ROOT / "docs/reruns.md").read_text().split("|---|---|---|\n")[1].split("\n\n")[0]
    assert [line.split("|")[1].strip() for line in table.splitlines()] == list(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_a_change_reruns_what_depends_on_it_and_no_more(finished, tmp_path, row):
    change, expected = ROWS[row]
    run, config = change(finished, tmp_path)
    assert run.planned(config=config) == expected


@pytest.fixture
def copy(finished, tmp_path):
    """The finished run, to be spoilt."""
    shutil.copytree(finished.directory, tmp_path / "copy", symlinks=True)
    return type(finished)(tmp_path / "copy")


def status(run, config="small.yaml"):
    done = run.unirefine("status", "--config", config)
    assert done.returncode == 0, done.stderr
    return {line.split()[0]: line for line in done.stdout.splitlines()}


def test_status_tells_done_stale_and_why_missing_and_interrupted(copy):
    lines = status(copy)
    assert len(lines) == 12
    assert all(re.search(r"done +(\d+)/\1 jobs +[\d.]+ k?B", line) for line in lines.values()), lines
    copy.config_with("seeded", {"split": {"seed": 3}})
    lines = status(copy, "seeded.yaml")
    assert re.search(r"stale +0/1 jobs .* option seed$", lines["split"])
    assert "what it reads is made again" in lines["train"]
    assert " done " in lines["cluster"]
    shutil.rmtree(copy.directory / "results/small/embed")
    assert re.search(r"missing +0/1 jobs .*output missing", status(copy)["embed"])


def test_status_of_a_wrong_config_is_one_line(copy):
    copy.config_with("typo", {"splitt": {"seed": 3}})
    done = copy.unirefine("status", "--config", "typo.yaml")
    assert done.returncode == 1
    assert re.fullmatch(r"unirefine status: error: \S*typo\.yaml: unknown key 'splitt'.*\n", done.stderr)


def test_clean_says_what_it_costs_and_asks(copy):
    directory = copy.directory / "results/small/evaluate"
    done = copy.unirefine("clean", "evaluate", "--config", "small.yaml")
    assert done.returncode == 1
    assert "nobody to ask; give --yes" in done.stderr
    assert directory.exists()
    told = [line.split()[0] for line in done.stdout.splitlines()[1:]]
    assert told == ["evaluate", "cards", "report", "in"]
    done = copy.unirefine("clean", "evaluate", "--config", "small.yaml", "--yes")
    assert done.returncode == 0, done.stderr
    assert not directory.exists()
    assert "gone, but nothing that is due reads it" in status(copy)["evaluate"]
    assert copy.planned("evaluate") == {"evaluate"}


def test_a_long_training_is_not_thrown_away_by_an_edit_upstream(copy):
    facts = copy.directory / "results/small/train/final/train.json"
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"seconds": 200000}))
    config = copy.config_with("seeded", {"split": {"seed": 3}})
    before = sorted((copy.directory / "results/small").rglob("*"))
    done = copy.snakemake(config=config)
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if "error:" in line]
    assert "training runs again, because of split (option seed); it took 55h33m, and nothing was started" in line
    assert "Traceback" not in done.stdout
    assert sorted((copy.directory / "results/small").rglob("*")) == before
    assert copy.snakemake("shard", config=config).returncode == 0, "stages before it are free to run"


def test_a_short_training_is_replaced_with_a_word(copy):
    done = copy.snakemake("train", config=copy.config_with("longer", {"train": {"steps": 31}}))
    assert done.returncode == 0, done.stdout
    (line,) = [line for line in done.stdout.splitlines() if "warning:" in line]
    assert "training runs again, because of train (option steps); results/small/train/final is replaced" in line
    assert "continues after step 30" in done.stdout
