"""What an installation of unirefine needs, as pip takes it: the requirements of the data half and of some extras.

    python envs/requirements.py train > requirements.txt
    pip install --require-hashes --only-binary :all: --constraint envs/lock.txt --requirement requirements.txt

pip has no hash of a checkout, so unirefine itself is installed after them, with --no-deps.
"""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def requirements(project: dict[str, Any], extras: list[str]) -> list[str]:
    """Requirements of the table `project` of a pyproject.toml with these extras, and with the extras that they name."""
    found = list(project["dependencies"])
    for extra in extras:
        for line in project["optional-dependencies"][extra]:
            own = re.fullmatch(r"unirefine\[(.*)\]", line)
            found += requirements(project, own[1].split(",")) if own else [line]
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    text = PYPROJECT.read_text(encoding="utf-8")
    print("\n".join(requirements(tomllib.loads(text)["project"], sys.argv[1:])))
