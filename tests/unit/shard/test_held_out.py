"""Shards of held-out sequences alone."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from minisite.datasets import write_parquet

from unirefine.cli.main import main
from unirefine.core.alphabet import decode
from unirefine.dataset import open_shards
from unirefine.dataset.verify import verify_shards
from unirefine.errors import UserError
from unirefine.shard.held_out import run

VALIDATION = [("UniRef50_P12345", "UniRef90_P12345", "MKVJ"), ("UniRef50_Q6GZX4", "UniRef90_Q6GZX4", "mkl")]


@pytest.fixture
def written(tmp_path):
    """(validation rows) -> the directory of their shards; there is no train/."""

    def write(validation):
        write_parquet(tmp_path / "all", validation, validation)
        (tmp_path / "all/validation").rename(tmp_path / "validation")
        run(tmp_path, tmp_path / "shards")
        return tmp_path / "shards"

    return write


def test_held_out_sequences_are_read_back_in_their_order(written, tmp_path, capsys):
    directory = written(VALIDATION)
    opened = open_shards(directory)
    side = opened.validation
    assert [side.ids(number) for number in range(2)] == [(name, name) for name, *_ in VALIDATION]
    assert [decode(side.tokens(number)) for number in range(2)] == ["MKV?", "MKL"]
    assert side.documents == 2 and opened.manifest["sides"]["validation"]["unknown"] == 1
    verify_shards(directory)
    with pytest.raises(UserError, match="no train shards in it"):
        _ = opened.train
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert main(["shard", "held-out", "--dataset", str(tmp_path), "--output", str(directory)]) == 0
    assert "validation: 2 sequences, 7 residues" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in directory.iterdir() if path.name in before} == before


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (("UniRef50_O00001", "UniRef90_O00001", "MK1"), "row 3: a sequence with other characters than letters"),
        (("UniRef50_O00001", "UniRef90_O00001", ""), "row 3: an empty sequence"),
        (("UniRef50_P12345", "UniRef90_O00001", "MK"), "row 3: UniRef50_P12345 is there twice"),
    ],
)
def test_what_is_no_sequence_is_refused(written, tmp_path, row, says):
    with pytest.raises(UserError, match=says):
        written([*VALIDATION, row])
    assert not (tmp_path / "shards/manifest.json").exists()


def test_a_missing_validation_set_and_no_rows_are_refused(tmp_path):
    with pytest.raises(UserError, match="no Parquet files in validation/"):
        run(tmp_path, tmp_path / "shards")
    (tmp_path / "validation").mkdir()
    empty = pa.table({name: pa.array([], pa.string()) for name in ("ur50_id", "sequence")})
    pq.write_table(empty, tmp_path / "validation/0.parquet")
    with pytest.raises(UserError, match="no rows"):
        run(tmp_path, tmp_path / "shards")
