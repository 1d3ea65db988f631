"""For every test: Ctrl-C works, bytecode is kept, and the longest modules start first."""

import gc
import os
import signal
import sys
from pathlib import Path

import forked
import pytest

# also where the suite runs in the background of a shell that ignores SIGINT
signal.signal(signal.SIGINT, signal.default_int_handler)

# some hundred processes would each compile unirefine's modules
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Imports of all test modules make a million objects that stay: a quarter of their time goes to looking for garbage.
gc.disable()

# A module runs in one worker, so that its fixtures are made once. Modules of `workflow` wait for a run that they share.
# It compiles numba's functions for all. While the first worker makes it, the others run modules that do not need it.
FIRST = (
    "workflow/test_job_faults.py",
    "distributed/test_train_faults.py",
    "distributed/test_train.py",
    "distributed/test_train_parity.py",
    "distributed/test_train_four.py",
    "workflow/test_storage.py",
    "workflow/test_faults.py",
    "workflow/test_run.py",
    "workflow/test_sharing.py",
    "workflow/test_outputs.py",
    "workflow/test_retraining.py",
    "unit/decontaminate/test_stage.py",
)


def pytest_collection_modifyitems(items):
    """Sort the modules of FIRST to the front, in this order."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(FIRST)))


def pytest_collection_finish():
    """Collect garbage again, among what tests make."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def fork_server(tmp_path_factory):
    """Where the processes of pytest find their server, which starts when a test needs it."""
    base = tmp_path_factory.getbasetemp()
    os.environ[forked.VARIABLE] = str((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "forks.sock")
