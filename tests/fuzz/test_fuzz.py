"""Damaged files: one line or the right result; no traceback, signal or hang, nothing accepted that changes a result.

`make fuzz` tries 600 mutations, `make test` a few of each. A failing test is repeated by its name and the seed, which
the header of pytest's output shows.
"""

import faulthandler
import shutil
import signal
from pathlib import Path

import pytest
from cases import CASES, Case
from mutations import MUTATIONS, mutated
from world import build, listing

from unirefine.cli.main import main

SECONDS = 30
"""Longest time for one command; on this much damaged data each takes a fraction of a second."""


def planned() -> list:
    """(case, number) of all mutations: each case gets its share, at least one in a whole run of 600."""
    total = sum(case.weight for case in CASES)
    tests, due = [], 0.5
    for case in CASES:
        due += MUTATIONS * case.weight / total
        for number in range(int(due)):
            tests.append(pytest.param(case, number, id=f"{case.name}-{number}"))
        due -= int(due)
    return tests


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A finished run. Not to be changed."""
    return build(tmp_path_factory.mktemp("fuzz") / "world")


@pytest.fixture(scope="session")
def undamaged() -> dict[str, dict]:
    """Results of commands on undamaged files, by the command's words; filled as they are needed."""
    return {}


@pytest.fixture(autouse=True)
def deadline():
    """Raise TimeoutError in a command that hangs; end the process where even that does not help."""

    def hung(_number: int, _frame: object) -> None:
        raise TimeoutError(f"no end after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(SECONDS)
    faulthandler.dump_traceback_later(3 * SECONDS, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def outcome(case: Case, root: Path, capfd) -> tuple[int, str, dict[str, bytes]]:
    """(status, standard error, results) of a case's command in the world `root`."""
    out = root / "out"
    words = [str(word) for word in case.command(root, out)]
    status = main(words)
    printed = capfd.readouterr()
    results = {"output": printed.out.encode()} if words[0] in ("trace", "lineage") else {}
    return status, printed.err, results | listing(root)


@pytest.mark.parametrize(("case", "number"), planned())
def test_damage(case, number, finished, undamaged, tmp_path, capfd):
    root = tmp_path / "w"  # of one length: paths are in some results
    files = sorted(path for path in finished.glob(case.file) if path.is_file())
    assert files, case.file
    target = files[number % len(files)].relative_to(finished)
    if case.name not in undamaged:
        status, errors, undamaged[case.name] = outcome(case, shutil.copytree(finished, root), capfd)
        assert status == 0, errors
        shutil.rmtree(root)
    shutil.copytree(finished, root)
    changed, damage = mutated((finished / target).read_bytes(), case.kinds, case.name, number)
    (root / target).write_bytes(changed)
    status, errors, results = outcome(case, root, capfd)
    where = f"{damage} of {target}: {errors}"
    assert "Traceback" not in errors and "panicked" not in errors, where
    if status == 0:
        if not case.own:
            different = [name for name in {**results, **undamaged[case.name]}
                         if name != str(target) and results.get(name) != undamaged[case.name].get(name)]  # fmt: skip
            assert not different, f"accepted, and changes {different}: {where}"
        return
    assert status == 1, where
    lines = [line for line in errors.splitlines() if ": error: " in line]
    assert len(lines) == 1, where
    shutil.rmtree(root)
