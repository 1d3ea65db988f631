"""Canaries: what we use of Snakemake and of its Slurm plugin beyond their documented interface, each by its name."""

import base64
import dataclasses
import inspect
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import snakemake.api
import snakemake.dag
import snakemake.deployment
import snakemake.io
import snakemake.jobs
import snakemake.logging
import snakemake.modules
import snakemake.persistence
import snakemake.persistence.file
import snakemake.rules
import snakemake.workflow
import snakemake_executor_plugin_slurm
from packaging.specifiers import SpecifierSet
from snakemake.settings.types import ConfigSettings, DAGSettings, DeploymentSettings, OutputSettings, ResourceSettings
from snakemake_interface_storage_plugins.storage_object import StorageObjectBase, StorageObjectRead
from snakemake_interface_storage_plugins.storage_provider import StorageProviderBase

from unirefine.errors import UserError
from unirefine.workflow import snakemake as ours


@pytest.mark.parametrize("package", ours.SUPPORTED)
def test_the_installed_version_is_a_supported_one(package):
    assert version(package) in SpecifierSet(ours.SUPPORTED[package])


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (snakemake.workflow.Workflow, "dag"),
        (snakemake.workflow.Workflow, "current_basedir"),
        (snakemake.modules.WorkflowModifier, "is_main_snakefile"),
        (snakemake.workflow.Workflow, "persistence"),
        (snakemake.workflow.Workflow, "is_main_process"),
        (snakemake.workflow.Workflow, "storage_registry"),
        (snakemake.dag.DAG, "bfs"),
        (snakemake.dag.DAG, "dependencies"),
        (snakemake.dag.DAG, "jobs"),
        (snakemake.dag.DAG, "needrun"),
        (snakemake.dag.DAG, "reason"),
        (snakemake.jobs.Job, "output"),
        (snakemake.jobs.Job, "benchmark"),
        (snakemake.jobs.Job, "shellcmd"),
        (snakemake.jobs.Reason, "forced"),
        (snakemake.jobs.Reason, "params_changed"),
        (snakemake.jobs.Reason, "input_changed"),
        (snakemake.jobs.Reason, "code_changed"),
        (snakemake.jobs.Reason, "software_stack_changed"),
        (snakemake.io._IOFile, "is_storage"),
        (snakemake.io._IOFile, "storage_object"),
        (snakemake.io, "is_flagged"),
        (snakemake.persistence.file.FilePersistence, "_get_key"),
        (snakemake.persistence.file.FilePersistence, "_filter_incomplete_keys"),
        (StorageProviderBase, "object"),
        (StorageObjectBase, "set_local_path"),
        (StorageObjectBase, "local_path"),
        (StorageObjectRead, "exists"),
        (StorageObjectRead, "retrieve_object"),
        (snakemake_executor_plugin_slurm, "Executor"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__.rpartition(".")[2],
)
def test_snakemake_still_has(owner, name):
    assert hasattr(owner, name), f"{owner.__name__}.{name} is gone: see unirefine.workflow.snakemake"


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (snakemake.workflow.Workflow, "configfiles"),
        (snakemake.workflow.Workflow, "config_settings"),
        (snakemake.workflow.Workflow, "storage_settings"),
        (snakemake.workflow.Workflow, "deployment_settings"),
        (snakemake.workflow.Workflow, "output_settings"),
        (snakemake.workflow.Workflow, "default_target"),
        (snakemake.workflow.Workflow, "logger_manager"),
        (snakemake.workflow.Workflow, "modifier"),
        (snakemake.logging.LoggerManager, "plugin_handlers"),
        (snakemake.modules.WorkflowModifier, "globals"),
        (snakemake.api.WorkflowApi, "_workflow"),
        (snakemake.dag.DAG, "depending"),
        (snakemake.jobs.Job, "temp_output"),
        (snakemake.jobs.Job, "rule"),
        (snakemake.jobs.Reason, "missing_output"),
        (snakemake.jobs.Reason, "updated_input"),
        (snakemake.jobs.Reason, "updated_input_run"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_snakemake_still_sets(owner, name):
    """Attributes of an instance, so their names are looked for in the text of the class."""
    assert name in inspect.getsource(owner), f"{owner.__name__}.{name} is gone: see unirefine.workflow.snakemake"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (DeploymentSettings, "apptainer_args"),
        (DeploymentSettings, "deployment_method"),
        (OutputSettings, "dryrun"),
        (OutputSettings, "quiet"),
        (ResourceSettings, "cores"),
        (ConfigSettings, "configfiles"),
        (ConfigSettings, "config"),
        (DAGSettings, "force_incomplete"),
        (snakemake.persistence.ParamsChange, "only_old"),
        (snakemake.persistence.ParamsChange, "only_new"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_snakemakes_dataclasses_still_have(kind, name):
    assert name in {field.name for field in dataclasses.fields(kind)}


def test_the_slurm_plugin_still_keeps_failed_nodes_where_the_patch_is():
    source = inspect.getsource(snakemake_executor_plugin_slurm.Executor)
    assert "self._failed_nodes = set()" in source, "Executor._failed_nodes is gone: see keep_nodes_in_slurm"
    assert "self._failed_nodes.add(node)" in source


def test_patch_of_executor_failed_nodes_drops_what_the_plugin_adds(monkeypatch):
    monkeypatch.setattr(snakemake_executor_plugin_slurm.Executor, "_failed_nodes", None, raising=False)
    ours.keep_nodes_in_slurm()
    executor = object.__new__(snakemake_executor_plugin_slurm.Executor)
    executor._failed_nodes = {"named"}  # as the plugin does with slurm-exclude-failed-nodes
    executor._failed_nodes.add("lost")
    assert executor._failed_nodes == {"named"}


SNAKEFILE = """
rule all:
    input: "b.txt"
rule first_one:
    output: "a.txt"
    params: config=config["options"], levels=["x y", "z"]
    benchmark: "a.tsv"
    shell: "echo {params.levels:q} > {output:q}"
rule second:
    input: "a.txt"
    output: "b.txt", temp("c.txt")
    params: derived=lambda wildcards, output: output[0]
    shell: "cp {input:q} b.txt; cp {input:q} c.txt"
"""


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Plans a workflow of two rules in an empty directory, with the options given."""
    monkeypatch.chdir(tmp_path)
    Path("Snakefile").write_text(SNAKEFILE)

    def plan(options="{}"):
        Path("config.yaml").write_text(f"options: '{options}'\n")
        return ours.plan(Path("config.yaml"), Path("Snakefile"))

    return plan


def by_rule(plan):
    return {job.rule.name: job for job in plan.jobs()}


def test_a_plan_knows_jobs_reasons_and_order(small):
    plan = small()
    jobs = by_rule(plan)
    assert set(jobs) == {"first_one", "second"}
    assert plan.due_jobs() == plan.jobs()
    assert plan.reasons(jobs["first_one"]) == [ours.MISSING]
    assert plan.root_causes(jobs["second"]) == [ours.MISSING]
    assert plan.before(jobs["second"]) == [jobs["first_one"]]
    assert jobs["second"] in plan.after(jobs["first_one"])
    assert plan.kept_outputs(jobs["second"]) == {"b.txt"}
    assert not plan.was_started(jobs["first_one"])
    assert not plan.is_asked_for(jobs["first_one"])
    assert jobs["first_one"].shellcmd == "echo 'x y' z > a.txt"
    assert ours.shown(jobs["first_one"].output[0]) == "a.txt"


def run(*words):
    command = [sys.executable, "-m", "snakemake", "-c1", "--configfile", "config.yaml", *words]
    subprocess.run(command, check=True, capture_output=True)


def test_a_finished_run_is_not_due_and_a_changed_option_names_itself(small):
    small('{"seed":1}')
    run()
    assert small('{"seed":1}').due_jobs() == []
    plan = small('{"seed":2}')
    jobs = by_rule(plan)
    assert plan.root_causes(jobs["first_one"]) == ["option seed"]
    assert (plan.reasons(jobs["second"]), plan.root_causes(jobs["second"])) == ([ours.FOLLOWS], [])


def test_a_started_job_is_known(small):
    marks = Path(".snakemake/incomplete")
    small()
    marks.mkdir(parents=True, exist_ok=True)
    (marks / base64.b64encode(b"a.txt").decode()).touch()
    plan = small()
    jobs = by_rule(plan)
    assert plan.was_started(jobs["first_one"])
    assert not plan.was_started(jobs["second"])


def test_a_snakefile_that_cannot_be_planned_is_one_line(small, tmp_path):
    small()
    Path("Snakefile").write_text("rule all:\n    input: 'none.txt'\n")
    with pytest.raises(UserError, match="Snakemake cannot plan it"):
        ours.plan(Path("config.yaml"), Path("Snakefile"))
    with pytest.raises(UserError, match="no Snakefile there; give another --snakefile"):
        ours.plan(Path("config.yaml"), tmp_path / "none")


@pytest.mark.parametrize(
    ("before", "now", "found"),
    [
        (["""'{"seed":1,"parts":2}'"""], ["""'{"seed":2,"parts":2}'"""], ["option seed"]),
        (["""'{"seed":1}'"""], ["""'{"seed":1,"test_fraction":0.1}'"""], ["option test_fraction"]),
        (["'code:aa'", """'{"seed":1}'"""], ["'code:bb'", """'{"seed":2}'"""], ["code", "option seed"]),
        (["'MMseqs2:14'"], ["'MMseqs2:18'"], ["MMseqs2"]),
        (["'--mmseqs a'"], ["'--mmseqs b'"], ["command line"]),
    ],
)
def test_a_changed_param_is_named(before, now, found):
    assert ours.changed_params(before, now) == found


def test_json_in_an_output_directory(tmp_path):
    output = snakemake.io.IOFile(str(tmp_path))
    assert ours.read_json_in(output, "a.json") is None
    (tmp_path / "a.json").write_text('{"a": 1}')
    assert ours.read_json_in(output, "a.json") == {"a": 1}


class Stored:
    """An object of a storage plugin, of which the content is `text`; None: it is missing."""

    def __init__(self, text):
        self.text = text

    def exists(self):
        return self.text is not None

    def set_local_path(self, path):
        self.path = path

    def local_path(self):
        return self.path

    def retrieve_object(self):
        self.path.write_text(self.text)


@pytest.mark.parametrize(("text", "value"), [(None, None), ('{"a": 1}', {"a": 1})])
def test_json_in_object_storage(text, value):
    class Provider:
        def object(self, query):
            assert query == "s3://lab/a.json"
            return Stored(text)

    assert ours.read_stored_json(Provider(), "s3://lab/a.json") == value
