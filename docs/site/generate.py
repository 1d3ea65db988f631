"""Hook of MkDocs: pages made from the code, and links that lead out of docs/.

Options come from config/README.md, commands from the parsers, changes from CHANGELOG.md. Nothing of it is committed.
"""

import argparse
import importlib
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://github.com/unirefine/unirefine/blob/main"
PAGES = {"config/README.md": "reference/options.md", "CHANGELOG.md": "reference/changes.md"}
"""Files beside docs/ that are pages of the site."""
API = """# Python API

::: unirefine.dataset
    options: {members: [ShardDataset, open_shards]}

::: unirefine.loading.dataset

::: unirefine.config.load
    options: {members: [load_config, parse_config]}
"""
_LINK = re.compile(r"(\]\()([^)\s:#]+)(#[^)\s]*)?(\))")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made here."""
    made = {page: (ROOT / source).read_text(encoding="utf-8") for source, page in PAGES.items()}
    made |= {"reference/commands.md": commands(), "reference/api.md": API}
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links to files outside of docs/ into links to their pages, or to the repository."""
    source = next((source for source, made in PAGES.items() if made == page.file.src_uri), f"docs/{page.file.src_uri}")

    def target(match: re.Match[str]) -> str:
        before, link, anchor, after = match.groups()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
        if path in PAGES:
            new = posixpath.relpath(PAGES[path], posixpath.dirname(page.file.src_uri) or ".")
        elif path.startswith("docs/") and source.startswith("docs/"):
            return match[0]
        elif path.startswith("docs/"):
            new = posixpath.relpath(path.removeprefix("docs/"), posixpath.dirname(page.file.src_uri) or ".")
        elif (ROOT / path).exists():
            new = f"{REPOSITORY}/{path}"
        else:
            return match[0]  # MkDocs says that it leads nowhere
        return f"{before}{new}{anchor or ''}{after}"

    return _LINK.sub(target, markdown)


def commands() -> str:
    """The page of all commands: what --help prints."""
    from unirefine.cli.main import STAGES

    lines = ["# Commands", "", "What `--help` prints. [Files](../formats.md) has all command lines on one page.", ""]
    for name, text in STAGES.items():
        lines += [f"## unirefine {name}", "", f"{text[0].upper()}{text[1:]}.", ""]
        for parser in _parsers(importlib.import_module(f"unirefine.cli.{name}").parser()):
            parser.formatter_class = _Formatter
            lines += ["```text", parser.format_help().rstrip(), "```", ""]
    return "\n".join(lines)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """As --help, for a page of 80 columns whatever the terminal is."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=80)


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from dict.fromkeys(action.choices.values())
