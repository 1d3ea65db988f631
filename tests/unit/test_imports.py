"""The import direction: cli -> stage packages -> libraries -> core, files, config; no torch in the data half."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "unirefine"
TOP = {"__init__", "errors", "faults", "progress", "tools"}
DATA_HALF = (
    *("core", "files", "workflow", "dataset"),
    *("release", "records", "curate", "cluster", "split", "decontaminate", "shard"),
)
EVERYBODY = {"config", "core", "files"}
# What a package may import of unirefine beside itself and the modules at the top.
ALLOWED = {
    "config": {"files"},
    "files": set(),
    "core": {"files"},
    "workflow": EVERYBODY,
    "megatron": {"config"},
    "dataset": EVERYBODY,
    "sampling": EVERYBODY | {"dataset"},
    "model": EVERYBODY | {"megatron"},
    "shard": EVERYBODY | {"dataset"},
    "train": EVERYBODY | {"dataset", "megatron", "model", "sampling"},
    "evaluate": EVERYBODY | {"dataset", "megatron", "model", "sampling"},
    "embed": EVERYBODY | {"dataset", "megatron", "model"},
    "convert": EVERYBODY | {"megatron", "model"},
}
PACKAGES = sorted(path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists())


def imported(path: Path) -> set[str]:
    """First-level names below unirefine that a module imports anywhere in its text."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("unirefine"):
            parts = node.module.split(".")
            names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("unirefine.")}
    return names


@pytest.mark.parametrize("package", [name for name in PACKAGES if name != "cli"])
def test_a_package_imports_only_downwards(package):
    allowed = {package} | ALLOWED.get(package, EVERYBODY)
    for path in (SOURCE / package).rglob("*.py"):
        wrong = imported(path) & (set(PACKAGES) - allowed)
        assert not wrong, f"{path.relative_to(SOURCE)} imports {sorted(wrong)}"


def test_no_two_packages_may_import_each_other():
    for package, allowed in ALLOWED.items():
        assert not [other for other in allowed if package in ALLOWED.get(other, EVERYBODY) and other != package]


def test_the_top_holds_only_what_everybody_uses():
    assert {path.stem for path in SOURCE.glob("*.py")} == TOP
    for path in SOURCE.glob("*.py"):
        wrong = imported(path) & set(PACKAGES)
        assert not wrong, f"{path.name} imports {sorted(wrong)}"


def test_the_data_half_runs_without_torch():
    modules = [
        ".".join(("unirefine", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
        for package in DATA_HALF
        for path in sorted((SOURCE / package).rglob("*.py"))
    ]
    assert len(modules) > len(DATA_HALF)
    program = (
        "import importlib, sys\n"
        "sys.modules['torch'] = None\n"  # any import of it is now an error
        f"for name in {modules!r}: importlib.import_module(name)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
