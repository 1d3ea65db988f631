import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unirefine import provenance
from unirefine.errors import UserError


def test_a_file_appears_only_when_complete(tmp_path):
    path = tmp_path / "deep" / "value.json"
    with provenance.atomic_path(path) as part:
        part.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert [entry.name for entry in path.parent.iterdir()] == ["value.json"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "value.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), provenance.atomic_path(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["value.json"]


def test_sha256_of_a_file_is_hashlibs(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(bytes(range(256)) * 9999)
    assert provenance.sha256_file(path) == hashlib.sha256(path.read_bytes()).hexdigest()


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.booleans())))
def test_the_hash_of_a_config_does_not_depend_on_key_order(value):
    backwards = dict(reversed(value.items()))
    assert provenance.sha256_json(value) == provenance.sha256_json(backwards)


def test_counts_must_add_up():
    assert provenance.level_counts(5, 3, {"long": 2, "never": 0}) == {"in": 5, "kept": 3, "removed": {"long": 2}}
    with pytest.raises(AssertionError):
        provenance.level_counts(5, 3, {"long": 1})


def test_counts_file(tmp_path):
    level = provenance.level_counts(1, 1, {})
    provenance.write_counts(tmp_path / "counts.json", "split", {"uniref50": level}, seed=3)
    written = json.loads((tmp_path / "counts.json").read_text())
    assert written == {"stage": "split", "levels": {"uniref50": level}, "seed": 3}


def test_reading_json_that_is_not_there_or_not_json(tmp_path):
    with pytest.raises(UserError, match="run the stage that writes it"):
        provenance.read_json(tmp_path / "no.json")
    (tmp_path / "torn.json").write_text('{"a": ')
    with pytest.raises(UserError, match=r"torn\.json: not valid JSON"):
        provenance.read_json(tmp_path / "torn.json")


def test_the_source_digest_names_what_it_covers():
    split = provenance.source_digest("split")
    assert split == provenance.source_digest("split")
    assert split != provenance.source_digest("split", "shards")
