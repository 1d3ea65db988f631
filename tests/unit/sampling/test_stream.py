"""Samples: what they contain, and that nothing but (seed, index) matters."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unirefine.config import Sampling
from unirefine.core.alphabet import CLS, EOS, PAD, UNK
from unirefine.dataset.indexed import HEADER_BYTES
from unirefine.errors import UserError
from unirefine.sampling import FixedStream, SampleStream, fixed_batch

IGNORE = -100


@pytest.fixture(scope="module")
def mixed(make_side):
    rng = np.random.default_rng(4)
    sizes = rng.integers(1, 6, 40)
    lengths = rng.integers(1, 120, sizes.sum())
    lengths[:3] = [62, 63, 1]  # just fits, just does not, one residue
    return lengths, make_side(sizes, lengths, files=4)


def make_stream(kind, side, config):
    return SampleStream(side, config) if kind == "train" else FixedStream(side, config, 3)


@pytest.mark.parametrize("kind", ["train", "fixed"])
def test_samples_are_the_stated_window_of_the_stated_sequence(mixed, kind):
    lengths, side = mixed
    stream = make_stream(kind, side, Sampling(max_tokens=64))
    indices = np.arange(side.sequences)
    windows, batch = stream.windows(indices), stream.batch(indices)
    assert batch.tokens.dtype == np.uint8 and batch.labels.dtype == np.int8 and batch.lengths.dtype == np.int32
    for i in range(len(indices)):
        sequence = windows.sequence[i]
        full = np.concatenate([[CLS], 4 + (sequence + np.arange(lengths[sequence])) % 20, [EOS]])
        expected = full[windows.start[i] : windows.start[i] + windows.length[i]]
        assert len(expected) == min(len(full), 64) == batch.lengths[i]
        tokens, labels = batch.tokens[i, : len(expected)], batch.labels[i, : len(expected)]
        np.testing.assert_array_equal(np.where(labels == IGNORE, tokens, labels), expected)
        assert (labels[(expected == CLS) | (expected == EOS)] == IGNORE).all()
        assert (batch.tokens[i, len(expected) :] == PAD).all() and (tokens != PAD).all()
        assert (batch.labels[i, len(expected) :] == IGNORE).all()
    np.testing.assert_array_equal(stream.lengths_of(indices), batch.lengths)


@pytest.mark.parametrize("kind", ["train", "fixed"])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_batching_order_or_packing_gives_the_same_samples(mixed, kind, data):
    _lengths, side = mixed
    stream = make_stream(kind, side, Sampling(max_tokens=50, seed=data.draw(st.integers(0, 2**63 - 1))))
    count = data.draw(st.integers(1, 60))
    start = data.draw(st.integers(0, 2**40)) if kind == "train" else 0
    together = stream.batch(start + np.arange(count))
    order = np.array(data.draw(st.permutations(range(count))))
    cut = data.draw(st.integers(0, count))
    for piece in (order[:cut], order[cut:]):
        padded, packed = stream.batch(start + piece), stream.packed(start + piece)
        assert packed.cu_seqlens[0] == 0 and packed.cu_seqlens[-1] == len(packed.tokens) == len(packed.labels)
        assert packed.cu_seqlens.dtype == np.int32
        for row, i in enumerate(piece):
            length = together.lengths[i]
            span = slice(packed.cu_seqlens[row], packed.cu_seqlens[row + 1])
            for name in ("tokens", "labels"):
                mine = getattr(together, name)[i, :length]
                np.testing.assert_array_equal(mine, getattr(padded, name)[row, :length])
                np.testing.assert_array_equal(mine, getattr(packed, name)[span])


def test_samples_do_not_depend_on_how_the_set_is_cut_into_files(make_side):
    sizes, lengths = [3, 1, 2, 5, 1, 1, 4], np.arange(17) * 7 + 1
    batches = [SampleStream(make_side(sizes, lengths, files=files), Sampling(max_tokens=60)).batch(np.arange(50))
               for files in (1, 2, 7)]  # fmt: skip
    for other in batches[1:]:
        np.testing.assert_array_equal(batches[0].tokens, other.tokens)
        np.testing.assert_array_equal(batches[0].labels, other.labels)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.int64])
def test_wider_tokens_written_by_megatron_give_the_same_samples(make_side, dtype):
    sizes, lengths = [2, 1, 3], np.array([5, 80, 20, 33, 1, 64])
    narrow, wide = (
        SampleStream(make_side(sizes, lengths, dtype=kind), Sampling(max_tokens=40)).batch(np.arange(30))
        for kind in (np.uint8, dtype)
    )
    np.testing.assert_array_equal(narrow.tokens, wide.tokens)
    np.testing.assert_array_equal(narrow.labels, wide.labels)


def test_width_and_multiple(mixed):
    stream = SampleStream(mixed[1], Sampling(max_tokens=64))
    indices = np.arange(20)
    plain = stream.batch(indices)
    for options, width in (({"multiple": 48}, 96), ({"width": 70}, 70), ({"width": 70, "multiple": 8}, 72)):
        batch = stream.batch(indices, **options)
        assert batch.tokens.shape == batch.labels.shape == (20, width)
        np.testing.assert_array_equal(batch.tokens[:, : plain.tokens.shape[1]], plain.tokens)
        assert (batch.tokens[:, 64:] == PAD).all() and (batch.labels[:, 64:] == IGNORE).all()
    with pytest.raises(ValueError, match="64 tokens, more than the width 63"):
        stream.batch(indices, width=63)
    empty = stream.batch(np.empty(0, np.int64))
    assert empty.tokens.shape == (0, 0) and stream.packed(np.empty(0, np.int64)).cu_seqlens.tolist() == [0]


def test_indices_outside_are_index_errors(mixed):
    side = mixed[1]
    with pytest.raises(IndexError):
        SampleStream(side, Sampling()).batch(np.array([3, -1]))
    for index in (-1, side.sequences):
        with pytest.raises(IndexError):
            fixed_batch(side, np.array([0, index]), 1, Sampling())


def test_shares_of_more_than_one_are_refused():
    with pytest.raises(ValueError, match=r"0.8 \+ random_token_fraction 0.3 is more than 1"):
        Sampling(mask_token_fraction=0.8, random_token_fraction=0.3)


def test_a_fixed_mask_depends_on_seed_key_and_residue_only(mixed):
    _lengths, side = mixed
    a, b = fixed_batch(side, np.arange(30), 5, Sampling(seed=1)), fixed_batch(side, np.arange(30), 5, Sampling(seed=2))
    np.testing.assert_array_equal(a.tokens, b.tokens)  # the training seed is not evaluation's
    other = fixed_batch(side, np.arange(30), 6, Sampling())
    assert (a.labels != other.labels).any()
    # a shorter context crops the same masks: residue for residue, what is chosen stays chosen
    wide, narrow = FixedStream(side, Sampling(max_tokens=1024), 5), FixedStream(side, Sampling(max_tokens=30), 5)
    start = narrow.windows(np.arange(30)).start
    a, b = wide.batch(np.arange(30)), narrow.batch(np.arange(30))
    for i in range(30):
        span = slice(start[i], start[i] + b.lengths[i])
        np.testing.assert_array_equal(a.labels[i, span], b.labels[i, : b.lengths[i]])
        np.testing.assert_array_equal(a.tokens[i, span], b.tokens[i, : b.lengths[i]])


def test_unknown_residues_are_never_chosen(make_side):
    side = make_side([1] * 4, np.full(4, 500), files=1)
    path = side.prefixes[0].with_name("part-0.bin")
    raw = np.fromfile(path, np.uint8)
    raw[::2] = UNK
    raw.tofile(path)
    batch = SampleStream(side, Sampling(mask_fraction=0.9)).batch(np.arange(40))
    assert (batch.labels != UNK).all()
    assert (batch.labels != IGNORE).sum() > 7000


def test_a_corrupt_index_is_an_error(make_side):
    side = make_side([1, 1, 1], [9, 9, 9], files=1)
    path = side.prefixes[0].with_name("part-0.idx")
    raw = bytearray(path.read_bytes())
    raw[HEADER_BYTES + 4 : HEADER_BYTES + 8] = (10**6).to_bytes(4, "little")  # while the file is mapped
    with path.open("rb+") as handle:
        handle.write(raw)
    for stream in (SampleStream(side, Sampling()), FixedStream(side, Sampling(), 1)):
        with pytest.raises(UserError, match="corrupt"):
            stream.batch(np.arange(3))


def test_golden(make_side):
    """Pinned: another value here means that no earlier run can be continued with the same samples."""
    side = make_side(1 + np.arange(40) % 4, 1 + 37 * np.arange(100) % 97)
    stream = SampleStream(side, Sampling(max_tokens=24, seed=7))
    windows = stream.windows(np.array([0, 1, 39, 40, 123_456_789_012]))
    assert windows.sequence.tolist() == [53, 96, 2, 46, 60]
    assert windows.start.tolist() == [0, 14, 37, 6, 49]

    def text(row):
        return " ".join("." if value == IGNORE else str(value) for value in row)

    batch = stream.batch(np.array([0]))
    assert text(batch.tokens[0]) == "0 17 18 19 20 32 22 23 4 32 6 7 8 32 10 11 12 13 14 15 16 17 18 2"
    assert text(batch.labels[0]) == ". . . . . 21 . . . 5 . . . 9 . . . . . . . . . ."
    fixed = fixed_batch(side, np.array([3]), 11, Sampling(max_tokens=24))
    assert text(fixed.tokens[0]) == "0 7 8 32 10 11 12 13 14 15 16 17 18 19 20 21 2"
    assert text(fixed.labels[0]) == ". . . 9 . . . . . . . . . . . . ."
