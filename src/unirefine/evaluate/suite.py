"""One table for any models: perplexity, contacts, variants, frozen probes, speed and memory; what has data."""

import ctypes
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unirefine.megatron import platform

import numpy as np
import torch

from unirefine.config import Evaluate
from unirefine.core.alphabet import decode
from unirefine.dataset import open_shards
from unirefine.errors import UserError
from unirefine.evaluate import probes as tasks
from unirefine.evaluate import statistics
from unirefine.evaluate.contacts import LONGEST, fitted_on, mean_precisions, predict_contacts, sequence_digest
from unirefine.evaluate.contacts import precisions as precisions_of
from unirefine.evaluate.correlation import correlations, without_model
from unirefine.evaluate.known import Known, known_of_files
from unirefine.evaluate.masked import MaskedSide
from unirefine.evaluate.mutants import load_proteins, read_variants
from unirefine.evaluate.score import score
from unirefine.evaluate.suite_page import MARK, markdown, page
from unirefine.evaluate.variants import score_variants
from unirefine.files.atomic import write_json, write_text
from unirefine.files.code import versions
from unirefine.files.outputs import json_of, refuse_overwriting
from unirefine.model.inference import HuggingfaceEngine, load_esm_for_masked_lm
from unirefine.model.loaded import is_esm2, open_any
from unirefine.model.source import find, has_contact_head

RESULT = "suite.json"
KEYS = ("suite", "models")
NO_MODEL = "no model"
TIMED = 64
"""Proteins whose vectors are timed."""
PASSES = 3
"""The fastest counts: other work on the machine only makes a pass slower."""


def run(
    models: Sequence[str],
    output: Path,
    config: Evaluate,
    *,
    shards: Path | None = None,
    contacts: Sequence[Path] = (),
    fasta: Path | None = None,
    variants: Path | None = None,
    wild_types: Path | None = None,
    probes: Sequence[str] = (),
    split: str | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """Write `output/suite.json`, `suite.md` and `suite.html`; return the first. docs/evaluation.md describes it.

    models: `NAME=PATH` or a path each, of what `model.loaded.open_any` takes. shards: for the perplexity. contacts and
    fasta: see `contacts.run`. variants, wild_types: an assay as `evaluate variants` reads it. probes: `TABLE:COLUMN`
    each; split: its column of train and test. Raises UserError, before a model is opened, for a mistake in the data.
    """
    named = name_models(models)
    files = {output / RESULT: lambda path: json_of(path, KEYS)}
    files |= dict.fromkeys((output / "suite.md", output / "suite.html"), lambda path: MARK in path.read_text("utf-8"))
    given = [path for path in (*contacts, fasta, variants, wild_types) if path is not None]
    refuse_overwriting(files, [*given, *(Path(probe.rpartition(":")[0]) for probe in probes)])
    if (variants is None) != (wild_types is None):
        raise UserError("--variants and --wild-types belong together", fix="give both")
    if shards is None and not contacts and variants is None and not probes:
        raise UserError("nothing to judge by", fix="give --shards, --contacts, --variants or --probe")
    side = None if shards is None else MaskedSide(open_shards(shards).validation, config)
    proteins = load_proteins(wild_types) if wild_types is not None else {}
    read = None if variants is None else read_variants(variants, proteins)
    known = known_of_files(contacts, load_proteins(fasta) if fasta else {}) if contacts else []
    for protein in known:
        if len(protein.sequence) > LONGEST:
            raise UserError(f"{protein.name} has more than {LONGEST:,} residues", fix="leave it out")
    asked = [tasks.read_probe(text, split, output, threads=threads) for text in probes]
    timed = _timed(side, asked, proteins, known)
    rows: list[dict[str, Any]] = []
    losses: dict[str, np.ndarray] = {}
    positions = None if side is None else side.positions()
    for name, path in named.items():
        _reset_peak()
        engine = open_any(path, config.precision)
        row: dict[str, Any] = {"model": name, "path": str(path), **_facts(path, engine), **_speed(engine, timed)}
        if side is not None and positions is not None:
            losses[name] = score(engine, side, positions, config.batch_tokens)[0]
        if read is not None:
            found = score_variants(engine, proteins, read.scored(), batch_tokens=config.batch_tokens)
            row["variants"] = _correlated(found, read.scored())
        row["probes"] = {
            task.name: tasks.judge(task, tasks.vectors(engine, task.sequences, config.batch_tokens)) for task in asked
        }
        del engine  # free it before the next is loaded
        row["contacts"] = _contacts(path, known) if known else None
        rows.append(row)
    if side is not None and positions is not None:
        hidden = positions.kinds()["hidden"]
        sums = _by_cluster(side, positions.sequence[hidden], {name: nll[hidden] for name, nll in losses.items()})
        found = statistics.bootstrap(sums, seed=config.seed, reference=next(iter(named)))
        for row in rows:
            row["perplexity"] = found[row["model"]]
    result = {
        "suite": 1,
        "precision": config.precision,
        "device": str(platform.device()),
        "data": {
            "perplexity": None if side is None else {"shards": str(shards), "sequences": side.sequences},
            "contacts": [protein.name for protein in known],
            "variants": None if read is None else {"file": str(variants), "variants": len(read.scored())},
            "probes": [
                {"name": task.name, "measure": task.measure, "split": task.split, "train": int((~task.test).sum()),
                 "test": int(task.test.sum())}
                for task in asked
            ],
            "timed": {"proteins": len(timed), "residues": sum(map(len, timed))},
        },
        "models": rows,
        "without_model": _without_model(known, read, asked),
        "versions": versions("torch", "transformers"),
    }  # fmt: skip
    write_json(output / RESULT, result)
    write_text(output / "suite.md", markdown(result))
    write_text(output / "suite.html", page(result))
    return result


def name_models(models: Sequence[str]) -> dict[str, str]:
    """The path of each model by its name. Raises UserError for a name that is there twice."""
    found: dict[str, str] = {}
    for text in models:
        name, equals, path = text.partition("=")
        name, path = (name, path) if equals and name and path else (text, text)
        if name in found:
            raise UserError(f"two models named {name}", fix="give each a name: --model NAME=PATH")
        found[name] = path
    return found


def _timed(side: MaskedSide | None, asked: Sequence[tasks.Probe], proteins: dict[str, str], known: list[Known]) -> list:
    """The proteins whose vectors are timed: of the first data that there is."""
    if side is not None:
        found = [decode(side.side.tokens(i)) for i in range(min(TIMED, side.sequences))]
    elif asked:
        found = list(asked[0].sequences[:TIMED])
    else:
        found = list(proteins.values())[:TIMED] or [protein.sequence for protein in known][:TIMED]
    return [sequence[:LONGEST] for sequence in found]


def _speed(engine: HuggingfaceEngine, sequences: Sequence[str]) -> dict[str, Any]:
    """Residues a second (on a CPU: of processor time), fastest and slowest pass; peak of memory since `_reset_peak`."""
    tasks.vectors(engine, sequences[:2], 4096)  # the first pass also plans
    taken = []
    # on a CPU processor time, which other work on the machine matters less to
    clock, tokens = (time.monotonic, 16384) if platform.on_gpu() else (time.process_time, 4096)
    for _ in range(PASSES):
        begun = clock()
        tasks.vectors(engine, sequences, tokens)
        taken.append(clock() - begun)
    rates = [sum(map(len, sequences)) / each for each in taken]
    return {"residues_per_second": max(rates), "slowest_pass": min(rates), "peak_bytes": _peak()}


def _reset_peak() -> None:
    """Begin to measure the peak of memory anew: on a GPU torch's, else that of the process, where Linux lets us."""
    if platform.on_gpu():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return


def _peak() -> int:
    if platform.on_gpu():
        return torch.cuda.max_memory_allocated()
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _facts(path: str, engine: HuggingfaceEngine) -> dict[str, Any]:
    parameters = sum(each.numel() for each in engine.model.parameters())
    return {"hub": find(path).hub, "parameters": parameters, "layers": engine.layers, "hidden": engine.hidden}


def _by_cluster(side: MaskedSide, sequence: np.ndarray, nll: dict[str, np.ndarray]) -> dict[str, statistics.Sums]:
    offsets = side.side.document_offsets
    cluster = np.searchsorted(offsets, np.arange(side.sequences), side="right") - 1
    return {
        name: statistics.sum_by(cluster[sequence], values, int(cluster.max()) + 1) for name, values in nll.items()
    }  # fmt: skip


def _correlated(scores: dict[str, np.ndarray], variants: Sequence[Any]) -> dict[str, Any]:
    measured = np.array([np.nan if one.measured is None else one.measured for one in variants])
    return correlations(scores, measured)


def _contacts(path: str, known: list[Known]) -> dict[str, Any] | None:
    """Mean precisions; None for a model without a contact head."""
    directory = find(path).huggingface
    if (directory is not None and not is_esm2(directory)) or not has_contact_head(path):
        return None
    model = load_esm_for_masked_lm(Path(path), attention="eager")
    rows = [precisions_of(predict_contacts(model, one.sequence), one.contacts) for one in known]
    fitted = fitted_on(Path(path))
    seen = [one.name for one in known if sequence_digest(one.sequence) in fitted]
    return {"precision": mean_precisions(rows), "fitted_on": seen}


def _without_model(known: list[Known], read: Any, asked: Sequence[tasks.Probe]) -> dict[str, Any]:
    """The same measures of what knows no model: pairs nearest in the sequence, BLOSUM62, composition."""
    found: dict[str, Any] = {"contacts": None, "variants": None}
    if known:
        places = [np.arange(len(one.sequence)) for one in known]
        rows = [precisions_of(-np.abs(at[:, None] - at), one.contacts) for at, one in zip(places, known, strict=True)]
        found["contacts"] = {"precision": mean_precisions(rows), "fitted_on": []}
    if read is not None:
        found["variants"] = _correlated(without_model(read.scored()), read.scored())
    found["probes"] = {task.name: tasks.judge(task, tasks.composition(task.sequences)) for task in asked}
    return found
