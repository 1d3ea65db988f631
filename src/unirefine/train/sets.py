"""The further validation sets of a training: `train.validation`."""

from pathlib import Path

from unirefine.config import Train
from unirefine.dataset import Shards, open_shards
from unirefine.errors import UserError
from unirefine.files.stages import shards_of


def open_sets(config: Train) -> dict[str, Shards]:
    """The shards of `train.validation` by name. Raises UserError, which names the option, for what is none."""
    found = {}
    for name, given in config.validation.items():
        try:
            found[name] = open_shards(shards_of(Path(given)))
        except UserError as error:
            raise UserError(f"train.validation.{name}: {error.what}", where=error.where, fix=error.fix) from None
    return found
