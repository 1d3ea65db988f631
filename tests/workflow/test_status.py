"""`unirefine status` and `unirefine clean` on real runs: finished, running, killed."""

import json
import re
import shutil
import time

import pytest
from jobs import kill_9

from unirefine.cli.main import main
from unirefine.progress import human
from unirefine.tools import find_mmseqs
from unirefine.workflow.status import size

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_status_says_what_is_done_stale_and_why_or_missing(copy):
    lines = copy.status()
    assert len(lines) == 12
    assert all(re.search(r"done +(\d+)/\1 jobs +[\d.]+ [kM]?B", line) for line in lines.values()), lines
    copy.config_with("seeded", {"split": {"seed": 3}})
    lines = copy.status("seeded.yaml")
    assert re.search(r"stale +0/1 jobs .* option seed$", lines["split"])
    assert "what it reads is made again" in lines["train"]
    assert " done " in lines["cluster"]
    shutil.rmtree(copy.directory / "results/small/embed")
    assert re.search(r"missing +0/1 jobs .*output missing", copy.status()["embed"])


def test_a_size_counts_what_no_rule_declares(finished):
    train = finished.directory / "results/small/train"
    assert size(train / "checkpoints") > size(train / "final") / 2
    assert f"  {human(size(train), 'B')}  " in finished.status()["train"]


def test_status_of_a_wrong_config_is_one_line(finished):
    finished.config_with("typo", {"splitt": {"seed": 3}})
    done = finished.unirefine("status", "--config", "typo.yaml")
    assert done.returncode == 1
    assert re.fullmatch(r"unirefine status: error: \S*typo\.yaml: unknown key 'splitt'.*\n", done.stderr)


def test_training_by_other_code_is_noted_and_not_stale_and_a_dry_run_says_so_too(finished, tmp_path):
    edited = finished.edited(tmp_path, "train")
    lines = edited.status("small.yaml", "--snakefile", finished.checkout / "Snakefile")
    assert all(" done " in line for line in lines.values()), lines
    noted = {stage: line for stage, line in lines.items() if "other code" in line}
    note = r"made by other code \(unirefine .*\); no edit of code trains again, `snakemake -R train` does"
    assert set(noted) == {"train"}
    assert re.search(rf" done .* {note}$", noted["train"])
    assert "other code" not in "".join(finished.status().values())
    (line,) = [line for line in edited.snakemake("--dry-run").stdout.splitlines() if "other code" in line]
    assert re.fullmatch(rf"unirefine: results/small/train/final: {note}", line)


def test_a_stage_whose_code_has_changed_is_stale_and_names_the_code_that_made_it(finished, tmp_path):
    edited = finished.edited(tmp_path, "core/levels.py")
    lines = edited.status("small.yaml", "--snakefile", finished.checkout / "Snakefile")
    for stage in ("records", "cluster", "split", "decontaminate", "shard"):
        assert re.search(r" stale .* made by other code \(unirefine ", lines[stage]), lines[stage]
    assert " code, made by " in lines["records"]
    assert " done " in lines["release"] and "other code" not in lines["release"]


def test_running_then_killed_then_interrupted(copy, tmp_path):
    tool, searching = tmp_path / "mmseqs", tmp_path / "searching"
    tool.write_text(f'#!/bin/sh\n[ "$1" = search ] && touch {searching} && sleep 600\nexec {find_mmseqs()} "$@"\n')
    tool.chmod(0o755)
    config = copy.config_with("slow", {"tools": {"mmseqs": str(tool)}, "decontaminate": {"audit_sample": 0}})
    run = copy.start("decontaminate", "-R", "decontaminate_search", config=config)
    try:
        while not searching.exists():
            assert run.poll() is None, run.stdout.read()
            time.sleep(0.05)
        assert " running " in copy.status("slow.yaml")["decontaminate"]
        done = copy.unirefine("clean", "embed", "--config", "slow.yaml", "--yes")
        assert done.returncode == 1
        assert "a workflow is running on these results" in done.stderr
        assert (copy.directory / "results/small/embed").exists()
    finally:
        kill_9(run)
        run.communicate()
    lines = copy.status("slow.yaml")
    assert " interrupted " in lines["decontaminate"]
    assert not any(" running " in line for line in lines.values())
    assert copy.unirefine("clean", "embed", "--config", "slow.yaml", "--yes").returncode == 0


def test_clean_says_what_it_costs_and_asks(copy):
    directory = copy.directory / "results/small/evaluate"
    done = copy.unirefine("clean", "evaluate", "--config", "small.yaml")
    assert done.returncode == 1
    assert "nobody to ask; give --yes" in done.stderr
    assert directory.exists()
    listed = [line.split()[0] for line in done.stdout.splitlines()[1:]]
    assert listed == ["evaluate", "cards", "report", "in"]
    done = copy.unirefine("clean", "evaluate", "--config", "small.yaml", "--yes")
    assert done.returncode == 0, done.stderr
    assert not directory.exists()
    assert "gone, but nothing that is due reads it" in copy.status()["evaluate"]
    assert copy.planned("evaluate") == {"evaluate"}


def test_clean_removes_what_the_stage_wrote_and_keeps_the_rest(workflow, tmp_path, monkeypatch, capsys):
    """Downloads may lie in a directory of the user's."""
    downloads, outside = tmp_path / "my data", tmp_path / "outside"
    for path in (downloads / "thesis", outside):
        path.mkdir(parents=True)
        (path / "chapter.txt").write_text("mine")
    (downloads / "purge-0.txt").write_text("P12345")  # of the same name as a download
    (downloads / "taxdump.tar.gz").write_text("downloaded")
    facts = {"file": "taxdump.tar.gz", "url": "https://x", "sha256": "0"}
    (downloads / "taxdump.tar.gz.json").write_text(json.dumps(facts))
    (downloads / "link").symlink_to(outside)
    config = workflow.config_with("foreign", {"release": {"directory": str(downloads)}, "run": {"name": "foreign"}})
    monkeypatch.chdir(workflow.directory)
    assert main(["clean", "release", "--config", str(config), "--yes"]) == 0
    printed = capsys.readouterr().out
    assert "kept, because release did not write it: link, purge-0.txt, thesis/chapter.txt\n" in printed
    assert f"removed 2 files of {downloads}" in printed
    kept = {str(path.relative_to(downloads)) for path in downloads.rglob("*")}
    assert kept == {"link", "purge-0.txt", "thesis", "thesis/chapter.txt"}
    assert (outside / "chapter.txt").read_text() == "mine"
    assert main(["clean", "release", "--config", str(config), "--yes"]) == 0
    assert "nothing that release wrote; kept: link, purge-0.txt, thesis/chapter.txt" in capsys.readouterr().out
