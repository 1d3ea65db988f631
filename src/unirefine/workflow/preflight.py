"""Checks before a workflow starts.

Can it write? Are files dated in the future? Would it replace a long training, or results of another run?
"""

import contextlib
import datetime
import fcntl
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unirefine.config import Config
from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.files.atomic import read_json
from unirefine.progress import duration
from unirefine.workflow.snakemake import MISSING, Plan, read_json_in, read_stored_json, shown
from unirefine.workflow.status import RUNNING, made_by_other_code, other_code_note, stage_of

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
    """One line about the file below `directory` that is dated furthest in the future; None where none is.

    now: seconds since the epoch, by default the clock's. Snakemake compares dates: what was made from such a file looks
    out of date until the clock has passed it. (Files below 1 MB it compares by content.)
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


def mark_running(results: Path) -> None:
    """Lock `<results>/.running` until this process ends, however it ends. `status.is_running` asks for the lock.

    Snakemake's own locks stay behind after a kill -9, so they do not say whether a workflow runs.
    """
    results.mkdir(parents=True, exist_ok=True)
    handle = os.open(results / RUNNING, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)  # closed by the end of the process
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(handle, fcntl.LOCK_SH)


def refuse_rerun_of_base(plan: Plan, shared: Mapping[str, Path], config: Config) -> None:
    """Raises UserError when the plan would replace results of the run that this one shares with (`run.base`).

    Missing files of that run may be made: they come out as they were. shared: directories of the stages that are not
    this run's own. A `release.directory` belongs to no run.
    """
    of_base = {stage: path for stage, path in shared.items() if stage != "release" or not config.release.directory}
    for job in plan.due_jobs():
        stage, causes = stage_of(job.rule.name), set(plan.root_causes(job)) - {MISSING}
        if stage in of_base and causes and any(Path(path).exists() for path in job.output):
            raise UserError(
                f"{stage} of run {config.run.base} would be made again ({', '.join(sorted(causes))}), and it is not"
                " this run's; nothing was started",
                where=f"{of_base[stage]}/",
                fix="start that run first, or leave out run.base",
            )


def retraining(plan: Plan) -> str | None:
    """One line when the plan would replace the trained model, with the stages that cause it.

    None when there is no such model, or when it was asked for with `-R train`. Raises UserError instead where that
    training took more than LONG and anything but its own options causes it: an edit or an option of an earlier stage,
    shards that are gone, a changed input.
    """
    job = next((job for job in plan.due_jobs() if job.rule.name == "train"), None)
    if job is None or plan.is_asked_for(job):
        return None
    final = job.output[0]
    trained = read_json_in(final, "train.json")
    if trained is None:
        return None
    found: dict[str, list[str]] = {}
    for one in [*plan.before(job), job]:
        causes = found.setdefault(stage_of(one.rule.name), [])
        causes += [why for why in plan.root_causes(one) if why not in causes]
    named = ", ".join(f"{stage} ({', '.join(causes)})" for stage, causes in found.items() if causes)
    line = f"training runs again, because of {named}"
    took = trained["seconds"]
    own_options = all(why.startswith("option ") for why in found.pop("train"))
    if took < LONG or (own_options and not any(found.values())):
        return f"{line}; {shown(final)} is replaced"
    raise UserError(
        f"{line}; it took {duration(took)}, and nothing was started", where=shown(final),
        fix="add `-R train` to train again, or give the config another run.name to keep both",
    )  # fmt: skip


def training_note(final: str, provider: Any = None, prefix: str | None = None) -> str | None:
    """One line when other code than today's made the model in `final`; None where none is there, or it was this code.

    provider, prefix: those of the object storage that holds the results, where they are not on this machine.
    """
    file = f"{final}/{lineage.FILE}"
    if prefix is not None:
        made = read_stored_json(provider, f"{prefix.rstrip('/')}/{file}")
    else:
        made = read_json(file) if Path(file).exists() else None
    code = made_by_other_code("train", made) if made else None
    return f"{final}: {other_code_note('train', code)}" if code else None
