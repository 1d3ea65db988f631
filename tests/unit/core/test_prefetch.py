"""The background thread: order, depth, errors, and its end when the consumer has gone."""

import threading
import time

import pytest

from unirefine.core.prefetch import prefetch


def running():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_results_come_in_order_and_the_thread_ends():
    assert list(prefetch(lambda i: i * i, range(100), depth=3)) == [i * i for i in range(100)]
    assert not running()


def test_it_works_ahead_but_not_further_than_depth():
    made = []
    stream = prefetch(lambda i: made.append(i) or i, range(100), depth=4)
    assert next(stream) == 0
    deadline = time.monotonic() + 5
    while len(made) < 6 and time.monotonic() < deadline:  # one used, four ready, one in hand
        time.sleep(0.01)
    time.sleep(0.05)
    assert made == list(range(6))
    stream.close()
    assert not running()


def test_an_error_is_raised_in_its_place():
    def fail(i):
        if i == 3:
            raise ValueError("three")
        return i

    seen = []
    with pytest.raises(ValueError, match="three"):
        for item in prefetch(fail, range(10)):
            seen.append(item)
    assert seen == [0, 1, 2] and not running()


def test_leaving_the_loop_stops_the_thread():
    for item in prefetch(lambda i: i, iter(int, 1), depth=2):  # endless
        assert item == 0
        break
    del item
    deadline = time.monotonic() + 5
    while running() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not running()
