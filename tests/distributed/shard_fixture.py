"""The fixture of small shards. It is apart from what writes them, which programs use that have no pytest."""

from pathlib import Path

import pytest
from train_shards import made_up, write_documents


@pytest.fixture(scope="session")
def shards(tmp_path_factory) -> Path:
    """A directory of small shards."""
    return write_documents(tmp_path_factory.mktemp("run") / "shards", made_up(120), validation=20)
