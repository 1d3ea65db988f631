"""`unirefine run`: from the wheel in an empty directory, and the commands that it makes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from unirefine.cli.main import main
from unirefine.files.home import SNAKEFILE
from unirefine.workflow import start

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """(directory of the installed wheel, environment): built from a copy, so that nothing is left in the checkout."""
    base = tmp_path_factory.mktemp("wheel")
    kept = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "--", "src", "workflow", "profiles", "config", "resources",
         "envs", "*.toml", "*.py", "README.md", "LICENSE", "Snakefile", "MANIFEST.in"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in kept.stdout.splitlines():
        if (ROOT / name).exists() and name.split("/")[0] != "tests":
            (base / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, base / "copy" / name)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-compile"]
    subprocess.run([*pip, "--no-index", "--target", str(base / "site"), str(base / "copy")], check=True)
    path = os.pathsep.join([str(base / "site/bin"), os.environ["PATH"]])
    return base / "site", os.environ | {"PYTHONPATH": str(base / "site"), "PATH": path}


def test_the_wheel_plans_the_demo_in_an_empty_directory(installed, tmp_path):
    site, environment = installed
    done = subprocess.run(
        [site / "bin/unirefine", "run", "demo", "-n"], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "unirefine run: wrote config/demo.yaml" in done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["release", "records", "curate"]
    assert lines[-1] == "22 of 22 jobs would run; nothing was started"
    assert {path.name for path in tmp_path.iterdir()} <= {"config", "resources", ".snakemake"}
    for name in ("workflow", "profiles", "config"):
        files = {path.relative_to(ROOT) for path in (ROOT / name).rglob("*") if path.is_file()}
        assert {path for path in files if not (site / "unirefine/checkout" / path).exists()} == set(), name


@pytest.fixture
def started(monkeypatch, tmp_path):
    """(words of `unirefine run`) -> the words of the command that it becomes, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(start, "make_demo_site", lambda config: None)
    commands = []
    monkeypatch.setattr(os, "execve", lambda program, words, environment: commands.append(words))

    def run(*words):
        assert main(["run", *words]) == 0
        return commands.pop()[2:]

    return run


def test_the_command_has_the_profile_of_the_package_and_the_config_last(started, capsys):
    local, slurm = (str(ROOT / "profiles" / name) for name in ("local", "slurm"))
    here = ["--snakefile", str(SNAKEFILE)]
    demo = ["--configfile", "config/demo.yaml"]
    assert started("demo") == ["snakemake", *here, "--profile", local, *demo]
    assert capsys.readouterr().err.splitlines()[-1].startswith("unirefine run: snakemake --snakefile ")
    assert started("config/demo.yaml", "shard", "--cores", "3", "--profile", "slurm") == [
        *("snakemake", "shard", "--cores", "3"), *here, "--profile", slurm, *demo,
    ]  # fmt: skip
    assert started("demo", "-n", "--verbose") == ["snakemake", "--dry-run", *here, "--profile", local, *demo]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["dmeo"], "'dmeo' is no config file, and none is shipped under this name; did you mean 'demo'?"),
        (["my/cofig.yaml"], "my/cofig.yaml: no such config file; did you mean my/config.yaml?"),
        (["demo", "--profile", "slrum"], "slrum: no such profile: no directory with a config.yaml; ours are local"),
        (["my/config.yaml", "-n"], "my/config.yaml: unknown key 'rnu'; did you mean 'run'?"),
    ],
)
def test_a_wrong_name_is_one_line(monkeypatch, tmp_path, capsys, words, says):
    monkeypatch.chdir(tmp_path)
    Path("my").mkdir()
    Path("my/config.yaml").write_text("rnu: {name: x}\n")
    assert main(["run", *words]) == 1
    assert f"unirefine run: error: {says}" in capsys.readouterr().err


def test_the_plan_knows_targets_and_what_is_forced(finished, monkeypatch, capsys):
    monkeypatch.chdir(finished.directory)
    assert main(["run", "small.yaml", "-n"]) == 0
    assert "nothing to do: all " in capsys.readouterr().out.splitlines()[-1]
    assert main(["run", "-n", "small.yaml", "split", "-R", "split"]) == 0
    stages = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()[1:-1]}
    assert stages["split"] == ["stale", "1/1", "asked", "for"]
    assert stages["cluster"] == ["done", "0/1"] and "train" not in stages


@pytest.mark.parametrize("options", [("--configfile", "my/cofig.yaml"), ("--configfiles", "my/config.yaml", "my")])
def test_a_wrong_configfile_of_snakemake_is_one_line(tmp_path, options):
    (tmp_path / "my").mkdir()
    (tmp_path / "my/config.yaml").write_text("run: {name: x}\n")
    command = [sys.executable, "-m", "snakemake", "-n", *options]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    line = {
        "my/cofig.yaml": "my/cofig.yaml: no such config file; did you mean my/config.yaml?",
        "my": "my: a directory, not a config file; name a file in it",
    }[options[-1]]
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"snakemake: error: {line}\n")
