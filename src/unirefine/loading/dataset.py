"""ShardDataset: the trainer's samples, one by one or as batches, for any loop that reads torch's data sets.

Which sequence, which window and which mask is a pure function of (seed, number of the sample), computed by
`unirefine.sampling`. So nothing depends on workers, ranks or order, and no sample is made twice.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unirefine.config import Sampling
from unirefine.core.alphabet import PAD
from unirefine.dataset.reader import open_shards
from unirefine.errors import UserError
from unirefine.loading.loader import ShardLoader
from unirefine.sampling import FixedStream, SampleStream
from unirefine.sampling.kernels import IGNORE

Sample = dict[str, torch.Tensor]


class ShardDataset(torch.utils.data.Dataset):
    """Masked samples of one side of the shards.

    `dataset[g]` is sample g: `input_ids` int64[n], `labels` int64[n] with -100 where nothing is predicted. It has no
    state, so torch's samplers, workers and DistributedSampler may ask for samples in any order.
    """

    def __init__(
        self, shards: Path | str, side: str = "train", *, samples: int | None = None, fixed: bool | None = None,
        **sampling: Any,
    ) -> None:  # fmt: skip
        """Open the shards of `shards`.

        samples: how many; default: an epoch, which has one member of each cluster. More are further epochs, in another
        order, with other members, windows and masks. fixed: sample i is sequence i, always with the same window and
        mask, as the trainer validates; default: for validation and test. sampling: options of the block
        `train.sampling`, as in `seed=1, max_tokens=1024`.

        Raises UserError for shards that are missing or damaged and for a side that they do not have, ValueError for an
        option that is unknown or out of range.
        """
        self._arguments = {"shards": Path(shards), "side": side, "samples": samples, "fixed": fixed, **sampling}
        config, opened = Sampling.model_validate(sampling), open_shards(shards)
        if side not in opened.sides:
            raise UserError(f"no side {side!r}", where=shards, fix=f"give one of {', '.join(opened.sides)}")
        self.side, self.seed = opened.sides[side], config.seed
        self.fixed = side != "train" if fixed is None else fixed
        self.stream = FixedStream(self.side, config, config.seed) if self.fixed else SampleStream(self.side, config)
        available = self.side.sequences if self.fixed else self.side.documents
        if samples is not None and (samples < 1 or (self.fixed and samples > available)):
            raise ValueError(f"samples is {samples}; there are {available}")
        self.samples = available if samples is None else samples

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes, which open the shards again: maps of files are not sent."""
        return self._arguments

    def __setstate__(self, arguments: dict[str, Any]) -> None:
        self.__init__(**arguments)

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, number: int) -> Sample:
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[Sample]:
        """Several samples at once, as DataLoader asks for them. Raises IndexError outside 0 .. len - 1."""
        numbers = np.asarray(numbers, np.int64)
        if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < self.samples:
            raise IndexError(f"a sample of {numbers.min()} .. {numbers.max()} is not in 0 .. {self.samples - 1}")
        return self.take(numbers)

    def take(self, numbers: np.ndarray) -> list[Sample]:
        """Samples int64[b], also beyond the end where they are not fixed: further epochs."""
        batch = self.stream.packed(numbers)
        tokens = torch.from_numpy(batch.tokens.astype(np.int64))
        labels = torch.from_numpy(batch.labels.astype(np.int64))
        lengths = np.diff(batch.cu_seqlens).tolist()
        return [
            {"input_ids": one, "labels": label}
            for one, label in zip(tokens.split(lengths), labels.split(lengths), strict=True)
        ]

    @staticmethod
    def padded(samples: Sequence[Sample], multiple: int = 1) -> Sample:
        """Collate to rows: `input_ids`, `attention_mask` (1: a token) and `labels`, int64[b, s].

        multiple: s, the length of the longest sample, is rounded up to a multiple of it.
        """
        lengths = torch.tensor([len(one["input_ids"]) for one in samples])
        width = -(-int(lengths.max()) // multiple) * multiple
        tokens = torch.full((len(samples), width), PAD)
        labels = torch.full((len(samples), width), int(IGNORE))
        for row, one in enumerate(samples):
            tokens[row, : lengths[row]], labels[row, : lengths[row]] = one["input_ids"], one["labels"]
        mask = (torch.arange(width) < lengths[:, None]).long()
        return {"input_ids": tokens, "attention_mask": mask, "labels": labels}

    @staticmethod
    def packed(samples: Sequence[Sample]) -> Sample:
        """Collate end to end, without padding: `input_ids`, `labels` and `position_ids` (from 0 in each sample),
        int64[1, t]; `cu_seqlens` int32[b + 1], where each sample starts, and t; `max_seqlen`, the longest.
        """
        lengths = torch.tensor([len(one["input_ids"]) for one in samples])
        return {
            "input_ids": torch.cat([one["input_ids"] for one in samples])[None],
            "labels": torch.cat([one["labels"] for one in samples])[None],
            "position_ids": torch.cat([torch.arange(length) for length in lengths.tolist()])[None],
            "cu_seqlens": torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32),
            "max_seqlen": lengths.max(),
        }

    def loader(
        self, batch_size: int, *, packed: bool = False, workers: int = 0, rank: int | None = None,
        ranks: int | None = None,
    ) -> ShardLoader:  # fmt: skip
        """Batches of this process as an iterable with a state; see ShardLoader.

        batch_size: samples of each rank. packed: collate with `packed`, else with `padded`. workers: processes that
        make batches. rank, ranks: default: those of torch.distributed where it is initialised, else 0 of 1.
        """
        return ShardLoader(self, batch_size, packed=packed, workers=workers, rank=rank, ranks=ranks)
