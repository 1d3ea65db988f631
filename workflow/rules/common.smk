# The validated config, where everything lies, and what a rule passes on to its command.

import sys
from pathlib import Path

from unirefine.config import parse_config
from unirefine.errors import UserError
from unirefine.provenance import source_digest

try:
    CONFIG = parse_config(config, where=str((workflow.configfiles or ["config"])[-1]))
except UserError as error:
    # One line instead of Snakemake's traceback.
    print(f"unirefine: error: {error.line()}", file=sys.stderr)
    raise SystemExit(1)

RUN = CONFIG.run.name
RESULTS = f"results/{RUN}"
LOGS = f"logs/{RUN}"
BENCHMARKS = f"benchmarks/{RUN}"
RELEASE = CONFIG.release.directory or f"{RESULTS}/release"
OWN_FASTA = CONFIG.release.source == "fasta"
LEVELS = ["uniref90"] if OWN_FASTA else ["uniref50", "uniref90"]
MMSEQS = f"--mmseqs {CONFIG.tools.mmseqs}" if CONFIG.tools.mmseqs else ""


wildcard_constraints:
    level="uniref50|uniref90",
    part=r"\d{3}",
    file=r"[A-Za-z0-9_.-]+",


def block(name):
    """A stage's options as a JSON string: Snakemake tracks strings, so a changed option reruns the stage."""
    return getattr(CONFIG, name).model_dump_json()


def code(*packages):
    """Digest of the packages' source: an edit reruns the stage. Not given to training, which is never thrown away so."""
    return source_digest(*packages)


def record_parts(level):
    """The Parquet parts of one level."""
    count = CONFIG.records.parts
    return [
        f"{RESULTS}/records/{level}/records-{i:03d}-of-{count:03d}.parquet"
        for i in range(count)
    ]


def member_parts(level):
    """The membership parts of one level, which only XML has."""
    if OWN_FASTA or CONFIG.release.format == "fasta":
        return []
    return [part.replace("/records-", "/members-") for part in record_parts(level)]


def all_records():
    """Everything that the records stage writes."""
    parts = [
        part for level in LEVELS for part in record_parts(level) + member_parts(level)
    ]
    return parts + [f"{RESULTS}/records/{level}/counts.json" for level in LEVELS]


def shard_prefixes():
    """`train-000-of-064`, ..., `validation`, and `test` where one was asked for."""
    count = CONFIG.shard.parts
    train = [f"train-{i:03d}-of-{count:03d}" for i in range(count)]
    return train + ["validation"] + (["test"] if CONFIG.split.test_fraction else [])
