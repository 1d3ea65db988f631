"""Snakemake's plan of the workflow, made in the test process: a dry run in a new process takes two seconds."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from unirefine.files import code

ROOT = Path(__file__).parents[2]


def plan(config: Path, *words: str, checkout: Path = ROOT) -> Any:
    """Snakemake's DAG of a dry run in the working directory.

    words: of Snakemake's command line. Raises SystemExit where the Snakefile refuses the config.
    """
    from snakemake.api import SnakemakeApi
    from snakemake.cli import parse_args
    from snakemake.settings import types as settings

    _, read = parse_args(["--dry-run", "--rerun-incomplete", *words])
    with SnakemakeApi(settings.OutputSettings(dryrun=True, quiet={settings.Quietness.ALL})) as api:
        workflow = api.workflow(
            settings.ResourceSettings(
                cores=64, overwrite_resources=read.set_resources, default_resources=read.default_resources
            ),
            config_settings=settings.ConfigSettings(configfiles=[config]),
            deployment_settings=settings.DeploymentSettings(
                deployment_method=read.software_deployment_method, apptainer_args=read.apptainer_args
            ),
            snakefile=checkout / "Snakefile",
        )
        planned = workflow.dag(
            settings.DAGSettings(
                targets=read.targets,
                forcerun=read.forcerun,
                forceall=read.forceall,
                force_incomplete=read.rerun_incomplete,
                max_checksum_file_size=read.max_checksum_file_size,
            )
        )
        planned.execute_workflow(pseudo_executor="dryrun")
        return workflow._workflow.dag


@contextlib.contextmanager
def environment(directory: Path, variables: dict[str, str], source: Path | None) -> Iterator[None]:
    """Work in a directory with these environment variables, and with digests of the code in `source`.

    The code that runs is the installed one.
    """
    package = source / "unirefine" if source else code.PACKAGE
    digests = (code.stage_digest, code.stage_files, code.imported)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(directory))
        stack.enter_context(mock.patch.dict(os.environ, variables))
        for function in digests:
            stack.enter_context(mock.patch.object(function, "__defaults__", (package,)))
        yield
