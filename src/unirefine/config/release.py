"""Config of a run and of where its sequences come from.

The docstring under a field is its documentation: config/README.md is generated from it.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from unirefine.config.base import Block

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
    source: Literal["current", "archive", "fasta", "parquet", "bionemo"] = "current"
    """`current`: single files of UniProt's current release. `archive`: the one tarball of an older release
    (XML only). `fasta`: your own FASTA file, no download. `parquet`, `bionemo`: a data set that states clusters and
    sides (docs/data-sets.md)."""
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
    """Path of your own FASTA (plain, or compressed with gzip, bzip2, xz or zstd) when `source: fasta`."""
    validation_fasta: str | None = None
    """Your own FASTA only, with `split.method: given`: the FASTA of validation. `fasta` is that of train then."""
    test_fasta: str | None = None
    """As `validation_fasta`, of test."""
    sides: str | None = None
    """Your own FASTA only, with `split.method: given`: a table with the side of every id in `fasta`, two columns with a
    tab between them: the id, and `train`, `validation` or `test`."""
    clusters: str | None = None
    """Your own FASTA only: a table of its clusters instead of clustering again, two columns with a tab between them:
    representative and member, as `mmseqs easy-cluster` writes `_cluster.tsv`."""
    dataset: str | None = None
    """With `source: parquet`: a directory with `train/*.parquet`, `validation/*.parquet` and maybe `test/*.parquet`, or
    with `revision` the id of such a data set on the Hugging Face Hub. With `bionemo`: the directory of BioNeMo 2's four
    files."""
    revision: str | None = None
    """The commit of the data set on the Hub, 40 hexadecimal digits."""
    hub: str = "https://huggingface.co"
    """Address of the Hub, or of a mirror of it."""
    only_held_out: bool = False
    """Download the validation and test files of the data set only, for the target `model_card`."""
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
        return self.is_uniprot and self.format == "fasta"

    @property
    def is_uniprot(self) -> bool:
        """Whether UniRef comes from UniProt, in its files."""
        return self.source in ("current", "archive")

    @property
    def is_data_set(self) -> bool:
        """Whether it is a data set that states clusters and sides."""
        return self.source in ("parquet", "bionemo")

    @property
    def on_hub(self) -> bool:
        """Whether it is a data set of the Hugging Face Hub."""
        return self.source == "parquet" and self.revision is not None

    @property
    def own_files(self) -> tuple[str, ...]:
        """Your own FASTA, the FASTA of other sides, and the tables beside it; none for another source."""
        given = (self.fasta, self.validation_fasta, self.test_fasta, self.sides, self.clusters)
        return tuple(path for path in given if path is not None and self.source == "fasta")

    @property
    def has_split(self) -> bool:
        """Whether the source says which sequences validate."""
        return self.is_data_set or self.validation_fasta is not None or self.sides is not None

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
        for option in ("validation_fasta", "test_fasta", "sides", "clusters"):
            if self.source != "fasta" and getattr(self, option) is not None:
                raise ValueError(f"release.{option} is for release.source: fasta, and the source is {self.source!r}")
        if self.test_fasta is not None and self.validation_fasta is None:
            raise ValueError("release.test_fasta needs release.validation_fasta")
        if self.sides is not None and self.validation_fasta is not None:
            raise ValueError("release.sides and release.validation_fasta are two splits; give one of them")
        self._check_data_set()
        return self

    def _check_data_set(self) -> None:
        if not self.is_data_set:
            if self.dataset is not None or self.revision is not None:
                raise ValueError(f"release.dataset is for release.source: parquet, and the source is {self.source!r}")
            return
        if self.dataset is None:
            raise ValueError(f"release.source is {self.source!r}, so release.dataset must name the data set")
        if self.revision is None:
            return
        if self.source == "bionemo":
            raise ValueError("release.source is 'bionemo', which is a directory; release.revision is for the Hub")
        if not re.fullmatch(r"[0-9a-f]{40}", self.revision):
            raise ValueError(f"release.revision {self.revision!r} is no commit; give its 40 hexadecimal digits")
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", self.dataset, re.ASCII) or ".." in self.dataset:
            raise ValueError(
                f"release.dataset {self.dataset!r} is no id of the Hub, as in 'owner/name'; for a directory, leave out"
                " release.revision"
            )
        if not self.hub.startswith(("https://", "http://")):
            raise ValueError(f"release.hub {self.hub!r} is no address; it begins with https://")
