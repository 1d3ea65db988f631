"""Run the stage: masked perplexity of one or more checkpoints, baselines, parity, intervals and breakdowns."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unirefine.megatron import platform

import numpy as np

from unirefine import progress
from unirefine.config import Evaluate, Train
from unirefine.config.evaluation import TOLERANCES
from unirefine.config.training import Masking
from unirefine.dataset import Shards, Side, open_shards
from unirefine.dataset.manifest import REBUILD
from unirefine.dataset.verify import CHANGED, changed_files
from unirefine.errors import UserError
from unirefine.evaluate import composition, continued, ngram, statistics
from unirefine.evaluate.benchmarks import Proteins, open_proteins, rows
from unirefine.evaluate.breakdowns import PROTEINS, breakdowns, is_proteins, write_proteins
from unirefine.evaluate.context import Context, load_context
from unirefine.evaluate.elsewhere import judge, values_of
from unirefine.evaluate.masked import MaskedSide, Positions
from unirefine.evaluate.score import pseudo_nll, score
from unirefine.files.atomic import read_json, write_json
from unirefine.files.code import versions
from unirefine.files.outputs import json_of, refuse_overwriting
from unirefine.model.inference import not_finite, open_huggingface, open_megatron
from unirefine.model.source import find

OURS, THEIRS = "ours", "huggingface"


@dataclass(frozen=True)
class Scored:
    """Losses of one model at every masked position."""

    key: str
    """`ours`, `huggingface`, `unigram`, ...; with several checkpoints, after the checkpoint's name."""
    label: str
    nll: np.ndarray
    """float64[n], in nats."""
    seconds: float


def run(
    shards: Path,
    models: list[Path],
    output: Path,
    config: Evaluate,
    *,
    clusters: Path | None = None,
    decontaminated: Path | None = None,
    before: Path | None = None,
    sets: Mapping[str, Path] | None = None,
) -> dict[str, Any]:
    """Write `output/perplexity.json` and return its content; docs/evaluation.md describes it. Beside it goes
    `proteins.parquet`, the sums of each protein.

    models: what `model.source.find` takes. clusters: directory of the cluster stage, for cluster
    sizes. decontaminated: directory of the decontaminate stage, for identities. before: the model that the first one
    was continued from. sets: further validation sets by name, to measure both on. Raises UserError, and writes nothing,
    when the shards are not what was written, and when our perplexity of a checkpoint and Hugging Face's differ by more
    than the tolerance.
    """
    names = name_models(models)
    elsewhere = values_of({name: directory for directory, name in names.items()}, config)
    ours = {output / "perplexity.json": lambda path: json_of(path, ("table", "parity")), output / PROTEINS: is_proteins}
    refuse_overwriting(ours, [])
    opened = open_shards(shards)
    if changed := changed_files(shards, platform.rank(), platform.world_size()):
        raise UserError(CHANGED, where=changed[0], fix=REBUILD)
    side = MaskedSide(opened.validation, config)
    positions = side.positions()
    if not len(positions.target):
        raise UserError(
            "no residue of the validation shard is masked",
            where=shards,
            fix="evaluate more sequences, or set another seed",
        )
    context = load_context(opened.validation, side.sequences, clusters, decontaminated)
    further = continued.open_sets(sets or {}, config)
    scored, parity, pseudo = [], [], []
    others: dict[str, np.ndarray] = {}  # of the benchmarks' proteins, by model
    with open_proteins(decontaminated, config) as proteins:
        for directory, name in names.items():
            prefix = f"{name} " if len(models) > 1 else ""
            found = _score_model(directory, prefix, side, positions, config, proteins, others)
            parity.append(_parity(directory, name, found, positions, opened.validation, config))
            scored += found
            if config.pseudo_perplexity:
                pseudo.append(_pseudo(directory, name, opened.validation, side.sequences, config))
        of_benchmarks = rows(proteins, others, config.seed) if proteins else []
    fitted = fit_baselines(opened) if "train" in opened.sides else None
    baselines = fitted.score(positions, config.masking.max_tokens - 2) if fitted else []
    beside = {}
    if before is not None or further:
        own = continued.Measured(shards, side, positions)
        found = continued.compare(before, models[0], own, scored[0].nll, further, config)
        beside = {"continued": found}
    kinds = positions.kinds()
    nll = {model.key: model.nll for model in scored + baselines}
    result = {
        "stage": "evaluate",
        "seed": config.seed,
        "masking": config.masking.model_dump(mode="json"),
        "precision": config.precision,
        "sequences": side.sequences,
        "of_sequences": opened.validation.sequences,
        "clusters": int(context.cluster.max()) + 1,
        "masked": len(positions.target),
        **{kind: int(where.sum()) for kind, where in kinds.items()},
        "table": _table(scored, baselines, positions, context, config),
        "parity": parity,
        "elsewhere": judge(parity, elsewhere, config.elsewhere_tolerance),
        "pseudo_perplexity": pseudo,
        "breakdowns": breakdowns(nll, positions, context, opened.validation, config.seed),
        "benchmarks": of_benchmarks,
        **beside,
        "training_validation": _of_training(models[0], opened.validation, fitted) if fitted else None,
        "models": [_facts(directory, name) for directory, name in names.items()],
        "shards": {key: value for key, value in opened.manifest.items() if key not in ("files", "alphabet")},
        "versions": versions("torch", "transformers", "megatron-core"),
    }
    if platform.rank() == 0:
        write_proteins(output / PROTEINS, nll, positions, context, opened.validation, config.seed)
        write_json(output / "perplexity.json", result)
    return result


def name_models(models: list[Path]) -> dict[Path, str]:
    """A name for each model: `<run>` for `results/<run>/train/final` and what is in it, else the directory's name.

    Models of the same name get as much of the path before it as makes them different. Raises UserError for a directory
    that is given twice.
    """
    within = ("train", "final", "huggingface", "megatron", "checkpoints")
    parts = [[part for part in path.resolve().parts if part not in within] for path in models]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(models):
            return dict(zip(models, names, strict=True))
    raise UserError("the same model twice", where=", ".join(map(str, models)), fix="give each directory once")


def _score_model(
    directory: Path,
    prefix: str,
    side: MaskedSide,
    positions: Positions,
    config: Evaluate,
    proteins: Proteins | None,
    others: dict[str, np.ndarray],
) -> list[Scored]:
    """Score one checkpoint with our engine and then, with `config.huggingface`, with transformers.

    proteins: of benchmarks; `others` gets their losses, float64[masked] by model.
    """
    openers = {OURS: lambda: open_megatron(directory, config.precision, config.parallel)}
    if config.huggingface:
        openers[THEIRS] = lambda: open_huggingface(directory, config.precision)
    found = []
    for key, opener in openers.items():
        engine = opener()
        nll, seconds = score(engine, side, positions, config.batch_tokens)
        found.append(Scored(f"{prefix}{key}", f"{prefix}ESM-2 ({engine.name})", nll, seconds))
        if proteins:
            others[f"{prefix}{key}"] = score(engine, proteins.side, proteins.positions, config.batch_tokens)[0]
        del engine  # free it before the next is loaded
    return found


def _parity(
    directory: Path, model: str, scored: list[Scored], positions: Positions, side: Side, config: Evaluate
) -> dict[str, Any]:
    """The model card's row. Raises UserError when the two engines differ by more than the tolerance."""
    ours = scored[0]
    here = float(np.exp(ours.nll.mean()))
    row: dict[str, Any] = {
        "model": model,
        "huggingface": None,
        "ours": here,
        "published": _published(directory, model, config.published),
        "difference": None,
    }
    if len(scored) == 1:
        return row
    theirs = scored[1]
    there = float(np.exp(theirs.nll.mean()))
    per_position = np.abs(ours.nll - theirs.nll)
    worst = int(per_position.argmax())
    name, _cluster = side.ids(int(positions.sequence[worst]))
    residue = int(positions.residue[worst]) + 1
    tolerance = config.tolerance or TOLERANCES[config.precision]
    if not abs(here - there) <= tolerance:  # also fails for NaN
        raise UserError(
            f"perplexity is {here:.5f} by Megatron-core and {there:.5f} by Hugging Face: the difference is above the "
            f"tolerance {tolerance:g}; largest at residue {residue} of {name}",
            where=directory,
            fix="the checkpoint's two layouts hold different weights, or evaluate.precision is too low",
        )
    return row | {
        "huggingface": there,
        "difference": here - there,
        "relative_difference": here / there - 1,
        "tolerance": tolerance,
        "largest_nll_difference": {"nats": float(per_position[worst]), "id": name, "residue": residue},
    }


def _published(directory: Path, name: str, published: dict[str, float]) -> float | None:
    """The published perplexity of a checkpoint: by its name, else by its size; None without one."""
    return published.get(name, published.get(find(directory).model().preset or ""))


@dataclass(frozen=True)
class Baselines:
    """The baselines, fitted on the train shards."""

    shards: Shards
    fitted: ngram.Baselines
    seconds: float

    def score(self, positions: Positions, longest: int) -> list[Scored]:
        """Their losses at positions. longest: residues of a window, for which composition is fitted."""
        begun = time.monotonic()
        train, unigram = self.shards.train, self.fitted.unigram
        weight = composition.fit_weight(train.tables, train.documents, unigram, longest)
        triples = (positions.left, positions.target, positions.right)
        found = {name: self.fitted.nll(name, *triples) for name in ngram.BASELINES}
        found["composition"] = composition.nll(unigram, weight, positions.target, positions.alike, positions.seen)
        seconds = self.seconds + time.monotonic() - begun
        labels = {"composition": "composition", **ngram.BASELINES}
        return [Scored(name, label, found[name], seconds) for name, label in labels.items()]


def fit_baselines(shards: Shards) -> Baselines:
    """Count residues, pairs and triples of the train shards."""
    begun = time.monotonic()
    counts = np.zeros((ngram.V,) * 3)
    train = shards.train
    with progress.meter("evaluate baselines", total=train.documents, unit="clusters") as done:
        for first in range(0, train.documents, ngram.BLOCK):
            end = min(first + ngram.BLOCK, train.documents)
            ngram.count_triples(train.tables, first, end, counts)
            done.advance(end - first)
    return Baselines(shards, ngram.fit(counts), time.monotonic() - begun)


def _of_training(directory: Path, side: Side, fitted: Baselines) -> dict[str, Any] | None:
    """The baselines where the model's own training validated: at its sequences, windows and masks.

    Returns `{sequences, hidden, losses: {baseline: nats per hidden residue}}`; None for a model without train.json.
    """
    path = find(directory).directory / "train.json"
    if not path.is_file():
        return None
    trained = Train.model_validate(read_json(path)["config"])
    masking = {name: getattr(trained.sampling, name) for name in Masking.model_fields}
    asked = Evaluate(seed=trained.sampling.seed, sequences=trained.validate_sequences, masking=Masking(**masking))
    masked = MaskedSide(side, asked)
    positions = masked.positions()
    hidden = positions.kinds()["hidden"]
    if not hidden.any():
        return None
    losses = {one.key: float(one.nll[hidden].mean()) for one in fitted.score(positions, masking["max_tokens"] - 2)}
    return {"sequences": masked.sequences, "hidden": int(hidden.sum()), "losses": losses}


def _table(
    scored: list[Scored], baselines: list[Scored], positions: Positions, context: Context, config: Evaluate
) -> list[dict[str, Any]]:
    """A row per model and baseline, as in perplexity.json.

    A baseline does not use what stands at the position itself, and a model does. So baselines and ratios are there only
    where it is hidden.
    """
    groups = int(context.cluster.max()) + 1
    group = context.cluster[positions.sequence]

    def measure(models: list[Scored], where: np.ndarray, reference: str | None = None) -> dict[str, dict[str, Any]]:
        sums = {model.key: statistics.sum_by(group[where], model.nll[where], groups) for model in models}
        return statistics.bootstrap(sums, seed=config.seed, reference=reference)

    everything = measure(scored, np.ones(len(group), bool))
    kinds = positions.kinds()
    parts = {kind: measure(scored, where) for kind, where in kinds.items() if kind != "hidden"}
    hidden = measure(scored + baselines, kinds["hidden"], scored[0].key)
    rows: list[dict[str, Any]] = []
    for model in scored + baselines:
        row: dict[str, Any] = {"key": model.key, "model": model.label, "seconds": round(model.seconds, 1)}
        if model.key in everything:
            measured = everything[model.key]
            row |= {"perplexity": measured["perplexity"], "interval": measured["interval"]}
            row["masked"] = measured["residues"]
        row["hidden"] = hidden[model.key]
        row |= {kind: found[model.key] for kind, found in parts.items() if model.key in found}
        rows.append(row)
    return rows


def _pseudo(directory: Path, name: str, side: Side, sequences: int, config: Evaluate) -> dict[str, Any]:
    crop = config.masking.max_tokens - 2
    chosen = [np.asarray(side.tokens(i)[:crop]) for i in range(min(config.pseudo_perplexity, sequences))]
    begun = time.monotonic()
    nll = pseudo_nll(open_megatron(directory, config.precision, config.parallel), chosen, config.batch_tokens)
    joined = np.concatenate(nll)
    for number, values in enumerate(nll):
        if not np.isfinite(values).all():
            raise not_finite(side.ids(number)[0])
    owner = np.repeat(np.arange(len(nll)), [len(values) for values in nll])
    sums = statistics.sum_by(owner, joined, len(nll))
    return {
        "model": name,
        "sequences": len(chosen),
        **statistics.bootstrap({name: sums}, seed=config.seed)[name],
        "mean_of_sequences": float(np.mean([np.exp(values.mean()) for values in nll if len(values)])),
        "seconds": round(time.monotonic() - begun, 1),
    }


def _facts(directory: Path, name: str) -> dict[str, Any]:
    """Steps, samples, tokens, parameters and identity from `train.json`, for a model that has one."""
    path = find(directory).directory / "train.json"
    facts = read_json(path) if path.is_file() else {}
    known = {key: facts[key] for key in ("step", "samples", "tokens", "parameters", "identity") if key in facts}
    return {"model": name, **known}
