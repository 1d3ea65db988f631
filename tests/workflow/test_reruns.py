"""docs/reruns.md, row by row: plans for the finished run, and for a copy with every optional input file."""

import ast
import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ROOT = Path(__file__).parents[2]
REPORT = {"report", "all"}
CARDS = {"cards", "all"}
EVALUATE = {"evaluate"} | CARDS | REPORT
EMBED = {"embed", "all"}
TRAIN = {"train"} | EMBED | EVALUATE
SHARD = {"shard"} | TRAIN
AUDIT = {"decontaminate"} | EVALUATE
SEARCH = {"decontaminate_prepare", "decontaminate_search", "decontaminate_remove", "decontaminate"} | SHARD
SPLIT = {"split"} | SEARCH
CLUSTER = {"cluster"} | SPLIT
CURATE = {"curate"} | CLUSTER
RECORDS = {"records_uniref50", "records_uniref90"} | CURATE
DOWNLOAD = {"release_fetch", "release"}
CONDA = {"conda_version": "25.9.0", "conda_prefix": "/opt/conda", "platform": "linux-64", "root_prefix": "/opt/conda"}
INPUTS = {
    "small": {
        "split": {"method": "ids", "ids": "ids.txt"},
        "decontaminate": {"against": ["wild types.fasta"]},
        "curate": {"designs": "designs.fasta"},
        "train": {"init": "init"},
        "embed": {"fasta": "embed.fasta"},
    },
    "own": {
        "release": {"source": "fasta", "fasta": "own.fasta", "name": None},
    },
}
"""Options that name input files, for copies of the finished run."""


def options(**blocks):
    """The row's change is one of the config."""
    return lambda run, _tmp: (run, run.config_with("row", blocks))


def one_more_purge_list(run, tmp):
    lists = yaml.safe_load((run.directory / "small.yaml").read_text())["release"]["purge_lists"]
    (run.directory / "more.txt").write_text("P99998\n")
    return options(release={"purge_lists": [*lists, "more.txt"]})(run, tmp)


def edited_code(*places):
    """The row's change is one of the code."""
    return lambda run, tmp: (run.edited(tmp, *places), None)


def reworded_code(run, tmp):
    """The row's change is one of docstrings, comments and blank lines in every module."""
    shutil.copytree(ROOT / "src", tmp / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for module in (tmp / "src").rglob("*.py"):
        module.write_text('"""Reworded."""\n\n# a comment\n' + without_docstring(module.read_text()))
    return replace(run, source=tmp / "src"), None


def without_docstring(text):
    """A module's text after its docstring."""
    first = ast.parse(text).body[:1]
    is_docstring = first and isinstance(first[0], ast.Expr) and isinstance(first[0].value, ast.Constant)
    return "".join(text.splitlines(keepends=True)[first[0].end_lineno :]) if is_docstring else text


def another_mmseqs(run, tmp, **blocks):
    tool = tmp / "mmseqs"
    tool.write_text("#!/bin/sh\necho another-version\n")
    tool.chmod(0o755)
    return options(tools={"mmseqs": str(tool)}, **blocks)(run, tmp)


ROWS = {
    "nothing": (lambda run, _tmp: (run, None), set()),
    "release.mirrors, attempts, stall_seconds": (
        options(release={"attempts": 5, "stall_seconds": 9, "mirrors": ["file:elsewhere", "file:site"]}), set()),
    "release.name": (options(release={"name": "2026_04"}), DOWNLOAD | RECORDS),
    "one more purge list": (one_more_purge_list, DOWNLOAD | CURATE),
    "option of records": (options(records={"verify_checksums": False}), RECORDS),
    "option of curate": (options(curate={"min_length": 30}), CURATE),
    "option of cluster": (options(cluster={"violations": "error"}), CLUSTER),
    "option of split": (options(split={"seed": 1}), SPLIT),
    "option of a search": (options(decontaminate={"search": {"sensitivity": 5.7}}), SEARCH),
    "decontaminate.audit_share": (options(decontaminate={"audit_share": 0.5}), SEARCH),
    "decontaminate.audit_sample": (options(decontaminate={"audit_sample": 50}), AUDIT),
    "option of shard": (options(shard={"seed": 1}), SHARD),
    "option of train": (options(train={"steps": 40}), TRAIN),
    "option of evaluate": (options(evaluate={"seed": 1}), EVALUATE),
    "option of embed": (options(embed={"layer": 1}), EMBED),
    "option of report": (options(report={"title": "another"}), REPORT),
    "code of release": (edited_code("release"), set()),
    "code of records": (edited_code("records"), RECORDS),
    "code of curate": (edited_code("curate"), CURATE),
    "code of cluster": (edited_code("cluster"), CLUSTER),
    "code of split": (edited_code("split"), SPLIT),
    "code of decontaminate": (edited_code("decontaminate"), SEARCH),
    "code of shard": (edited_code("shard"), SHARD),
    "code of train": (edited_code("train"), set()),
    "code of model": (edited_code("model"), EVALUATE | EMBED),
    "code of sampling": (edited_code("sampling"), EVALUATE),
    "code of evaluate": (edited_code("evaluate"), EVALUATE),
    "code of embed": (edited_code("embed"), EMBED),
    "code of cards": (edited_code("cards"), CARDS),
    "code of report": (edited_code("report"), REPORT),
    "code of core: ids": (edited_code("core/ids.py"), RECORDS),
    "code of core: levels": (edited_code("core/levels.py"), RECORDS),
    "code of config, files, megatron, workflow, tools": (
        edited_code("config", "files/hashes.py", "files/lineage.py", "megatron", "workflow", "tools.py"), set()),
    "words, comments or formatting of any code": (reworded_code, set()),
    "another version of MMseqs2": (another_mmseqs, SEARCH),
    "another run.name": (options(run={"name": "second"}), DOWNLOAD | RECORDS),
    "another run.name, the same release.directory": (
        options(run={"name": "second"}, release={"directory": "results/small/release"}), RECORDS),
    "another run.name with run.base, option of train": (
        options(run={"name": "second", "base": "small"}, train={"steps": 40}), TRAIN),
    "another run.name with run.base, option of split": (
        options(run={"name": "second", "base": "small"}, split={"seed": 1}), SPLIT),
}  # fmt: skip
FILES = {
    "a purge list edited": ("small", "purge.txt", DOWNLOAD | CURATE),
    "curate.designs edited": ("small", "designs.fasta", CURATE),
    "split.ids edited": ("small", "ids.txt", SPLIT),
    "a file of decontaminate.against edited": ("small", "wild types.fasta", SEARCH),
    "train.init edited": ("small", "init/model.safetensors", TRAIN),
    "embed.fasta edited": ("small", "embed.fasta", EMBED),
    "own FASTA edited": ("own", "own.fasta", {"release", "records_uniref90"} | CURATE),
}
OTHERS = {"another version of MMseqs2, own FASTA", "envs/mmseqs2.yaml, with `--sdm conda`"}


def test_the_documented_rows_are_the_tested_ones():
    table = (ROOT / "docs/reruns.md").read_text().split("|---|---|---|\n")[1].split("\n\n")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines()]
    assert len(rows) == len(set(rows))
    assert set(rows) == {*ROWS, *FILES, *OTHERS}


@pytest.mark.parametrize("row", ROWS)
def test_a_change_reruns_what_depends_on_it_and_no_more(finished, tmp_path, row):
    change, expected = ROWS[row]
    run, config = change(finished, tmp_path)
    assert run.planned(config=config) == expected


@pytest.mark.parametrize("row", ["nothing", "code of cluster", "another run.name with run.base, option of split"])
def test_a_start_of_snakemake_plans_what_the_test_process_does(finished, tmp_path, row):
    """The rows above are planned inside the test process; these once more by `snakemake --dry-run`."""
    change, expected = ROWS[row]
    run, config = change(finished, tmp_path)
    assert run.dry_run(config=config) == expected


def declared_finished(finished, directory, kind, *arguments):
    """(A copy of the finished run, a config with some of INPUTS): `--touch` records that this config made it."""
    shutil.copytree(finished.directory, directory, symlinks=True)
    run = replace(finished, directory=directory)
    (directory / "init").mkdir()
    for name in ("ids.txt", "designs.fasta", "init/model.safetensors", "embed.fasta", "own.fasta", "wild types.fasta"):
        (directory / name).write_text(">P12345\n")
    for name in ("target", "queries/part-000-of-002", "queries/part-001-of-002"):  # are temporary
        file = directory / f"results/small/decontaminate/{name}.fasta"
        file.parent.mkdir(exist_ok=True)
        file.write_text(">P12345\n")
    config = run.config_with("inputs", INPUTS[kind])
    touched = run.snakemake("--touch", "--forceall", *arguments, config=config)
    assert touched.returncode == 0, touched.stdout
    assert run.planned(*arguments, config=config) == set()
    return run, config


@pytest.fixture(scope="module")
def with_inputs(finished, tmp_path_factory):
    """By kind: (a run that counts as finished, its config)."""
    return {kind: declared_finished(finished, tmp_path_factory.mktemp(kind) / "run", kind) for kind in INPUTS}


@pytest.mark.parametrize("row", FILES)
def test_an_edited_input_reruns_what_reads_it_and_no_more(with_inputs, row):
    kind, name, expected = FILES[row]
    run, config = with_inputs[kind]
    file = run.directory / name
    before, dates = file.read_bytes(), (file.stat().st_atime, file.stat().st_mtime)
    try:
        file.write_bytes(before + b"P99999\n")
        os.utime(file, (time.time() + 1,) * 2)
        assert run.planned(config=config) == expected
    finally:
        file.write_bytes(before)
        os.utime(file, dates)


def test_another_mmseqs_clusters_an_own_fasta_again(with_inputs, tmp_path):
    run, config = with_inputs["own"]
    run, config = another_mmseqs(run, tmp_path, **INPUTS["own"])
    assert run.planned(config=config) == CLUSTER


def test_another_environment_file_reruns_what_uses_it(finished, tmp_path, monkeypatch):
    """A stand-in answers for conda, as in test_deployment: a dry run and `--touch` install nothing."""
    conda = tmp_path / "bin" / "conda"
    conda.parent.mkdir()
    answers = {
        "info": json.dumps(CONDA),
        "config": '{"get": {"channel_priority": "strict"}}',
        "--version": "conda 25.9.0",
    }
    cases = "\n".join(f"*{word}*) echo '{answer}';;" for word, answer in answers.items())
    conda.write_text(f'#!/bin/sh\ncase "$*" in\n{cases}\nesac\n')
    conda.chmod(0o755)
    monkeypatch.setenv("PATH", f"{conda.parent}:{os.environ['PATH']}")
    run, config = declared_finished(finished, tmp_path / "run", "small", "--sdm", "conda")
    for name in ("Snakefile", "workflow", "envs"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    run = replace(run, checkout=tmp_path)
    assert run.planned("--sdm", "conda", config=config) == set(), "the same files elsewhere"
    with (tmp_path / "envs/mmseqs2.yaml").open("a") as environment:
        environment.write("  - zlib\n")
    assert run.planned("--sdm", "conda", config=config) == CLUSTER
