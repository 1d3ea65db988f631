"""Runs that begin with a data set: NVIDIA's layout from files to perplexity, and its published config."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from minisite.datasets import rows, write_bionemo, write_parquet

from unirefine.cli.main import main
from unirefine.config import load_config

ROOT = Path(__file__).parents[2]
CONFIG = {
    "run": {"name": "published", "threads": 2},
    "release": {"source": "parquet", "dataset": "published", "taxdump": None},
    "split": {"method": "given"},
    "shard": {"parts": 1},
    "train": {
        "steps": 2,
        "validate_every": 2,
        "checkpoint_every": 2,
        "optimizer": {"warmup_steps": 1},
        "parallel": {"processes_per_node": 1},
    },
    "evaluate": {"sequences": 4},
    "decontaminate": {"parts": 1, "audit_sample": 5},
}


@pytest.fixture(scope="module")
def published(workflow, tmp_path_factory):
    """A directory with a miniature of NVIDIA's data set, its config, and its rows."""
    directory = tmp_path_factory.mktemp("published")
    train, validation = rows(60)
    write_parquet(directory / "published", train, validation)
    base = yaml.safe_load((workflow.directory / "small.yaml").read_text())
    values = {
        name: {**(base.get(name, {}) if name != "release" else {}), **CONFIG.get(name, {})} for name in base | CONFIG
    }
    values["split"] = CONFIG["split"]
    counts = {"train_sequences": len(train), "train_clusters": len({row[0] for row in train})}
    values["records"]["expected"] = counts | dict.fromkeys(
        ("validation_sequences", "validation_clusters"), len(validation)
    )
    (directory / "small.yaml").write_text(yaml.safe_dump(values))
    return workflow.__class__(directory), train, validation


def test_a_published_data_set_from_its_files_to_perplexity(published):
    run, train, validation = published
    done = run.snakemake("evaluate")
    assert done.returncode == 0, done.stdout
    results = run.directory / "results/published"
    shards = {path.name: path for path in (results / "shard").glob("*.ids.parquet")}
    ids = pq.read_table(shards["validation.ids.parquet"]).to_pylist()
    assert sorted(row["id"] for row in ids) == sorted(row[0] for row in validation)
    assert all(row["id"] == row["cluster_id"] for row in ids)
    removed = pq.read_table(results / "decontaminate/removed.parquet")["id"].to_pylist()
    kept = {(cluster, member) for cluster, member, _sequence in train if cluster not in removed}
    found = pq.read_table(shards["train-000-of-001.ids.parquet"]).to_pylist()
    assert {(row["cluster_id"], row["id"]) for row in found} == kept and len(kept) > 40
    release = json.loads((results / "release/release.json").read_text())
    assert release["dataset"] == {"id": "published", "revision": None}
    assert [one["file"] for one in release["files"]][-1] == "validation/000.parquet"
    perplexity = json.loads((results / "evaluate/perplexity.json").read_text())
    assert perplexity["sequences"] == 4
    assert run.planned("evaluate") == set()
    traced = run.unirefine("trace", validation[0][1], "--results", "results/published")
    assert "published (parquet)" in traced.stdout and "validation, as the source says" in traced.stdout


@pytest.mark.parametrize("form", ["parquet", "bionemo"])
def test_what_is_exported_is_read_again(published, tmp_path, form):
    run, *_ = published
    shards = run.directory / "results/published/shard"
    assert main(["export", "--to", form, "--shards", str(shards), "--output", str(tmp_path / form)]) == 0
    command = ["records", "--level", "uniref90", "--input", str(tmp_path / form), "--set", "parts=2", "--output"]
    assert main([*command, str(tmp_path)]) == 0
    first, again = (
        {
            (row["id"], row["sequence"], row["given_side"])
            for path in sorted(level.glob("records-*.parquet"))
            for row in pq.read_table(path).to_pylist()
        }
        for level in (run.directory / "results/published/records/uniref90", tmp_path / "uniref90")
    )
    removed = json.loads((run.directory / "results/published/decontaminate/counts.json").read_text())
    assert again <= first and len(first) - len(again) == sum(removed["levels"]["uniref90"]["removed"].values())


def test_the_model_card_is_made_of_the_validation_set_alone(published):
    run, _train, validation = published
    final = run.directory / "results/published/train/final/huggingface"
    for name in ("first", "second"):
        shutil.copytree(final, run.directory / name)
    values = yaml.safe_load((ROOT / "config/model-card.yaml").read_text())
    values["release"] |= {"dataset": "published", "revision": None}
    values["run"]["threads"] = 2
    values["evaluate"] |= {"models": ["first", "second"], "elsewhere": {"first": 1.5}, "batch_tokens": 4096}
    path = run.directory / "model-card.yaml"
    path.write_text(yaml.safe_dump(values))
    assert run.planned("model_card", config=path) == {"model_card_shards", "model_card"}
    done = run.snakemake("model_card", config=path)
    assert done.returncode == 0, done.stdout
    found = json.loads((run.directory / "results/model-card/model-card/perplexity.json").read_text())
    assert found["sequences"] == found["clusters"] == len(validation)
    assert [row["key"] for row in found["table"]] == [
        f"{name} {engine}" for name in ("first", "second") for engine in ("ours", "huggingface")
    ]
    assert all(abs(row["difference"]) < 1e-3 for row in found["parity"])
    assert (
        found["elsewhere"][0]["agrees"] is False and "first: " in done.stdout and "DIFFERS within 1.0%" in done.stdout
    )


def test_the_published_config_is_nvidias(published):
    run, *_ = published
    path = ROOT / "config/nvidia-2024_03.yaml"
    config = load_config(path)
    assert config.release.dataset == "nvidia/esm2_uniref_pretraining_data" and config.release.on_hub
    assert config.records.expected.train_sequences == 187_382_018
    assert config.records.expected.train_clusters == 65_182_365
    planned = run.planned("shard", config=path)
    assert planned >= {"release_dataset", "records_uniref50", "records_uniref90", "split", "shard"}
    assert "release_fetch" not in planned


@pytest.mark.parametrize(
    ("release", "split", "says"),
    [
        ({"dataset": "missing"}, {"method": "given"}, "release.dataset: missing (no data set in it)"),
        ({}, {}, "the source has a split: set split.method: given to take it, or hash"),
        ({"revision": "main"}, {"method": "given"}, "release.revision 'main' is no commit"),
        ({"dataset": None}, {"method": "given"}, "release.dataset must name the data set"),
    ],
)
def test_a_mistake_about_a_data_set_is_one_line(published, capsys, release, split, says):
    run, *_ = published
    values = yaml.safe_load((run.directory / "small.yaml").read_text())
    values["release"] |= release
    values["split"] = split
    (run.directory / "wrong.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(SystemExit):
        run.planned(config=run.directory / "wrong.yaml")
    assert says in capsys.readouterr().err


def stages(directory, source, *given, clusters=(), method="given"):
    """Records to split, command by command; the side of each cluster by the id of its representative's record."""
    levels = ["uniref50", "uniref90"] if source.is_dir() else ["uniref90"]
    commands = [
        *(["records", "--level", level, "--input", source, *given, "--set", "parts=2"] for level in levels),
        ["curate", "--records", directory / "records", "--levels", *levels],
        ["cluster", "--records", directory / "records", "--curated", directory / "curate", *clusters],
        ["split", "--clusters", directory / "cluster", "--records", directory / "records", "--set", f"method={method}"],
    ]
    for words in commands:
        assert main([str(word) for word in words] + ["--output", str(directory / words[0])]) == 0, words
    found = pq.read_table(directory / "cluster/clusters.parquet")
    sides = pq.read_table(directory / "split/split.parquet")["side"].to_pylist()
    level = found.schema.metadata[b"representative_level"].decode()
    names = [
        name
        for path in sorted((directory / "records" / level).glob("records-*.parquet"))
        for name in pq.read_table(path)["id"].to_pylist()
    ]
    return {names[row]: side for row, side in zip(found["row"].to_pylist(), sides, strict=True)}


def test_bionemo_and_parquet_have_the_same_clusters_and_sides(published, tmp_path):
    _run, train, validation = published
    write_bionemo(tmp_path / "data", train, validation)
    write_parquet(tmp_path / "data2", train, validation)
    by_name = stages(tmp_path / "parquet", tmp_path / "data2")
    assert by_name == {row[0]: 0 for row in train} | {row[0]: 1 for row in validation}
    sizes = {}
    for name in ("bionemo", "parquet"):
        if name == "bionemo":
            stages(tmp_path / name, tmp_path / "data")
        counts = json.loads((tmp_path / name / "split/counts.json").read_text())
        sizes[name] = counts["sides"]
        assert json.loads((tmp_path / name / "cluster/counts.json").read_text())["membership"] == name
    assert sizes["bionemo"] == sizes["parquet"]


def test_a_fasta_with_its_split_and_its_clusters(published, tmp_path):
    _run, train, validation = published
    for name, rows_of in (("train", train), ("validation", validation)):
        text = "".join(f">{member[9:]}\n{sequence}\n" for _cluster, member, sequence in rows_of)
        (tmp_path / f"{name}.fasta").write_text(text)
    heads = {}
    for cluster, member, _sequence in train + validation:
        heads.setdefault(cluster, member[9:])
    lines = [f"{heads[cluster]}\t{member[9:]}\n" for cluster, member, _sequence in train + validation]
    (tmp_path / "clusters.tsv").write_text("".join(lines))
    found = stages(
        tmp_path / "run", tmp_path / "train.fasta", "--validation", tmp_path / "validation.fasta",
        clusters=["--clusters", tmp_path / "clusters.tsv"],
    )  # fmt: skip
    held_out = {heads[row[0]] for row in validation}
    assert found == {head: int(head in held_out) for head in heads.values()}
