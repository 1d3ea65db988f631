"""profiles/slurm as Snakemake reads it: the resources of each job at its first and its second attempt."""

import contextlib
import os
from pathlib import Path
from unittest import mock

import pytest
import yaml
from plan import plan
from snakemake_executor_plugin_slurm_jobstep import get_cpu_setting

from unirefine.config import Parallel
from unirefine.train import launcher

ROOT = Path(__file__).parents[2]
PROFILE = ("--profile", str(ROOT / "profiles/slurm"))
LOCAL = {"all", "release", "cards", "report"}
MB = 1 << 20
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def asked(job, attempt: int) -> dict:
    """The job's resources at that attempt."""
    job.attempt = attempt
    return dict(job.resources.items())


@pytest.fixture(scope="module", params=["uniref-current", "uniref-2024_03"])
def jobs(request, tmp_path_factory):
    """One job of each submitted rule. Every input exists, as a file of 40 MB."""
    config = ROOT / f"config/{request.param}.yaml"
    with contextlib.chdir(tmp_path_factory.mktemp("inputs")):
        for job in plan(config, *PROFILE).jobs:
            for path in map(Path, job.input):
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("w") as sparse:
                    sparse.truncate(40 * MB)
        again = plan(config, *PROFILE).jobs  # a plan keeps which files it has seen
        yield {job.rule.name: job for job in again if job.rule.name not in LOCAL}


def test_memory_and_time_of_every_job_grow_with_the_attempt(jobs):
    assert {"curate", "cluster", "split", "decontaminate_search", "shard", "train", "evaluate", "embed"} <= set(jobs)
    for rule, job in jobs.items():
        first, second = asked(job, 1), asked(job, 2)
        for name in ("mem_mb", "runtime"):
            assert second[name] > first[name] > 0, (rule, name)


def test_the_profile_names_every_job(jobs):
    """None is left to the defaults, which know nothing of a stage."""
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    for rule in jobs:
        assert {"mem_mb", "runtime"} <= set(profile["set-resources"].get(rule, {})), rule


def test_sizes_follow_the_input(jobs):
    search = jobs["decontaminate_search"]
    assert asked(search, 1)["mem_mb"] == 8000 + 10 * 120, "the part, the held-out sequences, and whose they are"
    assert asked(search, 1)["runtime"] == 60 + 120


@pytest.mark.parametrize("processes", [8, 4])
def test_training_asks_for_a_gpu_for_each_process_of_a_node(workflow, jobs_of, processes):
    options = {"parallel": {"processes_per_node": processes, "nodes": 2}, "micro_batch": 1}
    config = workflow.config_with(f"gpus{processes}", {"train": options})
    (train,) = (job for job in jobs_of(workflow.directory, config, *PROFILE) if job.rule.name == "train")
    first = asked(train, 1)
    assert (first["gres"], first["nodes"], first["tasks"], first["tasks_per_gpu"]) == (f"gpu:{processes}", 2, 2, 0)
    assert get_cpu_setting(train, gpu=True) == f"--cpus-per-task={12 * processes}", "twelve cores a GPU"
    assert train.threads == processes, "elsewhere a core each"
    with mock.patch.dict(os.environ, OMP_NUM_THREADS=str(train.threads), SLURM_CPUS_PER_TASK=str(12 * processes)):
        assert launcher._thread_variables(Parallel(**options["parallel"])) == dict.fromkeys(THREADS, "12")


def test_what_the_docs_list_is_what_the_profile_lists():
    table = (ROOT / "docs/cluster.md").read_text().split("| rule | jobs |")[1].split("\n\n")[0]
    rules = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())["set-resources"]
    for rule in rules:
        assert f"`{rule}`" in table or (rule.startswith("records_") and "`records_*`" in table), rule
