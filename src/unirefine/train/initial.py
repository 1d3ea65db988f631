"""The model that a training starts from."""

from unirefine.config import Train
from unirefine.config.initial import contradiction
from unirefine.errors import UserError
from unirefine.model.source import Source, find


def find_initial(config: Train) -> Source | None:
    """The model of `train.init`; None for random weights.

    Raises UserError when there is none, and when its sizes are not those of `train.model`.
    """
    if config.init is None:
        return None
    source = find(config.init)
    sizes = source.model().sizes
    if sizes != config.model.sizes:
        raise UserError(contradiction(config.model.sizes, sizes), where=config.init)
    return source
