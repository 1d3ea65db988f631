"""The stage: read a finished run and write its two cards."""

from pathlib import Path

from unirefine.cards.data import data_card
from unirefine.cards.model import model_card
from unirefine.files import lineage
from unirefine.files.atomic import read_json, write_text
from unirefine.files.stages import stage_path


def run(results: Path, output: Path) -> list[Path]:
    """Write `output/data/README.md` and `output/model/README.md`; returns the paths.

    The Hub shows such a file when it lies beside the shards or the weights. Raises UserError when a stage has not run.
    """
    audit = read_json(stage_path(results, "decontaminate") / "identity.json")
    evaluation = read_json(results / "evaluate" / "perplexity.json")
    manifest = read_json(stage_path(results, "shard") / "manifest.json")
    trained = read_json(results / "train" / "final" / "train.json")
    shards, model = lineage.read(stage_path(results, "shard")), lineage.read(results / "train" / "final")
    data, weights = output / "data" / "README.md", output / "model" / "README.md"
    write_text(data, data_card(results.name, shards, manifest, audit))
    write_text(weights, model_card(results.name, model, trained, evaluation, audit))
    return [data, weights]
