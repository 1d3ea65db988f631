"""All pairs of two sets of proteins, aligned exactly: no prefilter, no limit on scores, nothing of MMseqs2.

A pair is scored first, by Opal (SIMD, in 8, 16 or 32 bits, whichever the score needs). Only a pair whose E-value may
pass is aligned once more, for the score corrected for composition, for identity and coverage (`smith_waterman`).
"""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import NamedTuple

import numpy as np
from pyopal import Aligner, Database
from scoring_matrices import ScoringMatrix

from unirefine.core import smith_waterman
from unirefine.progress import meter

_SLICE = 1 << 14
"""Most targets scored at a time by one thread; fewer where threads would be idle."""
_LANES = 32
"""Targets that Opal scores at once; fewer take as long."""
_STACK_BYTES_PER_RESIDUE = 160
"""Opal keeps a column of its matrix on the stack: 68 bytes a residue of the query with 256-bit registers."""
_ALIGNER = Aligner(
    ScoringMatrix(smith_waterman.SCORES.tolist(), smith_waterman.LETTERS),
    smith_waterman.GAP_OPEN,
    smith_waterman.GAP_EXTEND,
)


class Limits(NamedTuple):
    """What an alignment must have beside identity, with the names and meanings of MMseqs2's options."""

    coverage: float
    coverage_mode: int
    """0: both sequences covered; 1: the target; 2: the query; 3 to 5: lengths alone decide."""
    evalue: float


class Pairs(NamedTuple):
    """k of the pairs that were aligned: those that pass the limits, ordered by (query, target)."""

    query: np.ndarray
    """int64[k]: index of the query."""
    target: np.ndarray
    """int64[k]: index of the target."""
    identity: np.ndarray
    """float64[k], as are the next four."""
    query_coverage: np.ndarray
    target_coverage: np.ndarray
    evalue: np.ndarray
    bits: np.ndarray


def length_window(length: int, lengths: np.ndarray, limits: Limits) -> tuple[int, int]:
    """Which targets a query of `length` residues may be aligned with: first and end in ascending `lengths`.

    As in MMseqs2, a pair whose lengths do not allow the coverage is not aligned.
    """
    fraction, mode = np.float32(limits.coverage), limits.coverage_mode
    ratio = lengths.astype(np.float32) / np.float32(length)  # MMseqs2 divides in single precision
    inverse = np.float32(length) / lengths.astype(np.float32)
    first = np.searchsorted(ratio, fraction) if mode in (0, 2, 3, 5) else 0
    end = len(lengths) - np.searchsorted(inverse[::-1], fraction) if mode in (0, 1, 4, 5) else len(lengths)
    if mode == 3:
        end = np.searchsorted(lengths, length, side="right")
    elif mode == 4:
        first = np.searchsorted(lengths, length)
    return int(first), max(int(end), int(first))


def align_all(
    queries: Sequence[bytes],
    targets: Sequence[bytes],
    limits: Limits,
    *,
    residues: int | None = None,
    most: bool = True,
    threads: int = 1,
    title: str | None = None,
) -> tuple[Pairs, int]:
    """Align every query with every target whose length allows the coverage: the pairs found, and how many were aligned.

    queries, targets: of `smith_waterman.as_residues`, not empty. residues: size of the database for E-values; by
    default that of the targets. most: of several best alignments of a pair, take the one with most identical residues,
    or with fewest. title: of the progress lines, which count cells (pairs of residues); None shows none.
    """
    order = np.argsort([len(target) for target in targets], kind="stable")
    ordered = [targets[at] for at in order]
    lengths = np.array([len(target) for target in ordered], np.int64)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    size = int(ends[-1]) if residues is None else residues
    database = Database(ordered, _ALIGNER.alphabet)
    windows = [length_window(len(query), lengths, limits) for query in queries]
    step = max(_LANES, min(_SLICE, len(targets) // (4 * threads)))
    tasks = [
        (len(queries[number]) * int(ends[min(at + step, end)] - ends[at]), number, at, min(at + step, end))
        for number, (first, end) in enumerate(windows)
        for at in range(first, end, step)
    ]
    tasks.sort(key=lambda task: -task[0])  # the longest first, so that no thread ends alone
    rows: list[tuple] = []

    def search(cells: int, number: int, first: int, end: int) -> tuple[int, list[tuple]]:
        query = queries[number]
        found = _search(query, ordered[first:end], database, first, limits, size, most)
        return cells, [(number, int(order[at]), *rest) for at, *rest in found]

    longest = max((len(query) for query in queries), default=0)
    shown = meter(title, total=sum(task[0] for task in tasks), unit="cells") if title else contextlib.nullcontext()
    with shown as progress, _workers(threads, longest) as pool:
        for done in as_completed([pool.submit(search, *task) for task in tasks]):
            cells, found = done.result()
            rows += found
            if progress is not None:
                progress.advance(cells)
    columns = list(zip(*sorted(rows), strict=True)) or [()] * len(Pairs._fields)
    pairs = Pairs(*(np.array(column, np.int64 if at < 2 else np.float64) for at, column in enumerate(columns)))
    return pairs, sum(end - first for first, end in windows)


@contextlib.contextmanager
def _workers(threads: int, longest: int) -> Iterator[ThreadPoolExecutor]:
    """Threads with a stack that Opal's column of a query of `longest` residues fits into."""
    page = 1 << 20
    before = threading.stack_size((8 + longest * _STACK_BYTES_PER_RESIDUE // page) * page)
    try:
        with ThreadPoolExecutor(threads) as pool:
            try:
                yield pool
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        threading.stack_size(before)


def _search(
    query: bytes, targets: Sequence[bytes], database: Database, first: int, limits: Limits, residues: int, most: bool
) -> Iterator[tuple[int, float, float, float, float, float]]:
    """What is found of one query among `targets`, which are in `database` from `first` on: number of the target in the
    database, identity, both coverages, E-value, bits.
    """
    lowest = smith_waterman.lowest_score(len(query), residues, limits.evalue)
    corrected = smith_waterman.corrections(query)
    gain = smith_waterman.largest_gain(corrected)  # Opal does not correct for composition
    results = _ALIGNER.align(query, database, mode="score", algorithm="sw", start=first, end=first + len(targets))
    for at, result in enumerate(results):
        if result.score < lowest - gain:
            continue
        aligned = smith_waterman.align(query, targets[at], corrected, most=most)
        if aligned.score >= lowest and is_covered(aligned, limits):
            evalue = smith_waterman.evalue(aligned.score, len(query), residues)
            yield first + at, *aligned[1:], evalue, smith_waterman.bits(aligned.score)


def is_covered(aligned: smith_waterman.Alignment, limits: Limits) -> bool:
    """Whether an alignment covers what `limits` ask for. As in MMseqs2, lengths alone decide in modes 3 to 5."""
    query = limits.coverage_mode in (1, 3, 4, 5) or aligned.query_coverage >= limits.coverage
    target = limits.coverage_mode in (2, 3, 4, 5) or aligned.target_coverage >= limits.coverage
    return query and target
