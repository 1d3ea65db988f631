"""envs/step.sh: what `make` prints while it installs."""

import os
import subprocess
from pathlib import Path

STEP = Path(__file__).parents[3] / "envs/step.sh"


def step(log, command):
    environment = os.environ | {"STEP_SECONDS": "0.1"}
    return subprocess.run(
        [STEP, log, "1/4 packages", "bash", "-c", command], capture_output=True, text=True, env=environment, timeout=60
    )


def test_a_long_list_of_packages_is_their_number(tmp_path):
    packages = ", ".join(f"package-{number}" for number in range(87))
    done = step(tmp_path / "log", f"echo 'Installing collected packages: {packages}'; sleep 0.5")
    first, *lines = done.stdout.splitlines()
    assert first == "== 1/4 packages"
    assert lines[0].endswith("s  installing 87 packages") and max(map(len, lines)) < 80
    assert done.returncode == 0 and done.stderr == ""


def test_what_fails_shows_the_end_of_its_log(tmp_path):
    done = step(tmp_path / "log", f"seq 50; echo {'x' * 200}; sleep 0.3; exit 3")
    assert done.returncode == 3
    assert max(map(len, done.stdout.splitlines())) < 90
    assert done.stderr.splitlines()[0] == "32"
