"""`unirefine train` as one command: stopped, killed, and with broken input."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from forked import Forked

from unirefine.cli import main as cli
from unirefine.train.checkpoints import complete
from unirefine.train.metrics import read

pytestmark = pytest.mark.distributed

CONFIG = {
    "model": {"preset": None, "layers": 2, "hidden": 32, "heads": 2},
    "sampling": {"max_tokens": 64},
    "parallel": {"processes_per_node": 2},
    "optimizer": {"lr": 1e-3, "warmup_steps": 3},
    "steps": 12, "global_batch": 8, "micro_batch": 4, "precision": "fp32",
    "validate_every": 1000, "checkpoint_every": 10, "keep_checkpoints": 100, "log_every": 1,
}  # fmt: skip
ALONE = CONFIG | {"parallel": {"processes_per_node": 1}}
INTERVAL = CONFIG["checkpoint_every"]
STEPS = 80
"""Of the long run: enough that it is still running when a test has seen the step that it waited for."""


def start(
    config: dict, shards: Path, output: Path, environment: dict | None = None, *, new: bool = False, **options
) -> subprocess.Popen | Forked:
    """Start `unirefine train` in the background, with additional environment variables.

    new: as a new process whose launcher starts new ones, as a user's; else all are forks. options: of Forked.
    """
    command = ["train", "--config", json.dumps(config), "--shards", str(shards), "--output", str(output)]
    inherited = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    variables = inherited | {"OMP_NUM_THREADS": "2", "UNIREFINE_SHUTDOWN_S": "3"} | (environment or {})
    if not new:
        return Forked("unirefine", command, environment=variables, **options)
    return subprocess.Popen(
        [sys.executable, "-m", "unirefine.cli.main", *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables,
    )  # fmt: skip


def finish(process: subprocess.Popen | Forked) -> tuple[int, str, list[str]]:
    """Exit status, standard output, and the error lines of the command itself, beside which nothing is raw."""
    try:
        out, err = process.communicate(timeout=400)
    finally:
        process.kill()  # its workers die with it
    assert "Traceback" not in err and "torch/distributed" not in err, err
    return process.returncode, out, [line for line in err.splitlines() if line.startswith("unirefine train: error:")]


def run(config: dict, shards: Path, output: Path, **options) -> tuple[int, str, list[str]]:
    return finish(start(config, shards, output, **options))


def meet(config: dict, shards: Path, output: Path) -> list[Forked]:
    """Start the launchers of two nodes, which meet at a port of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # as the nodes share a machine, each has one thread
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    return [start(config, shards, output, environment=meeting) for _ in range(2)]


def wait_for_step(output: Path, step: int, process: subprocess.Popen | Forked) -> None:
    """Wait until metrics.jsonl has a line for `step`."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        path = output / "metrics.jsonl"
        if path.exists() and path.read_text().count("\n") >= step:
            return
        time.sleep(0.05)
    raise AssertionError(process.communicate())


def workers_of(launcher: int) -> list[int]:
    """Process ids of the training processes that a launcher started."""
    return [child.pid for child in psutil.Process(launcher).children()]


def running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for_end(pids: list[int]) -> None:
    """Wait until no process is left: a killed one keeps its locks until the kernel has torn it down."""
    deadline = time.monotonic() + 20
    while left := [pid for pid in pids if running(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def losses(output: Path) -> list[float]:
    lines = read(output / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [line["loss"] for line in lines]


@pytest.fixture(scope="module")
def long_run(shards, tmp_path_factory) -> Path:
    """The uninterrupted run, whose losses the interrupted ones must repeat."""
    output = tmp_path_factory.mktemp("long") / "train"
    code, out, errors = run(CONFIG | {"steps": STEPS}, shards, output)
    assert (code, errors) == (0, [])
    assert f"trained {STEPS} steps" in out
    return output


def stopped_at(long_run: Path, step: int, target: Path) -> Path:
    """A copy of the long run, as if it had been interrupted just after the checkpoint of `step`."""
    shutil.copytree(long_run, target)
    shutil.rmtree(target / "final")
    for path in complete(target / "checkpoints"):
        if step_of(path) > step:
            shutil.rmtree(path)
    return target


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def test_after_every_kind_of_stop_a_run_repeats_the_losses_of_an_uninterrupted_one(shards, tmp_path, long_run):
    config = CONFIG | {"steps": STEPS}
    checkpoints = tmp_path / "checkpoints"

    # SIGTERM saves, and nothing else has
    first = start(config | {"checkpoint_every": 1000}, shards, tmp_path)
    wait_for_step(tmp_path, 5, first)
    first.send_signal(signal.SIGTERM)
    code, out, errors = finish(first)
    assert (code, errors) == (75, [])
    assert "checkpoint saved" in out
    (saved,) = complete(checkpoints)
    assert 5 <= step_of(saved) < STEPS
    assert not (tmp_path / "final").exists()

    # kill -9 of everything during the next save costs only that checkpoint
    second = start(config, shards, tmp_path)
    wait_for_step(tmp_path, step_of(saved) + 1, second)
    workers = workers_of(second.pid)
    deadline = time.monotonic() + 120
    while not (saving := list(checkpoints.glob(".step-*"))) and time.monotonic() < deadline:
        time.sleep(0.001)  # a save takes some tenths of a second
    for pid in (second.pid, *workers):
        os.kill(pid, signal.SIGKILL)
    second.communicate()
    wait_for_end(workers)
    (torn,) = saving
    assert torn.exists(), "not killed in the middle of the save"
    lost = int(re.search(r"\d+", torn.name)[0])
    saves = range((step_of(saved) // INTERVAL + 1) * INTERVAL, lost, INTERVAL)
    assert [step_of(path) for path in complete(checkpoints)] == [step_of(saved), *saves]

    # kill -9 of one process ends the job with one line, and costs at most the steps since the last checkpoint
    third = start(config, shards, tmp_path)
    wait_for_step(tmp_path, lost + 5, third)
    os.kill(workers_of(third.pid)[1], signal.SIGKILL)
    killed = time.monotonic()
    code, _, errors = finish(third)
    assert time.monotonic() - killed < 30
    assert code == 1
    assert len(errors) == 1
    assert "start again to continue" in errors[0]
    last = complete(checkpoints)[-1]
    assert step_of(last) >= lost
    assert len(read(tmp_path / "metrics.jsonl")) - step_of(last) <= INTERVAL

    code, _, errors = run(config, shards, tmp_path)
    assert (code, errors) == (0, [])
    assert not torn.exists()
    assert losses(tmp_path) == pytest.approx(losses(long_run), abs=1e-12)


def test_launchers_of_two_nodes_meet_and_stop_together(shards, tmp_path, long_run):
    """There is one launcher a node. Slurm's warning reaches only one of them, and both save the same step."""
    config = CONFIG | {"steps": STEPS, "checkpoint_every": 1000, "parallel": {"nodes": 2, "processes_per_node": 1}}
    nodes = meet(config, shards, tmp_path)
    wait_for_step(tmp_path, 5, nodes[0])
    nodes[1].send_signal(signal.SIGTERM)
    assert [finish(node)[0] for node in nodes] == [75, 75]
    assert len(complete(tmp_path / "checkpoints")) == 1
    nodes = meet(config, shards, tmp_path)
    assert [finish(node)[0] for node in nodes] == [0, 0]
    assert losses(tmp_path) == pytest.approx(losses(long_run), abs=1e-12)


def test_a_node_that_dies_ends_the_others_with_one_line(shards, tmp_path):
    config = CONFIG | {"steps": 1000, "parallel": {"nodes": 2, "processes_per_node": 1}}
    nodes = meet(config, shards, tmp_path)
    wait_for_step(tmp_path, 5, nodes[0])
    nodes[1].kill()  # its worker dies with it
    killed = time.monotonic()
    nodes[1].communicate()
    code, _, errors = finish(nodes[0])
    assert time.monotonic() - killed < 60
    assert code == 1
    assert len(errors) == 1
    assert "start again to continue" in errors[0]


def test_kill_9_of_the_launcher_leaves_no_orphans(shards, tmp_path):
    first = start(CONFIG | {"steps": 1000}, shards, tmp_path, new=True)
    wait_for_step(tmp_path, 2, first)
    workers = workers_of(first.pid)
    assert len(workers) == 2
    first.kill()
    first.wait()
    wait_for_end(workers)


def flip(path: Path) -> None:
    """Change one bit of a file."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def test_a_finished_run_is_left_alone_and_another_config_is_refused(shards, tmp_path, long_run):
    alone = ALONE | {"steps": STEPS}
    output = tmp_path / "train"
    shutil.copytree(long_run, output)
    stamp = (output / "final" / "train.json").stat().st_mtime_ns
    code, out, _ = run(alone, shards, output)
    assert code == 0
    assert "already trained" in out
    assert (output / "final" / "train.json").stat().st_mtime_ns == stamp
    code, _, errors = run(alone | {"optimizer": {"lr": 5e-3}}, shards, output)
    assert code == 1
    assert len(errors) == 1
    assert f"step-{STEPS:08d}: this was trained with other values of train.optimizer" in errors[0]
    code, _, errors = run(alone | {"steps": STEPS + 2}, shards, output)  # more steps is the same run, continued
    assert (code, errors) == (0, [])
    assert json.loads((output / "final" / "train.json").read_text())["step"] == STEPS + 2
    code, out, _ = run(alone | {"steps": STEPS + 2}, shards, output)
    assert code == 0 and f"already trained: {STEPS + 2} steps" in out


@pytest.mark.parametrize(
    ("steps", "export"), [(STEPS - 1, STEPS - INTERVAL), (INTERVAL, INTERVAL), (INTERVAL - 1, STEPS)]
)
def test_fewer_steps_than_are_trained_name_the_checkpoint_to_export(steps, export, shards, tmp_path, long_run):
    output = tmp_path / "my run"
    shutil.copytree(long_run, output)
    before = sorted(output.rglob("*"))
    code, out, errors = run(ALONE | {"steps": steps}, shards, output)
    assert (code, out) == (1, "")
    assert len(errors) == 1
    assert f"the newest checkpoint is of step {STEPS}, train.steps is {steps}; set train.steps to {STEPS}" in errors[0]
    words = shlex.split(re.search(r"`unirefine (.*) --to DIR`", errors[0])[1])
    assert words == ["convert", "--from", str(output / "checkpoints" / f"step-{export:08d}")]
    assert sorted(output.rglob("*")) == before
    assert cli.main([*words, "--to", str(tmp_path / "exported")]) == 0
    assert (tmp_path / "exported" / "model.safetensors").is_file()


@pytest.mark.parametrize("log_every", [1, 1000])
def test_a_run_may_be_ended_where_it_was_stopped(log_every, shards, tmp_path, long_run):
    """Its last step was never validated: that is done now, with the weights of that step."""
    output = stopped_at(long_run, 2 * INTERVAL, tmp_path / "train")
    lines = output / "metrics.jsonl"
    logged = [line for line in read(lines) if line["step"] <= 2 * INTERVAL]
    if log_every > 1:
        lines.write_text("".join(json.dumps(line) + "\n" for line in logged[:-1]))
    config = ALONE | {"steps": 2 * INTERVAL, "log_every": log_every}
    code, out, errors = run(config, shards, output)
    assert (code, errors) == (0, [])
    facts = json.loads((output / "final" / "train.json").read_text())
    assert facts["step"] == facts["validated_step"] == 2 * INTERVAL
    assert f"trained {2 * INTERVAL} steps" in out
    assert f"validation perplexity {facts['validation_perplexity']:.3f}" in out
    found = read(lines)
    assert [line["step"] for line in found] == list(range(1, 2 * INTERVAL + 1))
    assert found[:-1] == logged[:-1]
    assert found[-1]["validation_loss"] == facts["validation_loss"] != pytest.approx(facts["loss"], abs=1e-9)
    for name in ("loss", "learning_rate", "samples", "tokens"):
        assert found[-1][name] == logged[-1][name], name
    code, out, _ = run(config, shards, output)
    assert code == 0 and "already trained" in out
    assert complete(output / "checkpoints")[-1].name == f"step-{2 * INTERVAL:08d}"


@pytest.mark.parametrize(
    ("options", "environment", "says"),
    [
        ({"fp8": "current", "precision": "bf16"}, {}, "train.fp8 current needs an NVIDIA GPU"),
        ({}, {"RANK": "0", "WORLD_SIZE": "3"}, "this job has 3 processes, train.parallel asks for"),
        ({}, {"SLURM_STEP_NUM_TASKS": "5"}, "srun has started 5 of this command"),
        ({"init": "nowhere/at/all"}, {}, "nowhere/at/all: no such directory"),
        ({"optimizer": {"warmup_steps": 2000}}, {}, "the warm-up of 2,000 steps is longer than the training"),
    ],
)
def test_a_training_that_cannot_start_here_says_so_in_one_line(options, environment, says, shards, tmp_path):
    code, out, errors = run(CONFIG | options, shards, tmp_path / "train", environment=environment)
    assert (code, out, len(errors)) == (1, "", 1)
    assert says in errors[0]
    assert not (tmp_path / "train" / "metrics.jsonl").exists()


def test_a_corrupt_shard_is_refused_before_anything_starts(shards, tmp_path):
    broken = tmp_path / "shards"
    shutil.copytree(shards, broken)
    with (broken / "train-000-of-001.bin").open("rb+") as handle:
        handle.truncate((broken / "train-000-of-001.bin").stat().st_size - 3)
    code, out, errors = run(CONFIG, broken, tmp_path / "train")
    assert (code, out) == (1, "")
    assert len(errors) == 1
    assert "train-000-of-001.bin: 3 bytes shorter than the manifest says" in errors[0]
    assert not (tmp_path / "train").exists()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_shard_of_the_right_size_with_another_content_is_refused_before_step_1(processes, shards, tmp_path):
    broken = tmp_path / "shards"
    shutil.copytree(shards, broken)
    with (broken / "train-000-of-001.bin").open("rb+") as handle:
        handle.seek(1000)
        byte = handle.read(1)
        handle.seek(1000)
        handle.write(bytes([byte[0] ^ 1]))
    code, _, errors = run(CONFIG | {"parallel": {"processes_per_node": processes}}, broken, tmp_path / "train")
    assert code == 1
    assert len(errors) == 1
    assert "train-000-of-001.bin: its content is not what was written (SHA-256 differs)" in errors[0]
    assert not (tmp_path / "train" / "metrics.jsonl").exists()


def test_a_loss_that_is_not_finite_names_step_samples_and_checkpoint(shards, tmp_path):
    config = CONFIG | {"optimizer": {"lr": 1e19, "warmup_steps": 0, "weight_decay": 0.0}, "checkpoint_every": 1}
    code, _, errors = run(config, shards, tmp_path)
    assert code == 1
    assert len(errors) == 1
    assert "is not finite at step 2" in errors[0]
    assert "samples 8, 9, 10, 11, 12, 13, 14, 15" in errors[0]
    assert "last good checkpoint" in errors[0]
    assert "step-00000001" in errors[0]


def test_a_damaged_checkpoint_is_named_and_a_full_disk_keeps_the_one_before_it(shards, tmp_path, long_run):
    output = stopped_at(long_run, 2 * INTERVAL, tmp_path / "train")
    damaged = output / "checkpoints" / "step-00000020"
    flip(next(damaged.glob("__1_*.distcp")))
    aside = damaged.with_name(f"damaged-{damaged.name}")
    before = sorted(path for path in (output / "checkpoints").rglob("*") if damaged not in (path, path.parent))

    # a write beyond 40 kB of a file fails, as it would on a full disk
    process = start(CONFIG | {"steps": 20}, shards, output, file_size=40_000)
    _, err = process.communicate(timeout=400)
    assert process.returncode == 1
    warning = next(line for line in err.splitlines() if "is damaged" in line)
    assert f"{damaged} is damaged: __1_" in warning and "SHA-256 differs" in warning
    assert "renamed to damaged-step-00000020, trying step-00000010" in warning
    (error,) = (line for line in err.splitlines() if line.startswith("unirefine train: error:"))
    assert "step-00000020: the checkpoint could not be written (is the disk full?): process" in error
    assert "step-00000010 is kept" in error
    after = sorted((output / "checkpoints").rglob("*"))
    assert [path for path in after if aside not in (path, path.parent)] == before and aside in after
    assert run(CONFIG | {"steps": 20}, shards, output)[0] == 0


def test_dry_run_prints_the_costs(shards):
    code, out, _ = finish(Forked("unirefine", ["train", "--dry-run", "--shards", shards]))
    assert code == 0
    rows = {line[:21].strip(): line[22:] for line in out.splitlines()}
    assert rows["model"] == "33 layers, hidden 1280, 20 heads: 651,042,593 parameters"
    assert rows["layout"] == "1 node(s) x 8 processes: TP 1, PP 1, CP 1, DP 8, bf16"
    assert rows["batch"] == "2,048 sequences a step = DP 8 x micro-batch 16 x 16 accumulated; at most 2.10 M tokens"
    assert rows["steps"] == "500,000, at most 1.05 T tokens"
    assert rows["FLOPs per token"].startswith("4.42 G FLOP at 1024 tokens")
    assert rows["FLOPs of the run"] == "at most 4.64e+21"  # 500,000 x 2,048 x 1,024 x 4.424e9
    parts = re.findall(r"(parameters|gradients|optimizer|activations) ([\d.]+) ([MG])B", rows["memory a process"])
    sizes = {name: float(size) / (1 if unit == "G" else 1000) for name, size, unit in parts}
    assert (sizes["parameters"], sizes["gradients"]) == (1.30, 2.60)
    assert sizes["optimizer"] == pytest.approx(651e6 * 12 / 8 / 1e9, abs=0.01)
    total = float(re.match(r"about ([\d.]+) GB", rows["memory a process"])[1])
    assert total == pytest.approx(sum(sizes.values()), rel=0.01)
    assert rows["learning rate"] == "2,000 steps up to 0.0004, down to 4e-05 at step 450,000 of 500,000"
    assert "samples of" in rows["samples"]
    assert rows["epochs"] == "10,240,000 over 100 train clusters (one sample a cluster)"  # 500,000 x 2,048 / 100
    assert "no GPU found, and a model of 651 M parameters needs one" in out
    assert "validation on 20 clusters: below 100" in out


def test_a_dry_run_refuses_what_the_training_would(capsys):
    assert cli.main(["train", "--dry-run", "--set", "steps=2000"]) == 1
    captured = capsys.readouterr()
    assert "learning rate         2,000 steps up to 0.0004" in captured.out
    assert (
        "error: train.optimizer.warmup_steps: the learning rate would fall from its peak straight to its"
        in captured.err
    )
