"""The report's sections on where everything comes from: input, lineage, options, cost, and the page itself."""

import os
import platform
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unirefine.core import summaries
from unirefine.core.summaries import is_own, tool_text
from unirefine.files import made_by
from unirefine.files.code import versions
from unirefine.files.lineage import code_of, data_set_of, step_name
from unirefine.progress import duration, human
from unirefine.report import diagrams
from unirefine.report.costs import COLUMNS, cost_rows, read_costs
from unirefine.report.ledger import Entry
from unirefine.report.page import Section, Table
from unirefine.report.perplexity import picture


def release_section(release: Mapping[str, Any], entries: list[Entry]) -> Section:
    """What was downloaded, from where, its checksums, and how many clusters were published."""
    rows = [[file["file"], human(file["size"], "B"), file["md5"], file["url"]] for file in release["files"]]
    if is_own(release):
        text = ["Your own FASTA; its sequences are clustered here."]
    elif (data_set := data_set_of(release)) is not None:
        text = [f"The data set {data_set}, source {release['source']}."]
    else:
        text = [f"Release {release['release'] or 'unnamed'}, source {release['source']}."]
    tables = [Table(title="Files", columns=["file", "size", "md5", "from"], rows=rows, numeric=[1])]
    curated = {entry.level: {"kept": entry.kept} for entry in entries if entry.stage == "curate"}
    if counts := summaries.published_rows(release, curated):
        text.append(summaries.PUBLISHED_TEXT)
        columns = summaries.PUBLISHED_COLUMNS
        tables.append(Table(title="Published counts beside ours", columns=columns, rows=counts, numeric=[1, 2, 3]))
    return Section(heading="Input" if is_own(release) else "Release", text=text, tables=tables)


def lineage_section(origin: Mapping[str, Any]) -> Section:
    """Which code took each step, with which options and tools."""
    rows, options = [], []
    for one in origin["steps"]:
        name_of_step = step_name(one, origin["release"])
        tools = one["tools"] | {
            name: one["versions"][name] for name in ("torch", "megatron-core") if name in one["versions"]
        }
        named = ", ".join(tool_text(name, version) for name, version in tools.items())
        rows.append([name_of_step, code_of(one), one["config_sha256"][:12], named])
        options += [[name_of_step, name, value] for name, value in _flat("", one["config"])]
    text = [
        "The final model carries its whole lineage: of any copy, the command unirefine lineage prints every md5, "
        "option, version, count and hash."
    ]
    text += [f"Of unknown origin, because it has no lineage: {path}." for path in origin["unknown"]]
    columns = ["step", "code", "options (SHA-256)", "tools"]
    tables = [
        Table(title="Steps", columns=columns, rows=rows),
        Table(title="Options", columns=["step", "option", "value"], rows=options),
    ]
    return Section(heading="Lineage", text=text, tables=tables)


def _flat(prefix: str, value: Any) -> list[tuple[str, str]]:
    """Options as (dotted name, value)."""
    if not isinstance(value, Mapping):
        return [(prefix, "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value))]
    return [pair for key, inner in value.items() for pair in _flat(f"{prefix}.{key}" if prefix else key, inner)]


def cost_section(results: Path, trained: float) -> Section:
    """Time, memory and disk of each stage, and the diagram of the workflow. trained: seconds, as train.json says."""
    costs = read_costs(results)
    measured = any(cost.jobs for cost in costs.values())
    times = {stage: duration(cost.seconds) for stage, cost in costs.items() if cost.seconds is not None}
    text = (
        "Time and memory are Snakemake's, of the jobs that made the stage last; a stage of several jobs may have run"
        " them side by side. Disk is what the stage's files take now."
        if measured
        else "Snakemake's benchmark files are not beside these results (benchmarks/ beside results/), so only the disk"
        " that the stages' files take now is known, and the time of training."
    )
    table = Table(title="Time, memory and disk by stage", columns=COLUMNS, rows=cost_rows(costs), numeric=range(1, 7))
    svg = diagrams.workflow({"train": duration(trained)} | times)
    return Section(heading="Workflow and cost", text=[text], tables=[table], figures=[picture("workflow", svg)])


def page_section(results: Path, output: Path, compare: Path | None) -> Section:
    """How this page was made: command, date, machine, versions."""
    words = ["unirefine", "report", "--results", str(results), "--output", str(output)]
    words += ["--compare", str(compare)] if compare else []
    workflow = os.environ.get(made_by.COMMAND)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    packages = versions("numpy", "pyarrow", "matplotlib", "megatron-core", "torch", "transformers")
    rows = [
        *([["workflow", workflow]] if workflow else []),
        ["command", shlex.join(words)],
        ["date", f"{made_by.now()[:16].replace('T', ' ')} UTC"],
        [
            "machine",
            f"{os.cpu_count()} cores of {made_by.cpu_name()}, {human(memory, 'B')} of memory, {platform.system()}",
        ],
        *([name, version] for name, version in packages.items()),
    ]
    text = "The machine is the one that wrote this page; that of the training is under Training."
    return Section(
        heading="This page", text=[text], tables=[Table(title="Made by", columns=["what", "value"], rows=rows)]
    )
