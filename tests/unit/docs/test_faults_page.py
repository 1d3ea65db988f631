"""Every message in docs/faults.md is produced and compared with the page."""

import errno
import lzma
import re
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirefine.cli.main import main
from unirefine.files.atomic import write_json
from unirefine.files.documents import read_lines

PAGE = Path(__file__).parents[3] / "docs" / "faults.md"
TESTED_ELSEWHERE = {
    "a fine-tuning is started again with other settings": "tests/unit/finetune/test_run.py",
    "the Hub has no such data set": "tests/unit/release/test_hub.py",
    "a sequence of a FASTA is in no cluster of the table": "tests/unit/cluster/test_table.py",
    "`split.method: given` for a source without a split": "tests/unit/split/test_given.py",
    "an export does not fit on the disk": "tests/unit/export/test_export.py",
    "an audit finds leaks": "tests/unit/audit/test_audit.py",
    "a training is started again with other options": "tests/distributed/test_train_faults.py",
    "no assay of ProteinGym's reference is in the directory": "tests/unit/evaluate/test_proteingym.py",
    "wild types are asked of a run that has none": "tests/unit/evaluate/test_benchmarks.py",
    "a suite has nothing to judge models by": "tests/unit/evaluate/test_suite.py",
    "all sequences of a table are variants of one protein": "tests/unit/finetune/test_split.py",
    "a model of the hub cannot be downloaded": "tests/unit/model/test_hub.py",
    "the source tree and the user's home are read-only": "tests/unit/test_numba_cache.py",
    "the program that reads the output ends (`unirefine lineage DIR \\| head`)": "tests/unit/cli/test_main.py",
}


def rows() -> dict[str, str]:
    """Message by fault, of the table of messages."""
    table = PAGE.read_text().partition("## Messages")[2].partition("\n## ")[0]
    lines = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in table.splitlines() if line.startswith("| ")]
    assert lines[0] == ["fault", "message", "what to do"]
    return {fault: message.strip("`") for fault, message, _advice in lines[1:]}


def clusters(directory: Path, data: bytes | None) -> list[str]:
    """A command that reads clusters.parquet with these bytes; None: the file is missing."""
    path = directory / "results/cluster/clusters.parquet"
    path.parent.mkdir(parents=True)
    if data is not None:
        path.write_bytes(data)
    return ["split", "--clusters", str(path.parent), "--output", str(directory / "out")]


def counts(directory: Path, change) -> list[str]:
    """A command that reads a counts.json, whose text was changed."""
    path = directory / "results/curate/counts.json"
    write_json(path, {"stage": "curate", "levels": {"uniref90": {"in": 3, "kept": 3, "removed": {}}}})
    path.write_text(change(path.read_text()))
    return ["cluster", "--records", "x", "--curated", str(path.parent), "--output", str(directory / "out")]


def config(directory: Path, text: str) -> list[str]:
    """A command with a config file of this text."""
    (directory / "c.yaml").write_text(text)
    return ["split", "--config", str(directory / "c.yaml"), "--clusters", "x", "--output", str(directory / "out")]


def torn_parquet(directory: Path) -> bytes:
    pq.write_table(pa.table({"key": [1, 2]}), directory / "x")
    return (directory / "x").read_bytes()[:-9]


def raising(monkeypatch, directory: Path, error: BaseException) -> list[str]:
    """A command in which `error` is raised."""

    def run(*_arguments, **_options):
        raise error

    monkeypatch.setattr("unirefine.split.run.run", run)
    return ["split", "--clusters", "data", "--output", str(directory / "out")]


def in_metrics(monkeypatch, directory: Path) -> list[str]:
    """A command that reads a metrics.jsonl with a damaged line."""
    path = directory / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step"\n{"step": 3}\n')
    monkeypatch.setattr("unirefine.split.run.run", lambda *_arguments, **_options: read_lines(path, torn=True))
    return ["split", "--clusters", "data", "--output", str(directory / "out")]


def lost_directory(directory: Path) -> list[str]:
    words = clusters(directory, None)
    (directory / "results/cluster").rmdir()
    return words


def to_full_disk(monkeypatch) -> list[str]:
    monkeypatch.setattr(sys, "stdout", Path("/dev/full").open("w"))  # noqa: SIM115
    return ["split", "--help"]


def data_set(directory: Path, *sides: str) -> list[str]:
    """A command that reads a data set with a row in each of these sides, in each the same."""
    table = pa.table({"sequence": ["MKV"], "ur50_id": ["UniRef50_A"], "ur90_id": ["UniRef90_A"]})
    for side in sides:
        (directory / "set" / side).mkdir(parents=True)
        pq.write_table(table, directory / "set" / side / "000.parquet")
    return reading(directory, directory / "set")


def expected(directory: Path) -> list[str]:
    words = data_set(directory, "train", "validation")
    pq.write_table(pa.table({"sequence": ["MKL"], "ur50_id": ["UniRef50_B"]}), directory / "set/validation/000.parquet")
    return [*words, "--set", "expected.validation_sequences=2"]


def bionemo(directory: Path) -> list[str]:
    for name in ("train.db", "validation.db"):
        (directory / name).touch()
    for name in ("train_clusters.parquet", "valid_clusters.parquet"):
        pq.write_table(pa.table({"ur90_id": ["UniRef90_A"]}), directory / name)
    return reading(directory, directory)


def reading(directory: Path, source: Path, *more: str) -> list[str]:
    """A command that reads an input of the records stage."""
    return ["records", "--level", "uniref90", "--input", str(source), "--output", str(directory / "out"), *more]


def cut_off(directory: Path) -> list[str]:
    (directory / "a.fasta.xz").write_bytes(lzma.compress(b">a\nMKV\n")[:40])
    return reading(directory, directory / "a.fasta.xz")


def fasta(directory: Path) -> Path:
    (directory / "a.fasta").write_text(">a\nMKV\n")
    return directory / "a.fasta"


def sides(directory: Path) -> list[str]:
    (directory / "sides.tsv").write_text("b\ttrain\n")
    return reading(directory, fasta(directory), "--sides", str(directory / "sides.tsv"))


def excluding(directory: Path) -> list[str]:
    assert main(reading(directory, fasta(directory))) == 0
    words = [
        "curate",
        "--levels",
        "uniref90",
        "--records",
        str(directory / "out"),
        "--output",
        str(directory / "curate"),
    ]
    return [*words, "--set", "exclude=[{name: virus, taxa: [10239]}]"]


def mixed_export(directory: Path) -> list[str]:
    for name in ("shard/manifest.json", "mine/notes.txt"):
        (directory / name).parent.mkdir()
        (directory / name).touch()
    return ["export", "--shards", str(directory / "shard"), "--to", "mds", "--output", str(directory / "mine")]


def ids_alone(directory: Path) -> list[str]:
    (directory / "ids").write_text("P12345\n")
    words = ["audit", "--train", str(fasta(directory)), "--against", str(directory / "ids")]
    return [*words, "--output", str(directory / "out")]


def no_run(directory: Path) -> list[str]:
    (directory / "empty").mkdir()
    return ["compare", str(directory / "empty"), str(directory / "empty")]


def no_release(directory: Path) -> list[str]:
    write_json(directory / "release.json", {"source": "fasta", "release": None, "files": []})
    return ["release", "check", "--results", str(directory)]


TAGGED = "report: {title: !!binary aGVsbG8=}"
NO_TEMPORARY = FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")
FAULTS = {
    "a file of an earlier stage is missing": lambda d, m: clusters(d, None),
    "a file of an earlier stage is missing, with its directory": lambda d, m: lost_directory(d),
    "a Parquet file is torn, damaged or empty": lambda d, m: clusters(d, torn_parquet(d)),
    "a JSON file is damaged": lambda d, m: counts(d, lambda text: text.replace("3", "4", 1)),
    "a JSON file is torn": lambda d, m: counts(d, lambda text: text[:30]),
    "a JSON file is of another version, or edited": lambda d, m: counts(d, lambda text: '{"levels": []}'),
    "a JSON file lacks a key": lambda d, m: counts(d, lambda text: "{}"),
    "a line in the middle of `metrics.jsonl` is damaged": lambda d, m: in_metrics(m, d),
    "a config is no YAML": lambda d, m: config(d, "split: ["),
    "a value of a config has a tag of YAML": lambda d, m: config(d, TAGGED),
    "`--set` with a broken value": lambda d, m: [*config(d, ""), "--set", "seed=["],
    "a file that the user named is missing": lambda d, m: raising(m, d, FileNotFoundError(errno.ENOENT, "x", "data/x")),
    "a file that the user named may not be read": lambda d, m: raising(
        m, d, PermissionError(errno.EACCES, "x", "data")
    ),
    "the disk, or a quota, is full": lambda d, m: raising(m, d, OSError(errno.ENOSPC, "x", "y.bin")),
    "standard output goes to a full disk": lambda d, m: to_full_disk(m),
    "no memory is left": lambda d, m: raising(m, d, MemoryError("Unable to allocate 3 TiB")),
    "another process of a job, or its node, is gone": lambda d, m: raising(
        m, d, RuntimeError("[/x/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:27846")
    ),
    "torch is built for other GPUs or drivers, or another process has the GPU for itself": lambda d, m: raising(
        m, d, RuntimeError("CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors")
    ),
    "a package of an extra is missing": lambda d, m: raising(m, d, ModuleNotFoundError("x", name="torch")),
    "a data set lacks a side": lambda d, m: data_set(d, "validation"),
    "an id of a data set is there twice": lambda d, m: data_set(d, "train", "validation"),
    "a data set is not the one that the config expects": lambda d, m: expected(d),
    "BioNeMo's files do not fit their names": lambda d, m: bionemo(d),
    "a compressed input is cut off": lambda d, m: cut_off(d),
    "a sequence of a FASTA has no side in the table": lambda d, m: sides(d),
    "an entry of `curate.exclude` has taxa, and there is no taxonomy": lambda d, m: excluding(d),
    "an export would mix with other files": lambda d, m: mixed_export(d),
    "an audit is given ids alone": lambda d, m: ids_alone(d),
    "`unirefine compare` is given what is no run": lambda d, m: no_run(d),
    "`unirefine release check` of a run on your own FASTA": lambda d, m: no_release(d),
    "no directory at all can be written": lambda d, m: raising(m, d, NO_TEMPORARY),
}


def test_each_row_is_produced_or_has_a_test_of_its_own():
    assert rows().keys() == FAULTS.keys() | TESTED_ELSEWHERE.keys()
    assert all((PAGE.parents[1] / path).is_file() for path in TESTED_ELSEWHERE.values())


@pytest.mark.parametrize("fault", FAULTS)
def test_the_message_is_that_of_the_page(fault, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "120")
    words = FAULTS[fault](tmp_path, monkeypatch)
    try:
        status = main(words)
    except SystemExit as end:
        status = end.code
    monkeypatch.undo()
    shown = [line for line in capsys.readouterr().err.splitlines() if ": error: " in line]
    assert status == 1 and len(shown) == 1
    pattern = re.escape(rows()[fault]).replace(r"\.\.\.", ".*")
    pattern = pattern.replace("FILE", r"[^ :]+").replace("DIR", r"[^ :]+")
    assert re.fullmatch(pattern, shown[0].partition(": error: ")[2]), shown[0]
