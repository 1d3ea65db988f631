"""Make items ahead of their use on a background thread: reading and compiled kernels run without the GIL."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def prefetch(make: Callable[[Item], Made], items: Iterable[Item], depth: int = 2) -> Iterator[Made]:
    """Yield make(item) for each item, in order, keeping up to `depth` results ready.

    >>> for batch in prefetch(stream.batch, batches_of_indices, depth=4):
    ...     train_on(batch)

    `items` is iterated on the background thread. An exception there is raised here, after the results before it.
    Closing the generator stops the thread and waits for it.
    """
    ready: queue.Queue[tuple[bool, Made | BaseException | None]] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(entry: tuple[bool, Made | BaseException | None]) -> bool:
        while not stop.is_set():
            try:
                ready.put(entry, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((True, make(item))):
                    return
            put((False, None))
        except BaseException as error:
            put((False, error))

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            more, made = ready.get()
            if more:
                yield made
            elif made is None:
                return
            else:
                raise made
    finally:
        stop.set()
        thread.join()
