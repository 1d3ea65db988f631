"""What is looked at before a workflow starts: can it write, are files of the future, would work of days, or of another
run, be replaced?
"""

import contextlib
import datetime
import fcntl
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unirefine.config import Config
from unirefine.errors import UserError
from unirefine.files.atomic import read_json
from unirefine.progress import duration
from unirefine.workflow.status import HELD, MISSING, reasons, stage_of

SLACK = 60.0
"""Seconds that clocks of several machines may differ."""
LONG = 3600.0
"""Seconds of training that are not repeated without being asked for."""


def require_writable(*directories: Path | str) -> None:
    """Raises UserError for the first directory that exists and cannot be written: read-only, or another user's."""
    for directory in directories:
        if Path(directory).is_dir() and not os.access(directory, os.W_OK):
            read_only = os.statvfs(directory).f_flag & os.ST_RDONLY
            raise UserError(
                "is on a read-only file system" if read_only else "cannot be written by this user",
                where=f"{directory}/",
                fix="nothing was started; mount it for writing or give it another owner, or use another run.name",
            )


def require_bucket(provider: Any, prefix: str) -> None:
    """Raises UserError unless the object storage of `prefix` answers: Snakemake's plugins take an outage for no files.

    provider: that of a Snakemake storage plugin.
    """
    try:
        provider.object(f"{prefix.rstrip('/')}/results").exists()
    except Exception as error:  # each plugin has its own kinds
        raise UserError(
            f"cannot be read: {' '.join(str(error).split())}",
            where=prefix,
            fix="nothing was started; check the endpoint, the network and the credentials of this shell",
        ) from None


def warning_of_future(directory: Path | str, now: float | None = None) -> str | None:
    """One line about the file below `directory` that is dated furthest ahead of `now` (seconds; the clock), if any is.

    Snakemake compares dates: what was made from such a file looks out of date until the clock has passed it. (Files
    below 1 MB it compares by content.)
    """
    now = time.time() if now is None else now
    dates = ((path.lstat().st_mtime, path) for path in Path(directory).rglob("*") if path.is_file())
    date, path = max(dates, default=(now, None))
    if path is None or date <= now + SLACK:
        return None
    ahead = datetime.timedelta(seconds=round(date - now))
    return (
        f"{path} is dated {ahead} ahead of this machine's clock, so Snakemake makes again what is made from it,"
        f" and refuses it as older than its input; set the clock right, then:"
        f" find {directory} -newermt now -exec touch {{}} +"
    )


def hold(results: Path) -> None:
    """Keep `<results>/.running` locked until this process ends, however it ends; `held` tells.

    Snakemake's own locks stay behind after a kill -9, so they do not tell whether a workflow runs.
    """
    results.mkdir(parents=True, exist_ok=True)
    handle = os.open(results / HELD, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)  # closed by the end of the process
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(handle, fcntl.LOCK_SH)


def guard_others(dag: Any, places: Mapping[str, Path], config: Config) -> None:
    """Raises UserError when the plan would replace what is of the run that this one shares with.

    What is missing there may be made: it comes out as it was. places: the stages that are elsewhere. A
    `release.directory` is no run's own.
    """
    shared = {stage: path for stage, path in places.items() if stage != "release" or not config.release.directory}
    for job in dag.needrun_jobs():
        stage, causes = stage_of(job.rule.name), set(root_causes(dag.reason(job))) - {MISSING}
        if stage in shared and causes and any(Path(path).exists() for path in job.output):
            raise UserError(
                f"{stage} of run {config.run.base} would be made again ({', '.join(sorted(causes))}), and it is not"
                " this run's; nothing was started",
                where=f"{shared[stage]}/",
                fix="start that run first, or leave out run.base",
            )


def retraining(dag: Any) -> str | None:
    """One line when the plan (Snakemake's DAG) would replace the trained model, with the stages that cause it.

    None when there is no such model, or when it was asked for with `-R train`. Raises UserError instead where that
    training took more than LONG and anything but its own options causes it: an edit or an option of an earlier stage,
    shards that are gone, a changed input.
    """
    job = next((job for job in dag.needrun_jobs() if job.rule.name == "train"), None)
    if job is None or dag.reason(job).forced:
        return None
    final = job.output[0]
    facts = trained(final)
    if facts is None:
        return None
    shown = final.storage_object.query if final.is_storage else final
    before = [one for one in dag.bfs(dag.dependencies, job) if one is not job and dag.needrun(one)]
    found: dict[str, list[str]] = {}
    for one in [*before, job]:
        told = found.setdefault(stage_of(one.rule.name), [])
        told += [why for why in root_causes(dag.reason(one)) if why not in told]
    causes = [f"{stage} ({', '.join(why)})" for stage, why in found.items() if why]
    line = f"training runs again, because of {', '.join(causes)}"
    took = facts["seconds"]
    asked = all(why.startswith("option ") for why in found.pop("train"))
    if took < LONG or (asked and not any(found.values())):
        return f"{line}; {shown} is replaced"
    raise UserError(
        f"{line}; it took {duration(took)}, and nothing was started", where=shown,
        fix="add `-R train` to train again, or give the config another run.name to keep both",
    )  # fmt: skip


def trained(final: Any) -> dict[str, Any] | None:
    """`train.json` of the model that is train's output `final` (Snakemake's), here or in a bucket; None without one."""
    if not final.is_storage:
        path = Path(final) / "train.json"
        return read_json(path) if path.exists() else None
    provider = final.storage_object.provider
    facts = provider.object(f"{final.storage_object.query}/train.json")
    if not facts.exists():
        return None
    with tempfile.TemporaryDirectory() as aside:  # in its own place it would look like a copy of the whole model
        facts.set_local_path(Path(aside) / "train.json")
        facts.retrieve_object()
        return read_json(facts.local_path())


def root_causes(reason: Any) -> list[str]:
    """Reasons of a job that are not just another job's."""
    return [why for why in reasons(reason) if why != "what it reads is made again"]
