"""The import direction: cli -> stage package -> top-level modules; stages never import each other; no torch in data."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "unirefine"
DATA_HALF = ("release", "records", "curate", "cluster", "split", "decontaminate", "shards")
# What a package may import of unirefine beside the top-level modules and config.
ALLOWED = {
    "sampling": {"shards"},
    "model": {"train"},  # train.platform: where CPU and GPU differ
    "train": {"model", "sampling", "shards"},
    "evaluate": {"model", "train", "sampling", "shards"},
    "embed": {"model", "train", "shards"},
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
    others = (set(PACKAGES) | {"cli"}) - {package, "config"}
    for path in (SOURCE / package).rglob("*.py"):
        wrong = imported(path) & (others - ALLOWED.get(package, set()))
        assert not wrong, f"{path.relative_to(SOURCE)} imports {sorted(wrong)}"


def test_top_level_modules_import_no_stage():
    for path in SOURCE.glob("*.py"):
        wrong = imported(path) & (set(PACKAGES) - {"config"})
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
