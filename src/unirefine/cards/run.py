"""The stage: read a finished run and write its two cards."""

import shutil
from pathlib import Path

from unirefine.cards.data import data_card
from unirefine.cards.model import model_card
from unirefine.files import lineage, stages
from unirefine.files.atomic import read_json, write_text
from unirefine.files.stages import stage_path

MODEL_CARD = "model-card.md"


def run(results: Path) -> list[Path]:
    """Write `shard/README.md`, `train/model-card.md` and its copy in the exported model; returns the paths.

    The exported model's copy is the README.md that the Hub shows. Shards of another run keep that run's card. Raises
    UserError when a stage has not run.
    """
    audit = read_json(stage_path(results, "decontaminate") / "identity.json")
    evaluation = read_json(results / "evaluate" / "perplexity.json")
    manifest = read_json(stage_path(results, "shard") / "manifest.json")
    trained = read_json(results / "train" / "final" / "train.json")
    shards, model = lineage.read(stage_path(results, "shard")), lineage.read(results / "train" / "final")
    written = [results / "train" / MODEL_CARD]
    write_text(written[0], model_card(results.name, model, trained, evaluation, audit))
    if "shard" not in stages.shared_stages(results):
        written.insert(0, results / "shard" / "README.md")
        write_text(written[0], data_card(results.name, shards, manifest, audit))
    exported = results / "train" / "final" / "huggingface" / "README.md"
    shutil.copyfile(written[-1], exported)
    return [*written, exported]
