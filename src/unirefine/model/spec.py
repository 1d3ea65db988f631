"""The layer spec of the device: Transformer Engine's fused modules on GPUs, local ones with SDPA on a CPU."""

import functools
from typing import Any

from megatron.core.fusions.fused_bias_dropout import get_bias_dropout_add
from megatron.core.models.bert.bert_layer_specs import get_bert_layer_with_transformer_engine_spec
from megatron.core.tensor_parallel.layers import ColumnParallelLinear, RowParallelLinear
from megatron.core.transformer.attention import SelfAttention, SelfAttentionSubmodules
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.identity_op import IdentityOp
from megatron.core.transformer.mlp import MLP, MLPSubmodules
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules
from megatron.core.transformer.transformer_layer import TransformerLayer, TransformerLayerSubmodules

from unirefine.model.attention import LayerNorm, SdpaAttention

# names of local parameters -> names in the Transformer Engine layers, which checkpoints have
CHECKPOINT_NAMES = {
    "input_layernorm.": "self_attention.linear_qkv.layer_norm_",
    "pre_mlp_layernorm.": "mlp.linear_fc1.layer_norm_",
}


def local_layer() -> ModuleSpec:
    """A pre-LN transformer layer of Megatron's own linear layers, with SDPA as core attention."""
    return ModuleSpec(
        module=TransformerLayer,
        submodules=TransformerLayerSubmodules(
            input_layernorm=LayerNorm,
            self_attention=ModuleSpec(
                module=SelfAttention,
                params={"attn_mask_type": AttnMaskType.padding},
                submodules=SelfAttentionSubmodules(
                    linear_qkv=ColumnParallelLinear,
                    core_attention=SdpaAttention,
                    linear_proj=RowParallelLinear,
                    q_layernorm=IdentityOp,
                    k_layernorm=IdentityOp,
                ),
            ),
            self_attn_bda=get_bias_dropout_add,
            pre_mlp_layernorm=LayerNorm,
            mlp=_mlp(MLPSubmodules(linear_fc1=ColumnParallelLinear, linear_fc2=RowParallelLinear)),
            mlp_bda=get_bias_dropout_add,
            sharded_state_dict_keys_map=CHECKPOINT_NAMES,
        ),
    )


def _mlp(submodules: MLPSubmodules) -> Any:
    if hasattr(MLP, "as_mlp_submodule"):  # from megatron-core 0.19 on; 0.16 takes only a ModuleSpec
        return functools.partial(MLP.as_mlp_submodule, submodules=submodules)
    return ModuleSpec(module=MLP, submodules=submodules)


def block_spec(layers: int, *, gpu: bool) -> TransformerBlockSubmodules:
    """The spec of `layers` transformer layers and the final layer norm."""
    if gpu:
        from megatron.core.extensions.transformer_engine import TENorm

        layer = get_bert_layer_with_transformer_engine_spec()
        return TransformerBlockSubmodules(layer_specs=[layer] * layers, layer_norm=TENorm)
    return TransformerBlockSubmodules(layer_specs=[local_layer()] * layers, layer_norm=LayerNorm)
