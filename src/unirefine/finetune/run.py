"""Fine-tune: read the table, split, train, judge beside baselines, and write models and report."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from unirefine.config import Finetune
from unirefine.errors import UserError
from unirefine.files.atomic import delete, read_json, write_json
from unirefine.files.code import versions
from unirefine.files.hashes import sha256_json
from unirefine.finetune import batches, card, outputs, page, positions, similar, table, tasks, text
from unirefine.finetune import model as models
from unirefine.finetune import outcome as judged
from unirefine.finetune import split as splits
from unirefine.finetune.train import Progress, accelerator, predict_all, train
from unirefine.model import source
from unirefine.similarity.linkage import single_linkage

SETTINGS, RESULT = "settings.json", "finetune.json"
_OTHERS = ("fold_", "DMS_score_bin", "mutant", "mutated_sequence")
"""How columns begin that are not labels: ProteinGym's folds and what it derives."""
PACKAGES = ("torch", "transformers", "peft", "accelerate", "scikit-learn")
LEAST = 10
"""Labelled sequences; fewer cannot be learned from and judged."""


@dataclass
class Arm:
    """One way to split, and what came of it."""

    method: str
    splits: list[splits.Split]
    progress: list[Progress] = field(default_factory=list)
    outcomes: list[judged.Outcome] = field(default_factory=list)
    leaks: int = 0
    check: dict[str, Any] | None = None


def run(
    model: Path | str,
    path: Path,
    output: Path,
    config: Finetune,
    *,
    fasta: Path | None = None,
    target: Sequence[str] = (),
    merge: bool = False,
    device: str = "auto",
    threads: int = 1,
    mmseqs: str | None = None,
) -> dict[str, Any]:
    """Fine-tune `model` on the table at `path` and return what is in `output/finetune.json`.

    Under torchrun or `accelerate launch` the processes divide each batch. Run again with the same settings, a killed
    training goes on from its newest state, with the same losses. Raises UserError.
    """
    _refuse_inside(output, [path, fasta, Path(model)])
    data = table.read(path, fasta)
    reserved = [name for name in data.columns if name.startswith(_OTHERS) or name == config.split_by]
    targets = tasks.find(data, target, config.task, reserved)
    rows = np.flatnonzero(np.any([one.labelled for one in targets], axis=0))
    if len(rows) < max(LEAST, config.folds):
        least = f"{config.folds} folds" if config.folds > LEAST else f"at least {LEAST}"
        raise UserError(f"{len(rows)} sequences with a label for {least}", where=path, fix="give more of them")
    torch.set_num_threads(threads)  # of a CPU
    helper = accelerator(device, config.precision)
    if helper.is_main_process:
        for one in targets:
            print(one.said() + (" (--task says otherwise)" if config.task == "auto" else ""))
        output.mkdir(parents=True, exist_ok=True)
        _refuse_others(output)
    base, name = models.base_of(model, output) if helper.is_main_process else (None, None)
    settings = {
        "table": data.digest, "targets": [[one.name, one.task] for one in targets], "model": str(model),
        "config": config.model_dump(mode="json"),
    }  # fmt: skip
    if helper.is_main_process:
        if (found := _finished(output, settings | {"weights": sha256_json(source.find(base).identity())})) is not None:
            print(f"{output}: already finished with these settings")
            print("\n".join(text.lines(found)))
            return found
        similar.search(data.sequences, output, threads=threads, mmseqs=mmseqs)
    helper.wait_for_everyone()
    base, name = models.base_of(model, output)
    pairs = similar.search(data.sequences, output, threads=threads, mmseqs=mmseqs)
    groups = single_linkage(data.sequences, pairs, config.identity, config.coverage)
    places = positions.changed(data.sequences)
    arms, impossible = _arms(data, rows, groups, places, config)
    for number, arm in enumerate(arms):
        below = output if number == 0 else output / arm.method
        _train_arm(arm, below, data, targets, base, name, pairs, config, helper, export=number == 0, merge=merge)
        if helper.is_main_process:
            _judge_arm(arm, data, pairs, judged.resampled(arm.method, groups, rows, places), config, threads)
    result: dict[str, Any] = {}
    if helper.is_main_process:
        result = _result(settings, data, rows, groups, arms, impossible, config, output)
        outputs.write(output, data, groups, arms)
        page.write(output, result, arms)
        for directory in outputs.model_directories(output):
            card.write(directory, result)
        write_json(output / RESULT, result)
        for arm_directory in outputs.state_files(output):
            delete(arm_directory)
        print("\n".join(text.lines(result)))
    helper.wait_for_everyone()
    return result


def _refuse_inside(output: Path, inputs: Sequence[Path | None]) -> None:
    inside = output.resolve()
    for one in inputs:
        if one is not None and one.exists() and inside in (one.resolve(), *one.resolve().parents):
            raise UserError("holds an input", where=output, fix=f"{one} is in it; choose another --output")


def _refuse_others(output: Path) -> None:
    """Raises UserError when a directory holds files, and none of ours that says what they are."""
    others = sorted(one.name for one in output.iterdir() if one.name != ".lock")
    if others and not (output / SETTINGS).exists():
        what = f"holds files that no fine-tuning has written ({others[0]})"
        raise UserError(what, where=output, fix="choose another --output")


def _finished(output: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The result of a finished run with these settings; None where it is to be made, or made to its end.

    Raises UserError when the directory holds a run with others.
    """
    path = output / SETTINGS
    if not path.exists():
        write_json(path, settings)
        return None
    before = read_json(path)
    if before != settings:
        changed = _first_change(before, settings)
        fix = "choose another --output, or delete it"
        raise UserError(f"holds a fine-tuning with other settings: {changed}", where=output, fix=fix)
    return dict(read_json(output / RESULT)) if (output / RESULT).exists() else None


def _first_change(before: dict[str, Any], now: dict[str, Any]) -> str:
    """The first setting that differs, in words."""
    for key, value in now["config"].items():
        if before["config"].get(key) != value:
            return f"{key} was {before['config'].get(key)}, and is {value}"
    key = next(key for key in now if before.get(key) != now[key])
    named = {"table": "another table", "weights": "other weights", "model": "another model", "targets": "other targets"}
    return named.get(key, key)


def _arms(
    data: table.Data, rows: np.ndarray, groups: np.ndarray, places: np.ndarray | None, config: Finetune
) -> tuple[list[Arm], str | None]:
    """The splits that are trained: that which was asked for; beside a random one, one by homology, or by position.

    Also why there is none by homology, where it cannot be made. places: what `positions.changed` returns.
    """
    if config.split_by == "homology":
        try:
            return [Arm("homology", splits.by_groups(groups, rows, config, data.path))], None
        except UserError as error:
            if places is None:
                raise
            fix = "they are variants of one protein: give --split contiguous or --split modulo, folds of positions"
            raise UserError(error.what, where=data.path, fix=fix) from None
    if config.split_by in (positions.MODULO, positions.CONTIGUOUS):
        folds = positions.by_position(places, rows, config.split_by, config.folds, data.path)
        return [Arm(config.split_by, folds)], None
    if config.split_by != "random":
        return [Arm(f"column {config.split_by}", splits.by_column(data, rows, config))], None
    arms = [Arm("random", splits.by_groups(np.arange(len(groups)), rows, config, data.path))]
    try:
        arms.append(Arm("homology", splits.by_groups(groups, rows, config, data.path)))
    except UserError as error:
        with contextlib.suppress(UserError):
            folds = positions.by_position(places, rows, positions.MODULO, config.folds, data.path)
            arms.append(Arm(positions.MODULO, folds))
        return arms, error.what
    return arms, None


def _train_arm(
    arm: Arm, below: Path, data: table.Data, targets: list[tasks.Target], base: Path, name: str, pairs: pl.DataFrame,
    config: Finetune, helper: Any, *, export: bool, merge: bool,
) -> None:  # fmt: skip
    """Train on each split of an arm; fill in its progress and the predictions of its test rows."""
    parts: list[list[dict[str, list[np.ndarray]]]] = []
    for one in arm.splits:
        for target in targets:
            _check_sides(target, one, arm.method, data.path)
        directory = below / one.name
        directory.mkdir(parents=True, exist_ok=True)
        made = models.build(base, targets, config, name)
        arm.progress.append(train(made, data.sequences, targets, one, config, directory, helper))
        made = helper.unwrap_model(made, keep_fp32_wrapper=False)
        models.scale_regression(made, targets, _scales(targets, one))
        found = predict_all(made, [data.sequences[row] for row in one.test], targets, config, helper)
        if not helper.is_main_process:
            continue
        if export:
            models.export(made, directory / "model", targets, config, name, merge=False)
            if merge and config.mode == "lora":
                models.export(made, directory / "merged", targets, config, name, merge=True)
        others = judged.predictions_of_baselines(targets, data.sequences, pairs, one, config, base, helper.device)
        parts.append([
            {judged.MODEL: [found[i][at] for i in np.flatnonzero(target.labelled[one.test])], **others[at]}
            for at, target in enumerate(targets)
        ])  # fmt: skip
    if not helper.is_main_process:
        return
    for at, target in enumerate(targets):
        tested = [one.test[target.labelled[one.test]] for one in arm.splits]
        close = [
            similar.nearest(data.sequences, pairs, one.train, t) for one, t in zip(arm.splits, tested, strict=True)
        ]
        scores = {name: [v for part in parts for v in part[at][name]] for name in parts[0][at]}
        folds = [one.name for one, rows in zip(arm.splits, tested, strict=True) for _ in rows]
        arm.outcomes.append(
            judged.Outcome(
                target, np.concatenate(tested), folds, scores,
                np.concatenate([each[0] for each in close]), np.concatenate([each[1] for each in close]), {},
            )
        )  # fmt: skip


def _scales(targets: Sequence[tasks.Target], one: splits.Split) -> list[tuple[float, float]]:
    found = [batches.scales_of(target, one.train, balanced=False) for target in targets]
    return [(scale.mean, scale.deviation) for scale in found]


def _check_sides(target: tasks.Target, one: splits.Split, method: str, where: Path) -> None:
    """Raises UserError when a side has too little of a target to learn from it, or to judge it."""
    fold = f" of {one.name}" if one.name else ""
    for side, rows, least in (("train", one.train, 2), ("validation", one.validation, 1), ("test", one.test, 1)):
        labelled = [target.values[row] for row in rows if target.labelled[row]]
        if len(labelled) < least:
            what = f"{len(labelled)} labels of {target.name} on the {side} side{fold} of the {method} split"
            raise UserError(what, where=where, fix="give more rows, or another --split")
        if side == "train" and target.task != "multilabel":
            distinct = np.unique(np.concatenate(labelled))
            if np.sum(~np.isnan(distinct)) < 2:
                what = f"all labels of {target.name} on the train side{fold} of the {method} split are the same"
                raise UserError(what, where=where, fix="give more rows, or another --set finetune.seed")


def _judge_arm(
    arm: Arm, data: table.Data, pairs: pl.DataFrame, resampled: tuple[str, np.ndarray], config: Finetune, threads: int
) -> None:
    """Judge the outcomes of an arm, and look for leaks. resampled: what `judged.resampled` returns."""
    for one in arm.splits:
        held_out = np.concatenate([one.validation, one.test])
        arm.leaks += similar.leaks(data.sequences, pairs, one.train, one.test, config)
        if arm.check is None:  # of the first fold
            arm.check = similar.exact_check(data.sequences, pairs, one.train, held_out, config, threads)
    for outcome in arm.outcomes:
        judged.judge(outcome, *resampled, config.seed)


def _result(
    settings: dict[str, Any], data: table.Data, rows: np.ndarray, groups: np.ndarray, arms: list[Arm],
    impossible: str | None, config: Finetune, output: Path,
) -> dict[str, Any]:  # fmt: skip
    longer = sum(len(data.sequences[row]) > config.max_residues for row in rows)
    return {
        "format": 1,
        "output": str(output),
        "settings": settings,
        "sequences": {
            "table": len(data.ids), "labelled": len(rows), "clusters": len(np.unique(groups[rows])),
            "largest_cluster": int(np.bincount(groups[rows]).max()), "cut": longer,
        },
        "targets": [
            {"name": o.target.name, "task": o.target.task, "classes": o.target.classes, "said": o.target.said()}
            for o in arms[0].outcomes
        ],
        "no_homology": impossible,
        "splits": [_arm_result(arm, len(rows)) for arm in arms],
        "versions": versions(*PACKAGES),
    }  # fmt: skip


def _arm_result(arm: Arm, labelled: int) -> dict[str, Any]:
    tested = sum(len(one.test) for one in arm.splits)
    return {
        "method": arm.method,
        "parts": [
            {
                "name": one.name, "train": len(one.train), "validation": len(one.validation), "test": len(one.test),
                "steps": done.step, "epochs": done.epoch, "best_epoch": done.best_epoch, "validation_loss": done.best,
            }
            for one, done in zip(arm.splits, arm.progress, strict=True)
        ],
        "test": tested,
        "untested": labelled - tested if len(arm.splits) > 1 else 0,
        "leaks": arm.leaks,
        "exact_check": arm.check,
        "results": [
            {
                "target": one.target.name, "primary": judged.metrics.primary(one.target), "sequences": len(one.rows),
                "resampled": one.over, "groups": one.groups,
                "models": one.table, "by_identity": judged.identity_bins(one),
            }
            for one in arm.outcomes
        ],
    }  # fmt: skip
