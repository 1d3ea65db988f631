"""ShardDataset gives the samples of the trainer, each once, whatever asks for them."""

import builtins
import pickle
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler

from unirefine.config import Sampling, Shard, Train
from unirefine.core.alphabet import PAD
from unirefine.dataset import ShardDataset, open_shards
from unirefine.errors import UserError
from unirefine.sampling import FixedStream, SampleStream
from unirefine.shard.run import run as build_shards
from unirefine.train.data import training_steps

OPTIONS = {"seed": 3, "max_tokens": 64}


@pytest.fixture(scope="module")
def shards(run, tmp_path_factory):
    directory = tmp_path_factory.mktemp("shards")
    build_shards(Shard(parts=3), **run.inputs, output=directory)
    return directory


@pytest.fixture
def dataset(shards):
    return ShardDataset(shards, **OPTIONS)


def key(tokens: torch.Tensor, labels: torch.Tensor) -> tuple:
    return tuple(tokens.tolist()), tuple(labels.tolist())


def keys_of(batch: dict) -> list[tuple]:
    """The samples in a batch, padded or packed."""
    if "cu_seqlens" in batch:
        bounds = batch["cu_seqlens"].tolist()
        return [key(batch["input_ids"][0, a:b], batch["labels"][0, a:b]) for a, b in pairwise(bounds)]
    lengths = batch["attention_mask"].sum(1).tolist()
    rows = zip(batch["input_ids"], batch["labels"], lengths, strict=True)
    return [key(tokens[:length], labels[:length]) for tokens, labels, length in rows]


def every(dataset, numbers) -> list[tuple]:
    return [key(one["input_ids"], one["labels"]) for one in dataset.take(np.asarray(numbers))]


def test_samples_are_those_of_the_trainer(dataset, shards):
    """A step of `train` has the same tokens and labels as the loader's step."""
    config = Train.model_validate(
        {"sampling": OPTIONS, "global_batch": 8, "micro_batch": 4, "parallel": {"processes_per_node": 2}}
    )
    stream = SampleStream(open_shards(shards).train, config.sampling)
    trained: list[tuple] = []
    for rank in range(2):
        (step,) = training_steps(stream, config, 8, 1, rank, 2)
        for micro in step.micro_batches:
            bounds = [0, *np.cumsum(micro.lengths)]
            if micro.cu_seqlens is not None:
                trained += [key(micro.tokens[0, a:b], micro.labels[0, a:b]) for a, b in pairwise(bounds)]
            else:
                rows = zip(micro.tokens, micro.labels, micro.lengths, strict=True)
                trained += [key(tokens[:n], labels[:n]) for tokens, labels, n in rows]
    assert sorted(trained) == sorted(every(dataset, range(8, 16)))


def test_it_is_a_map_of_an_epoch(dataset, shards):
    side = open_shards(shards).train
    assert len(dataset) == side.documents
    batch = SampleStream(side, Sampling(**OPTIONS)).batch(np.arange(5))
    for number in range(5):
        one = dataset[number]
        assert one["input_ids"].dtype == one["labels"].dtype == torch.int64
        np.testing.assert_array_equal(one["input_ids"], batch.tokens[number, : batch.lengths[number]])
        np.testing.assert_array_equal(one["labels"], batch.labels[number, : batch.lengths[number]])
    clusters = dataset.stream.windows(np.arange(len(dataset))).sequence
    documents = np.searchsorted(side.document_offsets, clusters, "right")
    assert len(set(documents.tolist())) == side.documents, "a sample of each cluster"
    for number in (-1, len(dataset)):
        with pytest.raises(IndexError, match="is not in 0"):
            dataset[number]
    assert len(list(dataset)) == len(dataset)


@pytest.mark.parametrize("side", ["validation", "test"])
def test_held_out_sides_have_fixed_masks(side, shards):
    dataset, opened = ShardDataset(shards, side, **OPTIONS), open_shards(shards).sides[side]
    assert len(dataset) == opened.sequences
    batch = FixedStream(opened, Sampling(**OPTIONS), OPTIONS["seed"]).batch(np.arange(len(dataset)))
    assert every(dataset, range(len(dataset))) == [
        key(torch.from_numpy(tokens[:n]), torch.from_numpy(labels[:n]))
        for tokens, labels, n in zip(batch.tokens, batch.labels, batch.lengths, strict=True)
    ]


def test_collated_batches(dataset):
    samples = [dataset[number] for number in range(6)]
    padded, packed = dataset.padded(samples, multiple=16), dataset.packed(samples)
    assert padded["input_ids"].shape[1] % 16 == 0
    assert keys_of(padded) == keys_of(packed) == every(dataset, range(6))
    outside = padded["attention_mask"] == 0
    assert (padded["input_ids"][outside] == PAD).all() and (padded["labels"][outside] == -100).all()
    assert (padded["input_ids"][~outside] != PAD).all()
    lengths = packed["cu_seqlens"].diff()
    assert packed["cu_seqlens"].dtype == torch.int32 and packed["max_seqlen"] == lengths.max()
    starts = packed["cu_seqlens"][:-1].long()
    assert (packed["position_ids"][0, starts] == 0).all() and packed["position_ids"].max() == lengths.max() - 1


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_and_workers_repeat_nothing(workers, dataset):
    """In torch's DataLoader with its DistributedSampler, and in the loader."""
    expected = every(dataset, range(len(dataset)))
    found = []
    for rank in range(2):
        sampler = DistributedSampler(dataset, 2, rank, shuffle=False, drop_last=True)
        for batch in DataLoader(dataset, 4, sampler=sampler, num_workers=workers, collate_fn=dataset.padded):
            found += keys_of(batch)
    assert sorted(found) == sorted(expected[: len(dataset) // 2 * 2])

    steps = {rank: list(dataset.loader(4, rank=rank, ranks=2, workers=workers, packed=True)) for rank in range(2)}
    assert len(steps[0]) == len(steps[1]) == len(dataset) // 8
    for number, (one, other) in enumerate(zip(steps[0], steps[1], strict=True)):
        samples = expected[8 * number : 8 * number + 8]
        assert keys_of(one) == samples[::2] and keys_of(other) == samples[1::2]


def test_a_loader_is_a_data_set_for_a_dataloader(dataset):
    loader = dataset.loader(8, packed=True)
    own = [keys_of(batch) for batch in DataLoader(loader, batch_size=None, num_workers=2)]
    assert own == [keys_of(batch) for batch in dataset.loader(8, packed=True)]
    assert len(own) == len(loader)


@pytest.mark.parametrize(("workers", "ranks", "size"), [(0, 1, 8), (2, 1, 4), (0, 2, 4)])
def test_a_state_goes_on_at_any_number_of_workers_and_ranks(workers, ranks, size, dataset):
    before = dataset.loader(8, workers=2)
    batches = iter(before)
    for _step in range(3):
        next(batches)
    state = before.state_dict()
    assert state["next_sample"] == 24
    found = []
    for rank in range(ranks):
        after = dataset.loader(size, rank=rank, ranks=ranks, workers=workers)
        after.load_state_dict(state)
        found += [sample for batch in after for sample in keys_of(batch)]
    whole = len(dataset) - (len(dataset) - 24) % (size * ranks)
    assert sorted(found) == sorted(every(dataset, range(24, whole)))


def test_passes_are_epochs(dataset, shards):
    loader = dataset.loader(16)
    first = [sample for batch in loader for sample in keys_of(batch)]
    second = [sample for batch in loader for sample in keys_of(batch)]
    count = len(loader) * 16
    assert first == every(dataset, range(count))
    assert second == every(dataset, range(len(dataset), len(dataset) + count)) != first
    fixed = ShardDataset(shards, "validation", **OPTIONS)
    for ranks in (1, 3):
        loaders = [fixed.loader(4, rank=rank, ranks=ranks) for rank in range(ranks)]
        for _pass in range(2):
            passes = [list(loader) for loader in loaders]
            assert [len(one) for one in passes] == [len(loader) for loader in loaders]
            found = [sample for one in passes for batch in one for sample in keys_of(batch)]
            assert sorted(found) == sorted(every(fixed, range(len(fixed))))


def test_more_samples_are_further_epochs(shards, dataset):
    longer = ShardDataset(shards, samples=3 * len(dataset), **OPTIONS)
    assert every(longer, [2 * len(dataset) + 1]) == every(dataset, [2 * len(dataset) + 1])
    assert len(longer) == 3 * len(dataset)


def test_it_can_be_sent_to_a_process(dataset):
    sent = pickle.dumps(dataset)
    assert len(sent) < 1000
    assert every(pickle.loads(sent), [7]) == every(dataset, [7])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"side": "tset"}, UserError, "no side 'tset'; give one of train, validation, test"),
        ({"max_token": 3}, ValueError, "max_token"),
        ({"mask_fraction": 2}, ValueError, "mask_fraction"),
        ({"samples": 0}, ValueError, "samples is 0"),
        ({"side": "validation", "samples": 10**6}, ValueError, "samples is 1000000"),
    ],
)
def test_wrong_options_are_named(options, error, message, shards):
    with pytest.raises(error, match=message):
        ShardDataset(shards, **options)


def test_wrong_loaders_and_states_are_named(dataset, shards, tmp_path):
    with pytest.raises(ValueError, match="rank 2 of 2"):
        dataset.loader(4, rank=2, ranks=2)
    with pytest.raises(ValueError, match="fewer than a step"):
        dataset.loader(1000)
    loader, state = dataset.loader(4), dataset.loader(4).state_dict()
    for change, message in (({"seed": 4}, "a state of seed 4"), ({"next_sample": -1}, "next_sample is -1")):
        with pytest.raises(UserError, match=message):
            loader.load_state_dict(state | change)
    with pytest.raises(UserError, match=r"no manifest.json"):
        ShardDataset(tmp_path)


def test_without_torch_the_import_says_what_to_install(monkeypatch):
    import unirefine.dataset

    real = builtins.__import__

    def refusing(name, *arguments, **options):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return real(name, *arguments, **options)

    for name in [name for name in sys.modules if name.startswith("unirefine.loading")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refusing)
    with pytest.raises(ImportError, match="pip install torch"):
        unirefine.dataset.ShardDataset  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'Shard'"):
        unirefine.dataset.Shard  # noqa: B018
