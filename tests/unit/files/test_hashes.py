import hashlib

from hypothesis import given
from hypothesis import strategies as st

from unirefine.files.hashes import sha256_file, sha256_json


def test_sha256_of_a_file_is_hashlibs(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(bytes(range(256)) * 9999)
    assert sha256_file(path) == hashlib.sha256(path.read_bytes()).hexdigest()


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.booleans())))
def test_the_hash_of_a_config_does_not_depend_on_key_order(value):
    backwards = dict(reversed(value.items()))
    assert sha256_json(value) == sha256_json(backwards)
