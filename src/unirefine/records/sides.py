"""A split that a user gives with a FASTA: a table of ids and sides."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unirefine.core.idlist import inner_keys, some
from unirefine.core.levels import TEST, TRAIN, VALIDATION
from unirefine.core.pairs import read_pairs
from unirefine.errors import UserError
from unirefine.records.columns import OK
from unirefine.records.rows import keys_of

_SIDES = {
    "train": TRAIN, "training": TRAIN, "validation": VALIDATION, "valid": VALIDATION, "val": VALIDATION, "test": TEST,
}  # fmt: skip
_HEADER = ("id", "side")
_FIX = "each line has an id, a tab, and train, validation or test"


class Sides:
    """The sides of the ids of a table. Memory: 10 bytes an id."""

    def __init__(self, path: Path) -> None:
        """Read the table. Raises UserError for a line that is none, an unknown side, and an id that is there twice."""
        self.path = path
        keys, sides = [np.empty(0, np.uint64)], [np.empty(0, np.uint8)]
        for ids, names in read_pairs(path, "table of sides", _FIX):
            if len(keys) == 1 and (ids[0].as_py().lower(), names[0].as_py().lower()) == _HEADER:
                ids, names = ids.slice(1), names.slice(1)
            codes = pc.index_in(pc.utf8_lower(names), pa.array(list(_SIDES)))
            if codes.null_count:
                at = pc.index(pc.is_null(codes), True).as_py()
                what = f"{ids[at].as_py()[:60]!r} is on the side {names[at].as_py()[:60]!r}"
                raise UserError(what, where=path, fix=_FIX)
            found, status = keys_of(ids, "UniRef90_")
            if (status != OK).any():
                bad = ids[int(np.flatnonzero(status != OK)[0])].as_py()
                what = f"{bad[:60]!r} can be no id of a FASTA of your own"
                raise UserError(what, where=path, fix="ids are visible ASCII letters, without UniRef50_ or UniRef100_")
            keys.append(found)
            sides.append(np.array(list(_SIDES.values()), np.uint8)[codes.to_numpy()])
        all_keys, all_sides = np.concatenate(keys), np.concatenate(sides)
        order = np.argsort(all_keys, kind="stable")
        self._keys, self._sides = all_keys[order], all_sides[order]
        if len(order) == 0:
            raise UserError("no ids in it", where=path, fix=_FIX)
        twice = int((self._keys[1:] == self._keys[:-1]).sum())
        if twice:
            raise UserError(f"{twice:,} ids are there twice", where=path, fix="keep one line of each")
        self._seen = np.zeros(len(order), bool)

    def of(self, keys: np.ndarray, ids: pa.Array) -> np.ndarray:
        """The side of each record, uint8[n]. keys: uint64[n] of its ids, string[n].

        Of `sp|P12345|AATM_RABIT` the table may have the accession. Raises UserError for an id that it does not have.
        """
        at = self._find(keys)
        if (at < 0).any():
            at = np.where(at >= 0, at, self._find(inner_keys(keys, ids)[0]))
        if (at < 0).any():
            missing = ids.filter(pa.array(at < 0))
            what = f"has no side for {some(missing.slice(0, 6).to_pylist())}"
            raise UserError(what, where=self.path, fix="complete the table, or leave these out of the FASTA")
        self._seen[at] = True
        return self._sides[at]

    def _find(self, keys: np.ndarray) -> np.ndarray:
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[at] == keys, at, -1)

    def check(self) -> None:
        """Raises UserError for ids of the table that were no entry of the FASTA."""
        unseen = int((~self._seen).sum())
        if unseen:
            raise UserError(
                f"{unseen:,} of its {len(self._seen):,} ids are no entry of the FASTA", where=self.path,
                fix="take the table of this FASTA, with the ids as they are there",
            )  # fmt: skip
