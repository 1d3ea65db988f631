"""What the readers of the records stage share: counts, parsing ahead in order, leaving bad entries out."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pyarrow as pa

from unirefine.core.removed import Removed
from unirefine.errors import UserError
from unirefine.records.columns import REASONS, STATS, Parsed

Item = TypeVar("Item")


class Tally:
    """Counts of a level, over all of its blocks."""

    def __init__(self) -> None:
        self.entries = self.kept = self.members = self.bytes = 0
        self.stats = np.zeros(len(STATS) + 1, np.int64)
        self.letters = np.zeros(256, np.int64)

    def add(self, parsed: Parsed) -> None:
        """Count what was read."""
        self.entries += len(parsed.status)
        self.stats += parsed.stats
        if parsed.letters is not None:
            self.letters += parsed.letters

    def keep(self, parsed: Parsed) -> None:
        """Count what is left of it."""
        self.kept += parsed.records.num_rows
        self.members += parsed.members.num_rows if parsed.members is not None else 0


def in_order(
    items: Iterable[Item], pool: ThreadPoolExecutor, parse: Callable[[Item], Parsed], ahead: int
) -> Iterator[tuple[Item, Parsed]]:
    """Parse items in the pool, `ahead` at a time. A UserError of the reader is raised after the items before it."""
    waiting: deque[tuple[Item, Future[Parsed]]] = deque()
    fault: UserError | None = None
    try:
        for item in items:
            waiting.append((item, pool.submit(parse, item)))
            if len(waiting) > ahead:
                first, future = waiting.popleft()
                yield first, future.result()
    except UserError as error:
        fault = error
    while waiting:
        first, future = waiting.popleft()
        yield first, future.result()
    if fault is not None:
        raise fault


def without_bad(
    parsed: Parsed, bad: np.ndarray, level: str, removed: Removed, evidence: Callable[[int], str]
) -> Parsed:
    """Drop bad entries, bool[n], with their members, and list them. evidence: the text for an entry."""
    ids = parsed.records.column("id")
    by_reason: dict[str, tuple[list[str], list[str]]] = {}
    for i in np.flatnonzero(bad).tolist():
        names, texts = by_reason.setdefault(REASONS[int(parsed.status[i])], ([], []))
        names.append(ids[i].as_py())
        texts.append(evidence(i))
    for reason, (names, texts) in by_reason.items():
        removed.add(level, reason, names, texts)
    good, members, lengths = pa.array(~bad), parsed.members, np.diff(parsed.member_end)
    if members is not None:
        members = members.filter(pa.array(np.repeat(~bad, lengths)))
    return replace(
        parsed,
        records=parsed.records.filter(good),
        members=members,
        member_end=np.concatenate([[0], np.cumsum(lengths[~bad])]),
    )
