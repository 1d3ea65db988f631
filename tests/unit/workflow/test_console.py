"""What a running workflow prints: Snakemake's records in, lines out."""

import io
import logging
import re
import time
from types import SimpleNamespace

import pytest
from snakemake.settings.types import OutputSettings
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

import snakemake_logger_plugin_unirefine as plugin_module
from unirefine import terminal
from unirefine.workflow import console

RULES = {"split": 1, "decontaminate_search": 2, "all": 1, "total": 4}


@pytest.fixture
def shown(monkeypatch):
    """(send a record of Snakemake, what has been printed so far) of the plugin as Snakemake makes it."""
    monkeypatch.setattr(console, "TICK_S", 0.02)
    monkeypatch.setattr(console, "SILENCE_S", 60.0)
    errors = io.StringIO()
    monkeypatch.setattr(plugin_module, "sys", SimpleNamespace(stderr=errors))
    plugin = LoggerPluginRegistry().get_plugin("unirefine")
    handler = plugin.log_handler(OutputSettings(), None)

    def send(event=None, message="", level=logging.INFO, **values):
        record = logging.LogRecord("snakemake", level, "", 0, message, (), None)
        record.__dict__ |= values | ({"event": event} if event else {})
        handler.handle(record)

    def printed():
        text = errors.getvalue()
        errors.seek(0)
        errors.truncate()
        return text

    yield send, printed
    handler.close()
    assert "Traceback" not in printed()


def start(send, tmp_path):
    """Three jobs are started; two of them have written something."""
    send(LogEvent.RUN_INFO, stats=RULES)
    logs = [tmp_path / f"{number}.log" for number in range(3)]
    logs[0].write_text("2026-11-28 02:31:05  validation: 5 clusters\n\n")
    logs[1].write_bytes(b"2026-11-28 02:31:05  search: 10%\r2026-11-28 02:31:06  search: 50%, ETA 9s")
    for number, rule in enumerate(("split", "decontaminate_search", "decontaminate_search")):
        send(LogEvent.JOB_INFO, jobid=number, rule_name=rule, log=[str(logs[number])])
    return logs


def test_a_stage_is_one_line_when_its_last_job_has_ended(shown, tmp_path):
    send, printed = shown
    logs = start(send, tmp_path)
    assert printed() == "3 jobs in 2 stages: split, decontaminate\n"
    send(message="Select jobs to execute...")
    send(LogEvent.SHELLCMD, "Shell command: x")
    send(LogEvent.JOB_FINISHED, job_id=0)
    send(LogEvent.JOB_FINISHED, job_id=1)
    assert printed() == " 1/2  split              0s  validation: 5 clusters\n"
    logs[2].write_text("decontaminate: 3 clusters with a hit " + "word " * 40)
    send(LogEvent.JOB_FINISHED, job_id=2)
    (line,) = printed().splitlines()
    assert line.startswith(" 2/2  decontaminate      0s  3 clusters with a hit word")
    assert 135 < len(line) <= 140 and line.endswith(" word ...")


@pytest.mark.parametrize(
    ("width", "text"),
    [(40, "part 0: 1,910 sequences"), (23, "part 0: 1,910 sequences"), (22, "part 0: 1,910 ..."), (5, "pa...")],
)
def test_a_long_line_ends_after_a_word(width, text):
    assert console.shortened("part 0: 1,910 sequences", width) == text


def test_there_is_no_silence(shown, tmp_path, monkeypatch):
    send, printed = shown
    start(send, tmp_path)
    printed()
    send(LogEvent.JOB_FINISHED, job_id=0)
    printed()
    monkeypatch.setattr(console, "SILENCE_S", 0.0)
    deadline = time.monotonic() + 5
    text = ""
    while "search: 50%" not in text and time.monotonic() < deadline:
        text += printed()
    assert re.search(r"^ {7}decontaminate_search +0s  search: 50%, ETA 9s$", text, re.MULTILINE)


def test_an_error_shows_the_end_of_the_log_once_and_not_what_repeats_it(shown, tmp_path):
    send, printed = shown
    logs = start(send, tmp_path)
    logs[1].write_text("".join(f"line {number}\n" for number in range(100)) + "unirefine x: error: no\n")
    printed()
    error = {"jobid": 1, "rule_name": "decontaminate_search", "log": [str(logs[1])], "level": logging.ERROR}
    send(
        LogEvent.ERROR, "RuleException:\nCalledProcessError in file ...", level=logging.ERROR
    )  # of a job on this machine
    send(LogEvent.JOB_ERROR, **error)
    send(LogEvent.JOB_ERROR, **error)
    send(LogEvent.ERROR, "RuleException:\nCalledProcessError in file ...", level=logging.ERROR)
    send(message="WorkflowError:\nAt least one job did not complete successfully.", level=logging.ERROR)
    send(message="Exiting because a job execution failed. Look above", level=logging.ERROR)
    send(message="Complete log(s): /x/.snakemake/log/y.log")
    first, where, *lines, last = printed().splitlines()
    assert (first, where) == ("Error in rule decontaminate_search after 0s", f"  {logs[1]}, last lines:")
    assert [line.strip() for line in lines] == [f"line {number}" for number in range(71, 100)] + [
        "unirefine x: error: no"
    ]
    assert last == "Complete log(s): /x/.snakemake/log/y.log"
    send(message="Trying to restart job 1.")
    send(LogEvent.JOB_INFO, jobid=1, rule_name="decontaminate_search", log=[str(tmp_path / "none")])
    send(LogEvent.JOB_ERROR, **error | {"log": [str(tmp_path / "none")]})
    assert printed().splitlines()[-1] == f"  {tmp_path / 'none'} is empty or not there"


def test_warnings_and_what_was_asked_for_without_jobs_are_shown(shown):
    send, printed = shown
    send(message="Unlocked working directory.")
    assert printed() == ""
    send(message="Something is odd", level=logging.WARNING)
    assert printed() == "Something is odd\n"


def test_a_dry_run_prints_what_snakemake_prints(capsys):
    handler = LoggerPluginRegistry().get_plugin("unirefine").log_handler(OutputSettings(dryrun=True), None)
    handler.handle(logging.LogRecord("snakemake", logging.INFO, "", 0, "Building DAG of jobs...", (), None))
    assert not handler.follows_logs
    assert capsys.readouterr().err == "Building DAG of jobs...\n"


def test_lines_of_a_log_begin_with_the_time_where_it_is_asked_for(monkeypatch):
    monkeypatch.setenv(terminal.LOG_TIMES, "1")
    stream = io.StringIO()
    log = terminal.Printable(stream)
    for text in ("one", " line\n", "", "two\nthree\n"):
        log.write(text)
    lines = stream.getvalue().splitlines()
    assert [terminal.STAMP.sub("", line, count=1) for line in lines] == ["one line", "two", "three"]
    assert all(terminal.STAMP.match(line) for line in lines)
