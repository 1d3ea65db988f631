"""A small finished run, made by the commands themselves from a miniature release; and what users bring along."""

import contextlib
import gzip
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from minisite.datasets import write_bionemo, write_parquet
from minisite.site import build_demo

from unirefine.cli.main import main

CONFIG = """
run: {name: small, threads: 1}
release: {source: current, name: "2026_03"}
records: {parts: 2}
split: {validation_fraction: 0.1}
decontaminate: {parts: 2, audit_sample: 0}
shard: {parts: 2}
train:
  model: {preset: null, layers: 1, hidden: 16, heads: 2}
  sampling: {max_tokens: 64}
  parallel: {processes_per_node: 1}
  optimizer: {warmup_steps: 1, min_lr_fraction: 1}  # at any number of steps the same rate
  steps: 4
  global_batch: 4
  micro_batch: 4
  precision: fp32
  validate_every: 2
  validate_sequences: 4
  log_every: 1
  checkpoint_every: 2
evaluate: {sequences: 4, tolerance: 0.01, masking: {max_tokens: 64}}
report: {title: small}
"""
WILD_TYPE = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVK"


def run(*words: object) -> str:
    """Run a command that must succeed; returns what it prints."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()) as errors:
        status = main([str(word) for word in words])
    assert status == 0, (words, errors.getvalue())
    return output.getvalue()


def build(root: Path) -> Path:
    """Make the run in `root`; its directories are those of the stages. Returns `root`."""
    site = root / "site"
    build_demo(site, limit=40)
    config, (results, release) = root / "config.yaml", (root / "results", root / "results" / "release")
    config.write_text(CONFIG)
    here = ["--config", config]
    sources = ["--set", f"mirrors=[file:{site}]", "--set", f"taxdump=file:{site}/taxonomy/taxdump.tar.gz"]
    files = [f"{level}.{kind}" for level in ("uniref50", "uniref90") for kind in ("xml.gz", "release_note")]
    for file in [*files, "idmapping_selected.tab.gz", "taxdump.tar.gz"]:
        run("release", "fetch", *here, *sources, "--file", file, "--output", release / file)
    run(
        "release", "collect", *here, "--directory", release, "--files", *files, "taxdump.tar.gz",
        "--output", release / "release.json",
    )  # fmt: skip
    write_own_files(root / "own")
    for level in ("uniref50", "uniref90"):
        run("records", *here, *records(release, level), "--output", results / "records")
    run("curate", *here, "--records", results / "records", "--output", results / "curate")
    run(
        "cluster",
        *here,
        "--records",
        results / "records",
        "--curated",
        results / "curate",
        "--output",
        results / "cluster",
    )
    run("split", *here, "--clusters", results / "cluster", "--output", results / "split")
    run("decontaminate", "prepare", *here, *clusters(results), "--output", results / "decontaminate")
    for part in range(2):
        run("decontaminate", "search", *here, "--directory", results / "decontaminate", "--part", part)
    for step in ("remove", "audit"):
        run("decontaminate", step, *here, "--directory", results / "decontaminate", *clusters(results))
    run("shard", "build", *here, *shards(results), "--output", results / "shard")
    run("export", "--shards", results / "shard", "--to", "mds", "--output", root / "export")
    run("train", *here, "--shards", results / "shard", "--output", results / "train")
    run(
        "evaluate", *here, "--shards", results / "shard", "--model", results / "train/final",
        "--output", results / "evaluate",
    )  # fmt: skip
    write_copies(root)
    return root


def write_copies(root: Path) -> None:
    """Files of the run as users have them: unpacked, packed by themselves, without a history."""
    release, own = root / "results" / "release", root / "own"
    for packed, plain in (("uniref90.xml.gz", "uniref90.xml"), ("idmapping_selected.tab.gz", "idmapping.tab")):
        (own / plain).write_bytes(gzip.decompress((release / packed).read_bytes()))
    (own / "own.fasta.gz").write_bytes(gzip.compress((own / "own.fasta").read_bytes(), mtime=0))
    shutil.copytree(root / "results/train/final/huggingface", own / "model")
    (own / "model/lineage.json").unlink()
    clusters = pq.read_table(root / "results/records/uniref50/records-000-of-002.parquet", columns=["id"])
    pq.write_table(clusters.slice(0, 3), own / "ids.parquet")
    (own / "ids.txt").write_text("".join(f"{name}\n" for name in clusters["id"][:3].to_pylist()))
    member = pq.read_table(root / "results/shard/train-000-of-002.ids.parquet")["id"][0].as_py()
    (root / "traced").write_text(member)


def records(release: Path, level: str) -> list:
    """Inputs of the records stage."""
    return [
        "--level",
        level,
        "--input",
        release / f"{level}.xml.gz",
        "--release-note",
        release / f"{level}.release_note",
    ]


def clusters(results: Path) -> list:
    """Inputs of the decontaminate stage."""
    return [word for name, stage in (("records", "records"), ("clusters", "cluster"), ("split", "split"))
            for word in (f"--{name}", results / stage)]  # fmt: skip


def shards(results: Path) -> list:
    """Inputs of the shard stage."""
    return [
        "--records", results / "records", "--clusters", results / "cluster", "--split",
        results / "decontaminate/split.parquet", "--release", results / "release/release.json",
    ]  # fmt: skip


def write_own_files(directory: Path) -> None:
    """What users bring: a FASTA, lists of ids, variants, contacts."""
    directory.mkdir()
    random_ = np.random.default_rng(7)
    letters = np.frombuffer(b"ACDEFGHIKLMNPQRSTVWY", np.uint8)
    entries = [f">own{i} a protein\n{random_.choice(letters, 60).tobytes().decode()}\n" for i in range(20)]
    (directory / "own.fasta").write_text("".join(entries))
    (directory / "own.fasta.zst").write_bytes(pa.compress("".join(entries).encode(), "zstd", asbytes=True))
    (directory / "sides.tsv").write_text("".join(f"own{i}\t{'validation' if i < 3 else 'train'}\n" for i in range(20)))
    rows = [(f"UniRef50_P{10000 + i % 8:05d}", f"UniRef90_P{10000 + i:05d}", "MKV" * (i + 9)) for i in range(20)]
    validation = [(f"UniRef50_Q{10000 + i:05d}", f"UniRef90_Q{10000 + i:05d}", "MKL" * (i + 9)) for i in range(4)]
    write_parquet(directory / "data", rows, validation)
    write_bionemo(directory / "bionemo", rows, validation)
    (directory / "purge.txt").write_text("# found in the lab\nP12345\nA0A009IHW8\nUPI002E2621C6\n")
    (directory / "wild_type.fasta").write_text(f">wt\n{WILD_TYPE}\n")
    (directory / "contacts.fasta").write_text(f">contacts\n{WILD_TYPE}\n")
    (directory / "variants.csv").write_text("mutant,DMS_score\nK2A,0.5\nT3G:A4C,-1.25\nM1L,0.25\n")
    np.save(directory / "contacts.npy", np.eye(len(WILD_TYPE), dtype=np.float32))
    (directory / "contacts.csv").write_text("i,j\n1,20\n3,40\n")


VOLATILE = (
    "seconds", "date", "checksum", "tokens_per_second", "padded_tokens_per_second", "data_wait",
    "memory_bytes", "compressed_bytes", "finished", "command",
)  # fmt: skip
"""Keys whose values depend on time or machine, and the size of a compressed input: zeros may stand behind it."""


def listing(directory: Path) -> dict[str, bytes]:
    """Results below a directory by name, without what depends on the time and on where they are."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_file() and not path.name.startswith(".") and not re.search(_NO_RESULT, name):
            found[name] = _timeless(path).replace(str(directory).encode(), b"")
    return found


_MINUTE = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d UTC")
"""When a page was written."""
_NO_RESULT = r"\.log$|tensorboard/|/checkpoints/|final/megatron/|train/.*lineage\.json|converted/(?!model\.safetensors)"


def _timeless(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".html":
        return _MINUTE.sub(b"", data)
    if path.suffix not in (".json", ".jsonl"):
        return data
    with contextlib.suppress(ValueError):
        return json.dumps([_without_times(json.loads(line)) for line in _documents(path, data)]).encode()
    return data


def _documents(path: Path, data: bytes) -> list[bytes]:
    return data.splitlines() if path.suffix == ".jsonl" else [data]


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(each) for key, each in value.items() if key not in VOLATILE}
    return [_without_times(each) for each in value] if isinstance(value, list) else value
