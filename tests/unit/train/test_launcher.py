"""Functions of the launcher; tests/distributed runs whole jobs."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from unirefine.config import Parallel, Train
from unirefine.errors import UserError
from unirefine.faults import LOST_PEER
from unirefine.train import launcher

CONFIG = Train.model_validate({"parallel": {"nodes": 2}})
PATHS = Path("shards"), Path("x")


def test_srun_with_a_task_per_process_sets_the_rank():
    slurm = {"PROCID": "9", "LOCALID": "1", "NTASKS": "16", "JOB_ID": "12345678"}
    # patch.dict, not monkeypatch: it also removes what use_slurm_rank puts into the environment
    with mock.patch.dict(os.environ, {f"SLURM_{name}": value for name, value in slurm.items()}, clear=True):
        os.environ["MASTER_ADDR"] = "node7"
        launcher.use_slurm_rank(Parallel(nodes=2, processes_per_node=8))
        assert (os.environ["RANK"], os.environ["LOCAL_RANK"], os.environ["WORLD_SIZE"]) == ("9", "1", "16")
        assert (os.environ["LOCAL_WORLD_SIZE"], os.environ["MASTER_PORT"]) == ("8", "25678")
    assert "RANK" not in os.environ


def test_a_batch_script_runs_the_command_as_a_step_on_every_node(monkeypatch):
    for name in ("RANK", "SLURM_STEP_ID"):
        monkeypatch.delenv(name, raising=False)
    with mock.patch("os.execvp") as replaced:
        launcher.exec_srun(CONFIG, *PATHS)
        assert not replaced.called  # no job
        monkeypatch.setenv("SLURM_JOB_ID", "7")
        monkeypatch.setattr("shutil.which", lambda name: None)
        with pytest.raises(UserError, match="there is no srun to start the training with; put it on PATH"):
            launcher.exec_srun(CONFIG, *PATHS)
        monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
        launcher.exec_srun(CONFIG, *PATHS)
        program, command = replaced.call_args.args
        assert program == command[0] == "srun"
        assert command[1:7] == ["--nodes", "2", "--ntasks", "2", "--ntasks-per-node", "1"]
        assert command[-7:-5] == ["train", "--config"]
        assert command[-4:] == ["--shards", "shards", "--output", "x"]
        assert not any(word.startswith("--cpus-per-task") for word in command)
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", "96")
        launcher.exec_srun(CONFIG, *PATHS)
        assert "--cpus-per-task=96" in replaced.call_args.args[1], "a step takes one core unless it asks for more"
        replaced.reset_mock()
        monkeypatch.setenv("SLURM_STEP_ID", "0")
        launcher.exec_srun(CONFIG, *PATHS)
        assert not replaced.called  # this is the step


def test_srun_with_a_launcher_per_node_sets_no_rank(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.delenv("RANK", raising=False)
    launcher.use_slurm_rank(Parallel(nodes=2, processes_per_node=8))
    assert not launcher.has_rank()


@pytest.mark.parametrize(("tasks", "is_refused"), [("1", True), ("2", False), ("16", False), ("3", True)])
def test_srun_with_another_number_of_tasks_is_refused(tasks, is_refused):
    with mock.patch.dict(os.environ, {"SLURM_STEP_NUM_TASKS": tasks}, clear=True):
        if not is_refused:
            launcher.use_slurm_rank(Parallel(nodes=2, processes_per_node=8))
            return
        with pytest.raises(UserError, match=rf"srun has started {tasks} of this command.*--ntasks 2.*--ntasks 16"):
            launcher.use_slurm_rank(Parallel(nodes=2, processes_per_node=8))


def failed(**said: tuple[int, str | None]) -> Exception:
    """The agent's error for processes that ended with (status, message or None)."""
    found = Exception()
    found.failures = {
        int(name[1:]): mock.Mock(exitcode=code, timestamp=code, error_file_data={"message": text and {"message": text}})
        for name, (code, text) in said.items()
    }
    return found


LOST = f"{LOST_PEER} (Connection closed by peer); see what ended the others"


@pytest.mark.parametrize(
    ("ended", "says"),
    [
        (
            {"p0": (1, LOST), "p1": (-9, None)},
            "process 1 was killed by signal 9; start again to continue from the newest",
        ),
        ({"p0": (-7, None)}, "process 0 was killed by signal 7; start again"),
        ({"p0": (1, LOST), "p1": (1, "loss is not finite")}, "loss is not finite"),
        ({"p0": (1, LOST), "p1": (1, LOST)}, LOST),
        ({"p0": (1, None), "p1": (1, LOST)}, "process 0 failed with status 1; see the messages above; start again"),
    ],
)
def test_the_reason_is_told_and_not_that_the_others_lost_a_process(ended, says):
    with pytest.raises(UserError) as raised:
        launcher._raise_failure(failed(**ended))
    assert str(raised.value).startswith(says)


def test_a_process_that_has_saved_makes_it_a_stop():
    with pytest.raises(SystemExit) as raised:
        launcher._raise_failure(failed(p0=(1, LOST), p1=(launcher.EXIT_PREEMPTED, None)))
    assert raised.value.code == launcher.EXIT_PREEMPTED


def test_nodes_without_an_address_to_meet_at_are_refused(monkeypatch):
    for name in ("MASTER_ADDR", "MASTER_PORT", "SLURM_JOB_NODELIST"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="no address is set at which the nodes meet; set MASTER_ADDR"):
        launcher._rendezvous_endpoint()


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"MASTER_PORT": "http"}, "MASTER_PORT='http' is not a whole number"),
        ({"MASTER_PORT": "65536"}, "MASTER_PORT=65536 is no port"),
        ({"SLURM_JOB_ID": "x"}, "SLURM_JOB_ID='x' is not a whole number"),
        ({"OMP_NUM_THREADS": "all"}, "OMP_NUM_THREADS='all' is not a whole number"),
        ({"MASTER_ADDR": "no.such.host.invalid"}, "no.such.host.invalid, which this node does not find"),
    ],
)
def test_what_the_environment_says_wrongly_is_one_line(variables, says, monkeypatch):
    for name, value in ({"MASTER_ADDR": "127.0.0.1"} | variables).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=says):
        launcher.launch(CONFIG, *PATHS)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node1", "node1"),
        ("node[1-2]", "node1"),
        ("gpu[007-009,12]-ib,login1", "gpu007-ib"),
        ("a,b[1-4]", "a"),
        ("rack[2,4]n[03-05]", "rack2n03"),
    ],
)
def test_the_first_host_of_slurms_list(nodes, first):
    assert launcher.first_host(nodes) == first


def test_a_single_rank_is_one_within_the_block_only(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")
    with launcher.single_rank():
        assert [os.environ[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")] == ["0", "0", "1"]
    assert not launcher.has_rank()
    assert os.environ["WORLD_SIZE"] == "4"


@pytest.fixture
def handlers():
    before = {number: signal.getsignal(number) for number in launcher.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", launcher.SIGNALS)
def test_a_signal_requests_a_stop(number, handlers, monkeypatch):
    monkeypatch.delenv(launcher.WORKERS_VARIABLE, raising=False)
    stop = launcher.StopRequest()
    assert not stop.requested
    signal.raise_signal(number)
    assert stop.requested


def test_a_signal_that_came_before_the_worker_was_ready_counts(tmp_path):
    code = (
        "import os, unirefine.train.launcher as launcher\n"
        f"os.environ[launcher.WORKERS_VARIABLE] = {str(tmp_path)!r}\n"
        "assert not launcher.StopRequest().requested\n"
        f"open({str(tmp_path / launcher.STOP_FILE)!r}, 'w').close()\n"
        "assert launcher.StopRequest().requested\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert len(list(tmp_path.glob("*.pid"))) == 1


def test_the_shutdown_time_is_read_from_the_environment(monkeypatch):
    monkeypatch.delenv("UNIREFINE_SHUTDOWN_S", raising=False)
    assert launcher.shutdown_seconds() == 10
    monkeypatch.setenv("UNIREFINE_SHUTDOWN_S", "1")
    assert launcher.shutdown_seconds() == 1
    monkeypatch.setenv("UNIREFINE_SHUTDOWN_S", "soon")
    with pytest.raises(UserError, match="UNIREFINE_SHUTDOWN_S='soon' is not a whole number"):
        launcher.launch(CONFIG, *PATHS)


@pytest.mark.parametrize("saved", [True, False])
def test_a_lost_rendezvous_is_a_stop_if_the_workers_had_saved(saved, monkeypatch):
    """The node that serves the rendezvous may leave first, and the others lose their connection."""
    from torch.distributed.elastic.rendezvous import RendezvousConnectionError

    def elastic_launch(*_):
        def run(*_):
            if saved:
                with pytest.raises(SystemExit):
                    launcher.exit_preempted()
            raise RendezvousConnectionError("the connection to the store has failed")

        return run

    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", elastic_launch)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with mock.patch.dict(os.environ), pytest.raises(SystemExit if saved else UserError) as raised:
        launcher.launch(CONFIG, *PATHS)
    if saved:
        assert raised.value.code == launcher.EXIT_PREEMPTED
    else:
        assert "has lost, or never had, a connection to the others at 127.0.0.1:29500" in str(raised.value)
