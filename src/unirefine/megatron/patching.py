"""What a patch of Megatron-core or torch is, the versions it was written for, and whether it fits what is installed."""

import functools
import importlib
import importlib.metadata
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from unirefine.errors import UserError

VERSIONS = {"megatron-core": ((0, 16), (0, 19)), "torch": ((2, 9), (2, 14))}
"""First and last minor version for which the patches were written. pyproject.toml has the same bounds."""

When = Literal["import", "always", "cpu", "gpu"]
"""While Megatron is imported on a CPU; in `patches.apply`; there on a CPU; there on a GPU."""


@dataclass(frozen=True, kw_only=True)
class Patch:
    """A change to Megatron-core or torch."""

    name: str
    when: When
    targets: Mapping[str, tuple[str, ...] | None]
    """What is replaced or called, as `module:attribute`, and its parameters (None: not checked)."""
    needed_by: Mapping[str, str]
    """Files of installed packages, each with text from a line that needs the patch."""
    since: tuple[int, int]
    """First version of Megatron-core with those lines. Earlier ones are not patched."""
    until: tuple[int, int]
    """Last version with those lines. Later ones are not patched."""
    function: Callable[[], Any]

    def concerns(self, version: tuple[int, int]) -> bool:
        """Whether a version of Megatron-core needs it."""
        return self.since <= version <= self.until


PATCHES: dict[str, Patch] = {}
"""By name, in the order of patches.py."""


def patch(
    when: When,
    *,
    targets: Mapping[str, tuple[str, ...] | None],
    needed_by: Mapping[str, str],
    since: tuple[int, int] = VERSIONS["megatron-core"][0],
    until: tuple[int, int] = VERSIONS["megatron-core"][1],
) -> Callable[[Callable], Callable]:
    """Register the decorated function as a patch. The arguments are the fields of `Patch`."""

    def register(function: Callable) -> Callable:
        name = function.__name__
        PATCHES[name] = Patch(
            name=name, when=when, targets=targets, needed_by=needed_by, since=since, until=until, function=function
        )
        return function

    return register


def minor_version(package: str) -> tuple[int, int]:
    """(major, minor) of an installed package: (2, 9) of `2.9.0a0+nv25.09`."""
    major, minor = importlib.metadata.version(package).split(".")[:2]
    return int(major), int(minor)


def check_versions() -> None:
    """Raise UserError when an installed version is outside VERSIONS."""
    for package, (first, last) in VERSIONS.items():
        if not first <= minor_version(package) <= last:
            bounds = f"{package}>={first[0]}.{first[1]},<{last[0]}.{last[1] + 1}"
            raise UserError(
                f"{package} {importlib.metadata.version(package)} is installed; unirefine patches its internals and "
                f"was written for {first[0]}.{first[1]} to {last[0]}.{last[1]}",
                fix=f"pip install '{bounds}'",
            )


def problem(checked: Patch) -> str | None:
    """The first target of a patch that is missing or takes other parameters, in words; None when all is well."""
    for target, parameters in checked.targets.items():
        module, _, attribute = target.partition(":")
        *classes, name = attribute.split(".")
        try:
            owner = functools.reduce(getattr, classes, importlib.import_module(module))
            if isinstance(owner, type) and name not in vars(owner):  # inherited: it is not there to be replaced
                raise AttributeError
            found = getattr(owner, name)
        except (ImportError, AttributeError):
            return f"{target} is gone"
        if parameters is not None and tuple(inspect.signature(found).parameters) != parameters:
            return f"{target} takes {inspect.signature(found)}, expected ({', '.join(parameters)})"
    return None


def require(checked: Patch) -> None:
    """Raise UserError, with the name of the patch, when it does not fit what is installed."""
    wrong = problem(checked)
    if wrong is not None:
        installed = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in VERSIONS)
        raise UserError(
            f"patch {checked.name} does not fit {installed}: {wrong}",
            fix="install the versions in constraints.txt",
        )
