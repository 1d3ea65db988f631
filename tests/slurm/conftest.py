"""One virtual cluster, and one directory in which the workflow runs on it, for all tests of this folder.

Collected only by `make slurm-test` (UNIREFINE_SLURM_TEST=1), which installs Slurm where it is missing.
"""

import os
import shutil
import sys
from pathlib import Path

import pytest
from minisite.site import build_demo

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import rough  # noqa: E402
from pipeline import ROOT, Pipeline  # noqa: E402
from timeline import draw  # noqa: E402
from virtual import VirtualCluster, require_slurm  # noqa: E402

collect_ignore_glob = [] if "UNIREFINE_SLURM_TEST" in os.environ else ["test_*.py"]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    require_slurm()
    with VirtualCluster(tmp_path_factory.mktemp("cluster") / "slurm") as virtual:
        yield virtual


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, cluster):
    """A directory with a miniature UniProt site and the config; nothing has run in it."""
    directory = tmp_path_factory.mktemp("pipeline")
    shutil.copy(HERE / "slurm.yaml", directory)
    shutil.copy(ROOT / "resources/demo/purge.txt", directory)
    build_demo(directory / "site", limit=240)
    made = Pipeline(directory, cluster)
    made.install_apptainer()
    return made


@pytest.fixture(scope="session")
def seen(prepared):
    """What was observed while the workflow ran on the cluster up to the report, through all interruptions."""
    return rough.run(prepared)


@pytest.fixture(scope="session")
def pipeline(prepared, seen):
    """The directory in which the workflow has run on the cluster up to the report."""
    yield prepared
    if "UNIREFINE_SLURM_TIMELINE" in os.environ:
        draw(prepared.recorded(), Path(os.environ["UNIREFINE_SLURM_TIMELINE"]))
