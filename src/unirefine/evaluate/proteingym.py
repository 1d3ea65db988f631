"""ProteinGym's zero-shot benchmark: score every variant of every assay, measure, and average as the benchmark does.

An assay that is finished is not scored again: `assays/<DMS_id>.json` says of which file and model its scores are.
"""

import csv
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from unirefine.megatron import platform

import numpy as np

from unirefine import progress
from unirefine.config import Evaluate
from unirefine.errors import UserError
from unirefine.evaluate.benchmarks import nearest_train
from unirefine.evaluate.gym_metrics import DEPTHS, METRICS, averages, measure
from unirefine.evaluate.gym_reference import BINARY, MEASURED, Assay, Measured, read_assay, read_reference
from unirefine.evaluate.mutants import Unscored
from unirefine.evaluate.variants import MARGINALS, WHOLE, score_variants
from unirefine.files.atomic import read_json, write_json, write_text
from unirefine.files.hashes import sha256_file, sha256_json
from unirefine.files.outputs import json_of, refuse_overwriting
from unirefine.model.inference import open_megatron
from unirefine.model.source import find

RESULT, ASSAYS, SUMMARY = "proteingym.json", "assays.csv", "summary.csv"
KEYS = ("assays", "substitutions", "indels")
SCORE_OF = {False: MARGINALS[0], True: WHOLE[1]}
"""The score that is judged, by whether an assay has indels."""
FORMAT = 1


def run(
    model: Path,
    assays: Path,
    reference: Path,
    output: Path,
    config: Evaluate,
    *,
    skip: bool = False,
    share: tuple[int, int] = (0, 1),
    average: bool = True,
    decontaminated: Path | None = None,
) -> dict[str, Any]:
    """Write `scores/<DMS_id>.csv` and `assays/<DMS_id>.json` of each assay, then proteingym.json, assays.csv and
    summary.csv; return the first of these.

    model: what `model.source.find` takes. assays: directory of the CSV files. skip: rows that cannot be scored are
    left out instead of an error. share: (number, of): score every of-th assay from number on. average: without it,
    only score. decontaminated: directory of that stage of the model's run; assays are then also averaged by the
    identity of the train sequence nearest to the wild type. Raises UserError.
    """
    listed = read_reference(reference, assays)
    there = [assay for assay in listed if assay.file.is_file()]
    if not there:
        raise UserError(f"none of the {len(listed)} files of the reference", where=assays, fix="check --assays")
    files = {output / RESULT: lambda path: json_of(path, KEYS)}
    files |= {output / "assays" / f"{assay.name}.json": lambda path: json_of(path, ("assay", "job")) for assay in there}
    refuse_overwriting(files, [reference, *(assay.file for assay in there)])
    targets = {assay.name: assay.target for assay in there}
    near = {} if decontaminated is None else nearest_train(decontaminated, targets)
    found = find(model)
    facts = {"format": FORMAT, "model": found.identity(), "precision": config.precision, "skip": skip}
    jobs = {a.name: sha256_json(facts | {"file": sha256_file(a.file), "target": a.target}) for a in there}
    # the longest first, so that processes end together
    order = sorted(there, key=lambda assay: -assay.file.stat().st_size * len(assay.target))
    mine = [assay for assay in order[share[0] :: share[1]] if not _is_done(output, assay, jobs[assay.name])]
    engine = open_megatron(found.directory, config.precision, config.parallel) if mine else None
    with progress.meter("proteingym", total=len(mine), unit="assays") as done:
        for assay in mine:
            _score(engine, assay, output, jobs[assay.name], config, skip=skip)
            done.advance(1)
    if not average:
        return {}
    rows = []
    for assay in there:
        if not _is_done(output, assay, jobs[assay.name]):
            raise UserError(f"{assay.name} has no scores", where=output, fix="run the command again")
        rows.append(read_json(output / "assays" / f"{assay.name}.json") | near.get(assay.name, {}))
    result = {
        "stage": "proteingym",
        "model": found.hub or str(model),
        "precision": config.precision,
        "reference": len(listed),
        "missing": [assay.name for assay in listed if assay not in there],
        "assays": rows,
        **{
            kind: averages([row for row in rows if row["indels"] == indels], config.seed)
            for kind, indels in (("substitutions", False), ("indels", True))
        },
    }
    write_text(output / ASSAYS, _assay_table(rows))
    write_text(output / SUMMARY, _summary_table(result))
    write_json(output / RESULT, result)
    return result


def on_devices(words: Sequence[str], devices: int) -> None:
    """Run `unirefine evaluate proteingym` with these words in a process for each device, and wait for all.

    On GPUs each process sees its own, else they share the cores. Raises UserError when one fails; the others are ended.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    running: list[subprocess.Popen] = []
    try:
        for number in range(devices):
            environment = dict(os.environ)
            if platform.on_gpu():
                environment["CUDA_VISIBLE_DEVICES"] = visible[number] if len(visible) >= devices else str(number)
            else:
                environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // devices))
            command = [sys.executable, "-m", "unirefine.cli.main", *words, "--share", f"{number}/{devices}"]
            running.append(subprocess.Popen(command, env=environment))
        for number, process in enumerate(running):
            if code := process.wait():
                ended = f"signal {-code}" if code < 0 else f"status {code}"
                raise UserError(f"process {number} of {devices} ended with {ended}", fix="see its line above")
    finally:
        for process in running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait()


def _is_done(output: Path, assay: Assay, job: str) -> bool:
    path, scores = output / "assays" / f"{assay.name}.json", output / "scores" / f"{assay.name}.csv"
    if not json_of(path, ("assay", "job", "scores")) or not scores.is_file():
        return False
    found = read_json(path)
    return found["job"] == job and sha256_file(scores) == found["scores"]


def _score(engine: Any, assay: Assay, output: Path, job: str, config: Evaluate, *, skip: bool) -> None:
    """Score an assay and write its two files, the scores first."""
    found = read_assay(assay, skip=skip)
    variants = found.read.scored()
    if not variants:
        raise UserError("none of its variants can be scored", where=assay.file, fix="leave it out of the reference")
    scores = score_variants(engine, {assay.name: assay.target}, variants, batch_tokens=config.batch_tokens)
    rows = np.array([not isinstance(row, Unscored) for row in found.read.rows])
    path = output / "scores" / f"{assay.name}.csv"
    write_text(path, _score_table(found, rows, scores))
    judged = SCORE_OF[found.indels]
    result = {
        "assay": assay.name,
        "job": job,
        "scores": sha256_file(path),
        "uniprot": assay.uniprot,
        "selection": assay.selection,
        "msa_depth": assay.msa_depth,
        "taxon": assay.taxon,
        "indels": found.indels,
        "score": judged,
        "variants": len(variants),
        "unscored": int((~rows).sum()),
        "unmeasured": int(np.isnan(found.values[rows]).sum()),
        **_measures(found, rows, scores[judged]),
    }
    write_json(output / "assays" / f"{assay.name}.json", result)


def _measures(found: Measured, rows: np.ndarray, score: np.ndarray) -> dict[str, Any]:
    values = found.values[rows]
    known = ~np.isnan(values)
    values, score, depth = values[known], score[known], np.minimum(found.depth[rows][known], len(DEPTHS))
    positive = None if found.positive is None else found.positive[rows][known]
    if not len(values):
        return {"metrics": dict.fromkeys(METRICS), "depths": {}}
    cutoff = float(np.median(score))
    depths = {}
    for number, name in enumerate(DEPTHS, 1):
        at = depth == number
        if at.any() and not found.indels:
            depths[name] = measure(values[at], score[at], None if positive is None else positive[at], cutoff)
    return {"metrics": measure(values, score, positive, cutoff), "depths": depths}


def _score_table(found: Measured, rows: np.ndarray, scores: dict[str, np.ndarray]) -> str:
    header = ["mutant", MEASURED, *([BINARY] if found.positive is not None else []), *scores]
    number, lines = 0, []
    for row, (variant, scored) in enumerate(zip(found.read.rows, rows, strict=True)):
        if not scored:
            continue
        value = found.values[row]
        binary = [] if found.positive is None else [int(found.positive[row])]
        made = [f"{each[number]:.6f}" for each in scores.values()]
        lines.append([variant.name, "" if np.isnan(value) else repr(float(value)), *binary, *made])
        number += 1
    return _csv([header, *lines])


def _assay_table(rows: Iterable[dict[str, Any]]) -> str:
    rows = list(rows)
    near = any("nearest_train" in row for row in rows)
    header = ["DMS_id", *METRICS, "number_mutants", "Selection Type", "UniProt_ID", "MSA_Neff_L_category", "Taxon"]
    header += ["nearest_identity", "nearest_train"] * near
    cells = [
        [row["assay"], *(_text(row["metrics"][metric]) for metric in METRICS), row["variants"], row["selection"],
         row["uniprot"], row["msa_depth"], row["taxon"],
         *([_text(row["nearest_identity"]), row["nearest_train"] or ""] if near else [])]
        for row in rows
    ]  # fmt: skip
    return _csv([header, *cells])


def _summary_table(result: dict[str, Any]) -> str:
    lines: list[list[Any]] = [["kind", "axis", "group", *METRICS]]
    for kind in ("substitutions", "indels"):
        found = result[kind]
        lines.append([kind, "average", "", *(_text(found[metric]["average"]) for metric in METRICS)])
        for axis in ("selection", "msa_depth", "taxon", "mutation_depth", "nearest_train"):
            groups = dict.fromkeys(group for metric in METRICS for group in found[metric].get(axis, ()))
            lines += [[kind, axis, group, *(_text(found[m][axis].get(group)) for m in METRICS)] for group in groups]
    return _csv(lines)


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _csv(lines: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def lines(result: dict[str, Any]) -> list[str]:
    """The averages as lines of text."""
    count = len(result["assays"])
    shown = [f"{count:,} of the reference's {result['reference']:,} assays"]
    if result["missing"]:
        shown[0] += f"; {len(result['missing']):,} are missing, so this is not the benchmark's average"
    left = sum(row["unscored"] for row in result["assays"])
    if left:
        shown.append(f"{left:,} variants could not be scored and are left out")
    if unknown := sum(row.get("nearest_train", "") is None for row in result["assays"]):
        shown.append(f"{unknown:,} assays have a wild type that is not among the proteins of decontaminate.against")
    for kind in ("substitutions", "indels"):
        for metric, found in result[kind].items():
            if found["average"] is not None:
                interval = found["interval"]
                between = f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
                types = ", ".join(f"{name} {_text(value) or '-'}" for name, value in found["selection"].items())
                shown.append(f"{kind} {metric}: {found['average']:.3f}{between}; {types}")
                if by_identity := found.get("nearest_train"):
                    values = ", ".join(f"{name} {_text(value) or '-'}" for name, value in by_identity.items())
                    shown.append(f"{kind} {metric} by identity of the nearest train sequence: {values}")
    return shown
