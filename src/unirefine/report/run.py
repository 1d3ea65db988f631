"""The stage: read a run's results and write its report."""

import math
from pathlib import Path

from unirefine.config import Report
from unirefine.core.summaries import aligned, beaten_text, is_own
from unirefine.files import lineage
from unirefine.files.atomic import read_json
from unirefine.files.code import versions
from unirefine.files.stages import stage_path
from unirefine.progress import human
from unirefine.report import gather, sections
from unirefine.report.ledger import first_and_last, read_ledger
from unirefine.report.page import write_report

BASELINES = ("unigram", "bigram", "neighbours", "composition")
"""Of these the losses are drawn beside the curve; the table has all."""


def run(results: Path, output: Path, config: Report) -> Path:
    """Write `output/report.html` and `output/figures/*.svg`; returns the report's path.

    Raises UserError when a stage's files are missing or the counts of two stages do not agree.
    """
    origin = lineage.read(results / "train" / "final")
    release = origin["release"]
    entries = read_ledger(results)
    clustered = read_json(stage_path(results, "cluster") / "counts.json")
    identity = read_json(stage_path(results, "decontaminate") / "identity.json")
    final = read_json(results / "train" / "final" / "train.json")
    evaluation = read_json(results / "evaluate" / "perplexity.json")
    table = {row["key"]: row for row in evaluation["table"]}
    ours, hidden = table["ours"]["perplexity"], table["ours"]["hidden"]["perplexity"]
    shown = {key: table[key] for key in BASELINES if key in table and table[key]["hidden"]["perplexity"] is not None}
    baselines = {row["model"]: math.log(row["hidden"]["perplexity"]) for row in shown.values()}
    tiles = [] if hidden is None else [(f"{hidden:.2f}", "perplexity of hidden residues")]
    tiles += [(f"{row['hidden']['perplexity']:.2f}", f"the same, {row['model']}") for row in shown.values()]
    own = is_own(release)
    origin_of_data = "your own FASTA" if own else f"release {release['release'] or 'of unknown name'}"
    if (data_set := lineage.data_set_of(release)) is not None:
        origin_of_data = f"the data set {data_set}"
    entered, kept = first_and_last(entries, "uniref90")
    return write_report(
        output,
        title=config.title,
        summary=f"Run {results.name}: from {origin_of_data} to a masked perplexity of {ours:.2f}. "
        f"{beaten_text(evaluation)}",
        tiles=[
            (f"{entered:,}", "sequences in the FASTA" if own else "sequences in the release"),
            (f"{kept:,}", "sequences for training and validation" if own else "sequences for training"),
            (f"{identity['validation_clusters']:,}", "validation clusters"),
            (human(final["parameters"], "").strip(), "parameters"),
            (f"{ours:.2f}", "masked perplexity, all chosen"),
            *tiles,
        ],
        sections=[
            sections.evaluation_section(evaluation),
            sections.training_section(final, gather.read_metrics(results, origin), baselines),
            sections.removal_section(entries, clustered.get("violations"), release),
            sections.split_section(identity),
            sections.shape_section(results, release),
            sections.shard_section(results, release),
            sections.release_section(release, entries),
            sections.lineage_section(origin),
        ],
        footer=", ".join(f"{name} {version}" for name, version in versions("megatron-core", "torch").items()),
    )


def perplexity_lines(results: Path) -> list[str]:
    """The perplexity table as aligned text lines, and which baselines the model is better than."""
    evaluation = read_json(results / "evaluate" / "perplexity.json")
    table = sections.perplexity_table(evaluation)
    return [*aligned(table.columns, table.rows), beaten_text(evaluation)]
