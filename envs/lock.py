"""Write envs/lock.txt and envs/pip.txt: the packages of constraints.txt with the sha256 of every file that PyPI has.

    make lock        # after a change of constraints.txt; needs uv (pip install uv)

uv resolves for Python 3.11 (from 3.11.5, which the site needs) and 3.12 on every platform at once, with the versions of
constraints.txt; what these ask for besides (CUDA's packages for torch) is in the lock only. pip takes the lock as
constraints: a package that is not in it, or whose file has another hash, is refused. What is not asked for is not
installed.
"""

import subprocess
from pathlib import Path

from constraints import entries

ROOT = Path(__file__).parents[1]
ALONE = ("mosaicml-streaming", "pip", "roc-validator", "setuptools", "wheel")
"""Packages of constraints.txt that no other asks for, or that are installed without their requirements."""
HEADER = (
    "# Written by envs/lock.py from constraints.txt (make lock). Each file of these packages on PyPI, by its sha256."
)


def pins() -> dict[str, list[str]]:
    """The lines of constraints.txt by name: one, or one for each Python."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            found.setdefault(line.partition("==")[0], []).append(line)
    return found


def compiled(*arguments: str, stdin: str | None = None) -> str:
    """What `uv pip compile` makes of these arguments."""
    command = ["uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-annotate", "--no-header"]
    command += ["--python-version", "3.11.5", "--constraint", "constraints.txt", *arguments]
    return subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, text=True, check=True).stdout


def main() -> None:
    """Write both files."""
    alone = [line for name in ALONE for line in pins()[name]]
    found = set(entries(compiled("--extra", "dev", "pyproject.toml")))
    found |= set(entries(compiled("--no-deps", "-", stdin="\n".join(alone))))
    (ROOT / "envs/lock.txt").write_text("\n".join([HEADER, *sorted(found)]) + "\n")
    pip = next(entry for entry in found if entry.startswith("pip=="))
    (ROOT / "envs/pip.txt").write_text(f"{HEADER}\n{pip}\n")


if __name__ == "__main__":
    main()
