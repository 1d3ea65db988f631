"""Snakemake's logger plugin `unirefine`: `unirefine.workflow.console` instead of a block of lines for every job.

Snakemake finds it by the name of this package. Dry runs, lists and `--verbose` print what Snakemake prints without it.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

SHOWN = ("Trying to restart job", "Will exit after", "Terminating processes", "Shutting down", "Nothing to be done")
"""Beginnings of what Snakemake says beside its events, and what is for the terminal too."""
REPEATED = ("CalledProcessError", "Exiting because a job execution failed", "At least one job did not complete")
"""Errors that say no more than the one of the job, before which they may come."""


class LogHandler(LogHandlerBase):
    """Takes Snakemake's log records, in a thread of Snakemake's."""

    def __post_init__(self) -> None:
        settings = self.common_settings
        self.follows_logs = not (settings.dryrun or settings.verbose or settings.debug_dag or settings.quiet)
        self._console: Any = None
        self._held: list[str] | None = []
        self._failed = False
        self._repeated: list[str] = []
        self.storage: Path | None = None
        """Where files of a bucket are on this machine while jobs run; `workflow.snakemake.follow_storage` sets it."""
        if not self.follows_logs:
            self._plain = _plain_handler(settings)

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record."""
        if not self.follows_logs:
            self._plain.handle(record)
            return
        try:
            self._show(record, getattr(record, "event", None))
        except (KeyboardInterrupt, SystemExit):
            pass
        except Exception:
            self.handleError(record)

    def _show(self, record: Any, event: LogEvent | None) -> None:
        text = str(record.msg or "")
        if event == LogEvent.RUN_INFO:
            self._start().plan(record.stats)
        elif event == LogEvent.JOB_INFO:
            self._start().started(record.jobid, record.rule_name, self._here(record.log))
        elif event == LogEvent.JOB_FINISHED:
            self._start().finished(record.job_id)
        elif event == LogEvent.JOB_ERROR:
            self._failed = True
            self._start().failed(record.jobid, record.rule_name, self._here(record.log))
        elif event == LogEvent.GROUP_ERROR:
            self._failed = True
            for one in record.job_error_info:
                self._start().failed(one["jobid"], one["rule_name"], self._here([*one["log"], *record.aux_logs]))
        elif record.levelno >= logging.WARNING:
            if any(words in text for words in REPEATED):
                self._repeated.append(text)
            else:
                self._say(text)
        elif event is None:
            if text.startswith(SHOWN) or (self._failed and text.startswith("Complete log")):
                self._say(text)
            elif self._console is None and self._held is not None:
                self._held.append(text)

    def _here(self, logs: Sequence[str]) -> list[str]:
        """Logs as paths: one in a bucket is `s3://lab/logs/x.log (send to storage)` in Snakemake's words."""
        if self.storage is None:
            return list(logs)
        stored = (log.partition("://")[2].partition(" (")[0] for log in logs)
        return [str(self.storage / path) if path else log for path, log in zip(stored, logs, strict=True)]

    def _start(self) -> Any:
        if self._console is None:
            from unirefine.workflow.console import Console

            self._console = Console(sys.stdout if self.common_settings.stdout else sys.stderr)
        return self._console

    def _say(self, text: str) -> None:
        self._held = None
        if self._console is not None:
            self._console.say(text, whole=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """The end. What was held back is printed where nothing has run: it is what was asked for."""
        for text in () if self._failed else self._repeated:
            self._say(text)
        if self._console is not None:
            self._console.close()
        else:
            for text in self._held or ():
                print(text, file=sys.stderr, flush=True)
        self._console, self._held = None, None
        super().close()

    @property
    def writes_to_stream(self) -> bool:
        """Instead of Snakemake's own handler."""
        return True

    @property
    def writes_to_file(self) -> bool:
        """Snakemake writes its log below .snakemake/log itself."""
        return False

    @property
    def has_filter(self) -> bool:
        """What is shown is decided here."""
        return True

    @property
    def has_formatter(self) -> bool:
        """Records are taken as they are."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """Counts of jobs are enough."""
        return False


def _plain_handler(settings: Any) -> logging.Handler:
    """Snakemake's own handler for these settings."""
    from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter

    return ColorizingTextHandler(
        nocolor=settings.nocolor,
        stream=sys.stdout if settings.stdout else sys.stderr,
        formatter=DefaultFormatter(settings.quiet, settings.show_failed_logs),
        filter=DefaultFilter(
            settings.quiet, settings.debug_dag, settings.verbose, settings.dryrun, settings.printshellcmds
        ),
    )


def check_config_files(words: list[str]) -> None:
    """End the program with one line when a `--configfile` of Snakemake's command line is not there.

    Snakemake opens these files before it reads the workflow or starts a logger, and answers with a traceback.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--configfile", "--configfiles", nargs="*", action="extend", default=[])
    for path in map(Path, parser.parse_known_args(words)[0].configfile):
        if not path.is_file():
            from unirefine.errors import UserError
            from unirefine.workflow.start import check_config_file

            try:
                check_config_file(path)
            except UserError as error:
                raise SystemExit(f"snakemake: error: {error}") from None


# Snakemake imports its plugins before it parses its command line: the one moment before it opens the files.
if Path(sys.argv[0]).name == "snakemake" or sys.argv[0].endswith("/snakemake/__main__.py"):
    check_config_files(sys.argv[1:])
