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

SECONDS = 120
"""Longest time for one command. Each takes a fraction of a second; a busy machine takes its time."""


def planned() -> list:
    """(case, number) of all mutations: each case gets its share. A small number is spent on quick commands."""
    cases = [case for case in CASES if MUTATIONS >= 300 or not case.slow]
    total = sum(case.weight for case in cases)
    tests, due = [], 0.5
    for case in cases:
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
    faulthandler.dump_traceback_later(2 * SECONDS, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def words_of(case: Case, root: Path) -> list[str]:
    """The case's command in the world `root`."""
    return [str(word) for word in case.command(root, root / "out")]


def outcome(case: Case, root: Path, capfd) -> tuple[int, str, dict[str, bytes]]:
    """(status, standard error, results) of a case's command in the world `root`."""
    words = words_of(case, root)
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
    command = " ".join(words_of(case, finished))
    if command not in undamaged and not case.own:
        status, errors, undamaged[command] = outcome(case, shutil.copytree(finished, root), capfd)
        assert status == 0, errors
        shutil.rmtree(root)
    shutil.copytree(finished, root)
    changed, damage = mutated((finished / target).read_bytes(), case.kinds, case.name, number)
    (root / target).write_bytes(changed)
    status, errors, results = outcome(case, root, capfd)
    where = f"{damage} of {target}: {errors}"
    assert "Traceback" not in errors and "panicked" not in errors, where
    if status == 0 and not case.own:
        wanted = undamaged[command]
        names = {name for name in (*results, *wanted) if name != str(target)}
        different = sorted(name for name in names if results.get(name) != wanted.get(name))
        assert not different, f"accepted, and changes {different}: {where}"
    if status == 0:
        return
    assert status == 1, where
    lines = [line for line in errors.splitlines() if ": error: " in line]
    assert len(lines) == 1, where
    shutil.rmtree(root)
