"""Which files are a stage's own: stale ones are deleted, and files of others stay."""

import json

import pytest

from unirefine.core.levels import STAGES
from unirefine.files import names
from unirefine.files.written import FILES, delete_files, delete_stale, other_files, stage_files
from unirefine.report.captions import captions


def make(directory, *paths):
    for path in paths:
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(path)


def listed(directory, paths):
    return [path.relative_to(directory).as_posix() for path in paths]


def test_every_stage_has_its_names():
    assert tuple(FILES) == STAGES


@pytest.mark.parametrize(
    ("stage", "own", "foreign"),
    [
        (
            "records",
            ["uniref50/records-003-of-064.parquet", "uniref90/members-000-of-001.parquet", "uniref50/counts.json"],
            ["records-003-of-064.parquet", "uniref100/counts.json", "uniref50/mine.parquet", "uniref50/a/counts.json"],
        ),
        ("curate", ["uniref50.parquet", "removed.parquet"], ["uniref100.parquet", "notes.txt", "a/uniref50.parquet"]),
        ("cluster", ["membership.parquet", "mmseqs.log"], ["my-mmseqs.log", "clusters.csv"]),
        ("split", ["missing_ids.txt", "lineage.json"], ["ids.txt"]),
        (
            "decontaminate",
            ["queries/part-001-of-002.fasta", "hits/part-001-of-064.parquet", "target.fasta", "identity.json"],
            ["queries/part-001-of-002.parquet", "hits/mine.parquet", "part-001-of-002.fasta", "other.fasta"],
        ),
        ("shard", [*names.shard_files("train-003-of-008"), *names.shard_files("test")], ["train.bin", "README.md"]),
        (
            "train",
            ["checkpoints/step-00000010/common.pt", "final/train.json", "tensorboard/events.out.tfevents.1.a"],
            ["checkpoints/step-10/common.pt", "checkpoints/notes.txt", "tensorboard/notes.txt", "slurm-1.out"],
        ),
        ("evaluate", ["perplexity.json", "proteins.parquet"], ["contacts.json", "1abc.npy"]),
        ("embed", ["sequences.npy", "residues.parquet", ".arrays.json"], ["sequences.csv", "mine.npy"]),
        ("cards", ["data/README.md", "model/README.md"], ["README.md"]),
        (
            "report",
            ["report.html", *(f"figures/{name}.svg" for name in captions({}))],
            ["figures/mine.svg", "loss.svg"],
        ),
    ],
)  # fmt: skip
def test_a_name_counts_only_where_the_stage_writes_it(tmp_path, stage, own, foreign):
    make(tmp_path, *own, *foreign, ".lock", ".counts.json.0123456789ab.tmp", "sub/.a.0123456789ab.runs/0.parquet")
    assert listed(tmp_path, stage_files(tmp_path, stage)) == sorted(own)
    assert listed(tmp_path, other_files(tmp_path, stage)) == sorted(foreign)
    assert len(stage_files(tmp_path, stage, unfinished=True)) == len(own) + 3


def test_a_download_has_its_facts_beside_it(tmp_path):
    """`release.directory` may be a directory of the user's, with files of the same names."""
    own = ["uniref50.xml.gz", "taxdump.tar.gz", "purge-10.txt"]
    make(tmp_path, *own, "uniref90.xml.gz", "purge-0.txt", "purge-0.txt.json", "thesis.txt", "thesis.txt.json")
    make(tmp_path, "uniref2024_03.tar.gz.part", "uniref50.fasta.gz.part", "purge-1.txt.part")
    for name in own:
        (tmp_path / f"{name}.json").write_text(json.dumps({"file": name, "url": "https://x", "sha256": "0"}))
    (tmp_path / "uniref2024_03.tar.gz.part.json").write_text(json.dumps({"size": 5, "md5": "0"}))
    (tmp_path / "release.json").write_text(json.dumps({"source": "current", "release": "2026_03", "files": []}))
    parts = ["uniref2024_03.tar.gz.part", "uniref2024_03.tar.gz.part.json", "purge-1.txt.part"]
    found = listed(tmp_path, stage_files(tmp_path, "release"))
    assert found == sorted([*own, *(f"{name}.json" for name in own), *parts, "release.json"])
    foreign = ["purge-0.txt", "purge-0.txt.json", "thesis.txt", "thesis.txt.json"]
    foreign += ["uniref50.fasta.gz.part", "uniref90.xml.gz"]
    assert listed(tmp_path, other_files(tmp_path, "release")) == foreign
    (tmp_path / "release.json").write_text("[]")
    assert "release.json" in listed(tmp_path, other_files(tmp_path, "release"))


def test_stale_files_go_and_nothing_else(tmp_path):
    new, stale = names.shard_files("train-000-of-001"), names.shard_files("train-001-of-002")
    make(tmp_path, *new, *stale, "notes.txt", "old/train-000-of-008.bin")
    assert listed(tmp_path, delete_stale(tmp_path, "shard", new)) == sorted(stale)
    left = listed(tmp_path, sorted(path for path in tmp_path.rglob("*") if path.is_file()))
    assert left == ["notes.txt", "old/train-000-of-008.bin", *sorted(new)]


def test_stale_files_below_a_directory_and_the_directory_when_it_is_empty(tmp_path):
    make(tmp_path, "uniref50/counts.json", "uniref50/records-000-of-001.parquet", "uniref90/counts.json")
    delete_stale(tmp_path, "records", (), below="uniref50")
    assert sorted(listed(tmp_path, tmp_path.rglob("*"))) == ["uniref90", "uniref90/counts.json"]
    delete_stale(tmp_path, "records", (), below="uniref50")  # nothing there


def test_symbolic_links_are_not_followed(tmp_path):
    outside, run = tmp_path / "outside", tmp_path / "train"
    make(outside, "step-00000010/common.pt", "metrics.jsonl")
    run.mkdir()
    (run / "checkpoints").symlink_to(outside)
    (run / "metrics.jsonl").symlink_to(outside / "metrics.jsonl")
    assert listed(run, other_files(run, "train")) == ["checkpoints"]
    delete_files(run, stage_files(run, "train"))
    assert listed(run, run.iterdir()) == ["checkpoints"]
    assert (outside / "step-00000010/common.pt").exists() and (outside / "metrics.jsonl").exists()


def test_a_directory_that_is_a_link_stays_when_it_is_empty(tmp_path):
    make(tmp_path / "big disk", "perplexity.json")
    (tmp_path / "evaluate").symlink_to(tmp_path / "big disk")
    delete_files(tmp_path / "evaluate", stage_files(tmp_path / "evaluate", "evaluate"))
    assert (tmp_path / "evaluate").is_symlink() and not list((tmp_path / "big disk").iterdir())


def test_empty_directories_go_with_their_last_file(tmp_path):
    make(tmp_path / "a", "final/huggingface/config.json", "final/train.json", "checkpoints/notes.txt")
    (tmp_path / "a/empty").mkdir()
    delete_files(tmp_path / "a", stage_files(tmp_path / "a", "train"))
    assert sorted(listed(tmp_path / "a", (tmp_path / "a").iterdir())) == ["checkpoints", "empty"]
