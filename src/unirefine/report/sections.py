"""The report's sections on data: what was removed, how it splits, what it looks like. Each reads a run's files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unirefine.core import summaries
from unirefine.core.levels import LEVELS
from unirefine.core.summaries import UNITS, is_own, units
from unirefine.files.atomic import read_json
from unirefine.files.names import TAXDUMP
from unirefine.files.stages import stage_path
from unirefine.report import composition, diagrams, examples, figures, gather
from unirefine.report.ledger import Entry, first_and_last, is_held_out, removals
from unirefine.report.page import Picture, Section, Table
from unirefine.report.perplexity import picture
from unirefine.report.taxa import NAMES, read_taxa

KEPT = {"uniref50": " for training and validation", "uniref90": " for training"}
"""Of a validation cluster only the representative is kept, which is no UniRef90 sequence; of an own FASTA it is one."""


def removal_section(
    entries: list[Entry],
    violations: Mapping[str, Mapping[str, int]] | None,
    release: Mapping[str, Any],
    shown: Sequence[Sequence[str]] = (),
) -> Section:
    """What was removed and why, at both levels, adding up; and where the release contradicts itself.

    violations: `{level: {reason: n}}` of the cluster stage; None for a user's own FASTA, which is no release. release:
    release.json. shown: rows of examples.
    """
    tables, flows, pictures, text = [], [], [], []
    names, own = units(release), is_own(release)
    for level in LEVELS:
        every = removals(entries, level)
        held = [row for row in every if is_held_out(row[0], row[1])]
        rows = [row for row in every if row not in held]
        try:
            entered, kept = first_and_last(entries, level)
        except KeyError:
            continue
        unit, total = names[level], sum(count for _, _, count in rows)
        title = f"{unit[0].upper()}{unit[1:]}"
        beside = f" + {sum(count for _, _, count in held):,} held out" if held else ""
        text.append(
            f"{title}: {entered:,} in = {kept:,} kept{KEPT['uniref50' if own else level]}{beside} + {total:,} removed."
        )
        whole = "made of them" if own and level == "uniref50" else "in the FASTA" if own else "in the release"
        counts = [("", whole, entered), *rows, *((stage, f"held out: {reason}", n) for stage, reason, n in held)]
        body = [
            [stage, reason.replace("_", " "), f"{count:,}", f"{count / max(entered, 1):.2%}"]
            for stage, reason, count in [*counts, ("", "kept", kept)]
        ]
        columns = ["by", "what", "count", "share"]
        tables.append(Table(title=title, columns=columns, rows=body, numeric=[2, 3], total=True))
        flows.append(picture(f"flow-{level}", diagrams.flow(_flows(entries, level), unit), release))
        if rows:
            pictures.append(picture(f"removed-{level}", figures.removed(rows, unit), release))
    if shown:
        tables.append(
            Table(title="Examples, with their evidence", columns=examples.COLUMNS, rows=shown, numeric=range(4, 8))
        )
    if violations is not None:
        text.append(_violations_text(violations))
    return Section(heading="What was removed and why", text=text, tables=tables, figures=[*flows, *pictures])


def _flows(entries: list[Entry], level: str) -> list[diagrams.Flow]:
    """What each stage did at a level."""
    found = []
    for entry in entries:
        if entry.level != level:
            continue
        held = sum(count for reason, count in entry.removed.items() if is_held_out(entry.stage, reason))
        lost = sum(entry.removed.values()) - held
        found.append(diagrams.Flow(entry.stage, entry.entered, entry.kept, lost, held))
    return found


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
    """Lengths, amino acids and taxa before and after, and cluster sizes. release: release.json."""
    own = is_own(release)
    counts = gather.length_counts(results)
    unit = units(release)["uniref90"]
    lengths = figures.histogram(gather.LENGTH_EDGES, counts, "length (residues)", unit, log_x=True, log_y=False)
    sizes_of = "members of a cluster" if own else "UniRef90 members of a UniRef50 cluster"
    edges, sizes = gather.cluster_sizes(results)
    cluster_sizes = figures.histogram(edges, {"": sizes}, sizes_of, "clusters", log_x=True, log_y=True)
    pictures, tables, text = [picture("lengths", lengths)], [], []
    if (sample := composition.read_sample(results)) is not None:
        text.append(f"Amino acids and taxa are of {sample.text}; lengths and cluster sizes of everything.")
        for made in (_amino_acids(sample), _taxa(sample, results, unit)):
            if made is not None:
                pictures.append(made[0])
                tables.append(made[1])
    pictures.append(picture("cluster-sizes", cluster_sizes))
    return Section(heading="Composition, lengths and cluster sizes", text=text, tables=tables, figures=pictures)


def _amino_acids(sample: composition.Sample) -> tuple[Picture, Table] | None:
    sums = {step: sample.letters[kept].sum(0) for step, kept in sample.kept.items() if kept.any()}
    if not all(total.sum() for total in sums.values()):
        return None
    share = {step: total / total.sum() for step, total in sums.items()}
    letters = [*composition.AMINO_ACIDS, "others"]
    svg = figures.shares(
        list(composition.AMINO_ACIDS), {step: list(row[:20]) for step, row in share.items()}, "residues"
    )
    rows = [[letter, *(f"{row[number]:.3%}" for row in share.values())] for number, letter in enumerate(letters)]
    columns = ["amino acid", *share]
    table = Table(title="Amino acids", columns=columns, rows=rows, numeric=range(1, len(columns)))
    return picture("amino-acids", svg), table


def _taxa(sample: composition.Sample, results: Path, unit: str) -> tuple[Picture, Table] | None:
    """None where no taxon is known, or none has a kingdom for want of a taxonomy dump."""
    if not (sample.taxon > 0).any():
        return None
    taxa = read_taxa(stage_path(results, "release") / TAXDUMP, set())
    if taxa is None:
        return None
    group = taxa.groups_of(sample.taxon)
    counts = {step: np.bincount(group[kept], minlength=len(NAMES)) for step, kept in sample.kept.items() if kept.any()}
    there = np.flatnonzero(sum(counts.values()))
    share = {step: row[there] / row.sum() for step, row in counts.items()}
    names = [NAMES[number] for number in there]
    svg = figures.shares(names, {step: list(row) for step, row in share.items()}, unit)
    rows = [
        [name, *(f"{row[number]:,}" for row in counts.values()), *(f"{row[at]:.2%}" for row in share.values())]
        for at, (number, name) in enumerate(zip(there, names, strict=True))
    ]
    columns = ["kingdom", *counts, *(f"share, {step}" for step in share)]
    return picture("taxa", svg), Table(title="Taxa", columns=columns, rows=rows, numeric=range(1, len(columns)))


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
        f"{_settings(identity['search'])}), {summaries.audit_text(identity)}. {summaries.sample_text(identity)}"
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
    return picture("identity" if name == "validation" else f"identity-{name}", svg)


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
