"""Config of fine-tuning: `unirefine finetune`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from unirefine.config.base import Block
from unirefine.config.release import Count, Fraction, Seed

TASKS = ("regression", "binary", "multiclass", "multilabel", "residue")
LEARNING_RATES = {"frozen": 1e-3, "lora": 5e-4, "full": 5e-5}


class Finetune(Block):
    task: Literal["auto", "regression", "binary", "multiclass", "multilabel", "residue"] = "auto"
    """What the labels are. `auto` finds it from them and says it; anything else is meant for every target."""
    mode: Literal["frozen", "lora", "full"] = "lora"
    """What is trained beside the head: nothing (`frozen`), low-rank adapters (`lora`), or every weight (`full`)."""
    split_by: str = "homology"
    """`homology` keeps similar sequences on one side, `random` does not, `modulo` and `contiguous` are folds of
    positions for variants of one protein, anything else is a column of the table: with the words train, validation and
    test, or with the number or name of a fold. `random` trains a second time, on a split by homology, or on `modulo`
    where all are variants of one protein, and reports both. `modulo` and `contiguous` are ProteinGym's: position modulo
    the number of folds, or stretches with equally many changed positions."""
    identity: Annotated[float, Field(ge=0.2, lt=1)] = 0.3
    """Sequences with an alignment of this identity or more are on one side of a split by homology."""
    coverage: Fraction = 0.8
    """Part of both sequences that such an alignment must cover."""
    folds: Annotated[int, Field(ge=1, le=20)] = 1
    """1: one split; with `modulo` and `contiguous` 5 folds. More: so many folds, each of which is the test side once; a
    model of each is kept."""
    validation: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    """Part of the sequences that decides when to stop."""
    test: Annotated[float, Field(gt=0, lt=0.5)] = 0.2
    """Part of the sequences on which models are judged. Not with folds."""
    seed: Seed = 0
    """Seed of split, head, order and resamples."""
    epochs: Count = 20
    """Most passes over the train side."""
    patience: Count = 3
    """Training stops after so many epochs without a lower validation loss; the best epoch is kept."""
    batch: Count = 16
    """Sequences per optimizer step, over all processes."""
    batch_tokens: Annotated[int, Field(ge=16)] = 16384
    """Padded tokens per forward pass and process; a larger step is done in parts."""
    max_residues: Annotated[int, Field(ge=2)] = 1022
    """Longer sequences are cut to their first residues."""
    lr: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate; `null`: 1e-3 for `frozen`, 5e-4 for `lora`, 5e-5 for `full`."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Part of all steps in which the learning rate rises; then it falls to 0, both linearly."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decoupled weight decay of AdamW."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Maximum of the gradient norm; larger ones are clipped to it."""
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced`: a class weighs in the loss as the inverse of its frequency among the train labels."""
    rank: Count = 8
    """Rank of the adapters (`mode: lora`)."""
    alpha: Annotated[float, Field(gt=0)] = 16.0
    """Scale of the adapters (`mode: lora`)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout of the adapters (`mode: lora`)."""
    adapted: Annotated[tuple[str, ...], Field(min_length=1)] = ("query", "key", "value")
    """Modules that get adapters (`mode: lora`), by the end of their names."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of forward and backward passes; weights and optimizer state are fp32."""
    checkpoint_every: Count = 200
    """Steps between states from which a killed training goes on; there is one after each epoch too."""

    @model_validator(mode="after")
    def _possible(self) -> "Finetune":
        if self.folds == 2:
            raise ValueError("finetune.folds 2 leaves nothing to train on: one fold tests, one validates; at least 3")
        if self.validation + self.test > 0.8:
            raise ValueError("finetune.validation and finetune.test leave less than a fifth to train on")
        return self

    @property
    def peak(self) -> float:
        """Peak learning rate."""
        return LEARNING_RATES[self.mode] if self.lr is None else self.lr
