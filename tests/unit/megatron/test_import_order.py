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
import json, os, sys
import torch  # once for all commands: it loads none of what is asked for
for words in json.loads(sys.argv[1]):
    if not (child := os.fork()):
        from unirefine.cli.main import main
        assert main(words) == 0
        compiler = [name for name in ("torch._dynamo", "torch._inductor", "wandb") if sys.modules.get(name) is not None]
        print("loaded:", json.dumps([compiler, "megatron.core.transformer" in sys.modules]), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, words
"""


@pytest.fixture(scope="module")
def loaded(shards, tmp_path_factory) -> dict[str, list]:
    """By command, each in a process of its own: [modules of the compiler and wandb, whether Megatron is loaded]."""
    root = tmp_path_factory.mktemp("loaded")
    config = {
        "model": {"preset": None, "layers": 1, "hidden": 32, "heads": 2}, "parallel": {"processes_per_node": 1},
        "sampling": {"max_tokens": 64}, "precision": "fp32", "micro_batch": 2, "global_batch": 2, "steps": 1,
        "validate_sequences": 4, "optimizer": {"warmup_steps": 0},
    }  # fmt: skip
    (root / "in.fasta").write_text(">a\nMKVLA\n")
    final = root / "train" / "final"
    commands = [
        ("train", "--config", json.dumps(config), "--shards", shards, "--output", root / "train"),
        # transformers imports the compiler itself, so the commands are asked for Megatron-core alone
        ("evaluate", "--shards", shards, "--model", final, "--output", root / "e", "--set", "huggingface=false"),
        ("embed", "--model", final, "--fasta", root / "in.fasta", "--output", root / "embed"),
        ("convert", "--from", final / "megatron", "--to", root / "huggingface"),
    ]
    words = json.dumps([[str(word) for word in command] for command in commands])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SHOWN, words], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = [
        json.loads(line.removeprefix("loaded:")) for line in done.stdout.splitlines() if line.startswith("loaded:")
    ]
    return dict(zip((command[0] for command in commands), found, strict=True))


@pytest.mark.parametrize("command", ["train", "evaluate", "embed", "convert"])
def test_a_command_loads_no_compiler(loaded, command):
    assert loaded[command] == [[], True]
