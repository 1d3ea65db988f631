"""Config of training."""

import contextlib
import math
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from unirefine.config.base import Block
from unirefine.config.initial import contradiction, initial_sizes
from unirefine.config.release import Count, Fraction, Seed

# layers, hidden size, attention heads: Lin et al. 2023, table S1; FFN = 4 x hidden
PRESETS: dict[str, tuple[int, int, int]] = {
    "8M": (6, 320, 20),
    "35M": (12, 480, 20),
    "150M": (30, 640, 20),
    "650M": (33, 1280, 20),
    "3B": (36, 2560, 40),
    "15B": (48, 5120, 40),
}

# Rows and columns of a quantised matrix must be multiples of this: cuBLAS's tiles, the blocks of MXFP8, the 128 x 128
# tiles of blockwise scaling, the alignment of NVFP4's kernels
FP8_BLOCK = {"delayed": 16, "current": 16, "mxfp8": 32, "blockwise": 128, "nvfp4": 128}

# Options that `train.epochs` chooses, beside those of the optimizer
CHOSEN = ("steps", "global_batch", "validate_every", "checkpoint_every")

SetName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,31}$")]


def _nearest_multiples(value: int, step: int) -> list[int]:
    """The multiples of `step` below and above `value`, without 0."""
    below = value // step * step
    return [multiple for multiple in (below, below + step) if multiple]


class Model(Block):
    preset: Literal["8M", "35M", "150M", "650M", "3B", "15B"] | None = "650M"
    """An ESM-2 of Lin et al. 2023; with `null`, the three sizes below."""
    layers: Count | None = None
    """Transformer layers (with `preset: null`)."""
    hidden: Count | None = None
    """Hidden size (with `preset: null`); the feed-forward size is 4 times it."""
    heads: Count | None = None
    """Attention heads (with `preset: null`)."""

    @model_validator(mode="after")
    def _complete(self) -> "Model":
        sizes = (self.layers, self.hidden, self.heads)
        if self.preset is not None and any(size is not None for size in sizes):
            raise ValueError("model.preset and free sizes exclude each other; set model.preset: null to give sizes")
        if self.preset is None and any(size is None for size in sizes):
            raise ValueError("model.preset is null, so model.layers, model.hidden and model.heads must be given")
        _layers, hidden, heads = self.sizes
        if hidden % heads or (hidden // heads) % 2:
            raise ValueError(f"model.hidden ({hidden}) over model.heads ({heads}) must be a whole even number (RoPE)")
        return self

    @property
    def sizes(self) -> tuple[int, int, int]:
        """(layers, hidden, heads)."""
        if self.preset is not None:
            return PRESETS[self.preset]
        return self.layers, self.hidden, self.heads  # type: ignore[return-value]


class Masking(Block):
    max_tokens: Annotated[int, Field(ge=4)] = 1024
    """Longest sample in tokens, `<cls>` and `<eos>` included (1024: 1022 residues)."""
    mask_fraction: Fraction = 0.15
    """Probability that a residue is chosen."""
    mask_token_fraction: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Fraction of the chosen that is replaced by `<mask>`."""
    random_token_fraction: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Fraction of the chosen that is replaced by a random token. The rest stays as it is."""
    random_tokens: Literal["vocabulary", "amino_acids"] = "vocabulary"
    """Random tokens are any of the 33 (as in Hugging Face's collator) or of the 20 amino acids."""

    @model_validator(mode="after")
    def _fractions(self) -> "Masking":
        if self.mask_token_fraction + self.random_token_fraction > 1 + 1e-9:
            raise ValueError(
                f"mask_token_fraction {self.mask_token_fraction} + random_token_fraction {self.random_token_fraction} "
                "is more than 1"
            )
        return self


class Sampling(Masking):
    seed: Seed = 1
    """Seed of clusters, members, crops and masks: sample g depends on (seed, g) only."""


class Parallel(Block):
    nodes: Count = 1
    """Nodes of the training job."""
    processes_per_node: Count = 8
    """Processes (GPUs) per node."""
    tensor: Count = 1
    """TP: tensor parallel size."""
    pipeline: Count = 1
    """PP: pipeline parallel size."""
    context: Count = 1
    """CP: context parallel size."""
    sequence: bool = False
    """SP: sequence parallelism within the tensor-parallel group."""
    distributed_optimizer: bool = True
    """Shard the optimizer state over the data-parallel group."""

    @model_validator(mode="after")
    def _divisible(self) -> "Parallel":
        group = self.tensor * self.pipeline * self.context
        if self.world % group:
            raise ValueError(
                f"parallel: {self.world} processes (nodes x processes_per_node) do not divide into models of {group}"
                f" processes: not a multiple of tensor x pipeline x context = {group}; nearest:"
                f" {_nearest_multiples(self.world, group)} processes"
            )
        return self

    @property
    def world(self) -> int:
        """Number of processes."""
        return self.nodes * self.processes_per_node

    @property
    def data(self) -> int:
        """DP: data parallel size."""
        return self.world // (self.tensor * self.pipeline * self.context)


class Optimizer(Block):
    lr: Annotated[float, Field(gt=0)] | None = 4e-4
    """Peak learning rate (15B: 1.6e-4); `null` with `train.epochs`: 4e-4, and 1e-4 from `train.init`."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.98)
    """Adam's betas."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Adam's epsilon."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decoupled weight decay (15B: 0.1); not applied to biases and layer norms."""
    warmup_steps: Annotated[int, Field(ge=0)] | None = 2000
    """Linear warm-up (20,000 for 3B and 15B in bf16). It ends before the decay does, or the training is refused.
    `null` with `train.epochs`: a tenth of the steps, at most 2,000."""
    decay_fraction: Annotated[float, Field(gt=0, le=1)] = 0.9
    """The learning rate falls linearly until this fraction of `train.steps`, warm-up included."""
    min_lr_fraction: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Learning rate after the decay, as a fraction of the peak."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Maximum of the gradient norm; larger ones are clipped to it."""


class Train(Block):
    model: Model = Model()
    """The ESM-2 to train."""
    sampling: Sampling = Sampling()
    """Which samples are drawn, and how they are masked."""
    parallel: Parallel = Parallel()
    """Layout over processes."""
    optimizer: Optimizer = Optimizer()
    """Adam and its schedule; the defaults are the published recipe."""
    seed: Seed = 0
    """Seed of the initial weights."""
    steps: Count | None = 500_000
    """Optimizer steps."""
    epochs: float | Literal["auto"] | None = Field(None, exclude_if=lambda epochs: epochs is None)
    """Instead of `steps`: samples per train cluster. `auto`: 50 (at most 10M samples, at least 1 epoch), from `init` 20
    (at most 1M samples). What the config leaves out, or sets to `null`, of `steps`, `global_batch`, `validate_every`,
    `checkpoint_every`, `optimizer.lr` and `optimizer.warmup_steps` is chosen for the data, and said first."""
    global_batch: Count | None = 2048
    """Sequences per optimizer step, over all processes (2,048 x 1,024 = 2M tokens at most). `null`: `global_tokens`, or
    with `epochs` as many as make 1,000 steps, 2,048 at most."""
    global_tokens: Count | None = None
    """With `global_batch: null`: tokens per optimizer step, without padding. A step takes as many of the next samples
    as fit, so steps of short proteins are not smaller."""
    micro_batch: Count = 16
    """Sequences of `sampling.max_tokens` per forward pass and process; more of shorter ones, up to as many tokens."""
    packed: bool = True
    """Pack the sequences of a micro-batch without padding (THD layout). `false`: rows with padding, on GPUs 64, 128,
    192, ... tokens long."""
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    """Arithmetic of the model; optimizer state is fp32. On GPUs, fp32's matrix products are TF32."""
    attention: Literal["auto", "fused", "flash", "unfused"] = "auto"
    """Attention kernel on GPUs: cuDNN's (`fused`), flash-attn's (`flash`), or matrix products that keep all scores in
    memory (`unfused`). `auto`: the fastest that takes the batch, but an error instead of `unfused` in bf16 and fp16."""
    deterministic: bool = False
    """Only deterministic kernels on GPUs, so that a run gives the same bits again at the same layout. Slower."""
    initial_loss_scale: Annotated[float, Field(ge=1)] = 65536.0
    """First loss scale of fp16. It is halved when gradients overflow and doubled after 1,000 updates without."""
    fp8: Literal["off", "delayed", "current", "blockwise", "mxfp8", "nvfp4"] = "off"
    """Recipe of Transformer Engine for matrix products in 8 bit (`nvfp4`: 4 bit). `delayed` and `current` need a GPU of
    compute capability 8.9, `blockwise` 9.0 (Hopper), `mxfp8` and `nvfp4` 10.0 (Blackwell)."""
    fp8_skip_layers: Annotated[int, Field(ge=0)] = 0
    """With `fp8`: this many layers at each end of the model compute in `precision` instead. Not with `delayed`."""
    recompute: Literal["none", "selective", "full"] = "none"
    """Activations that the backward pass computes again: those of the feed-forward networks, or of whole layers."""
    validate_every: Count | None = 5000
    """Steps between passes over the validation shard; `null` with `epochs`: a tenth of the steps."""
    validate_sequences: Count | None = None
    """Validation sequences per pass (the first of the shard, whose order is shuffled); `null`: all of them."""
    validation: dict[SetName, str] = Field(default_factory=dict, exclude_if=lambda sets: not sets)
    """Further validation sets by name, as in `{general: results/demo}`: results of a run, or its shards. Their losses
    are logged before step 1 and at every validation, with this run's crops and masks; they decide nothing."""
    log_every: Count = 10
    """Steps between lines of metrics.jsonl."""
    checkpoint_every: Count | None = 1000
    """Steps between checkpoints; `null` with `epochs`: a tenth of the steps."""
    keep_checkpoints: Count = 3
    """How many of the newest complete checkpoints are kept."""
    wandb_project: str | None = None
    """Also log to this project of Weights & Biases (package `wandb`, which reads its environment variables)."""
    init: str | None = None
    """Start from this model instead of random weights: a training run, its `final/`, a checkpoint, a Hugging Face ESM-2
    directory, or a hub id like `facebook/esm2_t6_8M_UR50D`. Sizes that `model` leaves out are taken from it."""

    @field_validator("validation")
    @classmethod
    def _other_names(cls, sets: dict[str, str]) -> dict[str, str]:
        if "validation" in sets:
            raise ValueError("train.validation.validation: this name is that of the run's own set; choose another")
        return sets

    @field_validator("epochs", mode="before")
    @classmethod
    def _some_epochs(cls, given: Any) -> Any:
        with contextlib.suppress(TypeError, ValueError):
            if given in (None, "auto") or 0 < float(given) < math.inf:
                return given
        raise ValueError(f"train.epochs is {given!r}; give a number above 0, or auto")

    @model_validator(mode="before")
    @classmethod
    def _left_to_the_data(cls, values: Any) -> Any:
        """With `epochs`, options that the config leaves out are null: `train.sizing` chooses them."""
        optimizer = values.get("optimizer") or {} if isinstance(values, dict) else None
        if not isinstance(optimizer, dict) or values.get("epochs") is None:
            return values
        chosen = dict.fromkeys(("lr", "warmup_steps")) | optimizer
        return dict.fromkeys(CHOSEN) | values | {"optimizer": chosen}

    @model_validator(mode="before")
    @classmethod
    def _sizes_of_init(cls, values: Any) -> Any:
        """Fill in the sizes that the config leaves out."""
        if not isinstance(values, dict) or not isinstance(values.get("init"), str):
            return values
        given, sizes = values.get("model") or {}, initial_sizes(values["init"], PRESETS)
        if sizes is None or not isinstance(given, dict) or given.get("preset") is not None:
            return values
        free = {name: value for name, value in given.items() if name != "preset" and value is not None}
        preset = None if free else next((name for name, known in PRESETS.items() if known == sizes), None)
        if preset is None:
            free = dict(zip(("layers", "hidden", "heads"), sizes, strict=True)) | free
        return {**values, "model": {"preset": preset, **free}}

    @model_validator(mode="after")
    def _same_as_init(self) -> "Train":
        sizes = None if self.init is None else initial_sizes(self.init, PRESETS)
        if sizes is not None and sizes != self.model.sizes:
            raise ValueError(contradiction(self.model.sizes, sizes))
        return self

    @model_validator(mode="after")
    def _steps_or_epochs(self) -> "Train":
        if self.epochs is not None:
            if self.steps is not None:
                raise ValueError("train.steps and train.epochs exclude each other; set one of them to null")
            return self
        given = {name: getattr(self, name) for name in CHOSEN if name != "global_batch"}
        given |= {f"optimizer.{name}": getattr(self.optimizer, name) for name in ("lr", "warmup_steps")}
        if missing := next((name for name, value in given.items() if value is None), None):
            raise ValueError(f"train.{missing} is null; give a number, or train.epochs, which chooses it for the data")
        return self

    @model_validator(mode="after")
    def _possible(self) -> "Train":
        layers, _hidden, heads = self.model.sizes
        layout = self.parallel
        if heads % layout.tensor:
            near = [n for n in range(1, heads + 1) if heads % n == 0]
            raise ValueError(f"parallel.tensor {layout.tensor} does not divide {heads} heads; possible: {near}")
        if layers < layout.pipeline:
            raise ValueError(
                f"parallel.pipeline {layout.pipeline} is more stages than the {layers} layers; at most: {layers} stages"
            )
        both = (self.global_batch, self.global_tokens)
        if both.count(None) != 1 and not (self.epochs and both == (None, None)):
            raise ValueError("one of train.global_batch (sequences) and train.global_tokens must be null")
        step = self.micro_batch * layout.data
        if self.global_tokens is not None:
            least = step * self.sampling.max_tokens
            if self.global_tokens < least:
                raise ValueError(
                    f"train.global_tokens {self.global_tokens} is less than micro_batch x max_tokens x DP = "
                    f"{self.micro_batch} x {self.sampling.max_tokens} x {layout.data} = {least}; possible: from {least}"
                )
        elif self.global_batch is not None and self.global_batch % step:
            raise ValueError(
                f"train.global_batch {self.global_batch} is not a multiple of micro_batch x DP = "
                f"{self.micro_batch} x {layout.data} = {step}; nearest: {_nearest_multiples(self.global_batch, step)}"
                " sequences"
            )
        self._quantised_as_supported()
        self._attention_as_supported()
        if layout.sequence and layout.tensor == 1:
            raise ValueError("parallel.sequence needs parallel.tensor above 1")
        return self

    def _quantised_as_supported(self) -> None:
        """Raises ValueError for an FP8 recipe that cannot work with the other options."""
        if self.fp8 == "off":
            if self.fp8_skip_layers:
                raise ValueError("train.fp8_skip_layers needs train.fp8")
            return
        layers, hidden, heads = self.model.sizes
        tensor, block = self.parallel.tensor, FP8_BLOCK[self.fp8]
        if self.precision == "fp32":
            raise ValueError(f"train.fp8 {self.fp8} needs train.precision bf16 or fp16")
        if self.fp8 == "nvfp4" and self.precision != "bf16":
            raise ValueError("train.fp8 nvfp4 needs train.precision bf16")
        if hidden // tensor % block:
            near = [n for n in range(1, heads + 1) if heads % n == 0 and hidden // n % block == 0]
            raise ValueError(
                f"train.fp8 {self.fp8} takes matrices in blocks of {block}: hidden / parallel.tensor = {hidden} / "
                f"{tensor} is not a multiple; possible values of parallel.tensor: {near or 'none'}"
            )
        if self.fp8_skip_layers and self.fp8 == "delayed":
            raise ValueError(
                "train.fp8_skip_layers does not work with train.fp8 delayed, whose scales need every layer"
            )
        most = layers // self.parallel.pipeline
        if self.fp8_skip_layers > most or 2 * self.fp8_skip_layers >= layers:
            most = min(most, (layers - 1) // 2)
            raise ValueError(f"train.fp8_skip_layers {self.fp8_skip_layers} leaves no layer in FP8; at most: {most}")

    def _attention_as_supported(self) -> None:
        """Raises ValueError for a kernel that cannot compute the attention of the other options."""
        if self.attention in ("fused", "flash") and self.precision == "fp32":
            raise ValueError(
                f"train.attention {self.attention} has no fp32 kernel; use auto or unfused, or bf16 or fp16"
            )
        if self.attention == "unfused" and self.parallel.context > 1:
            raise ValueError("train.attention unfused does not work with parallel.context above 1; use auto")

    @property
    def step_tokens(self) -> int:
        """Maximum of tokens in an optimizer step, without padding."""
        return self.global_tokens or self.global_batch * self.sampling.max_tokens  # type: ignore[operator]

    @property
    def accumulated(self) -> int:
        """Micro-batches per process and optimizer step when all samples have the maximum length."""
        return -(-self.step_tokens // (self.micro_batch * self.sampling.max_tokens * self.parallel.data))

    @property
    def step_size(self) -> str:
        """Size of an optimizer step to print: `2,048 sequences` or `2,000,000 tokens`."""
        return f"{self.global_tokens:,} tokens" if self.global_tokens else f"{self.global_batch:,} sequences"
