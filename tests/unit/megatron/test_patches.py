"""Every patch fits the installed Megatron-core and torch, and is still needed; one that does not fits fails by name."""

import dataclasses
import functools
import importlib
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

from unirefine.megatron import patches, patching

import pytest
import torch

from unirefine.errors import UserError

# those of Transformer Engine, which no CPU imports, are tested in tests/te
NAMES = sorted(name for name, patch in patching.PATCHES.items() if patch.when != "gpu")
TARGETS = [(name, target) for name in NAMES for target in patching.PATCHES[name].targets]
CALLED = [(name, target) for name, target in TARGETS if patching.PATCHES[name].targets[target] is not None]


def holder(target: str) -> tuple[object, str]:
    """The module or class that holds a target, and its name there."""
    module, _, path = target.partition(":")
    *classes, name = path.split(".")
    return functools.reduce(getattr, classes, importlib.import_module(module)), name


def installed(name: str) -> patching.Patch:
    """The patch, unless this version of Megatron-core does not need it."""
    patch = patching.PATCHES[name]
    if not patch.concerns(patching.minor_version("megatron-core")):
        pytest.skip(f"Megatron-core needs {name} from {patch.since} to {patch.until}")
    return patch


@pytest.fixture(scope="module")
def new_process() -> subprocess.CompletedProcess[str]:
    """A process that imports Megatron through us, says so on stderr, and prints what `problem` says of each patch."""
    program = (
        "import json, sys\n"
        "import unirefine.megatron.platform, unirefine.model.esm2\n"
        "print('imported', file=sys.stderr)\n"
        "from unirefine.megatron import patching\n"
        "print(json.dumps({name: patching.problem(patch) for name, patch in patching.PATCHES.items()}))\n"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)


@pytest.fixture(scope="module")
def problems(new_process) -> dict[str, str | None]:
    """What `problem` says of each patch where nothing is patched yet."""
    return json.loads(new_process.stdout)


def test_the_import_prints_nothing(new_process):
    assert new_process.stderr.startswith("imported\n") and new_process.stdout.startswith("{")


@pytest.mark.parametrize("name", NAMES)
def test_a_patch_fits_what_is_installed(name, problems):
    assert problems[name] is None, f"patch {name} does not fit: {problems[name]}"


@pytest.mark.parametrize("name", NAMES)
def test_a_patch_is_still_needed(name):
    for file, text in installed(name).needed_by.items():
        package, _, rest = file.partition("/")
        path = Path(importlib.util.find_spec(package).submodule_search_locations[0], rest)
        assert text in path.read_text(encoding="utf-8"), f"patch {name} is no longer needed: {file} has no {text!r}"


@pytest.mark.parametrize("name", NAMES)
def test_a_patch_says_which_line_needs_it(name):
    patch = patching.PATCHES[name]
    assert patch.function.__doc__ and patch.needed_by
    assert any(Path(file).name in patch.function.__doc__ for file in patch.needed_by)


@pytest.mark.parametrize(("name", "target"), TARGETS)
def test_a_target_that_is_gone_is_reported_by_the_name_of_the_patch(name, target, monkeypatch):
    monkeypatch.delattr(*holder(target))
    with pytest.raises(UserError, match=rf"patch {name} does not fit megatron-core .*, torch .*: .* is gone") as caught:
        patching.require(patching.PATCHES[name])
    assert target in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "target"), CALLED)
def test_a_target_with_other_parameters_is_reported_by_the_name_of_the_patch(name, target, monkeypatch):
    def changed(another):
        """A function of the next release."""

    monkeypatch.setattr(*holder(target), changed)
    with pytest.raises(UserError, match=rf"patch {name} does not fit .* takes \(another\), expected \("):
        patching.require(patching.PATCHES[name])


def test_a_module_that_is_gone_is_reported_by_the_name_of_the_patch():
    moved = dataclasses.replace(patching.PATCHES["torch_adam"], targets={"megatron.core.optimizers:Adam": None})
    with pytest.raises(UserError, match=r"patch torch_adam .*: megatron\.core\.optimizers:Adam is gone"):
        patching.require(moved)


@pytest.mark.parametrize(
    ("package", "version", "bounds"),
    [
        ("megatron-core", "0.15.3", "megatron-core>=0.16,<0.20"),
        ("megatron-core", "0.20.0rc1", "megatron-core>=0.16,<0.20"),
        ("torch", "2.8.0+cpu", "torch>=2.9,<2.15"),
        ("torch", "3.0.0", "torch>=2.9,<2.15"),
    ],
)
def test_a_version_outside_the_range_is_one_line(package, version, bounds, monkeypatch):
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version if name == package else real(name))
    with pytest.raises(UserError) as caught:
        patching.check_versions()
    line = str(caught.value)
    assert line.startswith(f"{package} {version} is installed") and bounds in line and "\n" not in line


@pytest.mark.parametrize(
    ("package", "version"), [("megatron-core", "0.16.0"), ("megatron-core", "0.19.9"), ("torch", "2.9.0a0+nv25.09")]
)
def test_a_version_inside_the_range_is_taken(package, version, monkeypatch):
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version if name == package else real(name))
    patching.check_versions()


def test_the_compiler_is_back_after_the_import():
    assert torch.compile.__module__ == "torch" and sys.modules.get("wandb", True) is not None


def test_without_wandb_leaves_one_that_is_loaded(monkeypatch):
    loaded = object()
    monkeypatch.setitem(sys.modules, "wandb", loaded)
    with patches.without_wandb():
        assert sys.modules["wandb"] is loaded
    assert sys.modules["wandb"] is loaded
