"""Every id that differs between two runs, as two Parquet tables."""

import contextlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from unirefine.compare.inputs import Members, Run
from unirefine.core.tables import table_writer, take_strings

CLUSTERS = pa.schema(
    [("id", pa.string()), ("change", pa.string()), ("from", pa.string()), ("to", pa.string()), ("because", pa.string())]
)
"""change: `gone`, `new` or `side`; from, to: sides of the two runs, null where it is in one of them only."""
MEMBERS = pa.schema([("id", pa.string()), ("change", pa.string()), ("from", pa.string()), ("to", pa.string())])
"""change: `gone`, `new` or `moved`; from, to: ids of its clusters in the two runs, null where it is in one only."""
_BLOCK = 1 << 20


class Tables(contextlib.AbstractContextManager):
    """Writes the tables to a directory; nothing without one."""

    def __init__(self, directory: Path | None) -> None:
        self._directory, self._stack = directory, contextlib.ExitStack()

    def __enter__(self) -> "Tables":
        if self._directory is not None:
            self._clusters, self._members = (
                self._stack.enter_context(table_writer(self._directory / f"{name}.parquet", schema))
                for name, schema in (("clusters", CLUSTERS), ("members", MEMBERS))
            )
        return self

    def __exit__(self, *error: object) -> bool | None:
        return self._stack.__exit__(*error)  # type: ignore[arg-type]

    def add_clusters(self, change: str, owner: Run, clusters: np.ndarray) -> None:
        """Add clusters that are gone or new. clusters: int64[k], of `owner`."""
        if self._directory is None:
            return
        for block in _blocks(clusters):
            nothing = pa.nulls(len(block), pa.string())
            columns = (owner.cluster_names(block), pa.repeat(change, len(block)), nothing, nothing, nothing)
            self._clusters.write(dict(zip(CLUSTERS.names, columns, strict=True)))

    def add_sides(self, owner: Run, clusters: np.ndarray, sides: list[tuple[str, str]], why: list[str]) -> None:
        """Add clusters on another side. clusters: int64[k], of `owner`; sides: (from, to) of each."""
        if self._directory is None:
            return
        names = owner.cluster_names(clusters)
        columns = (
            names,
            pa.repeat("side", len(names)),
            *(pa.array([pair[at] for pair in sides], pa.string()) for at in (0, 1)),
            pa.array(why, pa.string()),
        )
        self._clusters.write(dict(zip(CLUSTERS.names, columns, strict=True)))

    def add_members(self, change: str, first: Run, owner: Run, members: Members, was: np.ndarray | None) -> None:
        """Add members that are gone, new or moved. members: of `owner`; was: clusters of the moved in `first`."""
        if self._directory is None:
            return
        for block in _blocks(np.arange(len(members.row))):
            names = take_strings(owner.member_records(), "id", members.row[block])
            clusters = owner.cluster_names(members.cluster[block])
            nothing = pa.nulls(len(block), pa.string())
            before = clusters if change == "gone" else first.cluster_names(was[block]) if was is not None else nothing
            columns = (names, pa.repeat(change, len(block)), before, nothing if change == "gone" else clusters)
            self._members.write(dict(zip(MEMBERS.names, columns, strict=True)))


def _blocks(indices: np.ndarray) -> list[np.ndarray]:
    return [indices[at : at + _BLOCK] for at in range(0, len(indices), _BLOCK)]
