"""ShardLoader: batches of one rank, and a state of one number that is valid at any number of ranks and workers."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from unirefine.errors import UserError

if TYPE_CHECKING:
    from unirefine.loading.dataset import ShardDataset


class _Batches(torch.utils.data.IterableDataset):
    """The batches of a rank from a sample on. Of several workers each makes every n-th, so their order is the same."""

    def __init__(self, loader: "ShardLoader", first: int, end: int) -> None:
        self.loader, self.first, self.end = loader, first, end

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        info = torch.utils.data.get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        loader, step = self.loader, self.loader.step
        for first in range(self.first + worker * step, self.end, workers * step):
            mine = np.arange(first + loader.rank, min(first + step, self.end), loader.ranks)
            if len(mine):
                yield loader.collate(loader.dataset.take(mine))


class ShardLoader(torch.utils.data.IterableDataset):
    """Batches of a ShardDataset for one of several data-parallel ranks.

    A step takes the next `batch_size` x `ranks` samples, of which each rank has every `ranks`-th. A `for` loop is one
    pass over the data set; the next one goes on with the samples after it, which are further epochs. What is left of a
    pass and is no whole step is left out. Fixed samples are the same in every pass, and none is left out: the last step
    is smaller, and some ranks may have no part of it.

    `state_dict()` after a batch says where the next one starts. It may be loaded at another number of ranks or workers,
    and with another batch size. It is also a data set for a DataLoader of your own, with `batch_size=None`; of its
    workers each makes a share of the batches, and the state is then that of the workers' copies.
    """

    def __init__(
        self, dataset: "ShardDataset", batch_size: int, *, packed: bool, workers: int, rank: int | None,
        ranks: int | None,
    ) -> None:  # fmt: skip
        """See `ShardDataset.loader`. Raises ValueError for sizes that are out of range."""
        started = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.rank = rank if rank is not None else torch.distributed.get_rank() if started else 0
        self.ranks = ranks if ranks is not None else torch.distributed.get_world_size() if started else 1
        if batch_size < 1 or workers < 0 or not 0 <= self.rank < self.ranks:
            raise ValueError(f"batch_size {batch_size}, workers {workers}, rank {self.rank} of {self.ranks}")
        self.dataset, self.batch_size, self.workers = dataset, batch_size, workers
        self.collate = dataset.packed if packed else dataset.padded
        self.step = batch_size * self.ranks
        if not dataset.fixed and len(dataset) < self.step:
            raise ValueError(f"{len(dataset)} samples are fewer than a step of {batch_size} x {self.ranks}")
        self._next = 0

    def __len__(self) -> int:
        """Batches of a whole pass."""
        whole, rest = divmod(len(self.dataset), self.step)
        return whole + (self.dataset.fixed and rest > self.rank)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        count, fixed = len(self.dataset), self.dataset.fixed
        start = self._next % count
        epoch = self._next - start
        if not fixed and count - start < self.step:
            epoch, start = epoch + count, 0
        end = count if fixed else count - (count - start) % self.step
        batches = _Batches(self, epoch + start, epoch + end)
        if torch.utils.data.get_worker_info() is not None:
            yield from batches
            return
        for batch in torch.utils.data.DataLoader(batches, batch_size=None, num_workers=self.workers):
            start = min(start + self.step, end)
            self._next = epoch + start
            yield batch
        self._next = 0 if fixed else epoch + count

    def state_dict(self) -> dict[str, int]:
        """Where the next batch starts, and of which samples."""
        return {"next_sample": self._next, "seed": self.dataset.seed, "samples": len(self.dataset)}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where a state was taken. Raises UserError for a state of a data set with another seed or length."""
        mine = self.state_dict()
        for key in ("seed", "samples"):
            if state.get(key) != mine[key]:
                raise UserError(f"a state of {key} {state.get(key)}, but the data set has {mine[key]}")
        found = state.get("next_sample")
        if type(found) is not int or found < 0:
            raise UserError(f"a state whose next_sample is {found!r}")
        self._next = found
