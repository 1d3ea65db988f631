"""`pip install unirefine` is the data half: what works without the extras, and what is said where one is missing."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from unirefine.cli.main import STAGES
from unirefine.core.levels import DATA_STAGES
from unirefine.faults import EXTRAS, as_user_error

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DATA_HALF = (*DATA_STAGES, "dataset", "workflow", "trace", "export")
DISTRIBUTIONS = {
    "megatron": "megatron-core",
    "huggingface_hub": "huggingface-hub",
    "Bio": "biopython",
    "transformer_engine": "transformer-engine",
    "sklearn": "scikit-learn",
    "umap": "umap-learn",
}


def name_of(requirement: str) -> str:
    return re.split(r"[\[<>=; ]", requirement, maxsplit=1)[0]


def without_extras(program: str, directory: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A Python in which no package of an extra can be imported. (Snakemake brings jinja2.)"""
    missing = [module for module in EXTRAS if module != "jinja2"]
    lines = ["import sys, importlib", *(f"sys.modules[{module!r}] = None" for module in missing), program]
    return subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=directory, capture_output=True, text=True, check=False
    )


def test_an_extra_is_named_for_each_of_its_packages():
    extras = {name: {name_of(each) for each in needed} for name, needed in PROJECT["optional-dependencies"].items()}
    for module, extra in EXTRAS.items():
        assert DISTRIBUTIONS.get(module, module) in extras[extra], (module, extra)
    known = {DISTRIBUTIONS.get(module, module) for module in EXTRAS}
    # an extra that adds to another names unirefine itself
    assert known == set().union(*(extras[extra] for extra in set(EXTRAS.values()))) - {"unirefine"}
    assert not known & {name_of(each) for each in PROJECT["dependencies"]}


def test_the_data_half_and_every_command_load_without_extras():
    modules = [
        ".".join(("unirefine", *path.relative_to(ROOT / "src/unirefine").with_suffix("").parts))
        for package in (*DATA_HALF, "config", "core", "files", "cli")
        for path in sorted((ROOT / "src/unirefine" / package).rglob("*.py"))
        if path.name != "designs.py"  # of the extra `designs`
    ]
    assert len(modules) > 80
    done = without_extras(
        f"for name in {modules!r}: importlib.import_module(name.removesuffix('.__init__'))\n"
        "from unirefine.cli.main import main\n"
        f"for stage in {list(STAGES)!r}:\n"
        "    try: main([stage, '--help'])\n"
        "    except SystemExit as end: assert end.code == 0, stage"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: unirefine") == len(STAGES)


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        (["convert", "--from", "x", "--to", "y"], "torch", "train"),
        (["crate", "--results", "x", "--output", "y"], "rocrate", "crate"),
        (["crate", "--export", "x", "--output", "y"], "mlcroissant", "croissant"),
        (["cards", "--results", "x"], "huggingface_hub", "train"),
        (["finetune", "--model", "x", "--table", "t", "--output", "o"], "torch", "train"),
    ],
)
def test_a_command_without_its_extra_is_one_line(command, module, extra, tmp_path):
    (tmp_path / "x/shard").mkdir(parents=True)
    done = without_extras(f"from unirefine.cli.main import main\nsys.exit(main({command!r}))", tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        f"unirefine {command[0]}: error: {module} is not installed; pip install 'unirefine[{extra}]'\n"
    )


def test_a_module_of_no_extra_is_a_bug():
    assert as_user_error(ModuleNotFoundError("No module named 'x'", name="x")) is None
    assert as_user_error(ModuleNotFoundError("gone")) is None
