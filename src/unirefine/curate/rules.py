"""The rules of curation, applied to a batch of records: the rows to remove, each with a reason and evidence."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unirefine.config import Curate
from unirefine.core.alphabet import BYTE_TO_TOKEN, UNK
from unirefine.core.ids import OTHER, id_of
from unirefine.core.tables import numbers
from unirefine.curate.letters import count_letters
from unirefine.curate.purge import PurgeList
from unirefine.curate.taxonomy import ArtificialTaxa

ARTIFICIAL, PURGE_LIST = "artificial_taxon", "purge_list"
"""Reasons of curate.artificial_taxa and release.purge_lists."""

Verdict = tuple[str, np.ndarray, list[str]]
"""(reason, n row numbers in the batch as int64[n], n evidence texts)."""


@dataclass
class Tally:
    """What the rules counted at one level, besides removals."""

    unknown_taxa: int = 0
    """Records whose common taxon the taxonomy dump does not have."""
    artificial_members: int = 0
    """Records with a member of an artificial taxon that the rule on taxa keeps."""
    purged: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """By reason, positions in the purge list that matched a record."""
    roots: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """By reason, roots of taxa at or above a taxon of a record."""
    named: int = 0
    """Records of which it is known whether they are fragments."""
    letters: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    """int64[256]: occurrences of each byte in all sequences read."""


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """What is removed for one reason, besides length and letters."""

    reason: str
    taxa: ArtificialTaxa | None = None
    members: str = "none"
    """Whose taxa count, as in curate.artificial_members."""
    purge: PurgeList | None = None
    fragments: bool = False
    designs: Sequence = ()
    """De-novo designs, digitised."""
    evalue: float = 0
    """Largest E-value of a hit of a design."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Everything the rules need besides the records. The reason of a record is the first rule that it breaks:
    the criteria but their designs, then length and letters, then designs."""

    config: Curate
    criteria: Sequence[Criterion]
    database_size: int = 0
    """Records of the level: the size of the database for jackhmmer's E-values."""
    threads: int = 1

    @property
    def reads_letters(self) -> bool:
        """Whether an alphabet policy is active."""
        return self.config.unknown_letters == "remove" or self.config.max_unknown_fraction < 1

    def columns(self) -> list[str]:
        """The columns of the records that the active rules need."""
        columns = ["key", "id", "taxon_id", "length"]
        if any(one.purge and len(one.purge.entry_names.keys) for one in self.criteria):
            columns.append("representative")
        if any(one.taxa and one.members != "none" for one in self.criteria):
            columns += ["rep_taxon_id", "other_taxa"]
        if any(one.fragments for one in self.criteria):
            columns.append("fragment")
        return [*columns, "sequence"] if self.reads_letters or any(one.designs for one in self.criteria) else columns

    def judge(self, batch: pa.RecordBatch, tally: Tally) -> list[Verdict]:
        """The verdicts on a batch with `columns()`, with every row in at most one of them. Adds to `tally`."""
        kept = np.ones(batch.num_rows, bool)
        verdicts = []
        for reason, rows, evidence in self._rules(batch, tally, kept):
            if len(rows):
                kept[rows] = False
                verdicts.append((reason, rows, evidence))
        return verdicts

    def _rules(self, batch: pa.RecordBatch, tally: Tally, kept: np.ndarray) -> Iterator[Verdict]:
        """Apply each rule to the rows that are still in `kept`."""
        for one in self.criteria:
            if one.taxa:
                yield from self._by_taxon(one, one.taxa, batch, tally, kept)
            if one.purge:
                yield self._by_purge_list(one, one.purge, batch, tally, kept)
            if one.fragments:
                fragment = batch["fragment"]
                tally.named += len(fragment) - fragment.null_count
                rows = np.flatnonzero(fragment.fill_null(False).to_numpy(zero_copy_only=False) & kept)
                yield one.reason, rows, ["its name says (Fragment)"] * len(rows)
        yield from self._by_length(batch, kept)
        if self.reads_letters:
            yield from self._by_letters(batch, tally, kept)
        for one in self.criteria:
            if one.designs:
                yield self._by_designs(one, batch, kept)

    def _by_taxon(
        self, one: Criterion, taxa: ArtificialTaxa, batch: pa.RecordBatch, tally: Tally, kept: np.ndarray
    ) -> Iterator[Verdict]:
        common, first = numbers(batch["taxon_id"], -1), one is next(each for each in self.criteria if each.taxa)
        if first:
            tally.unknown_taxa += taxa.unknown(common)
        yield self._by_one_taxon(one, taxa, "common taxon", common, kept, tally)
        if one.members == "none":
            return
        representative = numbers(batch["rep_taxon_id"], -1)
        yield self._by_one_taxon(one, taxa, "representative's taxon", representative, kept, tally)
        members = _artificial_members(batch["other_taxa"], taxa)
        tally.roots[one.reason].update(root for _key, _taxon, root in members.first.values())
        if one.members == "any":
            rows = np.flatnonzero((members.artificial > 0) & kept)
            yield one.reason, rows, [members.text(row) for row in rows]
        else:
            all_known = (members.artificial > 0) & (members.artificial == members.taxa) & (representative == -1)
            rows = np.flatnonzero(all_known & kept)
            yield one.reason, rows, [f"all members known to have a taxon: {members.text(row)}" for row in rows]
        if one.reason == ARTIFICIAL:
            tally.artificial_members += int(((members.artificial > 0) & kept).sum())

    def _by_one_taxon(
        self, one: Criterion, below: ArtificialTaxa, name: str, taxa: np.ndarray, kept: np.ndarray, tally: Tally
    ) -> Verdict:
        roots = below.roots_of(taxa)
        tally.roots[one.reason].update(np.unique(roots[roots != 0]).tolist())
        rows = np.flatnonzero((roots != 0) & kept)
        return one.reason, rows, [_taxon_evidence(name, taxa[row], roots[row]) for row in rows]

    def _by_purge_list(
        self, one: Criterion, purge: PurgeList, batch: pa.RecordBatch, tally: Tally, kept: np.ndarray
    ) -> Verdict:
        representatives = batch["representative"] if len(purge.entry_names.keys) else None
        matches = purge.match(numbers(batch["key"]), batch["id"], representatives)
        tally.purged[one.reason].update(matches[matches >= 0].tolist())
        rows = np.flatnonzero((matches >= 0) & kept)
        evidence = [f"{purge.names[at]} is in {purge.sources[at]}" for at in matches[rows]]
        return one.reason, rows, evidence

    def _by_length(self, batch: pa.RecordBatch, kept: np.ndarray) -> Iterator[Verdict]:
        lengths = numbers(batch["length"])
        for reason, name, limit in (
            ("too_short", "min_length", self.config.min_length),
            ("too_long", "max_length", self.config.max_length),
        ):
            if limit is not None:
                outside = lengths < limit if name == "min_length" else lengths > limit
                rows = np.flatnonzero(outside & kept)
                yield reason, rows, [f"{length} residues; {name} is {limit}" for length in lengths[rows]]

    def _by_letters(self, batch: pa.RecordBatch, tally: Tally, kept: np.ndarray) -> Iterator[Verdict]:
        unknown, tokenless = count_letters(batch["sequence"], tally.letters)
        lengths = numbers(batch["length"])
        if self.config.unknown_letters == "remove":
            rows = np.flatnonzero((tokenless > 0) & kept)
            yield "unknown_letter", rows, [_letter_evidence(batch["sequence"][row].as_py()) for row in rows]
        limit = self.config.max_unknown_fraction
        rows = np.flatnonzero((unknown > limit * lengths) & kept)
        yield (
            "unknown_fraction",
            rows,
            [f"{unknown[row]} of {lengths[row]} residues unknown; max_unknown_fraction is {limit}" for row in rows],
        )

    def _by_designs(self, one: Criterion, batch: pa.RecordBatch, kept: np.ndarray) -> Verdict:
        from unirefine.curate.designs import find_designs  # needs the extra `designs`

        candidates = np.flatnonzero(kept)
        hits = find_designs(
            one.designs,
            batch["sequence"].take(pa.array(candidates)).to_pylist(),
            database_size=self.database_size,
            evalue=one.evalue,
            threads=self.threads,
        )
        positions = sorted(hits)
        return one.reason, candidates[positions], [hits[position].text() for position in positions]


@dataclass(frozen=True)
class _Members:
    """The taxa of members that differ from their representative's, for a batch of n records."""

    taxa: np.ndarray
    """int64[n]: number of different taxa."""
    artificial: np.ndarray
    """int64[n]: number of them that are artificial."""
    first: dict[int, tuple[int, int, int]]
    """Row to (member key, taxon, root) of the first artificial one."""

    def text(self, row: int) -> str:
        """The evidence for a record that has an artificial member."""
        key, taxon, root = self.first[row]
        return _taxon_evidence(f"member {id_of(key) if key >> 62 != OTHER else f'(key {key})'}'s taxon", taxon, root)


def _artificial_members(other_taxa: pa.ListArray, artificial: ArtificialTaxa) -> _Members:
    """other_taxa: the column of the records, n lists of (taxon_id, member_key) or nulls."""
    rows = pc.list_parent_indices(other_taxa).to_numpy()
    taxa, members = (column.to_numpy() for column in other_taxa.flatten().flatten())
    roots = artificial.roots_of(taxa)
    found = np.flatnonzero(roots != 0)
    first_rows, first = np.unique(rows[found], return_index=True)
    at = found[first]
    return _Members(
        np.bincount(rows, minlength=len(other_taxa)),
        np.bincount(rows[found], minlength=len(other_taxa)),
        dict(
            zip(
                first_rows.tolist(),
                zip(members[at].tolist(), taxa[at].tolist(), roots[at].tolist(), strict=True),
                strict=True,
            )
        ),
    )


def _taxon_evidence(name: str, taxon: int, root: int) -> str:
    return f"{name} is {taxon}" if taxon == root else f"{name} {taxon} is in the subtree of {root}"


def _letter_evidence(sequence: str) -> str:
    counts = Counter(letter for letter in sequence if BYTE_TO_TOKEN[ord(letter)] == UNK)
    listed = ", ".join(f"{count} x {letter}" for letter, count in sorted(counts.items()))
    return f"letters that have no token: {listed}"
