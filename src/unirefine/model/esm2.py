"""ESM-2 on Megatron-core, exactly as `EsmForMaskedLM` computes it, at any TP, PP, SP, CP and DP.

    platform.initialize(train.parallel, train.seed)
    model = build_esm2(train.model, train)                     # initial weights: a pure function of (seed, name)
    losses = model(tokens, labels=labels)                      # last stage: float32[b, s], 0 where label is -100
    logits = model(tokens)                                     # last stage: float32[b, s, 33]
    losses = model(packed[None], cu_seqlens, labels=labels)    # packed batch, tokens [1, t]

Every rank of a model-parallel group gets the same whole batch, on every pipeline stage. Under context parallelism the
model takes its own slice (`batch.context_slice` takes the same of labels or masks). Rows have a multiple of
`settings.length_multiple` tokens.
"""

import importlib
import math

from unirefine.megatron import layers, platform

import torch
from megatron.core import parallel_state, tensor_parallel
from megatron.core.models.common.embeddings.rotary_pos_embedding import RotaryEmbedding
from megatron.core.models.common.language_module.language_module import LanguageModule
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.tensor_parallel.mappings import gather_from_tensor_model_parallel_region
from megatron.core.transformer.enums import ModelType
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_block import TransformerBlock
from megatron.core.transformer.transformer_config import TransformerConfig

from unirefine.config.training import Model, Train
from unirefine.core.alphabet import PAD
from unirefine.model import batch
from unirefine.model.attention import LayerNorm, Slots
from unirefine.model.init import initialize_weights
from unirefine.model.layout import mark_split_parameters
from unirefine.model.rotary import stored_frequencies
from unirefine.model.settings import VOCABULARY, padded_vocabulary, pipeline_stages, transformer_config
from unirefine.model.spec import block_spec

ROPE_ROWS = 128
"""On GPUs, angles are computed for a multiple of this many positions, of which Megatron keeps 32 tables."""


def build_esm2(
    model: Model,
    train: Train,
    *,
    pre_process: bool | None = None,
    post_process: bool | None = None,
    weights: bool = True,
) -> "Esm2":
    """This rank's slice of an ESM-2 on `platform.device()`, with initial weights from `train.seed`.

    `pre_process` and `post_process` say whether this stage holds the embedding and the head (default: by pipeline
    rank). `weights=False` leaves the weights unset, for a model that is loaded next. Call `platform.initialize` first.
    """
    gpu = platform.on_gpu()
    if gpu:
        importlib.import_module("transformer_engine")  # Megatron would go on without it, and fail somewhere
    config = transformer_config(model, train, gpu=gpu)
    first, last = parallel_state.is_pipeline_first_stage(), parallel_state.is_pipeline_last_stage()
    esm2 = Esm2(
        config,
        pre_process=first if pre_process is None else pre_process,
        post_process=last if post_process is None else post_process,
        gpu=gpu,
    )
    if weights:
        initialize_weights(esm2, train.seed)
    return esm2


class Embedding(MegatronModule):
    """Vocabulary-parallel token embedding with token dropout; no position and no layer norm (ESM-2 uses RoPE)."""

    def __init__(self, config: TransformerConfig, vocabulary: int, tp_group: torch.distributed.ProcessGroup) -> None:
        super().__init__(config=config)
        self.tp_group = tp_group
        self.word_embeddings = tensor_parallel.VocabParallelEmbedding(
            vocabulary,
            config.hidden_size,
            init_method=config.init_method,
            reduce_scatter_embeddings=config.sequence_parallel,
            config=config,
            tp_group=tp_group,
        )

    def forward(self, tokens: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """tokens: int64[b, s]; scale: float32[b, s] of `batch.token_scale`; returns [s, b, h] (SP: [s / TP, b, h])."""
        embedded = self.word_embeddings(tokens)
        scale = scale.transpose(0, 1).unsqueeze(-1)
        if self.config.sequence_parallel:  # already [s / TP, b, h]
            scale = scale.chunk(self.tp_group.size())[self.tp_group.rank()]
        else:
            embedded = embedded.transpose(0, 1)
        return (embedded * scale).to(embedded.dtype).contiguous()


class Head(MegatronModule):
    """The LM head up to the tied output: dense, exact erf GELU, layer norm. Every TP rank holds all of it."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config=config)
        device = torch.cuda.current_device()
        self.dense = torch.nn.Linear(config.hidden_size, config.hidden_size, device=device, dtype=config.params_dtype)
        for parameter in self.dense.parameters():
            parameter.sequence_parallel = config.sequence_parallel
        self.layer_norm = LayerNorm(config, config.hidden_size, config.layernorm_epsilon)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[s, b, h] to [s, b, h]."""
        return self.layer_norm(torch.nn.functional.gelu(self.dense(hidden)))


class Esm2(LanguageModule):
    """One pipeline stage of ESM-2. Build it with `build_esm2`.

    `extra_tensors`: tensors of a Hugging Face checkpoint that are no parameters of the language model (the contact
    head, rotary frequencies). Checkpoints and exports carry them.
    """

    def __init__(self, config: TransformerConfig, *, pre_process: bool, post_process: bool, gpu: bool) -> None:
        groups = ProcessGroupCollection.use_mpu_process_groups()
        super().__init__(config=config, pg_collection=groups)
        self.pre_process, self.post_process, self.gpu = pre_process, post_process, gpu
        self.model_type = ModelType.encoder_or_decoder
        self.share_embeddings_and_output_weights = True
        self.vocabulary = padded_vocabulary(config.tensor_model_parallel_size)
        self.extra_tensors: dict[str, torch.Tensor] = {}
        if pre_process:
            self.embedding = Embedding(config, self.vocabulary, groups.tp)
        self.rotary_pos_emb = RotaryEmbedding(config.kv_channels, rotary_percent=1.0, cp_group=groups.cp)
        stages = pipeline_stages(config.num_layers, config.pipeline_model_parallel_size)
        self.encoder = TransformerBlock(
            config=config,
            spec=block_spec(stages[groups.pp.rank()], gpu=gpu),
            pre_process=pre_process,
            post_process=post_process,
            pg_collection=groups,
        )
        for layer in self.encoder.layers:
            if gpu:
                layers.add_bias_in_product(layer.mlp.linear_fc1)
            if config.recompute_granularity == "selective":
                layers.copy_bias_of(layer.mlp)
        if post_process:
            self.head = Head(config)
            self.output_layer = tensor_parallel.ColumnParallelLinear(
                config.hidden_size,
                self.vocabulary,
                config=config,
                init_method=config.init_method,
                bias=True,
                gather_output=False,
                skip_weight_param_allocation=pre_process,
                tp_group=groups.tp,
            )
        mark_split_parameters(self)
        if pre_process or post_process:
            self.setup_embeddings_and_output_layer()

    def keep_beside(self, tensors: dict[str, torch.Tensor], where: object) -> None:
        """Keep tensors of a Hugging Face checkpoint as `extra_tensors`, and compute with its rotary frequencies.

        where: the model, for an error. Raises UserError where the frequencies are not ESM-2's.
        """
        self.extra_tensors = tensors
        frequencies = stored_frequencies(tensors, self.config.kv_channels, where)
        if frequencies is not None:
            self.rotary_pos_emb.inv_freq = frequencies.to(next(self.parameters()).device)
            RotaryEmbedding.forward.cache_clear()  # Megatron keeps the angles of earlier lengths

    def set_input_tensor(self, input_tensor: torch.Tensor | list[torch.Tensor]) -> None:
        """Hidden states [s, b, h] from the stage before (called by Megatron's schedules)."""
        self.encoder.set_input_tensor(input_tensor[0] if isinstance(input_tensor, list) else input_tensor)

    def forward(
        self, tokens: torch.Tensor, cu_seqlens: torch.Tensor | None = None, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """tokens: int64[b, s], padded on the right with `<pad>`; or packed int64[1, t] with slot bounds cu_seqlens:
        int32[n + 1] on the CPU, from 0 to t. A packed slot is full, or the last one and only padding; under context
        parallelism any slot may end in padding. labels: int64 like tokens, -100 where there is no loss.

        Returns, on the last stage, per-token losses float32[b, s] when labels are given, else logits float32[b, s, 33]
        (gathered over TP); under context parallelism s / CP positions in the order of `batch.context_slice`. Logits at
        `<pad>` are undefined, losses 0. On other stages: hidden states for the next stage.
        """
        rows, size = tokens.shape[0], self.cp_group.size()
        index = None
        if not self.gpu and size == 1:  # a CPU computes only real tokens
            shape, bounds = tokens.shape, batch.row_bounds(tokens) if cu_seqlens is None else cu_seqlens
            multiple = self.tp_group.size() if self.config.sequence_parallel else 1
            tokens, cu_seqlens, index = batch.without_padding(tokens, bounds, multiple)
            if labels is not None:
                packed = labels.new_full(tokens.shape, batch.IGNORE)
                packed[0, : len(index)] = labels.reshape(-1)[index]
                labels = packed
        hidden = self.hidden(tokens, cu_seqlens)
        if not self.post_process:
            return hidden
        logits = self.logits(hidden)
        if labels is None:
            out = gather_from_tensor_model_parallel_region(logits, group=self.tp_group)[..., :VOCABULARY]
            out = out.transpose(0, 1)
        else:
            labels = batch.context_slice(labels, cu_seqlens, size=size, rank=self.cp_group.rank())
            labels = labels.reshape(logits.shape[1], -1)
            out = tensor_parallel.vocab_parallel_cross_entropy(logits, labels.transpose(0, 1).contiguous())
            out = out.transpose(0, 1).masked_fill(labels == batch.IGNORE, 0.0)
        if index is None:
            return out.reshape(rows, -1, *out.shape[2:])
        whole = out.new_zeros(shape.numel(), *out.shape[2:])
        return whole.index_copy(0, index, out[0, : len(index)]).view(*shape, *out.shape[2:])

    def hidden(self, tokens: torch.Tensor, cu_seqlens: torch.Tensor | None = None) -> torch.Tensor:
        """Hidden states after this stage, on the last one after the final layer norm: [t, 1, h] of a packed batch and
        on CPUs, [s, b, h] of a padded one on GPUs. SP and CP divide t and s.
        """
        packed, bounds = cu_seqlens is not None, cu_seqlens
        size, rank = self.cp_group.size(), self.cp_group.rank()
        if bounds is None:
            bounds = batch.row_bounds(tokens)
            if not self.gpu or size > 1:  # rows become slots: Transformer Engine's CP wants packed sequences
                tokens, packed = tokens.reshape(1, -1), True
        there = batch.on_device(bounds, tokens.device)  # once: each copy that waits would stop the host
        scale = batch.token_scale(tokens, there)
        mask = rotary = None
        if self.gpu:
            longest = int(bounds.diff().max())
            mask, slots = self._attention_on_gpu(tokens, there, longest, packed=packed)
            rotary = self.rotary_pos_emb(math.ceil(longest / ROPE_ROWS) * ROPE_ROWS, packed_seq=packed)
        else:
            slots = self._slots(tokens, bounds)
        embedded = None
        if self.pre_process:
            mine = (batch.context_slice(x, bounds, size=size, rank=rank) for x in (tokens, scale))
            embedded = self.embedding(*mine)
        return self.encoder(embedded, mask, rotary_pos_emb=rotary, packed_seq_params=slots)

    def _slots(self, tokens: torch.Tensor, bounds: torch.Tensor) -> Slots:
        """The argument of `SdpaAttention` for a packed batch."""
        size, rank = self.cp_group.size(), self.cp_group.rank()
        widths = bounds.diff()
        slots = Slots(qkv_format="thd", cu_seqlens_q=bounds, cu_seqlens_kv=bounds, widths=(widths // size).tolist())
        positions = torch.arange(int(bounds[-1])) - bounds[:-1].repeat_interleave(widths)
        if size > 1:
            held = [batch.context_index(bounds, size, other) for other in range(size)]
            positions = positions[held[rank]]
            real = torch.cat([(tokens.reshape(-1) != PAD)[index] for index in held]).view(size, -1)
            edges = torch.arange(size)[:, None] * len(positions)  # where each rank's keys begin in the gathered ones
            for held_real, start in zip(real.split(slots.widths, dim=1), (bounds // size).tolist(), strict=False):
                slots.keys.append((edges + start + torch.arange(held_real.shape[1]))[held_real])
        angles = positions[:, None] * self.rotary_pos_emb.inv_freq
        slots.cos, slots.sin = angles.cos()[:, None], angles.sin()[:, None]
        return slots

    def _attention_on_gpu(
        self, tokens: torch.Tensor, bounds: torch.Tensor, longest: int, *, packed: bool
    ) -> tuple[torch.Tensor | None, PackedSeqParams | None]:
        """The mask of a padded batch, or the bounds of a packed one. bounds: on the device of the tokens."""
        if not packed:
            return (tokens == PAD)[:, None, None, :], None
        params = PackedSeqParams(
            qkv_format="thd", cu_seqlens_q=bounds, cu_seqlens_kv=bounds, max_seqlen_q=longest, max_seqlen_kv=longest
        )
        if self.cp_group.size() > 1:  # slots may end in padding
            lengths = batch.slot_sums((tokens != PAD).reshape(-1), bounds)
            real = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
            params.cu_seqlens_q_padded, params.cu_seqlens_kv_padded = bounds, bounds
            params.cu_seqlens_q, params.cu_seqlens_kv = real, real
        return None, params

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits of states [s, b, h]: float32[s, b, vocabulary rows of this TP rank], padded with lowest floats."""
        weight = self.shared_embedding_or_output_weight()
        logits, _ = self.output_layer(self.head(hidden), weight=weight)
        per_rank = logits.shape[-1]
        first = self.tp_group.rank() * per_rank
        padding = torch.arange(first, first + per_rank, device=logits.device) >= VOCABULARY
        return logits.float().masked_fill(padding, torch.finfo(torch.float32).min)
