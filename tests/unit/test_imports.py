"""The import direction: cli -> stage packages -> libraries -> core, files, config; no torch in the data half."""

import ast
import graphlib
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from unirefine.core.levels import STAGES

SOURCE = Path(__file__).parents[2] / "src" / "unirefine"
TOP = {"__init__", "errors", "faults", "numba_cache", "progress", "terminal", "tools"}
DATA_HALF = (
    *("core", "files", "workflow", "dataset", "similarity"),
    *("release", "records", "curate", "cluster", "split", "decontaminate", "shard", "export"),
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
    "loading": EVERYBODY | {"dataset", "sampling"},
    "model": EVERYBODY | {"megatron"},
    "similarity": EVERYBODY,
    "decontaminate": EVERYBODY | {"similarity"},
    "shard": EVERYBODY | {"dataset"},
    "export": EVERYBODY | {"dataset"},
    "train": EVERYBODY | {"dataset", "megatron", "model", "sampling"},
    "evaluate": EVERYBODY | {"dataset", "megatron", "model", "report", "sampling", "similarity"},
    "embed": EVERYBODY | {"dataset", "megatron", "model", "similarity"},
    "convert": EVERYBODY | {"megatron", "model"},
    "verify": EVERYBODY | {"dataset", "megatron", "model"},
    "audit": EVERYBODY | {"dataset", "similarity", "report"},
    "finetune": EVERYBODY | {"embed", "evaluate", "megatron", "model", "report", "similarity"},
}
ENTRY_POINTS = [
    *("release.fetch", "release.archive", "release.collect", "records.run", "curate.run", "cluster.run", "split.run"),
    *("decontaminate.prepare", "decontaminate.search", "decontaminate.remove", "decontaminate.audit", "shard.run"),
    *(
        "train.run",
        "evaluate.run",
        "evaluate.variants",
        "evaluate.contacts",
        "evaluate.proteingym",
        "evaluate.contact_head",
        "evaluate.suite",
        "embed.run",
        "convert.run",
    ),
    *("export.run", "report.run", "cards.run", "crate.run", "crate.croissant", "verify.run"),
    *("audit.run", "compare.run", "finetune.run", "finetune.predict"),
]
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


def test_what_is_allowed_has_no_cycle():
    graph = {package: ALLOWED.get(package, EVERYBODY) - {package} for package in PACKAGES}
    assert list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle


def test_what_packages_import_has_no_cycle():
    graph = {
        package: {name for path in (SOURCE / package).rglob("*.py") for name in imported(path)}
        & set(PACKAGES) - {package}
        for package in PACKAGES
    }
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_names_of_the_tree_are_those_of_the_workflow():
    """Stage, package, command and rules have one name."""
    rules = {path.stem for path in (SOURCE.parents[1] / "workflow/rules").glob("*.smk")}
    for stage in STAGES:
        assert stage in PACKAGES
        assert (SOURCE / "cli" / f"{stage}.py").exists()
        assert stage in rules


@pytest.mark.parametrize("module", ENTRY_POINTS)
def test_a_stage_is_called_through_run(module):
    assert callable(importlib.import_module(f"unirefine.{module}").run)


@pytest.mark.parametrize(
    ("wanted", "only"),
    [
        ("snakemake", {"workflow/snakemake.py"}),
        ("pyarrow.parquet", {"core/parquet.py"}),  # writes and checks checksums
        ("pickle", {"megatron/plain_pickle.py"}),  # builds known classes only
    ],
)
def test_only_one_module_uses(wanted, only):
    users = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.startswith(wanted) for name in names):
                users.add(path.relative_to(SOURCE).as_posix())
    assert users == only
    text = "".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    assert "scan_parquet" not in text and "read_parquet" not in text, "polars does not check checksums"


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
