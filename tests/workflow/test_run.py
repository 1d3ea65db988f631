"""The whole workflow on a few real proteins: its results, and its messages for broken input."""

import hashlib
import json
import re
import shutil

import polars as pl
import pytest
from huggingface_hub import DatasetCard, ModelCard

from unirefine.files.atomic import read_json

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
AFTER_SHARD = {"train", "evaluate", "embed", "cards", "report", "all"}


def results(finished):
    return finished.directory / "results" / "small"


def test_every_stage_wrote_what_it_declares(finished):
    report = (results(finished) / "report" / "report.html").read_text(encoding="utf-8")
    assert "<svg" in report
    assert json.loads((results(finished) / "evaluate" / "perplexity.json").read_text())
    assert pl.read_parquet(results(finished) / "embed" / "sequences.parquet").height == 8


def test_a_copy_of_the_model_has_its_whole_lineage(finished, tmp_path):
    stages_of = {"train/final/huggingface": "train", "train/checkpoints/step-00000030": "train", "shard": "shard"}
    for directory, last in stages_of.items():
        shutil.copytree(results(finished) / directory, tmp_path / directory)
        found = json.loads(finished.unirefine("lineage", "--json", tmp_path / directory).stdout)
        stages = [step["stage"] for step in found["steps"]]
        assert stages[:7] == ["records", "records", "curate", "cluster", "split", "decontaminate", "shard"]
        assert stages[-1] == found["of"] == last
        assert found["unknown"] == []
        released = read_json(results(finished) / "release" / "release.json")
        assert found["release"] == released
        assert found["steps"][5]["tools"]["mmseqs"]
        assert found["steps"][5]["config"]["search"]["sensitivity"] == 6.5
    weights = {file["name"]: file["sha256"] for file in found["files"]}
    assert weights["validation.bin"] == hashlib.sha256((tmp_path / "shard/validation.bin").read_bytes()).hexdigest()
    exported = json.loads((tmp_path / "train/final/huggingface/lineage.json").read_text())
    (digest,) = (file["sha256"] for file in exported["files"] if file["name"] == "model.safetensors")
    copy = tmp_path / "train/final/huggingface/model.safetensors"
    assert digest == hashlib.sha256(copy.read_bytes()).hexdigest()
    assert exported["steps"][-1]["counts"]["step"] == 30


def test_lineage_prints_everything_from_the_file_alone(finished, tmp_path):
    shutil.copy(results(finished) / "train/final/huggingface/lineage.json", tmp_path / "found-on-a-stick.json")
    done = finished.unirefine("lineage", tmp_path / "found-on-a-stick.json")
    assert done.returncode == 0, done.stderr
    lineage = json.loads((tmp_path / "found-on-a-stick.json").read_text())
    assert "release 2026_03" in done.stdout
    for file in [*lineage["release"]["files"], *lineage["files"]]:
        assert file.get("md5", file["sha256"]) in done.stdout
    for step in lineage["steps"]:
        assert json.dumps(step["config"]) in done.stdout
        for name, version in (step["tools"] | step["versions"]).items():
            assert f"{name} {version}" in done.stdout


def test_the_cards_have_use_perplexity_and_lineage(finished):
    data, model = (
        kind.load(results(finished) / path)
        for kind, path in ((DatasetCard, "cards/data/README.md"), (ModelCard, "cards/model/README.md"))
    )
    lineage = json.loads((results(finished) / "train/final/lineage.json").read_text())
    evaluation = json.loads((results(finished) / "evaluate/perplexity.json").read_text())
    for row in evaluation["table"]:
        (line,) = [line for line in model.text.splitlines() if line.startswith(f"| {row['model']} | ")]
        for measured in [row, row["hidden"]] if "perplexity" in row else [row["hidden"]]:
            low, high = measured["interval"]
            assert f" {measured['perplexity']:.3f} | {low:.2f} to {high:.2f} |" in line
    ours = evaluation["table"][0]
    assert [one.metric_value for one in model.data.eval_results] == [
        round(ours["perplexity"], 4),
        round(ours["hidden"]["perplexity"], 4),
    ]
    for card, steps in ((data, lineage["steps"][:-1]), (model, lineage["steps"])):
        assert "## Intended use" in card.text
        assert all(file["md5"] in card.text for file in lineage["release"]["files"])
        for step in steps:
            assert re.search(rf"^\| {step['stage']}\b.* \| unirefine .* \|$", card.text, re.MULTILINE)
    assert data.data.license == "cc-by-4.0"
    for level in ("uniref50", "uniref90"):
        counts = lineage["steps"][2]["counts"][level]
        assert re.search(rf"\| curate \| .* \| {counts['in']} \| {counts['kept']} \|", data.text)


def test_nothing_half_written_is_left(finished):
    left = [path for path in results(finished).rglob("*") if ".tmp" in path.name or path.name.endswith(".part")]
    assert left == []


def test_a_stage_can_be_forced(finished):
    assert finished.planned("-R", "shard") == {"shard"} | AFTER_SHARD


def test_a_torn_shard_is_refused_before_the_first_step(finished):
    copy = finished.directory / "torn"
    shutil.copytree(results(finished) / "shard", copy)
    shard = next(copy.glob("train-000-*.bin"))
    shard.write_bytes(shard.read_bytes()[:-7])
    done = finished.unirefine(
        "train",
        "--config",
        "small.yaml",
        "--set",
        "parallel.processes_per_node=1",
        "--shards",
        copy,
        "--output",
        "none",
    )
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert shard.name in line
    assert "Traceback" not in done.stderr


def test_a_dead_url_is_one_clear_line(finished):
    changes = {"release": {"mirrors": ["http://127.0.0.1:9"], "attempts": 1}, "run": {"name": "dead"}}
    done = finished.snakemake("release", config=finished.config_with("dead", changes))
    assert done.returncode != 0
    assert "unirefine release fetch: error:" in done.stdout
    assert "127.0.0.1:9" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_missing_mmseqs_is_one_clear_line(copy):
    changes = {"tools": {"mmseqs": "no-such-mmseqs"}}
    done = copy.snakemake("-R", "decontaminate_search", "--until", "decontaminate_search",
                          config=copy.config_with("tool", changes))  # fmt: skip
    assert done.returncode != 0
    assert "no-such-mmseqs" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_search_of_representatives_removes_less_and_states_the_members_that_it_leaves(copy):
    options = {"decontaminate": {"level": "representatives", "parts": 1}, "run": {"name": "published", "base": "small"}}
    config = copy.config_with("published", options)
    done = copy.snakemake("shard", "decontaminate", config=config)
    assert done.returncode == 0, done.stdout
    published = copy.directory / "results" / "published"
    counts = [json.loads((run / "decontaminate" / "counts.json").read_text()) for run in (results(copy), published)]
    assert [each["level"] for each in counts] == ["members", "representatives"]
    more, fewer = (
        set(removed_clusters(run / "decontaminate" / "removed.parquet")) for run in (results(copy), published)
    )
    assert fewer <= more
    searched = [sequences(copy.directory / "logs" / run.name / "decontaminate") for run in (results(copy), published)]
    assert searched[0] > searched[1]
    left = [json.loads((run / "decontaminate" / "identity.json").read_text()) for run in (results(copy), published)]
    similar = [each["audit"]["members_left"]["clusters"]["similar"] for each in left]
    assert similar == [0, len(more) - len(fewer)], "the sample is all of train, and each removed cluster has a member"
    verified = copy.unirefine("shard", "verify", published / "shard")
    assert verified.returncode == 0, verified.stderr


def sequences(logs):
    """[Sequences that were searched, held-out sequences that they were searched against], from the log."""
    text = (logs / "prepare.log").read_text()
    return [int(number.replace(",", "")) for number in re.findall(r"([\d,]+) (?:train|held-out) sequences", text)]


def removed_clusters(path):
    return pl.read_parquet(path).filter(pl.col("level") == "uniref50")["id"].to_list()
