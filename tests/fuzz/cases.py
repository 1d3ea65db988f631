"""Every file that the pipeline writes or reads, the kinds of damage to it, and the command that reads it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mutations import BYTES, JSON, TEXT, Damage, inside
from world import clusters, records, shards


@dataclass(frozen=True)
class Case:
    """A file, and a command that reads it."""

    file: str
    """Below the root of the world; a shell pattern where there are several of a kind, of which each has its turn."""
    kinds: tuple[Damage, ...]
    command: Callable[[Path, Path], list]
    """Words of the command, from the root and the directory to write to."""
    own: bool = False
    """Whether it is the user's own file without a checksum: the command may then accept what it cannot know."""
    weight: float = 1.0
    """Its share of the mutations, in relation to others."""

    @property
    def slow(self) -> bool:
        """Whether the command takes more than half a second: it loads a model, trains or draws."""
        return self.command(Path(), Path())[0] in ("evaluate", "train", "report", "embed")

    @property
    def name(self) -> str:
        """For the test's name."""
        command = self.command(Path(), Path())
        words = [str(word) for word in command[:2] if not str(word).startswith("-") and "/" not in str(word)]
        return f"{self.file}:{'-'.join(words)}{':inside' if inside in self.kinds else ''}"


def _here(root: Path) -> list:
    return ["--config", root / "config.yaml"]


def _records(level: str) -> Callable[[Path, Path], list]:
    return lambda root, out: ["records", *_here(root), *records(root / "results/release", level), "--output", out]


def _records_of(file: str) -> Callable[[Path, Path], list]:
    return lambda root, out: ["records", *_here(root), "--level", "uniref90", "--input", root / file, "--output", out]


def _curate(root: Path, out: Path, *more: object) -> list:
    return ["curate", *_here(root), "--records", root / "results/records", "--output", out, *more]


def _cluster(root: Path, out: Path, *more: object) -> list:
    results = root / "results"
    where = ["--records", results / "records", "--curated", results / "curate"]
    return ["cluster", *_here(root), *where, "--output", out, *more]


def _split(root: Path, out: Path, *more: object) -> list:
    return ["split", *_here(root), "--clusters", root / "results/cluster", "--output", out, *more]


def _step(step: str) -> Callable[[Path, Path], list]:
    return lambda root, out: [
        "decontaminate", step, *_here(root), "--directory", root / "results/decontaminate", *clusters(root / "results")
    ]  # fmt: skip


def _prepare(root: Path, out: Path) -> list:
    return ["decontaminate", "prepare", *_here(root), *clusters(root / "results"), "--output", out]


def _shard(root: Path, out: Path) -> list:
    return ["shard", "build", *_here(root), *shards(root / "results"), "--output", out]


def _verify(root: Path, out: Path) -> list:
    return ["shard", "verify", root / "results/shard"]


def _collect(root: Path, out: Path) -> list:
    files = [f"{level}.{kind}" for level in ("uniref50", "uniref90") for kind in ("xml.gz", "release_note")]
    where = ["--directory", root / "results/release", "--output", out / "release.json"]
    return ["release", "collect", *_here(root), *where, "--files", *files, "taxdump.tar.gz"]


def _export(root: Path, out: Path) -> list:
    return ["export", "--shards", root / "results/shard", "--to", "webdataset", "--output", out]


def _export_again(root: Path, out: Path) -> list:
    return ["export", "--shards", root / "results/shard", "--to", "mds", "--output", root / "export"]


def _evaluate(root: Path, out: Path) -> list:
    results = root / "results"
    where = ["--shards", results / "shard", "--model", results / "train/final", "--output", out]
    return ["evaluate", *_here(root), *where, "--set", "huggingface=false"]


def _convert(layout: str) -> Callable[[Path, Path], list]:
    return lambda root, out: ["convert", "--from", root / "results/train/final" / layout, "--to", out / "converted"]


def _train(root: Path, out: Path) -> list:
    where = ["--shards", root / "results/shard", "--output", root / "results/train"]
    return ["train", *_here(root), *where, "--set", "steps=6"]


def _cards(root: Path, out: Path) -> list:
    return ["cards", "--results", root / "results"]


def _report(root: Path, out: Path) -> list:
    return ["report", *_here(root), "--results", root / "results", "--output", out]


def _lineage(file: str) -> Callable[[Path, Path], list]:
    return lambda root, out: ["lineage", root / "results" / file]


def _trace(root: Path, out: Path) -> list:
    return [
        "trace",
        (root / "traced").read_text() if (root / "traced").exists() else "x",
        "--results",
        root / "results",
    ]


def _variants(root: Path, out: Path) -> list:
    own = root / "own"
    model = ["--model", root / "results/train/final", "--fasta", own / "wild_type.fasta", "--csv", own / "variants.csv"]
    return ["evaluate", "variants", *_here(root), *model, "--output", out]


def _contacts(file: str) -> Callable[[Path, Path], list]:
    """Ends with one line, because the model has no contact head; but the known contacts are read first."""
    return lambda root, out: [
        "evaluate", "contacts", "--model", root / "own/model", "--contacts", root / file, "--fasta",
        root / "own/contacts.fasta", "--output", out,
    ]  # fmt: skip


def _embed(root: Path, out: Path) -> list:
    model = ["--model", root / "results/train/final", "--fasta", root / "own/own.fasta"]
    return ["embed", *_here(root), *model, "--output", out]


RELEASE = (
    Case("results/release/uniref*.xml.gz", BYTES, _records("uniref50"), weight=2),
    Case("results/release/uniref50.release_note", TEXT, _records("uniref50"), own=True),
    Case("own/uniref90.xml", TEXT, _records_of("own/uniref90.xml"), own=True, weight=2),
    Case("own/own.fasta", TEXT, _records_of("own/own.fasta"), own=True, weight=2),
    Case("own/own.fasta.gz", BYTES, _records_of("own/own.fasta.gz")),
    Case("own/own.fasta.zst", BYTES, _records_of("own/own.fasta.zst"), own=True),
    Case(
        "own/sides.tsv", TEXT,
        lambda root, out: [*_records_of("own/own.fasta")(root, out), "--sides", root / "own/sides.tsv"], own=True,
    ),
    Case("own/data/*/*.parquet", BYTES, _records_of("own/data"), own=True, weight=2),
    Case("own/bionemo/*", BYTES, _records_of("own/bionemo"), own=True, weight=2),
    Case("results/release/*.json", JSON, _collect),
    Case(
        "results/release/taxdump.tar.gz", BYTES,
        lambda root, out: _curate(root, out, "--taxdump", root / "results/release/taxdump.tar.gz"),
    ),
    Case(
        "results/release/taxdump.tar.gz", (inside,),
        lambda root, out: _curate(root, out, "--taxdump", root / "results/release/taxdump.tar.gz"),
        own=True, weight=0.5,
    ),
    Case(
        "results/release/idmapping_selected.tab.gz", BYTES,
        lambda root, out: _cluster(
            root, out, "--idmapping", root / "results/release/idmapping_selected.tab.gz"
        ),
    ),
    Case(
        "own/idmapping.tab", TEXT, lambda root, out: _cluster(root, out, "--idmapping", root / "own/idmapping.tab"),
        own=True,
    ),
)  # fmt: skip
STAGES = (
    Case("results/records/uniref*/records-*.parquet", BYTES, _curate, weight=2),
    Case("results/records/uniref*/counts.json", JSON, _curate),
    Case("results/records/uniref*/*.parquet", BYTES, _cluster, weight=2),
    Case("results/records/uniref*/*.parquet", BYTES, _shard),
    Case("results/curate/*.parquet", BYTES, _cluster, weight=2),
    Case("results/curate/*.json", JSON, _cluster),
    Case("results/cluster/clusters.parquet", BYTES, _split, weight=2),
    Case("results/cluster/*.json", JSON, _split),
    Case("results/cluster/*.parquet", BYTES, _prepare),
    Case("results/cluster/*.parquet", BYTES, _shard),
    Case("results/split/*.parquet", BYTES, _step("remove")),
    Case("results/split/*.json", JSON, _step("remove")),
    Case("results/decontaminate/hits/*.parquet", BYTES, _step("remove"), weight=2),
    Case("results/decontaminate/[hna]*/*.parquet", BYTES, _step("audit")),
    Case("results/decontaminate/split.parquet", BYTES, _shard),
    Case("results/decontaminate/lineage.json", JSON, _shard),
    Case("results/release/release.json", JSON, _shard),
)
SHARDS = (
    Case("results/shard/*.bin", BYTES, _verify),
    Case("results/shard/*.idx", BYTES, _verify),
    Case("results/shard/*.ids.parquet", BYTES, _verify),
    Case("results/shard/manifest.json", JSON, _verify),
    Case("results/shard/*.idx", BYTES, _evaluate, weight=3),
    Case("results/shard/*.bin", BYTES, _evaluate),
    Case("results/shard/validation.ids.parquet", BYTES, _evaluate),
    Case("results/shard/manifest.json", JSON, _evaluate),
    Case("results/shard/*", BYTES, _train, weight=0.5),
    Case("results/shard/*", BYTES, _export),
    Case("export/export.json", JSON, lambda root, out: ["verify", root / "export"]),
    Case("export/train/*", BYTES, lambda root, out: ["verify", root / "export"], weight=0.5),
    Case("export/export.json", JSON, _export_again),
)
MODELS = (
    Case("results/train/final/megatron/[.m_c]*", BYTES, _convert("megatron"), weight=3),
    Case("results/train/final/megatron/complete.json", JSON, _convert("megatron")),
    Case("results/train/final/huggingface/config.json", JSON, _convert("huggingface")),
    Case("results/train/final/huggingface/model.safetensors", BYTES, _convert("huggingface"), weight=2),
    Case("own/model/config.json", JSON, lambda root, out: _foreign(root, out), own=True),
    Case("own/model/model.safetensors", BYTES, lambda root, out: _foreign(root, out), own=True),
    Case("results/train/checkpoints/*/*", BYTES, _train),
    Case("results/train/checkpoints/*/complete.json", JSON, _train),
    Case("results/train/metrics.jsonl", TEXT, _train, own=True, weight=0.5),
    Case("own/variants.csv", TEXT, _variants, own=True),
    Case("own/wild_type.fasta", TEXT, _variants, own=True),
    Case("own/contacts.csv", TEXT, _contacts("own/contacts.csv"), own=True, weight=0.5),
    Case("own/contacts.npy", BYTES, _contacts("own/contacts.npy"), own=True, weight=0.5),
    Case("own/own.fasta", TEXT, _embed, own=True),
)
PAGES = (
    Case("results/decontaminate/identity.json", JSON, _cards),
    Case("results/evaluate/perplexity.json", JSON, _cards),
    Case("results/train/final/train.json", JSON, _cards),
    Case("results/train/final/lineage.json", JSON, _cards),
    Case("results/train/final/metrics.jsonl", TEXT, _report, weight=0.4),
    Case("results/*/counts.json", JSON, _report, weight=0.4),
    Case("results/[de]*/*y.json", JSON, _report, weight=0.4),
    Case("results/train/final/*.json", JSON, _report, weight=0.4),
    Case("results/cluster/*.parquet", BYTES, _report, weight=0.4),
    Case("results/shard/lineage.json", JSON, _lineage("shard")),
    Case("results/train/final/huggingface/lineage.json", JSON, _lineage("train/final/huggingface")),
    Case("results/[rcsd]*/*.parquet", BYTES, _trace),
    Case("results/[rcsd]*/*.json", JSON, _trace),
)
OWN = (
    Case("config.yaml", TEXT, _split, own=True, weight=2),
    Case(
        "own/purge.txt", TEXT, lambda root, out: _curate(root, out, "--purge-list", root / "own/purge.txt"), own=True
    ),
    Case(
        "own/ids.txt", TEXT,
        lambda root, out: _split(root, out, "--set", "method=ids", "--set", f"ids={root / 'own/ids.txt'}"), own=True,
    ),
    Case(
        "own/ids.parquet", BYTES,
        lambda root, out: _split(root, out, "--set", "method=ids", "--set", f"ids={root / 'own/ids.parquet'}"),
        own=True,
    ),
)  # fmt: skip


def _foreign(root: Path, out: Path) -> list:
    return ["convert", "--from", root / "own/model", "--to", out / "converted"]


CASES = (*RELEASE, *STAGES, *SHARDS, *MODELS, *PAGES, *OWN)
