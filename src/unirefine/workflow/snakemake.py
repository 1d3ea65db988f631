"""Every undocumented name of Snakemake and of its Slurm plugin that we use. Other modules use what is made here.

SUPPORTED says which versions have them; tests/unit/workflow/test_snakemake.py has one test for each name.
"""

import contextlib
import io
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unirefine.errors import UserError
from unirefine.files.atomic import read_json
from unirefine.files.home import SNAKEFILE

SUPPORTED = {"snakemake": ">=9.19,<10", "snakemake-executor-plugin-slurm": ">=2.6,<3"}
MISSING = "output missing"
"""Reason of a job whose output is not there, where nothing else has changed."""
FOLLOWS = "what it reads is made again"
"""Reason of a job that is due only because another one is."""
CONSOLE = "snakemake_logger_plugin_unirefine"
"""Our logger plugin: one line a stage. `profiles/` ask for it."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """How Snakemake was called, as far as the Snakefile depends on it."""

    config_files: list[str]
    """Each over the one before."""
    module_config: Mapping[str, Any] | None
    """The config that another workflow gives to this one as its module; None where this is the workflow."""
    given: Mapping[str, Any]
    """What `--config` gives, by block; values are text."""
    is_main: bool
    """False in a process that Snakemake has started for a single job."""
    starts: bool
    """Jobs will run: this is no dry run, no list or lint of the rules, and not a single job's process."""
    bucket: str | None
    """Prefix of the object storage that holds the results, as in `s3://lab/unirefine`."""
    deployed: bool
    """Jobs run in containers or conda environments, which have their own programs."""
    apptainer: str | None
    """More arguments of `apptainer exec`, maybe none; None where jobs do not run in containers."""
    follows_logs: bool
    """Our logger plugin shows how far jobs are, from their logs: nothing else of them goes to the terminal."""


def call_of(workflow: Any) -> Call:
    """The call that a Snakefile's `workflow` is of."""
    deployment = workflow.deployment_settings
    methods = set(map(str, deployment.deployment_method))
    modifier = workflow.modifier
    return Call(
        config_files=[str(path) for path in workflow.configfiles],
        module_config=None if modifier.is_main_snakefile() else modifier.globals["config"],
        given=workflow.config_settings.config,
        is_main=workflow.is_main_process,
        # --lint and --list-rules are the only calls for which Snakemake does not check the environment variables
        starts=workflow.is_main_process and not workflow.output_settings.dryrun and workflow.check_envvars,
        bucket=workflow.storage_settings.default_storage_prefix or None,
        deployed=bool(methods & {"apptainer", "conda"}),
        apptainer=deployment.apptainer_args if "apptainer" in methods else None,
        follows_logs=any(handler.follows_logs for handler in _consoles(workflow)),
    )


def _consoles(workflow: Any) -> list[Any]:
    """Our logger plugin, where it was asked for."""
    return [one for one in workflow.logger_manager.plugin_handlers if type(one).__module__ == CONSOLE]


def follow_storage(workflow: Any) -> None:
    """Tell our logger plugin where the logs of a bucket are on this machine while jobs write them."""
    for console in _consoles(workflow):
        console.storage = storage_of(workflow).local_prefix


class Plan:
    """The jobs of a workflow, and which of them are due. Jobs are Snakemake's own objects."""

    def __init__(self, workflow: Any) -> None:
        self._dag, self._persistence = workflow.dag, workflow.persistence

    def jobs(self) -> list[Any]:
        """All jobs but that of `rule all`."""
        return [job for job in self._dag.jobs if job.rule.name != "all"]

    def due_jobs(self) -> list[Any]:
        """The jobs that a start would run."""
        return [job for job in self.jobs() if self.is_due(job)]

    def is_due(self, job: Any) -> bool:
        """Whether a start would run this job."""
        return self._dag.needrun(job)

    def is_asked_for(self, job: Any) -> bool:
        """Whether the job is due because of `-R` or `-F`."""
        return bool(self._dag.reason(job).forced)

    def reasons(self, job: Any) -> list[str]:
        """Why a job is due, in few words each."""
        return reasons(self._dag.reason(job))

    def root_causes(self, job: Any) -> list[str]:
        """The reasons of a job that are not another job's."""
        return [why for why in self.reasons(job) if why != FOLLOWS]

    def before(self, job: Any) -> list[Any]:
        """The due jobs whose results this one needs, directly or through others."""
        return [one for one in self._dag.bfs(self._dag.dependencies, job) if one is not job and self.is_due(one)]

    def after(self, job: Any) -> list[Any]:
        """All jobs that need the results of this one, directly or through others."""
        return [one for one in self._dag.bfs(self._dag.depending, job) if one is not job]

    def was_started(self, job: Any) -> bool:
        """Whether the job was started and did not end. Snakemake's own question is only about files that exist."""
        keys = [self._persistence._get_key(path) for path in job.output]
        return bool(self._persistence._filter_incomplete_keys(keys))

    def kept_outputs(self, job: Any) -> set[Any]:
        """The declared outputs that are not temporary."""
        return set(job.output) - job.temp_output


def plan(config: Path, snakefile: Path = SNAKEFILE, words: Sequence[str] = ()) -> Plan:
    """A dry run of a Snakefile in this process. Raises UserError when Snakemake cannot plan it.

    words: targets, and options of Snakemake's command line that decide which jobs are due (`-R`, `-F`, `--config`).
    """
    from snakemake.api import SnakemakeApi
    from snakemake.cli import parse_args, parse_config
    from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

    if not snakefile.exists():
        raise UserError("no Snakefile there", where=snakefile, fix="give another --snakefile")
    _, given = parse_args(["--dry-run", *words])
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed), SnakemakeApi(OutputSettings(dryrun=True, quiet={Quietness.ALL})) as api:
        workflow = api.workflow(
            ResourceSettings(cores=1),
            config_settings=ConfigSettings(configfiles=[config], config=parse_config(given.config or [])),
            snakefile=snakefile,
        )
        targets = DAGSettings(
            targets=given.targets, forcerun=given.forcerun, forceall=given.forceall, forcetargets=given.force,
            until=given.until, omit_from=given.omit_from, rerun_triggers=given.rerun_triggers, force_incomplete=True,
        )  # fmt: skip
        try:
            workflow.dag(targets).execute_workflow(pseudo_executor="dryrun")
        except SystemExit:  # the config is wrong, and the Snakefile has said how in its last line
            line = "".join(printed.getvalue().splitlines()[-1:]).removeprefix("unirefine: error: ")
            raise UserError(line or "Snakemake cannot read it", where=None if line else config) from None
        except Exception as error:
            raise UserError(f"Snakemake cannot plan it: {error}", where=config) from None
        return Plan(workflow._workflow)


def reasons(reason: Any) -> list[str]:
    """Snakemake's `Reason` in few words. A job that is due for reasons of its own does not list those of others."""
    from snakemake.io import is_flagged

    found = []
    if reason.forced:
        found.append("asked for")
    if reason.params_changed:
        found += changed_params(reason.params_changed.only_old, reason.params_changed.only_new)
    missing = [path for path in reason.missing_output if not is_flagged(path, "temp")]
    if missing and not found:
        found.append(MISSING)
    if changed := set(reason.updated_input) - set(reason.updated_input_run):
        found.append(f"changed input {', '.join(sorted(Path(path).name for path in changed)[:3])}")
    if reason.input_changed:
        found.append("another set of inputs")
    if reason.code_changed:
        found.append("rule changed")
    if reason.software_stack_changed:
        found.append("environment changed")
    if not found and reason.updated_input_run:
        found.append(FOLLOWS)
    return found


def changed_params(before: Iterable[str], now: Iterable[str]) -> list[str]:
    """What differs between two sets of params: `option seed`, `code`, `MMseqs2`, else `command line`.

    Params are Snakemake's representations: of a JSON object for options, of `name:value` for code and tools.
    """
    old, new = ({_text(one) for one in these} for these in (before, now))
    found = [kind for kind in ("code", "MMseqs2") if any(text.startswith(f"{kind}:") for text in old | new)]
    was, is_now = ({key: value for text in these for key, value in _options(text).items()} for these in (old, new))
    options = [key for key in sorted(was.keys() | is_now.keys()) if was.get(key) != is_now.get(key)]
    if options:
        found.append(f"option {', '.join(options)}")
    return found or ["command line"]


def _text(param: str) -> str:
    return param[1:-1] if param[:1] in ("'", '"') else param


def _options(text: str) -> dict[str, str]:
    """Names and values, as JSON, of a param that is a JSON object; nothing for another one."""
    if not text.startswith("{"):
        return {}
    try:
        return {key: json.dumps(value) for key, value in json.loads(text).items()}
    except ValueError:
        return {}


def shown(output: Any) -> str:
    """The path of an output for messages, or its address in object storage."""
    return output.storage_object.query if output.is_storage else str(output)


def read_json_in(output: Any, name: str) -> Any:
    """The JSON file of that name in an output directory, here or in object storage; None where it is missing."""
    if output.is_storage:
        return read_stored_json(output.storage_object.provider, f"{output.storage_object.query}/{name}")
    path = Path(output) / name
    return read_json(path) if path.exists() else None


def storage_of(workflow: Any) -> Any:
    """The provider of the object storage that holds the results; None where there is none."""
    return workflow.storage_registry.default_storage_provider


def read_stored_json(provider: Any, query: str) -> Any:
    """A JSON file in object storage; None where it is missing."""
    stored = provider.object(query)
    if not stored.exists():
        return None
    with tempfile.TemporaryDirectory() as directory:  # beside the results it would look like a copy of the whole output
        stored.set_local_path(Path(directory) / "stored.json")
        stored.retrieve_object()
        return read_json(stored.local_path())


def keep_nodes_in_slurm() -> None:
    """Make the Slurm plugin leave lost nodes to Slurm, which knows which are down.

    After one lost node the plugin excludes every node that the job had. For a job that Slurm has put back into its
    queue it passes `--exclude=None assigned`, so that nothing can be submitted any more. Here its list of failed nodes
    stays what `slurm-exclude-failed-nodes` names. Does nothing where the plugin is not installed.
    """
    with contextlib.suppress(ImportError):
        from snakemake_executor_plugin_slurm import Executor

        Executor._failed_nodes = property(
            lambda executor: set(executor._excluded_nodes),
            lambda executor, nodes: setattr(executor, "_excluded_nodes", frozenset(nodes)),
        )
