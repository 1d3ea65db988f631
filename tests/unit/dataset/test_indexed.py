"""The file format, in both directions against megatron-core."""

import unirefine.megatron  # noqa: F401 - before Megatron

import numpy as np
import pytest
import torch
from megatron.core.datasets.indexed_dataset import IndexedDataset, IndexedDatasetBuilder

from unirefine.config import Shard
from unirefine.dataset import IndexedFiles, open_shards
from unirefine.dataset.indexed import HEADER_BYTES, read_index, write_index
from unirefine.errors import UserError
from unirefine.shard.run import run as build_shards


@pytest.fixture(scope="module")
def built(run, tmp_path_factory):
    directory = tmp_path_factory.mktemp("indexed")
    build_shards(Shard(parts=3), **run.inputs, output=directory, threads=2)
    return directory


def test_megatron_reads_our_shards(built):
    shards = open_shards(built)
    first_sequence = first_document = 0
    for prefix in shards.train.prefixes:
        theirs = IndexedDataset(str(prefix))
        documents = theirs.document_indices
        assert len(theirs) > 0
        for i in range(len(theirs)):
            np.testing.assert_array_equal(theirs[i], shards.train.tokens(first_sequence + i))
        for d in range(len(documents) - 1):
            sequences = shards.train.document(first_document + d)
            assert (sequences.start, sequences.stop) == (
                first_sequence + documents[d],
                first_sequence + documents[d + 1],
            )
        first_sequence, first_document = first_sequence + len(theirs), first_document + len(documents) - 1
    assert (first_sequence, first_document) == (shards.train.sequences, shards.train.documents)


def test_our_files_are_byte_for_byte_megatrons(built, tmp_path):
    ours = IndexedFiles([built / "validation"])
    builder = IndexedDatasetBuilder(str(tmp_path / "theirs.bin"), dtype=np.uint8)
    for document in range(ours.documents):
        for sequence in ours.document(document):
            builder.add_item(torch.from_numpy(ours.tokens(sequence).copy()))
        builder.end_document()
    builder.finalize(str(tmp_path / "theirs.idx"))
    for suffix in (".bin", ".idx"):
        assert (tmp_path / f"theirs{suffix}").read_bytes() == (built / f"validation{suffix}").read_bytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.int64])
@pytest.mark.parametrize("multimodal", [False, True])
def test_we_read_what_megatron_writes(tmp_path, dtype, multimodal):
    rng = np.random.default_rng(1)
    sequences = [rng.integers(0, 33, size).astype(dtype) for size in rng.integers(1, 90, 40)]
    prefixes = []
    for file in range(2):
        builder = IndexedDatasetBuilder(str(tmp_path / f"p{file}.bin"), dtype=dtype, multimodal=multimodal)
        for i, sequence in enumerate(sequences[20 * file : 20 * file + 20]):
            builder.add_item(torch.from_numpy(sequence.astype(np.int64)))
            if i % 3 == 2 or i == 19:
                builder.end_document()
        builder.finalize(str(tmp_path / f"p{file}.idx"))
        prefixes.append(tmp_path / f"p{file}")
    ours = IndexedFiles(prefixes)
    assert ours.sequences == 40 and ours.documents == 14 and ours.dtype == dtype
    for i, sequence in enumerate(sequences):
        assert ours.tokens(i).dtype == dtype
        np.testing.assert_array_equal(ours.tokens(i), sequence)
    np.testing.assert_array_equal(ours.lengths, [len(sequence) for sequence in sequences])
    np.testing.assert_array_equal(ours.document_offsets, [0, 3, 6, 9, 12, 15, 18, 20, 23, 26, 29, 32, 35, 38, 40])
    assert ours.document(7) == range(20, 23)


def test_sequences_outside_are_index_errors(built):
    side = open_shards(built).validation
    for i in (-1, side.sequences):
        with pytest.raises(IndexError):
            side.tokens(i)
    with pytest.raises(IndexError):
        side.document(side.documents)


def written(tmp_path, lengths=(3, 0, 2), documents=(0, 1, 3)):
    write_index(tmp_path / "x.idx", np.array(lengths, np.int32), np.array(documents))
    return tmp_path / "x.idx", int(sum(lengths))


def test_an_empty_set_and_an_empty_sequence_are_valid(tmp_path):
    path, size = written(tmp_path)
    assert read_index(path, size).pointers.tolist() == [0, 3, 3]
    path, size = written(tmp_path, (), (0,))
    assert len(read_index(path, 0).lengths) == 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[:20], "shorter than the header"),
        (lambda raw: raw[:-1], "torn"),
        (lambda raw: raw + b"\0", "torn"),
        (lambda raw: b"X" + raw[1:], "not a Megatron index"),
        (lambda raw: raw[:9] + b"\2" + raw[10:], "not a Megatron index"),
        (lambda raw: raw[:17] + b"\6" + raw[18:], "dtype code 6"),
        (lambda raw: raw[:-8] + b"\4" + raw[-7:], "documents end at sequence 4 of 3"),
        (lambda raw: raw[: HEADER_BYTES + 8] + b"\7" + raw[HEADER_BYTES + 9 :], "sequences end at byte 10"),
        (lambda raw: raw[:HEADER_BYTES] + b"\xff" * 4 + raw[HEADER_BYTES + 4 :], "negative length"),
        (lambda raw: raw[: HEADER_BYTES + 12] + b"\1" + raw[HEADER_BYTES + 13 :], "offsets do not follow"),
        (lambda raw: raw[: HEADER_BYTES + 27] + b"\x80" + raw[HEADER_BYTES + 28 :], "offsets do not follow"),
        (lambda raw: raw[: HEADER_BYTES + 44] + b"\5" + raw[HEADER_BYTES + 45 :], "not ascending"),
        (lambda raw: raw[:26] + bytes(8), "no document offsets"),
    ],
)
def test_a_damaged_index_is_refused_at_once(tmp_path, damage, message):
    path, size = written(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=message) as caught:
        read_index(path, size)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_every_flipped_bit_of_an_index_is_refused(tmp_path):
    """Also across the blocks in which an index is checked, and where the sum of all lengths stays right."""
    path, size = written(tmp_path, (3, 0, 2, 7), (0, 1, 3, 4))
    raw = path.read_bytes()
    for bit in range(8 * len(raw)):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            index = read_index(path, size)
        except UserError:
            continue
        # a document that begins elsewhere is still a valid index, which only the hash can tell
        assert bit // 8 >= HEADER_BYTES + 48 and index.lengths.tolist() == [3, 0, 2, 7], bit


@pytest.mark.parametrize("at", [0, 65_535, 65_536, 199_999])
def test_an_index_is_checked_in_every_block(tmp_path, at):
    lengths = np.full(200_000, 5, np.int32)
    write_index(tmp_path / "x.idx", lengths, np.array([0, len(lengths)]))
    raw = bytearray((tmp_path / "x.idx").read_bytes())
    assert len(read_index(tmp_path / "x.idx", 1_000_000).lengths) == 200_000
    raw[HEADER_BYTES + 4 * len(lengths) + 8 * at + 5] ^= 4  # a byte offset far behind the end of the .bin
    (tmp_path / "x.idx").write_bytes(raw)
    with pytest.raises(UserError, match="offsets do not follow"):
        read_index(tmp_path / "x.idx", 1_000_000)
