"""A disk that is full while a model is converted: one line, and nothing with the target's name."""

import contextlib
import resource
import sys

import pytest

from unirefine.cli.main import main


@contextlib.contextmanager
def small_files(bytes_: int):
    """Within the block no file of this process, or of one that it starts, can become larger: the kernel says EFBIG."""
    before, bytecode = resource.getrlimit(resource.RLIMIT_FSIZE), sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # Python would keep a module that is cut off
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        sys.dont_write_bytecode = bytecode


@pytest.mark.parametrize("layout", ["megatron", "huggingface"])
def test_a_full_disk_is_one_line(small_esm2, tmp_path, capfd, layout):
    source, _model = small_esm2
    if layout == "huggingface":
        assert main(["convert", "--from", str(source), "--to", str(tmp_path / "megatron")]) == 0
        source = tmp_path / "megatron"
    target, before = tmp_path / "target", sorted(tmp_path.iterdir())
    capfd.readouterr()
    with small_files(1 << 14):
        assert main(["convert", "--from", str(source), "--to", str(target)]) == 1
    errors = capfd.readouterr().err
    lines = [line for line in errors.splitlines() if ": error: " in line]
    assert len(lines) == 1 and "file too large; free some space" in lines[0], errors
    assert "Traceback" not in errors
    assert sorted(tmp_path.iterdir()) == before
