"""Megatron-core is imported in the short way on every path: in the source, and by the real commands."""

import ast
import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "src" / "unirefine"
FIRST = "unirefine.megatron"


def imports(nodes: list[ast.stmt]) -> Iterator[str]:
    """Modules that statements import, in order; not inside functions and classes."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.If | ast.Try | ast.With):
            yield from imports([*node.body, *getattr(node, "orelse", [])])


@functools.cache
def imports_of(package: Path) -> list[str]:
    """Imports of an __init__.py."""
    return list(imports(ast.parse(package.read_text(encoding="utf-8")).body))


def scopes(path: Path) -> Iterator[list[str]]:
    """Imports of a module (after those of the packages that it is in), and of each of its functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parents = [parent / "__init__.py" for parent in reversed(path.relative_to(ROOT).parents)]
    before = [ROOT / parent for parent in parents if (ROOT / parent).exists() and ROOT / parent != path]
    above = [name for parent in before for name in imports_of(parent)]
    top = [*above, *imports(tree.body)]
    yield top
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield [*top, *imports(node.body)]


def is_below(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


MODULES = [
    path
    for folder in ("src", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
    # most modules do not name it, and it takes a second and a half to parse them
    if "megatron" in path.read_text(encoding="utf-8")
    and any(is_below(name, "megatron") for scope in scopes(path) for name in scope)
    # the package imports Megatron itself
    and path.parent != SOURCE / "megatron"
]


def test_modules_are_found():
    assert SOURCE / "model/esm2.py" in MODULES and SOURCE / "train/step.py" in MODULES and len(MODULES) > 15


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_unirefine_megatron_comes_before_megatron(path):
    for scope in scopes(path):
        megatron = [i for i, name in enumerate(scope) if is_below(name, "megatron")]
        first = [i for i, name in enumerate(scope) if is_below(name, FIRST)]
        if megatron:
            assert first and first[0] < megatron[0], f"{path}: import {FIRST} before {scope[megatron[0]]}"


SHOWN = """
import json, sys
from unirefine.cli.main import main
assert main(sys.argv[1:]) == 0
compiler = [name for name in ("torch._dynamo", "torch._inductor", "wandb") if sys.modules.get(name) is not None]
print("loaded:", json.dumps([compiler, "megatron.core.transformer" in sys.modules]))
"""


def loaded_by(*arguments: object) -> list:
    """[modules of the compiler and wandb, whether Megatron is loaded] at the end of a command in a new process."""
    command = [sys.executable, "-W", "ignore", "-c", SHOWN, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.partition("loaded:")[2])


@pytest.fixture(scope="module")
def trained(shards, tmp_path_factory) -> tuple[Path, list]:
    """A tiny model, and `loaded_by` of the `train` command."""
    output = tmp_path_factory.mktemp("trained")
    config = {
        "model": {"preset": None, "layers": 1, "hidden": 32, "heads": 2}, "parallel": {"processes_per_node": 1},
        "sampling": {"max_tokens": 64}, "precision": "fp32", "micro_batch": 2, "global_batch": 2, "steps": 1,
        "validate_sequences": 4, "optimizer": {"warmup_steps": 0},
    }  # fmt: skip
    return output, loaded_by("train", "--config", json.dumps(config), "--shards", shards, "--output", output)


def test_train_loads_no_compiler(trained):
    assert trained[1] == [[], True]


# transformers imports the compiler itself, so the commands are asked for Megatron-core alone
def test_evaluate_loads_no_compiler(trained, shards, tmp_path):
    command = ("evaluate", "--shards", shards, "--model", trained[0] / "final", "--output", tmp_path)
    assert loaded_by(*command, "--set", "huggingface=false") == [[], True]


def test_embed_loads_no_compiler(trained, tmp_path):
    (tmp_path / "in.fasta").write_text(">a\nMKVLA\n")
    command = ("embed", "--model", trained[0] / "final", "--fasta", tmp_path / "in.fasta", "--output", tmp_path)
    assert loaded_by(*command) == [[], True]


def test_convert_loads_no_compiler(trained, tmp_path):
    command = ("convert", "--from", trained[0] / "final" / "megatron", "--to", tmp_path / "huggingface")
    assert loaded_by(*command) == [[], True]
