"""Every command on the pages and in --help works as it is written: planned by Snakemake, parsed, or run where cheap."""

import argparse
import importlib
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import plan
import polars as pl
import pytest
import yaml
from snakemake.cli import parse_args

from unirefine.cli.main import STAGES, main
from unirefine.config import parse_config, parse_yaml

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for pattern in ("docs/**/*.md", "README.md", "CONTRIBUTING.md", "resources/**/*.md", "config/README.md")
    for page in ROOT.glob(pattern)
)
CODE = re.compile(r"```(\w*)\n(.*?)```|^((?: {4}\S[^\n]*\n(?: +[^\n]+\n)*)+)|`([^`]+)`", re.MULTILINE | re.DOTALL)
PROGRAMS = ("snakemake", "unirefine", "make", "sbatch", "srun", "torchrun", "python", "pip", "source")
GRAMMAR = re.compile(r"[][|]|\.\.\.|\bHUB_ID\b|\bSTAGE: ")
"""Lines that say what a command may have, or that leave something out."""
PLACEHOLDER = re.compile(
    r"\b(DIR|FILE|F|N|I|BIN|A B)\b|(?<!compare results/demo results/)demo-long|demo-continue|--help| shards$"
)
"""In lines that are parsed and not run: their files are not there."""
DEMO = "results/demo"
VALUES = {
    "FILE": "config/demo.yaml",
    "PATH": f"{DEMO}/train/final",
    "DIR": f"{DEMO}/shard",
    "STAGE": "split",
    "N": "2",
    "I": "0",
}
RUN = (
    *("lineage", "status", "runs", "init", "completion", "cards", "report", "export", "crate", "trace", "records"),
    *("curate", "cluster", "split", "decontaminate prepare", "decontaminate remove"),
    *("shard build", "shard verify", "shard cat", "release collect", "release check", "compare"),
)
"""Cheap commands. The others download, or take a model; the workflow runs them."""
SAYS = {
    "release check": "release 2026_03 is the current one (file:",
    "compare": "second: results/demo-long, release 2026_03: ",
}
"""Of the output of some."""


def lines(text: str) -> Iterator[str]:
    """Command lines of a text: continued lines joined, without comments and remarks in brackets behind them."""
    for line in re.sub(r" *\\\n\s*", " ", text).splitlines():
        line = re.sub(r"( {2,}\(| {2,}#| # ).*", "", line).strip()
        words = [word for word in line.split() if not re.match(r"[A-Z_]+=", word)]
        if len(words) > 1 and words[0] in PROGRAMS:
            yield line


def on_pages() -> list[str]:
    """Every command line in code on the pages, in Makefile, and in examples of --help."""
    found = []
    for page in PAGES:
        for _kind, block, indented, inline in CODE.findall(page.read_text()):
            found += lines(block or indented or " ".join(inline.split()))
    found += lines("\n".join(re.findall(r"^\t(.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)))
    for stage in STAGES:
        for parser in parsers(importlib.import_module(f"unirefine.cli.{stage}").parser()):
            found += lines(parser.epilog or "")
    return list(dict.fromkeys(found))


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from dict.fromkeys(action.choices.values())


def commands(program: str, *, whole: bool = False) -> list[list[str]]:
    """The words, after the program, of each command line; also of a command within another one's.

    whole: only of those without placeholders.
    """
    found = []
    for line in on_pages():
        if not GRAMMAR.search(line) and not (whole and PLACEHOLDER.search(line)):
            words = shlex.split(line.replace("-m unirefine.cli.main", "unirefine"))
            words = [word for each in words for word in (each.split() if " unirefine " in f" {each} " else [each])]
            found.append([VALUES.get(word, word) for word in words])
    return [each[at + 1 :] for each in found for at, word in enumerate(each) if word == program and at + 1 < len(each)]


@pytest.fixture(scope="module")
def demo(finished, tmp_path_factory):
    """A checkout in which the demo has run: in fact the small run, under the demo's name."""
    import shutil

    directory = tmp_path_factory.mktemp("demo") / "checkout"
    shutil.copytree(finished.directory, directory, symlinks=True)
    (directory / "results/small").rename(directory / DEMO)
    for name in ("profiles", "resources", "workflow", "envs", "Snakefile"):
        (directory / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "config", directory / "config")
    (directory / "results/demo-continue.fasta").write_text(">a\nMKV\n")  # resources/demo/family.py writes it
    config = yaml.safe_load((directory / "small.yaml").read_text())
    (directory / "config/demo.yaml").write_text(yaml.safe_dump(config | {"run": {"name": "demo", "threads": 2}}))
    return directory


def test_commands_are_found_and_every_program_is_known():
    assert {program: bool(commands(program)) for program in PROGRAMS} == dict.fromkeys(PROGRAMS, True)
    assert len(commands("unirefine")) > 30 and len(commands("snakemake")) > 10


def test_snakemake_plans_every_command_on_the_pages(demo, monkeypatch):
    monkeypatch.chdir(demo)
    for arguments in commands("snakemake"):
        _, read = parse_args(arguments)
        files = read.configfile or [Path("config/demo.yaml")]
        assert [file.exists() for file in files] == [True], (
            f"{arguments}: a target after --configfile is read as a file"
        )
        if not (read.unlock or read.report or read.lint or read.software_deployment_method):
            assert plan.plan(files[0], *arguments).jobs, arguments


def test_every_command_of_ours_is_complete(capsys):
    for arguments in commands("unirefine"):
        parser = importlib.import_module(f"unirefine.cli.{arguments[0]}").parser()
        names = {name for one in parser._actions if isinstance(one, argparse._SubParsersAction) for name in one.choices}
        if not set(arguments[1:]) <= {*names, "--help"}:  # not just the name of a command
            try:
                parser.parse_args(arguments[1:])
            except SystemExit:
                pytest.fail(f"{arguments}: {capsys.readouterr().err}")


def test_cheap_commands_do_what_they_say(demo, monkeypatch, capsys):
    monkeypatch.chdir(demo)
    shutil.copytree(DEMO, "results/other")  # for --compare
    Path("results/demo-long").symlink_to("other")
    known = pl.read_parquet(f"{DEMO}/shard/train-000-of-002.ids.parquet")["id"][0]
    ran = set()
    for arguments in commands("unirefine", whole=True):
        named = next((name for name in RUN if arguments[: len(name.split())] == name.split()), None)
        if named and len(arguments) > len(named.split()):
            arguments = [known if word in ("ID", "UniRef90_P12345") else word for word in arguments]
            if named == "init":  # several examples write the same file, and none replaces one
                Path(arguments[1]).unlink(missing_ok=True)
            capsys.readouterr()
            assert main(arguments) == 0, (arguments, capsys.readouterr().err)
            ran.add(named)
            assert SAYS.get(named, "") in capsys.readouterr().out, arguments
    assert ran == set(RUN)
    assert main(["clean", "evaluate", "--config", "config/demo.yaml"]) == 1
    assert "nobody to ask; give --yes" in capsys.readouterr().err
    assert main(["train", "--config", "config/demo.yaml", "--dry-run", "--shards", f"{DEMO}/shard"]) == 0


def test_targets_of_make_scripts_and_modules_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {word for arguments in commands("make") for word in arguments[:1]} <= targets
    for arguments in commands("python"):
        script = arguments[0]
        assert script in ("-m", "-c", "$$topic") or (ROOT / script).exists(), arguments
    assert commands("source") and all(arguments == [".venv/bin/activate"] for arguments in commands("source"))


def test_yaml_on_the_pages_is_a_config():
    blocks = [(page, code) for page in PAGES for kind, code, *_ in CODE.findall(page.read_text()) if kind == "yaml"]
    assert blocks
    for page, code in blocks:
        assert parse_config(parse_yaml(code, where=page), where=str(page))
