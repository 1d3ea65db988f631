"""`unirefine run`: which config, which profile, and the Snakemake command that they make."""

import difflib
import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from unirefine.config import load_config
from unirefine.errors import UserError
from unirefine.files.atomic import atomic_path
from unirefine.files.home import CHECKOUT, HOME, SNAKEFILE

PLUGINS = {
    "slurm": ("snakemake_executor_plugin_slurm", "slurm"),
    "s3": ("snakemake_storage_plugin_s3", "storage"),
}
"""What a profile of ours needs: the module, and the extra of unirefine that brings it."""
DEMO_FILES = ("resources/demo/purge.txt", "resources/demo/lab.fasta.gz")
"""What the shipped configs name by a path relative to the working directory."""


def config_file(name: str) -> Path:
    """The config that `name` means: a file, or a shipped config, which is copied to config/ unless it is there.

    Raises UserError for a file that is missing, with the nearest name that there is.
    """
    path = Path(name)
    if path.is_file() or path.suffix in (".yaml", ".yml", ".json") or len(path.parts) > 1:
        check_config_file(path)
        return path
    shipped = {file.stem: file for file in (HOME / "config").glob("*.yaml") if file.stem != "config"}
    if name not in shipped:
        near = difflib.get_close_matches(name, shipped, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"shipped are {', '.join(sorted(shipped))}"
        raise UserError(f"{name!r} is no config file, and none is shipped under this name", fix=hint)
    local = Path("config") / f"{name}.yaml"
    for file in (local, Path("config/schema.json"), *map(Path, DEMO_FILES)):
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(file) as temporary:
                shutil.copyfile(HOME / file, temporary)
            print(f"unirefine run: wrote {file}", file=sys.stderr)
    return local


def check_config_file(path: Path) -> None:
    """Raises UserError for a config file that is missing or is a directory, with the nearest name that there is."""
    if path.is_dir():
        raise UserError("a directory, not a config file", where=path, fix="name a file in it")
    if not path.exists():
        raise UserError("no such config file", where=path, fix=_advice(path))


def _advice(path: Path) -> str:
    beside = path.parent if path.parent.is_dir() else Path()
    found = [str(file) for kind in ("*.yaml", "*.yml") for file in [*beside.glob(kind), *Path().glob(f"config/{kind}")]]
    near = difflib.get_close_matches(str(path), found, n=1, cutoff=0.7)
    return f"did you mean {near[0]}?" if near else "`unirefine init` writes one, `unirefine run demo` needs none"


def make_demo_site(config: Path) -> None:
    """Build the miniature UniProt site that the demo downloads from, unless it is there or the config names another."""
    site = Path("results/site")
    if f"file:{site}" not in load_config(config).release.mirrors or (site / "done").exists():
        return
    print("unirefine run: building the demo's miniature UniProt site in results/site", file=sys.stderr)
    sys.path.insert(0, str(HOME / "resources"))
    try:
        from minisite.site import build_demo  # ty: ignore[unresolved-import]
    finally:
        sys.path.pop(0)
    build_demo(site)
    (site / "done").touch()


def profile_directory(name: str) -> Path:
    """The directory of a profile: a directory that is there, else one of ours by its name.

    Raises UserError where there is none, or where the plugin that it needs is not installed.
    """
    if (Path(name) / "config.yaml").is_file():
        return Path(name)
    ours = HOME / "profiles" / name
    if Path(name).name != name or not (ours / "config.yaml").is_file():
        known = ", ".join(sorted(path.name for path in (HOME / "profiles").iterdir()))
        raise UserError("no such profile: no directory with a config.yaml", where=name, fix=f"ours are {known}")
    module, extra = PLUGINS.get(name, ("snakemake", ""))
    if importlib.util.find_spec(module) is None:
        raise UserError(f"profile {name} needs {module}", fix=f"pip install 'unirefine[{extra}]'")
    return ours


def command(config: Path, profile: Path, words: Sequence[str]) -> list[str]:
    """The words after `snakemake`. words: targets, and further options of Snakemake."""
    # --configfile last: it takes every word after it for another config file
    here = [] if HOME == CHECKOUT == Path.cwd() else ["--snakefile", _short(SNAKEFILE)]
    return [*words, *here, "--profile", _short(profile), "--configfile", str(config)]


def _short(path: Path) -> str:
    """Relative to the working directory where it is below that."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def replace_process(words: Sequence[str]) -> None:
    """Print the command and become Snakemake, with `unirefine` on PATH for its jobs. Does not return."""
    print(f"unirefine run: snakemake {shlex.join(words)}", file=sys.stderr, flush=True)
    programs = [str(Path(sys.argv[0]).absolute().parent), str(Path(sys.executable).parent)]
    paths = [] if shutil.which("unirefine") else programs
    environment = os.environ | {"PATH": os.pathsep.join([*paths, os.environ.get("PATH", os.defpath)])}
    os.execve(sys.executable, [sys.executable, "-m", "snakemake", *words], environment)
