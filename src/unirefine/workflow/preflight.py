"""Checks before a workflow starts.

Can it write? Are files dated in the future? Would it replace a long training, or results of another run?
"""

import contextlib
import datetime
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unirefine.config import Config
from unirefine.errors import UserError
from unirefine.files import lineage, names
from unirefine.files.atomic import read_json
from unirefine.files.stages import shards_of
from unirefine.files.urls import is_path, local_path
from unirefine.progress import duration
from unirefine.tools import find_mmseqs
from unirefine.workflow.options import release_files
from unirefine.workflow.paths import Paths
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


def require_files(config: Config, *, find_tools: bool, downloads: Path | None = None) -> None:
    """Raises UserError that lists everything which the config names by a path and which is not there.

    find_tools: whether jobs run the programs of this machine. downloads: the release directory, where a start would
    download to it from `file:` URLs; of what is there already, the source may be gone.
    """
    wrong = []
    for key, path in _own_files(config):
        if not Path(path).exists():
            wrong.append(f"{key}: {path}")
        elif key.startswith("train.validation.") and not (shards_of(Path(path)) / "manifest.json").exists():
            wrong.append(f"{key}: {path} (no shards in it)")
        elif not key.startswith(("train.init", "train.validation.")) and Path(path).is_dir():
            wrong.append(f"{key}: {path} (a directory)")
    if config.release.is_data_set and not config.release.on_hub and not Paths(config, {}).data_set():
        wrong.append(f"release.dataset: {config.release.dataset} (no data set in it)")
    if downloads:
        wrong += [f"{key}: {url}" for key, url in _local_urls(config, downloads) if not _exists(url)]
    if find_tools and config.tools.mmseqs is not None:
        try:
            find_mmseqs(config.tools.mmseqs)
        except UserError:
            wrong.append(f"tools.mmseqs: {config.tools.mmseqs} (no program)")
    if wrong:
        raise UserError(
            f"no such file: {', '.join(wrong)}",
            fix=f"nothing was started; correct the config (paths are relative to {Path.cwd()}, and ~ is not expanded)",
        )


def _own_files(config: Config) -> Iterator[tuple[str, str]]:
    """(key, path) of each file of the user's that a rule reads."""
    release = config.release
    if release.source == "fasta":
        for option in ("fasta", "validation_fasta", "test_fasta", "sides", "clusters"):
            if getattr(release, option) is not None:
                yield f"release.{option}", getattr(release, option)
    sources = {"release.taxdump": release.taxdump}
    sources |= {f"release.purge_lists[{number}]": source for number, source in enumerate(release.purge_lists)}
    yield from ((key, source) for key, source in sources.items() if source and is_path(source))
    files = {
        "curate.designs": config.curate.designs,
        "split.ids": config.split.ids,
        # a model that is not read from this machine is no input
        "train.init": config.train.init if Paths(config, {}).initial_weights() else None,
        "embed.fasta": config.embed.fasta,
    }
    files |= {f"decontaminate.against[{at}]": one.file for at, one in enumerate(config.decontaminate.against)}
    yield from ((key, path) for key, path in files.items() if path is not None)
    yield from ((f"train.validation.{name}", path) for name, path in config.train.validation.items())
    for entry in config.curate.exclude:
        options = ((f"curate.exclude ({entry.name})", path) for path in (entry.purge_list, entry.designs))
        yield from ((key, path) for key, path in options if path is not None)


def _local_urls(config: Config, downloads: Path) -> Iterator[tuple[str, str]]:
    """(key, URL) of each `file:` URL from which something is still to be copied."""
    release, missing = config.release, {name for name in release_files(config) if not (downloads / name).exists()}
    if release.taxdump and names.TAXDUMP in missing:
        yield "release.taxdump", release.taxdump
    for number, source in enumerate(release.purge_lists):
        if names.purge_list(number) in missing:
            yield f"release.purge_lists[{number}]", source
    if not any(map(_exists, release.mirrors)) and any(name.startswith("uniref") for name in missing):
        yield from (("release.mirrors", mirror) for mirror in release.mirrors)


def _exists(url: str) -> bool:
    """Whether a `file:` URL names something that exists. URLs on the network and plain paths are not looked at."""
    path = local_path(url) if url.startswith("file:") else None
    return path is None or path.exists()


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
