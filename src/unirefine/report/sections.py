"""The report's sections, in the order of the workflow. Each reads a run's files and says what to see in them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unirefine.config import Model
from unirefine.core import summaries
from unirefine.core.levels import LEVELS
from unirefine.core.summaries import UNITS, beaten_text, chosen_text, is_own, units
from unirefine.files.atomic import read_json
from unirefine.files.lineage import code_of
from unirefine.files.stages import stage_path
from unirefine.progress import duration, human
from unirefine.report import figures, gather
from unirefine.report.captions import captions
from unirefine.report.ledger import Entry, first_and_last, removals
from unirefine.report.page import Picture, Section, Table

KINDS = ("hidden", "kept", "random")
"""Of chosen positions, by what the model sees there."""
KEPT = {"uniref50": " for training and validation", "uniref90": " for training"}
"""Of a validation cluster only the representative is kept, which is no UniRef90 sequence; of an own FASTA it is one."""


def release_section(release: Mapping[str, Any], entries: list[Entry]) -> Section:
    """What was downloaded, from where, its checksums, and how many clusters were published."""
    rows = [[file["file"], human(file["size"], "B"), file["md5"], file["url"]] for file in release["files"]]
    if is_own(release):
        text = ["Your own FASTA; its sequences are clustered here."]
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
    rows = []
    for one in origin["steps"]:
        tools = one["tools"] | {
            name: one["versions"][name] for name in ("torch", "megatron-core") if name in one["versions"]
        }
        named = ", ".join(f"{name} {version}" for name, version in tools.items())
        rows.append([one["stage"], code_of(one), one["config_sha256"][:12], named])
    text = [
        "The final model carries its whole lineage: of any copy, the command unirefine lineage prints every md5, "
        "option, version, count and hash."
    ]
    text += [f"Of unknown origin, because it has no lineage: {path}." for path in origin["unknown"]]
    columns = ["step", "code", "options (SHA-256)", "tools"]
    return Section(heading="Lineage", text=text, tables=[Table(title="Steps", columns=columns, rows=rows)])


def removal_section(
    entries: list[Entry], violations: Mapping[str, Mapping[str, int]] | None, release: Mapping[str, Any]
) -> Section:
    """What was removed and why, at both levels, adding up; and where the release contradicts itself.

    violations: `{level: {reason: n}}` of the cluster stage; None for a user's own FASTA, which is no release. release:
    release.json.
    """
    tables, pictures, text = [], [], []
    names, own = units(release), is_own(release)
    for level in LEVELS:
        rows = removals(entries, level)
        try:
            entered, kept = first_and_last(entries, level)
        except KeyError:
            continue
        unit, total = names[level], sum(count for _, _, count in rows)
        title = f"{unit[0].upper()}{unit[1:]}"
        text.append(f"{title}: {entered:,} in = {kept:,} kept{KEPT['uniref50' if own else level]} + {total:,} removed.")
        whole = "made of them" if own and level == "uniref50" else "in the FASTA" if own else "in the release"
        counts = [("", whole, entered), *rows, ("", "kept", kept)]
        body = [
            [stage, reason.replace("_", " "), f"{count:,}", f"{count / entered:.2%}"] for stage, reason, count in counts
        ]
        columns = ["removed by", "reason", "count", "share"]
        tables.append(Table(title=title, columns=columns, rows=body, numeric=[2, 3], total=True))
        if rows:
            pictures.append(_picture(f"removed-{level}", figures.removed(rows, unit), release))
    if violations is not None:
        text.append(_violations_text(violations))
    return Section(heading="What was removed and why", text=text, tables=tables, figures=pictures)


def _violations_text(violations: Mapping[str, Mapping[str, int]]) -> str:
    found = [
        f"{reason.replace('_', ' ')} {count:,} ({UNITS[level]})"
        for level in LEVELS
        for reason, count in violations.get(level, {}).items()
    ]
    if not found:
        return "The entries of the release do not contradict each other."
    return f"Where the release contradicts itself (cluster/violations.parquet): {', '.join(found)}."


def shape_section(results: Path, release: Mapping[str, Any]) -> Section:
    """Lengths and cluster sizes of what was kept. release: release.json."""
    own = is_own(release)
    names = ("members", "representatives") if own else ("UniRef90 members", "UniRef50 representatives")
    counts = gather.length_counts(results, names)
    lengths = figures.histogram(gather.LENGTH_EDGES, counts, "length (residues)", "sequences", log_x=True, log_y=False)
    sizes_of = "members of a cluster" if own else "UniRef90 members of a UniRef50 cluster"
    edges, sizes = gather.cluster_sizes(results)
    cluster_sizes = figures.histogram(edges, {"clusters": sizes}, sizes_of, "clusters", log_x=True, log_y=True)
    return Section(
        heading="Lengths and cluster sizes",
        figures=[
            _picture("lengths", lengths),
            _picture("cluster-sizes", cluster_sizes),
        ],
    )


def training_section(
    final: Mapping[str, Any], metrics: list[Mapping[str, Any]], baselines: Mapping[str, float]
) -> Section:
    """Loss curves and throughput. baselines: name to loss of hidden residues in nats."""
    layers, hidden, heads = _sizes(final["config"]["model"])
    text = (
        f"{final['parameters']:,} parameters ({layers} layers, hidden size {hidden}, {heads} heads), "
        f"{final['step']:,} steps, {final['samples']:,} samples, {final['tokens']:,} tokens in "
        f"{duration(final['seconds'])}."
    )
    return Section(
        heading="Training",
        text=[text],
        figures=[
            _picture("loss", figures.losses(metrics, baselines)),
            _picture("throughput", figures.throughput(metrics)),
        ],
    )


def split_section(identity: Mapping[str, Any]) -> Section:
    """Best identity of each held-out cluster to train, before and after removal."""
    audit, sides = identity["audit"], {"validation": identity | {"clusters": identity["validation_clusters"]}}
    if identity["test"]:
        sides["test"] = identity["test"]
    above = np.array(identity["edges"])[:-1] >= identity["threshold"]
    text = [summaries.searched_text(identity)]
    unit = {"members": "sequence", "representatives": "representative"}[identity["level"]]
    for name, side in sides.items():
        near = {when: int(np.array(side[when]["counts"])[above].sum()) for when in ("before", "after")}
        text.append(
            f"Of {side['clusters']:,} {name} clusters, {near['before']:,} had a train {unit} at or above "
            f"{summaries.similar_text(identity)} before decontamination, {near['after']:,} after it; the search found "
            f"no train {unit} at all for {side['before']['none']:,} before, {side['after']['none']:,} after."
        )
    text.append(
        f"The audit, a more sensitive search of what is left ({_settings(audit['settings'])}, after "
        f"{_settings(identity['search'])}), found {audit['hits']:,} hits. {summaries.sample_text(identity)}"
    )
    pictures = [_identity_picture(name, side, identity) for name, side in sides.items()]
    tables = []
    if rows := summaries.benchmark_rows(identity):
        columns = summaries.BENCHMARK_COLUMNS
        tables = [Table(title="Proteins of benchmarks", columns=columns, rows=rows, numeric=range(1, len(columns)))]
    return Section(heading="How similar train and validation are", text=text, tables=tables, figures=pictures)


def _settings(search: Mapping[str, Any]) -> str:
    limit = f" --max-seqs {search['max_seqs']}" if search["direction"] == "published" else ""
    return f"-s {search['sensitivity']:g}{limit}"


def _identity_picture(name: str, side: Mapping[str, Any], identity: Mapping[str, Any]) -> Picture:
    """The two histograms of one held-out side."""
    series = {when: np.array(side[when]["counts"]) for when in ("before", "after")}
    svg = figures.histogram(
        np.array(identity["edges"]),
        series,
        f"best identity of a {name} cluster to train",
        f"{name} clusters",
        log_x=False,
        log_y=False,
        mark=identity["threshold"],
    )
    return _picture("identity" if name == "validation" else f"identity-{name}", svg)


def evaluation_section(evaluation: Mapping[str, Any]) -> Section:
    """The perplexity table and its breakdowns."""
    columns = {row["key"]: row["model"] for row in evaluation["table"]}
    tables = [perplexity_table(evaluation), kinds_table(evaluation), card_table(evaluation)]
    for name, rows in evaluation["breakdowns"].items():
        body = [[row["bin"], f"{row['residues']:,}", *(f"{row[key]:.2f}" for key in columns)] for row in rows]
        group = name.replace("_", " ")
        tables.append(
            Table(
                title=f"Perplexity of hidden residues by {group}",
                columns=[group, "hidden", *columns.values()],
                rows=body,
                numeric=range(1, len(columns) + 2),
            )
        )
    for one in evaluation.get("benchmarks", []):
        models = list(one["perplexity"])
        body = [
            [row["bin"], f"{row['sequences']:,}", f"{row['residues']:,}", *(f"{row[key]:.2f}" for key in models)]
            for row in one["identity"]
        ]
        tables.append(
            Table(
                title=f"{one['name']}: perplexity of hidden residues by identity of the nearest train sequence",
                columns=["identity", "proteins", "hidden", *(columns[key] for key in models)],
                rows=body,
                numeric=range(1, len(models) + 3),
            )
        )
    text = [
        beaten_text(evaluation),
        chosen_text(evaluation),
        "The mask is a fixed function of seed, sequence and position, so every row is about the same residues. "
        "Intervals: 95%, over resampled clusters.",
    ]
    return Section(heading="Perplexity", text=text, tables=tables)


def perplexity_table(evaluation: Mapping[str, Any]) -> Table:
    """Model, both perplexities with their intervals, and the ratio of ours to it."""
    rows, columns = summaries.perplexity_rows(evaluation), summaries.PERPLEXITY_COLUMNS
    return Table(title="Masked perplexity", columns=columns, rows=rows, numeric=range(1, len(columns)))


def kinds_table(evaluation: Mapping[str, Any]) -> Table:
    """Perplexity of each model by what stands at the position that it predicts."""
    rows = [
        [row["model"], *(cell for kind in KINDS for cell in summaries.perplexity_cells(row[kind]))]
        for row in evaluation["table"]
        if "perplexity" in row
    ]
    columns = ["model", *(name for kind in KINDS for name in (f"{kind} ({evaluation[kind]:,})", "95% interval"))]
    title = "By what the model sees at the position"
    return Table(title=title, columns=columns, rows=rows, numeric=range(1, len(columns)))


def card_table(evaluation: Mapping[str, Any]) -> Table:
    """The table of a model card: each checkpoint by both engines, beside the published value of its size."""
    rows = []
    for row in evaluation["parity"]:
        values = ["" if row[key] is None else f"{row[key]:.3f}" for key in ("huggingface", "ours", "published")]
        rows.append([row["model"], *values, "" if row["difference"] is None else f"{row['difference']:+.1e}"])
    columns = ["checkpoint", "Hugging Face", "ours", "Lin et al.", "difference"]
    return Table(title="Both engines and the published value", columns=columns, rows=rows, numeric=[1, 2, 3, 4])


def _picture(name: str, svg: str, release: Mapping[str, Any] | None = None) -> Picture:
    """release: release.json, where the caption names what is counted."""
    return Picture(name=name, svg=svg, caption=captions(release or {})[name])


def _sizes(model: Mapping[str, Any]) -> tuple[int, int, int]:
    return Model.model_validate(model).sizes


def shard_section(results: Path, release: Mapping[str, Any]) -> Section:
    """Shards and where to look further. release: release.json."""
    manifest = read_json(stage_path(results, "shard") / "manifest.json")
    rows = [
        [side, *(f"{counts[key]:,}" for key in ("documents", "sequences", "tokens"))]
        for side, counts in manifest["sides"].items()
    ]
    cluster, members = ("cluster", "members") if is_own(release) else ("UniRef50 cluster", "UniRef90 members")
    return Section(
        heading="Shards",
        text=[
            f"Megatron indexed shards: a document is a {cluster}. For training its sequences are its {members}; for "
            "validation its representative stands for it."
        ],
        tables=[
            Table(title="Sides", columns=["side", "clusters", "sequences", "residues"], rows=rows, numeric=[1, 2, 3])
        ],
    )
