"""Rows in blocks: what a pass over arrays or a read of strings takes at a time."""

from collections.abc import Iterator

BLOCK_ROWS = 1 << 20


def blocks(rows: int) -> Iterator[slice]:
    """Slices of BLOCK_ROWS that cover `rows` rows in order; the last one is shorter."""
    for start in range(0, rows, BLOCK_ROWS):
        yield slice(start, min(start + BLOCK_ROWS, rows))
