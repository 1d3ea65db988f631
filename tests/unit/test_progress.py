import io
import time

import pytest

from unirefine import progress


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (7, "7 B"),
        (1234, "1.23 kB"),
        (12_345_678, "12.3 MB"),
        (169_188_630_923, "169 GB"),
        (2e15, "2000 TB"),
    ],
)
def test_human(value, text):
    assert progress.human(value, "B") == text


@pytest.mark.parametrize(("seconds", "text"), [(3.2, "3s"), (75, "1m15s"), (3725, "1h02m")])
def test_duration(seconds, text):
    assert progress.duration(seconds) == text


def test_a_log_gets_plain_lines_with_rate_and_eta(monkeypatch):
    """Also while nothing advances: a thread prints them."""
    clock, stream = [0.0], io.StringIO()
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0.01)
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    line = "records: 1.00 kB of 4.00 kB (25%), 50 B/s, ETA 1m00s\n"
    with progress.meter("records", total=4000, unit="B", stream=stream) as done:
        done.advance(1000)
        clock[0] = 20.0
        while stream.getvalue().count(line) < 3:
            time.sleep(0.005)
        done.advance(3000)
        clock[0] = 40.0
    assert stream.getvalue().splitlines()[-1] == "records: 4.00 kB in 40s (100 B/s)"


def test_words_have_a_space_and_nothing_done_yet_says_why(monkeypatch):
    clock, stream = [0.0], io.StringIO()
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0.01)
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress.meter("embed", total=4000, unit="residues", stream=stream, beginning="it compiles") as done:
        clock[0] = 20.0
        while "embed: nothing yet of 4.00 k residues after 20s; it compiles\n" not in stream.getvalue():
            time.sleep(0.005)
        done.advance(1000)
        while "embed: 1.00 k of 4.00 k residues (25%), 50 residues/s, ETA 1m00s\n" not in stream.getvalue():
            time.sleep(0.005)
    assert stream.getvalue().splitlines()[-1] == "embed: 1.00 k residues in 20s (50 residues/s)"


def test_work_without_a_measure_says_how_long_it_has_taken(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0.01)
    with progress.waiting("train: first step", stream=stream):
        while stream.getvalue().count("train: first step: 0s so far\n") < 2:
            time.sleep(0.005)
    before = stream.getvalue()
    time.sleep(0.03)
    assert stream.getvalue() == before
