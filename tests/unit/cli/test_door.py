"""`unirefine init`, `runs` and `completion`, `--version`, and paths where nothing is."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from unirefine import __version__
from unirefine.cli import main as cli
from unirefine.config import load_config


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--fasta", "my (odd) [1].fasta"], {"source": "fasta", "fasta": "my (odd) [1].fasta"}),
        (["--release", "current"], {"source": "current", "name": None}),
        (["--release", "2024_03"], {"source": "archive", "name": "2024_03"}),
        (["--published"], {"source": "parquet", "dataset": "nvidia/esm2_uniref_pretraining_data"}),
    ],
)
def test_init_writes_a_config_that_loads(words, found, capsys):
    Path("my (odd) [1].fasta").write_text(">a\nMK\n")
    assert cli.main(["init", "new/lab 2.yaml", *words, "--model", "35M", "--gpus", "4"]) == 0
    config = load_config("new/lab 2.yaml")
    assert {key: getattr(config.release, key) for key in found} == found
    assert config.run.name == "lab 2" and config.train.model.preset == "35M"
    assert config.train.parallel.processes_per_node == 4
    text = Path("new/lab 2.yaml").read_text()
    schema = re.match(r"# yaml-language-server: \$schema=(.*)", text)[1]
    assert json.loads(Path(schema).read_text())["title"] == "A config file of unirefine"
    assert cli.main(["init", "new/lab 2.yaml", "--published"]) == 1
    assert "new/lab 2.yaml: is there already, and stays as it is" in capsys.readouterr().err
    assert Path("new/lab 2.yaml").read_text() == text


def test_init_writes_a_config_that_continues_a_model(capsys):
    Path("my.fasta").write_text(">a\nMK\n")
    words = ["--fasta", "my.fasta", "--from", "facebook/esm2_t12_35M_UR50D"]
    assert cli.main(["init", "a.yaml", *words]) == cli.main(["init", "b.yaml", *words, "--steps", "70"]) == 0
    chosen, given = load_config("a.yaml").train, load_config("b.yaml").train
    assert chosen.init == given.init == "facebook/esm2_t12_35M_UR50D" and chosen.model.preset == "35M"
    assert (chosen.epochs, chosen.steps, given.epochs, given.steps) == ("auto", None, None, 70)
    assert cli.main(["init", "c.yaml", "--published", *words[2:]]) == 1
    assert "--from continues a model on your own proteins; give --fasta too" in capsys.readouterr().err


def test_init_asks_what_is_left_open(monkeypatch, capsys):
    answers = iter(["2", ""])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _question: next(answers))
    assert cli.main(["init", "a.yaml"]) == 0
    assert load_config("a.yaml").release.source == "current"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a.yaml"], "where do the sequences come from?; give --fasta FILE, --release NAME or --published"),
        (["a.yaml", "--fasta", "none.fasta"], "none.fasta: no such file"),
        (["a.txt", "--published"], "a.txt: the name of a config ends in .yaml"),
        (["a.yaml", "--release", "2024-03"], "release.name '2024-03' is no release of UniProt"),
        (["a.yaml", "--published", "--model", "9M"], "train.model.preset: Input should be '8M'"),
    ],
)
def test_init_refuses_and_writes_nothing(words, says, capsys, directory):
    assert cli.main(["init", *words]) == 1
    assert says in capsys.readouterr().err
    assert list(directory.iterdir()) == []


def test_runs_are_listed_by_what_their_files_say(capsys):
    first, second = Path("results/first"), Path("results/second")
    for directory in (first / "report", first / "evaluate", second / "split", Path("results/site/current_release")):
        directory.mkdir(parents=True)
    (first / "report/report.html").touch()
    table = [{"perplexity": 3.0, "hidden": {"perplexity": 14.256}}]
    (first / "evaluate/perplexity.json").write_text(json.dumps({"table": table}))
    assert cli.main(["runs", "--json"]) == 0
    runs = {run["name"]: run for run in json.loads(capsys.readouterr().out)}
    assert set(runs) == {"first", "second"}
    assert (runs["first"]["state"], runs["first"]["stage"], runs["first"]["perplexity"]) == (
        "finished",
        "report",
        14.256,
    )
    assert (runs["second"]["state"], runs["second"]["stage"]) == ("stopped", "none")
    assert cli.main(["runs"]) == 0
    assert any(
        re.match(r"first +finished +unknown +report .* 14\.26$", x) for x in capsys.readouterr().out.splitlines()
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trace", "P12345", "--results", "results/dmo"], "trace: error: results/dmo: no such directory; runs are"),
        (
            ["report", "--results", "results/dmo"],
            "report: error: results/dmo: no such directory; runs are results/demo",
        ),
        (["report", "--results", "results"], "report: error: results: no results of a run are there"),
        (["compare", "results/demo", "results/dmo"], "compare: error: results/dmo: no such directory; runs are"),
        (["lineage", "results/dmo"], "lineage: error: results/dmo: no such directory"),
        (["runs", "--results", "dmo"], "runs: error: dmo: no such directory; call it where results/ is"),
        (["verify", "results/dmo"], "verify: error: results/dmo: no such directory"),
        (["verify", "a.yaml"], "verify: error: a.yaml: a file, not a directory; give shards, a checkpoint"),
        (["cards", "--results", "results"], "cards: error: results: no results of a run are there; give"),
        (
            ["crate", "--results", "results/dmo", "--output", "x.zip"],
            "crate: error: results/dmo: no such directory; runs are",
        ),
        (["export", "--shards", "dmo", "--to", "fasta", "--output", "new"], "export: error: dmo: no such directory"),
        (["split", "--clusters", "dmo", "--output", "new/split"], "split: error: dmo/clusters.parquet: no such file"),
        (
            ["audit", "--train", "x.fasta", "--against", "y.fasta", "--output", "new/audit"],
            "audit: error: x.fasta: no such file",
        ),
        (["shard", "verify", "results/dmo"], "shard verify: error: results/dmo: no such directory; give the directory"),
        (["shard", "cat", "X", "--shards", "dmo"], "shard cat: error: dmo: no such directory; give the directory of"),
        (["status", "--config", "dmo.yaml"], "status: error: dmo.yaml: no such config file"),
        (["clean", "split", "--config", "a.yaml"], "clean: error: results/a: no such directory; runs are results/demo"),
    ],
)
def test_a_path_where_nothing_is_is_called_that(words, says, capsys, directory):
    Path("results/demo/split").mkdir(parents=True)
    Path("a.yaml").write_text("run: {name: a}\nrelease: {source: fasta, fasta: a.yaml}\n")
    assert cli.main(words) == 1
    assert f"unirefine {says}" in capsys.readouterr().err
    assert sorted(path.name for path in directory.rglob("*")) == ["a.yaml", "demo", "results", "split"]


@pytest.mark.parametrize(
    "words",
    [
        ["trace", "P12345", "--results", "x"],
        ["report", "--results", "x"],
        ["compare", "results/demo", "x"],
        ["runs", "--results", "x"],
        ["verify", "x"],
        ["cards", "--results", "x"],
        ["crate", "--results", "x", "--output", "x.zip"],
        ["export", "--shards", "x", "--to", "fasta", "--output", "new"],
        ["split", "--clusters", "x", "--output", "new/split"],
        ["shard", "verify", "x"],
        ["shard", "cat", "X", "--shards", "x"],
        ["curate", "--records", "x", "--output", "new"],
        ["cluster", "--records", "x", "--curated", "x", "--output", "new"],
        ["decontaminate", "search", "--directory", "x", "--part", "0"],
        ["decontaminate", "prepare", "--records", "x", "--clusters", "x", "--split", "x", "--output", "new"],
        ["crate", "--export", "x", "--output", "x.json"],
        ["shard", "held-out", "--dataset", "x", "--output", "new"],
        ["release", "check", "--results", "x"],
        ["evaluate", "--shards", "x", "--model", "results", "--output", "new"],
        ["evaluate", "proteingym", "--model", "x", "--assays", "x", "--reference", "x", "--output", "new"],
        ["predict", "--model", "x", "--fasta", "x"],
        ["embed", "--model", "x", "--fasta", "x", "--output", "new"],
        ["train", "--shards", "x", "--output", "new"],
    ],
    ids=lambda words: "-".join(word for word in words if word.isalpha()),
)
def test_a_file_where_a_directory_belongs_is_called_that(words, capsys, directory):
    Path("results/demo/split").mkdir(parents=True)
    Path("x").write_text(">A\nMKV\n")
    assert cli.main(words) == 1
    (error,) = [line for line in capsys.readouterr().err.splitlines() if ": error: " in line]
    assert re.search(r"error: x\S*: (a file, not a (directory|model)|not a directory)", error), error
    assert sorted(path.name for path in directory.rglob("*")) == ["demo", "results", "split", "x"]


def test_the_version_has_the_commit(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    here = Path(cli.__file__).parent
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True).stdout
    assert capsys.readouterr().out.startswith(f"unirefine {__version__} ({commit[:10]}")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes_commands_their_parts_and_options(shell, capsys, directory):
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    Path("script").write_text(script)
    for word in (*cli.STAGES, "held-out", "--memory-mb", "--dry-run"):
        assert word in script
    if shell == "bash":
        program = "source ./script; COMP_WORDS=(unirefine sha); COMP_CWORD=1; _shtab_unirefine; echo ${COMPREPLY[@]}"
        done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["shard"]
