"""Which class of transformers a mixture becomes, and what its tensors are called there: data.

Tensors are written under the names of the published checkpoints (Mixtral's `block_sparse_moe`, an expert at a time),
which transformers joins when it loads them, and which vLLM reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eot.errors import InputError

_CARRIED = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "hidden_act", "max_position_embeddings", "initializer_range", "rms_norm_eps", "tie_word_embeddings",
    "rope_parameters", "rope_theta", "rope_scaling", "bos_token_id", "eos_token_id", "pad_token_id", "sliding_window",
    "use_sliding_window", "max_window_layers", "layer_types", "attention_dropout", "dtype", "torch_dtype",
)  # fmt: skip


@dataclass(frozen=True)
class Family:
    """A class of mixtures. `block` is what its layers call the feed-forward part; `gate`, `up`, `down` its matrices.

    `shared`: it has one expert that every token takes, beside the routed ones.
    """

    model_type: str
    architecture: str
    block: str
    gate: str
    up: str
    down: str
    shared: bool
    experts_key: str

    def router(self, layer: int) -> str:
        return f"model.layers.{layer}.{self.block}.gate.weight"

    def expert(self, layer: int, expert: int, matrix: str) -> str:
        """`matrix` is gate, up or down."""
        return f"model.layers.{layer}.{self.block}.experts.{expert}.{getattr(self, matrix)}.weight"

    def shared_expert(self, layer: int, matrix: str) -> str:
        return f"model.layers.{layer}.{self.block}.shared_expert.{getattr(self, matrix)}.weight"

    def shared_gate(self, layer: int) -> str:
        return f"model.layers.{layer}.{self.block}.shared_expert_gate.weight"


MIXTRAL = Family(
    "mixtral", "MixtralForCausalLM", "block_sparse_moe", "w1", "w3", "w2", shared=False, experts_key="num_local_experts"
)
QWEN2_MOE = Family(
    "qwen2_moe", "Qwen2MoeForCausalLM", "mlp", "gate_proj", "up_proj", "down_proj", shared=True,
    experts_key="num_experts",
)  # fmt: skip
FAMILIES: Mapping[str, Family] = {one.model_type: one for one in (MIXTRAL, QWEN2_MOE)}
DENSE = ("llama", "mistral", "qwen2")
"""The `model_type`s that mixtures are made of."""
MATRICES = ("gate", "up", "down")


def dense_name(layer: int, matrix: str) -> str:
    """What a dense Llama, Mistral or Qwen2 calls this matrix."""
    return f"model.layers.{layer}.mlp.{matrix}_proj.weight"


def family_for(config: Mapping[str, Any], *, shared: bool) -> Family:
    """The class that a mixture of models of this configuration becomes.

    Raises:
        InputError: there is none that computes what these models compute.
    """
    kind = config.get("model_type")
    if kind not in DENSE:
        raise InputError(
            f"mixtures are made of Llama, Mistral and Qwen2 models; these are of type {kind}, which no class of "
            "mixtures computes alike"
        )
    if config.get("attention_bias") or config.get("mlp_bias"):
        raise InputError("models with attention_bias or mlp_bias have no class of mixtures that computes alike")
    if kind == "mistral" and shared and config.get("sliding_window"):
        raise InputError("a Mistral model with a sliding window becomes a Mixtral, which has no shared expert")
    if kind == "qwen2" or shared:
        width = config["hidden_size"] // config["num_attention_heads"]
        if config.get("head_dim") not in {None, width}:
            raise InputError(f"a Qwen2-MoE's heads are {width} wide here, and these models' are {config['head_dim']}")
        return QWEN2_MOE
    return MIXTRAL


def mixture_config(
    config: Mapping[str, Any], family: Family, *, experts: int, active: int, width: int, shared_width: int
) -> dict[str, Any]:
    """The configuration of a mixture with `experts` routed experts of `width` neurons, `active` of them for a token."""
    made = {name: config[name] for name in _CARRIED if config.get(name) is not None}
    made |= {
        "model_type": family.model_type,
        "architectures": [family.architecture],
        family.experts_key: experts,
        "num_experts_per_tok": active,
        "router_aux_loss_coef": 0.001,
        "output_router_logits": False,
    }
    if family is MIXTRAL:
        return made | {"intermediate_size": width, "sliding_window": config.get("sliding_window")}
    return made | {
        "intermediate_size": config["intermediate_size"],
        "moe_intermediate_size": width,
        "shared_expert_intermediate_size": shared_width,
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "qkv_bias": config["model_type"] == "qwen2",
    }
