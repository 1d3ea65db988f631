"""What the pages name exists: links, files, commands with their options, extras, packages, imports."""

import argparse
import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from unirefine.cli.main import STAGES

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "src" / "unirefine"
PAGES = sorted(
    [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "resources").rglob("*.md"), ROOT / "config/README.md"]
)
PRESENT = [page for page in PAGES if page.name != "CHANGELOG.md"]
"""The changelog also names what is gone."""
CODE = re.compile(r"```\w*\n(.*?)```|^((?: {4}\S[^\n]*\n)+)|`([^`]+)`", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?<![\w/=-])unirefine(?:\.cli\.main)? ([a-z].*)")
MADE = {"envs/unirefine.sif", "config.py"}
"""An image that its recipe makes, and a module of another design."""


def code(page: Path) -> Iterator[str]:
    """Code blocks and code within text, continued lines joined."""
    if page.name == "Makefile":
        yield "\n".join(re.findall(r"^\t(unirefine .*)", page.read_text(), re.MULTILINE))
        return
    for found in CODE.finditer(page.read_text().replace("\\\n", " ")):
        block, indented, inline = found.groups()
        yield block or indented or " ".join(inline.split())


def commands(page: Path) -> list[list[str]]:
    """Words of every command line of ours on a page, without `unirefine`."""
    lines = [line for text in code(page) for line in text.splitlines()]
    found = [
        match[1] for line in lines for match in re.finditer(r"(?<![\w/=-])unirefine(?:\.cli\.main)? ([a-z].*)", line)
    ]
    return [re.split(r"[\s\[\]()|;\"]+", line) for line in found]


def parser_of(words: list[str]) -> tuple[argparse.ArgumentParser, set[str]]:
    """The parser of a command's last subcommand, and all options that it takes."""
    parser = importlib.import_module(f"unirefine.cli.{words[0]}").parser()
    options = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) and words[1:2] and words[1] in action.choices:
            return action.choices[words[1]], options | set(action.choices[words[1]]._option_string_actions)
    return parser, options


def test_commands_and_their_options_exist():
    for page in [*PRESENT, ROOT / "Makefile"]:
        for words in commands(page):
            assert words[0] in STAGES, (page, words)
            parser, options = parser_of(words)
            given = {word.split("=")[0] for word in words if re.fullmatch(r"--[a-z-]+(=.*)?", word)}
            assert given <= options, (page, words)
            if words[1:]:
                actions = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
                assert not any(one.required for one in actions), f"{page}: no such action: {words}"


def test_commands_are_found():
    assert len([words for page in PRESENT for words in commands(page)]) > 50
    assert {words[0] for words in commands(ROOT / "docs/formats.md")} == set(STAGES)


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if not re.match(r"https?:|mailto:", target):
                assert (page.parent / target).exists(), (page, target)


def test_files_exist():
    """Paths in code quotes that begin with a directory of the repository or of the package, and Python modules."""
    folders = {path.name for base in (ROOT, SOURCE) for path in base.iterdir() if path.is_dir()}
    folders -= {"results", "logs", ".snakemake", *STAGES}
    for page in PRESENT:
        bases = (ROOT, SOURCE, ROOT / "tests", ROOT / "tests/workflow", page.parent)
        for path in re.findall(r"`([\w.-]+/[\w./-]*|[\w/]+\.py)`", page.read_text()):
            if path not in MADE and (path.endswith(".py") or path.split("/")[0] in folders):
                assert any((base / path).exists() for base in bases), (page, path)


def test_extras_exist_and_are_all_listed():
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    files = [
        *PRESENT,
        ROOT / "Makefile",
        *filter(Path.is_file, (ROOT / "envs").iterdir()),
        *(ROOT / "tests/te").glob("*.sh"),
    ]
    for path in files:
        for group in re.findall(r"(?:unirefine|'\.)\[([a-z,]+)\]", path.read_text()):
            assert set(group.split(",")) <= extras, (path, group)
    rows = re.findall(r"^\| (`[a-z`, ]+`) \|", (ROOT / "README.md").read_text().split("| extra |")[1], re.MULTILINE)
    assert {extra for row in rows for extra in re.findall(r"`([a-z]+)`", row)} >= extras


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_the_tree_shows_packages_that_exist(page):
    tree = (ROOT / page).read_text().split("\nsrc/unirefine/\n")[1].split("```")[0]
    lines = [re.split(r" {3,}", line.strip()) for line in tree.splitlines() if line.startswith("  ")]
    shown = {word.rstrip("/") for line in lines for word in line[0].split() if word.endswith("/") and word[0] != "<"}
    packages = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()}
    assert shown <= packages
    if page == "README.md":
        assert shown == packages


def test_imports_in_examples_work():
    for page in PRESENT:
        for line in re.findall(r"^(?:from|import) unirefine\S*.*$", page.read_text(), re.MULTILINE):
            exec(line, {})


def test_every_page_is_in_the_menu_of_the_site():
    listed = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    decisions = {page for page in pages if page.startswith("decisions/")} - {"decisions/README.md"}
    generated = {page for page in listed if page.startswith("reference/")}
    assert len(listed) == len(set(listed))
    assert set(listed) - generated == pages - decisions
