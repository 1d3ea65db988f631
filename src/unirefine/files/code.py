"""Which code made a result: digests of a stage's code, versions of packages, the commit of this checkout.

The folder is the rule: a stage's digest is that of its own package and of what it imports of LIBRARIES, directly or
through them. It is taken of the syntax trees without docstrings, so words, comments and formatting change nothing.
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

LIBRARIES = ("core", "dataset", "model", "sampling")
"""Packages that decide results beside a stage's own. Others say how something is run or stored, not what comes out."""
PACKAGE = Path(__file__).parents[1]


def stage_digest(stage: str, package: Path = PACKAGE) -> str:
    """Digest of the code that decides a stage's results, as 16 hexadecimal digits.

    Of Python modules the syntax tree counts, of data files in the stage's package (a list of taxa, a template) every
    byte. package: where unirefine's source is. Raises ValueError when there is no package of that name.
    """
    digest = hashlib.sha256()
    for path in stage_files(stage, package):
        content = syntax(path) if path.suffix == ".py" else path.read_bytes()
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + content + b"\0")
    return digest.hexdigest()[:16]


def stage_files(stage: str, package: Path = PACKAGE) -> list[Path]:
    """The files that `stage_digest` is taken of, sorted."""
    own = [path for path in (package / stage).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    if not own:
        raise ValueError(f"no package of a stage: {package / stage}")
    found, waiting = set(own), [path for path in own if path.suffix == ".py"]
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
    """Nested tuples of a tree. Strings that stand alone are docstrings; empty fields differ between Python versions."""
    if isinstance(node, list):
        return [_plain(each) for each in node if not _is_docstring(each)]
    if not isinstance(node, ast.AST):
        return node
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
    """`{commit, modified, digest}` of unirefine's own code: null where it was installed without its git history.

    `digest` is of all Python files, and tells two versions apart where git cannot.
    """
    commit, modified = _checkout() or _built() or (_installed_commit(), None)
    return {"commit": commit, "modified": modified, "digest": _all_code()}


def _checkout() -> tuple[str, bool] | None:
    """(commit, whether tracked files differ from it) of the checkout that this file is in."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return None

    def git(*words: str) -> str:
        # whoever owns the checkout: it is only read
        command = ["git", "-c", "safe.directory=*", "-C", str(root), *words]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=30, env=environment
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no", "--", "src"))
    except (OSError, subprocess.SubprocessError):  # no git on this node
        return None


def _built() -> tuple[str, bool] | None:
    """What the recipes in envs/ wrote into the image: `git describe` of the checkout it was built from."""
    note = PACKAGE / "commit.txt"
    if not note.exists():
        return None
    commit, dirty, _ = note.read_text().strip().partition("-dirty")
    return commit, bool(dirty)


def _installed_commit() -> str | None:
    """What `pip install git+https://...` noted."""
    noted = importlib.metadata.distribution("unirefine").read_text("direct_url.json")
    return json.loads(noted).get("vcs_info", {}).get("commit_id") if noted else None


def _all_code() -> str:
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
