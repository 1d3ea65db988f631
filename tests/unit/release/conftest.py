"""A miniature UniProt site, served by one or two HTTP servers that can be told to fail."""

import importlib.util
import sys
from pathlib import Path

import pytest
from minisite.site import build_demo

from unirefine.release.transport import Patience

ROOT = Path(__file__).parents[3]


def _load_webserver():
    spec = importlib.util.spec_from_file_location("webserver", ROOT / "tests" / "webserver.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["webserver"] = module
    spec.loader.exec_module(module)
    return module


web = _load_webserver()


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """A miniature site of 120 UniRef50 clusters; read only."""
    output = tmp_path_factory.mktemp("minisite") / "site"
    build_demo(output, limit=120)
    return output


@pytest.fixture
def server(site):
    """The site over HTTP."""
    with web.serve(site) as running:
        yield running


@pytest.fixture
def other(site):
    """A second mirror of the same site."""
    with web.serve(site) as running:
        yield running


@pytest.fixture
def patience():
    """Gives up without a pause; a busy machine does not count as a stall."""
    return Patience(stall_seconds=20, attempts=3, backoff_seconds=0.01)
