"""What pip is told inside an image: envs/constraints.py with this environment's own list of packages."""

import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]


def constraints(brought: str) -> list[str]:
    """Its output for an image with these packages, without the lines of hashes."""
    done = subprocess.run(
        [sys.executable, ROOT / "envs/constraints.py", ROOT / "envs/lock.txt"],
        input=brought, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [line.removesuffix(" \\") for line in done.stdout.splitlines() if "--hash=" not in line]


def test_what_the_image_brings_stays_and_all_else_is_locked():
    found = constraints("torch==2.9.0a0+50eac811a6.nv25.9\nImportlib_Metadata==8.7.0\nno-version\n")
    assert found[:2] == ["torch==2.9.0a0+50eac811a6.nv25.9", "Importlib_Metadata==8.7.0"]
    lock = (ROOT / "envs/lock.txt").read_text().splitlines()
    locked = [line.removesuffix(" \\") for line in lock if line[0] not in "# "]
    assert found[2:] == [line for line in locked if not line.startswith(("torch==", "importlib-metadata=="))]


@pytest.mark.parametrize(
    ("brought", "taken"),
    [
        ("megatron-core==0.1", "megatron-core==0.19.2 ; python_full_version >= '3.12'"),
        ("typing_extensions==4.15.0", "typing-extensions==4.16.0"),
    ],
)
def test_what_is_taken_from_the_lock_whatever_the_image_brings(brought, taken):
    found = constraints(f"{brought}\n")
    assert brought not in found and taken in found


def pinned(text: str) -> set[str]:
    return {line.split("==")[0] for line in text.splitlines() if line and line[0] != "#"}


def test_what_pyproject_asks_for_is_pinned():
    """Except Transformer Engine, which comes with the image."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    wanted = {re.split(r"[\[<>=; ]", each, maxsplit=1)[0] for each in asked} - {"unirefine", "transformer-engine"}
    assert wanted <= pinned((ROOT / "constraints.txt").read_text())


def test_the_bounds_admit_the_pinned_versions():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    bounds = {found.name: found.specifier for found in map(Requirement, asked)}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and line[0] != "#" and (pin := Requirement(line)).name in bounds:
            (version,) = pin.specifier
            assert version.version in bounds[pin.name], line


@pytest.mark.parametrize("recipe", ["Dockerfile", "unirefine.def"])
def test_the_images_can_train_and_search_designs(recipe):
    assert "requirements.py train designs" in (ROOT / "envs" / recipe).read_text()
