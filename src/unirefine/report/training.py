"""The report's sections on training: its losses and speed, and those of a second run beside it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unirefine.config import Model
from unirefine.core.summaries import trained_on
from unirefine.errors import UserError, no_directory
from unirefine.files import lineage
from unirefine.files.atomic import read_json
from unirefine.files.documents import set_names
from unirefine.files.stages import stage_path
from unirefine.progress import duration
from unirefine.report import figures, gather
from unirefine.report.page import Section, Table
from unirefine.report.perplexity import best_baseline, picture


def baseline_losses(evaluation: Mapping[str, Any]) -> tuple[dict[str, float], str]:
    """Losses of the baselines by name, nats per hidden residue, and where they were measured, as a sentence."""
    labels = {row["key"]: row["model"] for row in evaluation["table"]}
    if measured := evaluation.get("training_validation"):
        return {labels.get(key, key): value for key, value in measured["losses"].items()}, (
            f"The baselines were measured where training validated: at the same {measured['hidden']:,} hidden residues "
            f"of {measured['sequences']:,} sequences."
        )
    rows = {
        row["model"]: math.log(row["hidden"]["perplexity"])
        for row in evaluation["table"]
        if "perplexity" not in row and row["hidden"]["perplexity"]
    }
    return rows, (
        "The baselines are those of the evaluation: of other windows and masks than the curve, so that small "
        "differences mean nothing."
    )


def training_section(
    final: Mapping[str, Any], metrics: list[Mapping[str, Any]], baselines: Mapping[str, float], where: str = ""
) -> Section:
    """Loss curves and throughput. baselines: name to loss of hidden residues in nats; where: they were measured."""
    layers, hidden, heads = Model.model_validate(final["config"]["model"]).sizes
    text = [
        f"{final['parameters']:,} parameters ({layers} layers, hidden size {hidden}, {heads} heads), "
        f"{final['step']:,} steps, {final['samples']:,} samples, {final['tokens']:,} tokens in "
        f"{duration(final['seconds'])}.",
        *trained_on(final),
    ]
    hidden = any(line.get("validation_hidden_loss") is not None for line in metrics)
    if not hidden:
        text.append("No loss of hidden residues was logged, so there is no curve of it beside baselines.")
    elif baselines and where:
        text.append(where)
    if names := set_names(metrics):
        text.append(
            f"The dash-dotted curves are further validation sets ({', '.join(names)}), at their own hidden residues. "
            "The baselines were not measured on them. Step 0 is before training."
        )
    if not figures.is_padded(metrics):
        text.append("Nothing was padded, so there is one line of tokens per second.")
    return Section(
        heading="Training",
        text=text,
        figures=[
            picture("loss", figures.losses(metrics)),
            *([picture("hidden-perplexity", figures.hidden_perplexity(metrics, baselines))] if hidden else []),
            picture("throughput", figures.throughput(metrics)),
        ],
    )


def compare_section(first: Path, second: Path) -> Section:
    """A second run beside the first: key numbers and losses. Raises UserError where it has not been evaluated."""
    if not (second / "evaluate" / "perplexity.json").is_file():
        what = "no evaluate/perplexity.json in it" if second.is_dir() else no_directory(second)
        raise UserError(what, where=second, fix="give --compare the results of a run that has ended")
    names = _names(first, second)
    columns = [_numbers(results) for results in (first, second)]
    rows = [[name, *(one[name] for one in columns)] for name in columns[0]]
    same = [_validation(results) for results in (first, second)]
    if None in same or same[0] != same[1]:
        text = (
            "They were evaluated on different sequences or masks: a difference in perplexity is not one of the models."
        )
    else:
        text = "Both were evaluated on the same sequences with the same masks."
    curves = {
        name: gather.read_metrics(results, lineage.read(results / "train" / "final"))
        for name, results in zip(names, (first, second), strict=True)
    }
    table = Table(title="Key numbers", columns=["", *names], rows=rows, numeric=[1, 2], opened=True)
    svg = figures.two_losses(curves)
    return Section(heading=f"Beside {names[1]}", text=[text], tables=[table], figures=[picture("two-losses", svg)])


def _names(first: Path, second: Path) -> tuple[str, str]:
    """Names of two runs; with their directory where they have the same."""
    paths = first.resolve(), second.resolve()
    if paths[0] == paths[1]:
        raise UserError("the same run twice", where=second, fix="give --compare another one")
    if paths[0].name != paths[1].name:
        return paths[0].name, paths[1].name
    return str(first), str(second)


def _numbers(results: Path) -> dict[str, str]:
    """Key numbers of a run as text, by name."""
    final = read_json(results / "train" / "final" / "train.json")
    sides = read_json(stage_path(results, "shard") / "manifest.json")["sides"]
    evaluation = read_json(results / "evaluate" / "perplexity.json")
    ours, baseline = evaluation["table"][0], best_baseline(evaluation)
    hidden = ours["hidden"]
    low, high = hidden["interval"] or (math.nan, math.nan)
    return {
        "train clusters": f"{sides['train']['documents']:,}",
        "train sequences": f"{sides['train']['sequences']:,}",
        "validation sequences": f"{sides['validation']['sequences']:,}",
        "parameters": f"{final['parameters']:,}",
        "steps": f"{final['step']:,}",
        "tokens": f"{final['tokens']:,}",
        "time of training": duration(final["seconds"]),
        "masked perplexity, all chosen": f"{ours['perplexity']:.3f}",
        "perplexity of hidden residues": "-" if hidden["perplexity"] is None else f"{hidden['perplexity']:.3f}",
        "95% interval": "-" if hidden["interval"] is None else f"{low:.2f} to {high:.2f}",
        "best baseline there": "-"
        if baseline is None
        else f"{baseline['hidden']['perplexity']:.3f} ({baseline['model']})",
    }


def _validation(results: Path) -> tuple | None:
    """What decides the residues that a run was evaluated on; None where it is not known."""
    manifest = read_json(stage_path(results, "shard") / "manifest.json")
    evaluation = read_json(results / "evaluate" / "perplexity.json")
    files = {file["name"]: file["sha256"] for file in manifest.get("files", [])}
    hashes = [files.get(f"validation.{suffix}") for suffix in ("bin", "idx", "ids.parquet")]
    if None in hashes:
        return None
    return (*hashes, evaluation.get("seed"), str(evaluation.get("masking")), evaluation["sequences"])
