"""A miniature UniProt site, served by one or two HTTP servers that can be made to fail."""

import importlib.util
import sys
from pathlib import Path

import pytest
from minisite.site import build_demo

from unirefine.release.transport import Downloader

ROOT = Path(__file__).parents[3]


def _load(path):
    """Import a module of helpers, so that tests can import it by its name."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


web = _load(ROOT / "tests" / "webserver.py")
_load(Path(__file__).with_name("tars.py"))


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
def downloader():
    """Retries without a pause; a busy machine does not count as a stall."""
    return Downloader(stall_seconds=20, attempts=3, backoff_seconds=0.01)
