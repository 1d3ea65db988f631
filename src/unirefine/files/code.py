"""Which code made a result: the digest of a stage's code, versions of packages, the commit of this checkout.

A stage's digest covers its own package and the modules of LIBRARIES that it imports, directly or through one another.
It is computed from syntax trees without docstrings, so docstrings, comments and formatting do not change it.
"""

import ast
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unirefine.files.home import PACKAGED

LIBRARIES = ("core", "dataset", "model", "sampling", "similarity")
"""Packages that decide results besides a stage's own. The others are about how stages are run and results stored."""
PACKAGE = Path(__file__).parents[1]


def stage_digest(stage: str, package: Path = PACKAGE) -> str:
    """Digest of the code that decides a stage's results, as 16 hexadecimal digits.

    It covers the syntax trees of Python modules, and all bytes of other files in the stage's package (a list of taxa, a
    template). package: the directory of unirefine's source. Raises ValueError when the stage has no package.
    """
    digest = hashlib.sha256()
    for path in stage_files(stage, package):
        content = syntax(path) if path.suffix == ".py" else path.read_bytes()
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + content + b"\0")
    return digest.hexdigest()[:16]


def stage_files(stage: str, package: Path = PACKAGE) -> list[Path]:
    """The files that `stage_digest` covers, sorted."""
    files = [path for path in (package / stage).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    if not files:
        raise ValueError(f"no package of a stage: {package / stage}")
    found, waiting = set(files), [path for path in files if path.suffix == ".py"]
    while waiting:
        new = {module for module in imported(waiting.pop(), package) if module not in found}
        found |= new
        waiting += new
    return sorted(found)


def imported(path: Path, package: Path = PACKAGE) -> Iterator[Path]:
    """Modules of LIBRARIES that a module imports, at its top or inside a function."""
    for parts in _imports(path.read_bytes()):
        target = package.joinpath(*parts)
        module = target / "__init__.py" if target.is_dir() else target.with_suffix(".py")
        if module.is_file():
            yield module


@functools.cache  # Snakemake asks for the digest of every stage at each start, and stages share modules
def _imports(content: bytes) -> tuple[tuple[str, ...], ...]:
    """What a module imports of LIBRARIES: names without `unirefine`, split at dots; also names that are no modules."""
    found = []
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        parts = [tuple(name.split(".")) for name in names]
        found += [each[1:] for each in parts if each[0] == "unirefine" and len(each) > 1 and each[1] in LIBRARIES]
    return tuple(found)


def syntax(path: Path) -> bytes:
    """A module's syntax tree without docstrings, the same in Python 3.11 and 3.12."""
    return _syntax(path.read_bytes())


@functools.cache
def _syntax(content: bytes) -> bytes:
    return repr(_plain(ast.parse(content))).encode()


def _plain(node: Any) -> Any:
    """A tree as nested tuples, without docstrings, and without what differs between Python versions: empty fields, and
    the empty text that 3.12 adds to some f-strings.
    """
    if isinstance(node, list):
        return [_plain(each) for each in node if not _is_docstring(each)]
    if not isinstance(node, ast.AST):
        return node
    if isinstance(node, ast.JoinedStr):
        node.values = [each for each in node.values if not (isinstance(each, ast.Constant) and each.value == "")]
    fields = ((name, _plain(value)) for name, value in ast.iter_fields(node))
    return type(node).__name__, *((name, value) for name, value in fields if value is not None and value != [])


def _is_docstring(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of unirefine, Python and the named distributions."""
    found = {"unirefine": importlib.metadata.version("unirefine"), "python": platform.python_version()}
    for name in packages:
        found[name] = importlib.metadata.version(name)
    return found


@functools.cache
def source() -> Mapping[str, Any]:
    """`{commit, modified, digest}` of unirefine's own code.

    commit: of git, or null where the installation does not record it. modified: whether tracked files differ from it,
    null where that is not known. digest: of all Python files, to distinguish versions without git.
    """
    commit, modified = _built() or _checkout() or (_installed_commit(), None)
    return {"commit": commit, "modified": modified, "digest": _all_code()}


def _checkout() -> tuple[str, bool] | None:
    """(commit, whether tracked files differ from it) of the git checkout that this file is in."""
    root = PACKAGE.parents[1]
    if PACKAGE.parent.name != "src" or not (root / ".git").exists():  # installed below somebody else's checkout
        return None

    def git(*words: str) -> str:
        # safe.directory: git refuses another user's checkout, but it is only read here. Without optional locks, for a
        # `git status` that is killed while it refreshes the index leaves a lock in the checkout
        command = ["git", "--no-optional-locks", "-c", "safe.directory=*", "-C", str(root), *words]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=30, env=environment
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no", "--", "src"))
    except (OSError, subprocess.SubprocessError):  # no git on this node
        return None


def _built() -> tuple[str, bool] | None:
    """As _checkout, from the file that setup.py writes into a wheel, and the recipes in envs/ into an image.

    It has what `git describe` says of their checkout.
    """
    note = PACKAGE / "commit.txt"
    if not note.exists():
        return None
    commit, dirty, _ = note.read_text().strip().partition("-dirty")
    return commit, bool(dirty)


def _installed_commit() -> str | None:
    """The commit that `pip install git+https://...` recorded."""
    origin = importlib.metadata.distribution("unirefine").read_text("direct_url.json")
    return json.loads(origin).get("vcs_info", {}).get("commit_id") if origin else None


def _all_code() -> str:
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        if PACKAGED in path.parents:  # the workflow in a wheel, which a checkout has elsewhere
            continue
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
