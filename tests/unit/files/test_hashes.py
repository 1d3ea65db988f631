import hashlib

from hypothesis import given
from hypothesis import strategies as st

from unirefine.files.hashes import first_change, recorded, sha256_file, sha256_json


def test_sha256_of_a_file_is_hashlibs(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(bytes(range(256)) * 9999)
    assert sha256_file(path) == hashlib.sha256(path.read_bytes()).hexdigest()


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.booleans())))
def test_the_hash_of_a_config_does_not_depend_on_key_order(value):
    backwards = dict(reversed(value.items()))
    assert sha256_json(value) == sha256_json(backwards)


def test_the_first_file_that_changed_is_named(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(name.encode() * 9)
    files = recorded(tmp_path, ["a", "b", "c"])
    assert first_change(tmp_path, files, threads=2) is None
    (tmp_path / "b").write_bytes(b"bbbbbbbbc")
    assert first_change(tmp_path, files) == ("b", "its content is not what was written (SHA-256 differs)")
    (tmp_path / "c").write_bytes(b"cc")
    assert first_change(tmp_path, files) == ("c", "2 bytes instead of 9")
    (tmp_path / "a").unlink()
    assert first_change(tmp_path, files) == ("a", "missing")
