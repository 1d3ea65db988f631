"""Distributes records over a fixed number of Parquet parts in stripes, in the same way for any number of threads.

Round r = 0, 1, 2, ... gives every part one stripe of min(32 (r + 1)^2, 16384) consecutive records: a row group. So a
small input reaches every part, parts are of similar size, large inputs get large row groups, and at most one stripe is
kept in memory.
"""

import contextlib
import resource
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from unirefine.core import parquet
from unirefine.errors import UserError
from unirefine.files.atomic import atomic_path, delete
from unirefine.files.written import delete_stale
from unirefine.records.columns import MEMBERS, RECORDS, Parsed

FIRST_STRIPE, LARGEST_STRIPE = 32, 1 << 14
_WAITING_GROUPS = 4
_OTHER_FILES = 64


class PartWriter:
    """One Parquet file, written a row group at a time."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path, self._schema = path, schema
        self._sink = pa.OSFile(str(path), "wb")
        self._file = parquet.Writer(
            self._sink,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=False,
            write_statistics=[field.name for field in schema if field.type != pa.string()],
            store_schema=False,
        )

    def write(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Append one row group. Its batches are not concatenated first: that copy would take 5% of the stage."""
        table = pa.Table.from_batches(batches, schema=self._schema)
        if len(table):
            with self._path_in_errors():
                self._file.write_table(table, row_group_size=len(table))

    def close(self) -> None:
        """Write the footer."""
        with self._path_in_errors():
            self._file.close()
            self._sink.close()

    def discard(self) -> None:
        """Close a file that will be deleted, without writing its footer."""
        self._file.is_open = False  # or its finaliser would write, and report a full disk once more
        with contextlib.suppress(OSError):
            self._sink.close()

    @contextlib.contextmanager
    def _path_in_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename = error.filename or str(self._path.parent)
            raise


class Parts:
    """Distributes parsed blocks over the parts. Use `part_files`."""

    def __init__(self, records: Sequence[Path], members: Sequence[Path], threads: int) -> None:
        self.paths = tuple(records)
        """The temporary files of the records."""
        self._records = [PartWriter(path, RECORDS) for path in records]
        self._members = [PartWriter(path, MEMBERS) for path in members]
        self._stripe: list[pa.RecordBatch] = []
        self._stripe_members: list[pa.RecordBatch] = []
        self._part, self._round, self._missing = 0, 0, FIRST_STRIPE
        # each part always has the same thread, so that its row groups keep their order
        self._writers = [ThreadPoolExecutor(1, f"writer-{k}") for k in range(min(threads, len(records)))]
        self._slots = threading.Semaphore(_WAITING_GROUPS * len(self._writers))
        self._futures: list[Future] = []

    def add(self, parsed: Parsed) -> None:
        """Append the entries of a block, in the order of the input."""
        done, total = 0, parsed.records.num_rows
        while done < total:
            take = min(self._missing, total - done)
            self._stripe.append(parsed.records.slice(done, take))
            if parsed.members is not None:
                first, last = int(parsed.member_end[done]), int(parsed.member_end[done + take])
                self._stripe_members.append(parsed.members.slice(first, last - first))
            done += take
            self._missing -= take
            if not self._missing:
                self._flush_stripe()

    def _flush_stripe(self) -> None:
        """Pass the stripe to the thread of its part; the next stripe goes to the next part."""
        part, stripe, members = self._part, self._stripe, self._stripe_members
        self._stripe, self._stripe_members = [], []
        self._part = (part + 1) % len(self._records)
        self._round += self._part == 0
        self._missing = min(FIRST_STRIPE * (self._round + 1) ** 2, LARGEST_STRIPE)
        self._slots.acquire()
        self._raise_failures()
        self._futures.append(self._writers[part % len(self._writers)].submit(self._write, part, stripe, members))

    def _write(self, part: int, batches: Sequence[pa.RecordBatch], members: Sequence[pa.RecordBatch]) -> None:
        try:
            self._records[part].write(batches)
            if self._members:
                self._members[part].write(members)
        finally:
            self._slots.release()

    def _raise_failures(self) -> None:
        for future in self._futures:
            if future.done():
                future.result()
        self._futures = [future for future in self._futures if not future.done()]

    def finish(self) -> None:
        """Write the last stripe and the footers."""
        if self._stripe:
            self._flush_stripe()
        for future in self._futures:
            future.result()
        for writer in (*self._records, *self._members):
            writer.close()

    def stop(self) -> None:
        """End the threads. Nothing more is written."""
        for thread in self._writers:
            thread.shutdown(cancel_futures=True)
        for writer in (*self._records, *self._members):
            writer.discard()


@contextlib.contextmanager
def part_files(records: Sequence[Path], members: Sequence[Path], threads: int) -> Iterator[Parts]:
    """Part files that get their names only when the block succeeds; all earlier parts are deleted before.

    The block must call `finish`. records, members: paths in the directory of a level, as many members as records or
    none.
    Raises UserError when a process may not open enough files.
    """
    _allow_open_files(len(records) + len(members) + _OTHER_FILES)
    directory = records[0].parent
    directory.mkdir(parents=True, exist_ok=True)
    for orphan in directory.glob(".*.parquet.*.tmp"):  # of a killed run with another number of parts
        delete(orphan)
    with contextlib.ExitStack() as files:
        temporary = [files.enter_context(atomic_path(path)) for path in (*records, *members)]
        parts = Parts(temporary[: len(records)], temporary[len(records) :], threads)
        try:
            yield parts
        finally:
            parts.stop()
        others = [f"{directory.name}/{name}" for name in ("removed.parquet", "lineage.json")]
        delete_stale(directory.parent, "records", others, below=directory.name)


def _allow_open_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        if hard != resource.RLIM_INFINITY and hard < count:
            raise UserError(
                f"records.parts needs {count} open files, the system allows {hard}",
                fix="raise `ulimit -n` or lower records.parts",
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
