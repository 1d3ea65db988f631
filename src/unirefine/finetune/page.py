"""The result of a fine-tuning as one HTML page that opens offline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unirefine.config import Finetune
from unirefine.files.atomic import write_text
from unirefine.finetune import figures, text
from unirefine.finetune.metrics import NAMES
from unirefine.finetune.outcome import MODEL, Outcome
from unirefine.report.page import Picture, Section, Table, render_page

REPORT = "report.html"


def write(output: Path, result: Mapping[str, Any], arms: Sequence[Any]) -> None:
    """Write `report.html`. arms: `run.Arm`, in the order of `result["splits"]`."""
    first = result["splits"][0]
    main = first["results"][0]
    score = main["models"][MODEL][main["primary"]]
    sections = [_results(result)]
    for split, arm in zip(result["splits"], arms, strict=True):
        of = f" (split {text.how(split['method'])})" if len(arms) > 1 else ""
        sections += [_target(one, outcome, of) for one, outcome in zip(split["results"], arm.outcomes, strict=True)]
    sections += [_split(result, arms), _training(result, arms), _data(result)]
    write_text(
        output / REPORT,
        render_page(
            title=f"Fine-tuned: {', '.join(target['name'] for target in result['targets'])}",
            summary=" ".join(text.verdicts(main)),
            tiles=[
                ("-" if score["value"] is None else text.number_text(score["value"]),
                 f"{NAMES[main['primary']]} of {main['target']}, split {text.how(first['method'])}"),
                (f"{first['test']:,}", "test sequences"),
                (f"{first['leaks']:,}", "of them similar to train"),
                (f"{main['groups']:,}", f"{text.TILES[main['resampled']]} among them"),
            ],
            sections=sections,
            footer=", ".join(f"{name} {version}" for name, version in result["versions"].items()),
        ),
    )  # fmt: skip


def _results(result: Mapping[str, Any]) -> Section:
    tables, said = [], []
    for split in result["splits"]:
        for one in split["results"]:
            columns, rows = text.results_table(one)
            title = f"{one['target']}, {one['sequences']:,} test sequences, split {text.how(split['method'])}"
            tables.append(Table(title=title, columns=columns, rows=rows, numeric=range(1, len(columns))))
            if len(result["splits"]) > 1 or len(split["results"]) > 1:
                said.append(f"{one['target']}, split {text.how(split['method'])}: {' '.join(text.verdicts(one))}")
    if rows := text.gap_rows(result):
        tables.insert(0, Table(title="The gap", columns=text.gap_columns(result), rows=rows, numeric=(2, 3)))
    note = text.resampled_text([one for split in result["splits"] for one in split["results"]])
    return Section(heading="Results", text=[*text.gap_text(result), *said, note], tables=tables)


def _target(one: Mapping[str, Any], outcome: Outcome, of: str) -> Section:
    name = f"{one['target']}-{'-'.join(of.strip(' ()').split())}".strip("-")
    pictures = []
    if outcome.target.task == "regression":
        caption = "Each test sequence. On the dotted line the prediction is what was measured."
        pictures.append(Picture(name=f"{name}-predicted", svg=figures.scatter(outcome), caption=caption))
    else:
        svg, caption = figures.confusion(outcome)
        pictures.append(Picture(name=f"{name}-confusion", svg=svg, caption=caption))
    if (found := figures.calibration(outcome)) is not None:
        pictures.append(Picture(name=f"{name}-calibration", svg=found[0], caption=found[1]))
    rows = [
        [
            b["bin"],
            f"{b['sequences']:,}",
            *("-" if b[k] is None else text.number_text(b[k]) for k in one["models"][MODEL]),
        ]
        for b in one["by_identity"]
    ]
    columns = ["nearest train sequence", "sequences", *(NAMES[key] for key in one["models"][MODEL])]
    title = "The fine-tuned model by identity of the nearest train sequence"
    tables = [Table(title=title, columns=columns, rows=rows, numeric=range(1, len(columns)))] if rows else []
    return Section(heading=f"{one['target']}{of}", tables=tables, figures=pictures)


def _split(result: Mapping[str, Any], arms: Sequence[Any]) -> Section:
    said = []
    for split in result["splits"]:
        said += [text.split_text(split, result), text.check_text(split)]
    if (svg := figures.nearest(arms)) is None:
        said.append("No test sequence can be aligned with a train sequence over half of both.")
        return Section(heading="Split", text=said)
    caption = "Test sequences by the identity of their nearest train sequence, among alignments over half of both."
    picture = Picture(name="nearest", svg=svg, caption=f"{caption} {figures.without_alignment(arms)}")
    return Section(heading="Split", text=said, figures=[picture])


def _training(result: Mapping[str, Any], arms: Sequence[Any]) -> Section:
    columns = ["split", "train", "validation", "test", "steps", "epochs", "best epoch", "validation loss"]
    rows = [
        [
            f"{split['method']} {part['name']}".strip(), *(f"{part[key]:,}" for key in ("train", "validation", "test")),
            f"{part['steps']:,}", str(part["epochs"]), str(part["best_epoch"]), f"{part['validation_loss']:.4f}",
        ]
        for split in result["splits"] for part in split["parts"]
    ]  # fmt: skip
    fold = arms[0].splits[0].name
    of = f", {fold}" if fold else ""
    pictures = [
        Picture(name=f"loss-{arm.method}".replace(" ", "-"), svg=figures.losses(arm.progress[0]),
                caption=f"Split {text.how(arm.method)}{of}: loss of each step, smoothed, and of the validation side"
                " after each epoch. The epoch of its lowest value was kept.")
        for arm in arms
    ]  # fmt: skip
    return Section(
        heading="Training", tables=[Table(title="Trainings", columns=columns, rows=rows, numeric=range(1, 8))],
        figures=pictures,
    )  # fmt: skip


def _data(result: Mapping[str, Any]) -> Section:
    counts, settings = result["sequences"], result["settings"]
    said = [
        f"{counts['table']:,} sequences, {counts['labelled']:,} with a label. Clusters of similar ones:"
        f" {counts['clusters']:,}; the largest has {counts['largest_cluster']:,}."
        + (f" {counts['cut']:,} were cut to {settings['config']['max_residues']:,} residues." if counts["cut"] else ""),
        *(target["said"] + "." for target in result["targets"]),
        f"Base model: {settings['model']}.",
    ]
    used = settings["config"] | {"lr": Finetune(**settings["config"]).peak, "folds": len(result["splits"][0]["parts"])}
    rows = [[name, str(value)] for name, value in used.items()]
    return Section(
        heading="Data and settings", text=said, tables=[Table(title="Settings", columns=["option", "value"], rows=rows)]
    )
