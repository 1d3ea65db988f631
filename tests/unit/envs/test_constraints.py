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


def names(lines: list[str]) -> list[str]:
    return [line.split("==")[0] for line in lines]


def test_what_the_image_brings_stays_and_all_else_is_locked():
    found = constraints("torch==2.9.0a0+50eac811a6.nv25.9\nTyping_Extensions==4.15.0\nno-version\n")
    assert found[:2] == ["torch==2.9.0a0+50eac811a6.nv25.9", "Typing_Extensions==4.15.0"]
    assert "torch" not in names(found[1:])
    assert "typing-extensions" not in names(found)
    locked = [
        line.removesuffix(" \\") for line in (ROOT / "envs/lock.txt").read_text().splitlines() if line[0] not in "# "
    ]
    assert found[2:] == [line for line in locked if not line.startswith(("torch==", "typing-extensions=="))]


def test_megatron_is_the_one_that_was_tested():
    assert "megatron-core==0.1" not in constraints("megatron-core==0.1\n")
    assert "megatron-core==0.19.2 ; python_full_version >= '3.12'" in constraints("megatron-core==0.1\n")


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
