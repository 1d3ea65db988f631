"""The stage: read a run's results and write its report."""

from pathlib import Path
from typing import Any

from unirefine.config import Report
from unirefine.core.continued import continued_lines
from unirefine.core.summaries import aligned, beaten_text, is_own
from unirefine.errors import UserError, no_directory
from unirefine.files import lineage
from unirefine.files.atomic import read_json
from unirefine.files.code import versions
from unirefine.files.stages import stage_path
from unirefine.progress import human
from unirefine.report import continued, examples, gather, origin, perplexity, sections, training
from unirefine.report.ledger import Entry, first_and_last, read_ledger
from unirefine.report.page import Section, write_report
from unirefine.report.proteins import read_proteins
from unirefine.report.search import search_index, search_text


def run(results: Path, output: Path, config: Report, *, compare: Path | None = None) -> Path:
    """Write `output/report.html` and `output/figures/*.svg`; returns the report's path.

    compare: results of a second run, to stand beside this one. Raises UserError when a stage's files are missing or
    the counts of two stages do not agree.
    """
    steps = lineage.read(results / "train" / "final")
    release = steps["release"]
    entries = read_ledger(results)
    clustered = read_json(stage_path(results, "cluster") / "counts.json")
    identity = read_json(stage_path(results, "decontaminate") / "identity.json")
    final = read_json(results / "train" / "final" / "train.json")
    evaluation = read_json(results / "evaluate" / "perplexity.json")
    baselines, where = training.baseline_losses(evaluation)
    index = search_index(results)
    found = [
        perplexity.evaluation_section(evaluation),
        *continued.continued_sections(evaluation),
        perplexity.breakdown_section(evaluation, read_proteins(results)),
        training.training_section(final, gather.read_metrics(results, steps), baselines, where),
        *([training.compare_section(results, compare)] if compare else []),
        sections.removal_section(entries, clustered.get("violations"), release, examples.example_rows(results)),
        sections.split_section(identity),
        sections.shape_section(results, release),
        sections.shard_section(results, release),
        Section(heading="Search by id", text=search_text(index), search=index),
        origin.cost_section(results, final["seconds"]),
        origin.release_section(release, entries),
        origin.lineage_section(steps),
        origin.page_section(results, output, compare),
    ]
    return write_report(
        output,
        title=config.title,
        summary=f"Run {results.resolve().name}: from {_origin_of_data(release)} to a masked perplexity of "
        f"{evaluation['table'][0]['perplexity']:.2f}. {beaten_text(evaluation)}",
        tiles=tiles(entries, identity, final, evaluation, own=is_own(release)),
        sections=found,
        footer=", ".join(f"{name} {version}" for name, version in versions("megatron-core", "torch").items()),
    )


def _origin_of_data(release: dict[str, Any]) -> str:
    if is_own(release):
        return "your own FASTA"
    if (data_set := lineage.data_set_of(release)) is not None:
        return f"the data set {data_set}"
    return f"release {release['release'] or 'of unknown name'}"


def tiles(
    entries: list[Entry], identity: dict[str, Any], final: dict[str, Any], evaluation: dict[str, Any], *, own: bool
) -> list[tuple[str, str]]:
    """The numbers at the top of the page: (value, what it is)."""
    _entered, kept = first_and_last(entries, "uniref90")
    measured = evaluation["table"][0]["hidden"]
    shown = [
        (f"{kept:,}", "sequences for training and validation" if own else "sequences for training"),
        (f"{identity['validation_clusters']:,}", "validation clusters"),
        (human(final["parameters"], "").strip(), "parameters"),
    ]
    if measured["perplexity"] is None:
        return [*shown, (f"{evaluation['table'][0]['perplexity']:.2f}", "masked perplexity, all chosen residues")]
    low, high = measured["interval"]
    shown.append((f"{measured['perplexity']:.2f}", f"perplexity of hidden residues ({low:.2f} to {high:.2f})"))
    if (best := perplexity.best_baseline(evaluation)) is not None:
        shown.append((f"{best['hidden']['perplexity']:.2f}", f"the best baseline there, {best['model']}"))
    return shown


def continued_text(results: Path) -> list[str]:
    """One line with the perplexities before and after, for a model that was continued from another."""
    return continued_lines(read_json(results / "evaluate" / "perplexity.json"))


def perplexity_lines(results: Path) -> list[str]:
    """The perplexity table as aligned text lines, whether both engines agree, and which baselines the model beats."""
    path = results / "evaluate" / "perplexity.json"
    if not results.is_dir():
        raise UserError(no_directory(results), where=results, fix="give the results of a run, as in results/demo")
    evaluation = read_json(path)
    table = perplexity.perplexity_table(evaluation)
    parity = perplexity.parity_lines(evaluation) if "parity" in evaluation else []
    return [*aligned(table.columns, table.rows), *parity, beaten_text(evaluation)]
