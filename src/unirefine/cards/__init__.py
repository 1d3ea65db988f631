"""A data card beside the shards and a model card beside the model, in the Hugging Face Hub's format."""

from unirefine.cards.run import write_cards

__all__ = ["write_cards"]
