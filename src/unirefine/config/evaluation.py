"""Config of what follows training: evaluation, embedding and the report."""

from typing import Annotated, Literal

from pydantic import Field

from unirefine.config.base import Block
from unirefine.config.release import Count, Seed
from unirefine.config.training import Masking

# Default of `evaluate.tolerance` by `evaluate.precision`
TOLERANCES = {"fp32": 2e-3, "fp16": 2e-2, "bf16": 1e-1}

# Masked perplexity by preset in Lin et al. 2023
LIN_ET_AL = {"650M": 6.95, "3B": 6.49}


class Layout(Block):
    tensor: Count = 1
    """TP: tensor parallel size."""
    pipeline: Count = 1
    """PP: pipeline parallel size."""

    @property
    def processes(self) -> int:
        """Processes per copy of the model."""
        return self.tensor * self.pipeline


class Evaluate(Block):
    seed: Seed = 11
    """Seed of the fixed mask, which depends on (seed, sequence id, position) only."""
    masking: Masking = Masking()
    """How validation sequences are cropped and masked; by default as in ESM-2's training."""
    sequences: Count | None = None
    """Validation sequences to evaluate (the first of the shard, whose order is shuffled); `null`: all."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of both models. On GPUs fp32 is exact: without TF32."""
    batch_tokens: Annotated[int, Field(ge=16)] = 16384
    """Padded tokens per forward pass."""
    parallel: Layout = Layout()
    """Layout of Megatron-core's model over processes, for a model that does not fit one GPU (15B: `tensor: 8`)."""
    huggingface: bool = True
    """Also run transformers' EsmForMaskedLM, to compare; each process loads a complete copy of it."""
    tolerance: Annotated[float, Field(gt=0)] | None = None
    """Maximum difference between our perplexity and Hugging Face's; the stage fails above it. `null`: 0.002 in fp32,
    0.02 in fp16, 0.1 in bf16."""
    pseudo_perplexity: Annotated[int, Field(ge=0)] = 0
    """Validation sequences whose pseudo-perplexity is computed too: a forward pass per residue, so choose few."""
    published: dict[str, float] = Field(default_factory=lambda: dict(LIN_ET_AL))
    """Published perplexities to print beside ours, by preset or by name of the checkpoint. Lin et al. 2023 measured
    the defaults on their own validation set."""
    models: tuple[str, ...] = ()
    """Checkpoints for the target `model_card`: directories or ids of the Hugging Face Hub."""
    elsewhere: dict[str, float] = Field(default_factory=dict)
    """Perplexities that others measured of the same weights on the same validation set, by preset or by name of the
    checkpoint. Ours is judged beside them: see `elsewhere_tolerance`."""
    elsewhere_tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """By which fraction ours may differ from `elsewhere` and agree: crops and masks are other draws there."""


class Embed(Block):
    fasta: str | None = None
    """Your FASTA to embed; `null`: the first sequences of the validation shard."""
    allow_nucleotides: bool = False
    """Take a FASTA whose letters are nearly all A, C, G, T, U and N. Otherwise it is an error, as it holds genes and
    not proteins."""
    sequences: Count = 64
    """Number of validation sequences to embed when `fasta` is `null`."""
    engine: Literal["megatron", "huggingface"] = "megatron"
    """Which implementation runs the model; their vectors differ by at most 1e-4."""
    layer: int = -1
    """Layer whose output is taken (0: embeddings; -1: the last, after the final layer norm)."""
    cls: bool = False
    """Also write the vector of `<cls>`, as column `cls`."""
    per_residue: bool = True
    """Also write per-residue vectors."""
    arrays: bool = False
    """Also write the vectors as `sequences.npy` and `residues.npy`: float32 arrays with the rows of the Parquet files,
    which can be memory-mapped."""
    long_sequences: Literal["truncate", "windows"] = "truncate"
    """Above `max_residues`: embed only the first residues, or overlapping windows. A residue's vector is taken from the
    window in which it is farthest from an edge. Column `truncated` is true where residues were left out."""
    max_residues: Annotated[int, Field(ge=2)] = 1022
    """Maximum of residues in a forward pass; ESM-2 was trained on 1022."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the model; vectors are written as float32."""
    parallel: Layout = Layout()
    """Layout of Megatron-core's model over processes, for a model that does not fit one GPU (15B: `tensor: 8`)."""
    batch_tokens: Annotated[int, Field(ge=16)] | None = None
    """Padded tokens per forward pass. `null`: 16384 on a GPU; 4096 on a CPU, which is a sixth slower with more."""
    chunk_residues: Count = 65536
    """Residues per chunk. One chunk is in memory, and an interrupted job repeats at most one."""


class Report(Block):
    title: str = "unirefine"
    """Heading of the report."""
