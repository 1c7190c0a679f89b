"""A set of members tried out: what they have in common, what they weigh, and how long a token takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from local_models.engine import Engine, Sampling
from local_models.fusion.engine import FusionEngine
from local_models.transformers_engine import TransformersEngine


@dataclass(frozen=True)
class Cost:
    """One model. Bytes are of its weights as loaded, and of its KV cache for each token; times are of one reply."""

    name: str
    parameters: int
    vocabulary: int
    weight_bytes: int
    cache_bytes_per_token: int
    ms_per_token: float


@dataclass(frozen=True)
class Trial:
    """`difference` is where the vocabularies first part, or None; `common` the tokens that all members write alike.

    `text` is what the set wrote, `serial_ms_per_token` the sum of its members' own times.
    """

    method: str
    difference: str | None
    common: int
    members: tuple[Cost, ...]
    ms_per_token: float
    serial_ms_per_token: float
    text: str


async def tried(engine: FusionEngine, prompt: str, tokens: int) -> Trial:
    """Let each member alone, then all together, go on from `prompt` for `tokens` tokens, greedily.

    Raises:
        ContextOverflowError, CallError: as of any call.
    """
    costs = [_cost(member, (await _ms_per_token(member, prompt, tokens))[0]) for member in engine.members]
    together, text = await _ms_per_token(engine, prompt, tokens)
    return Trial(
        method=engine.method,
        difference=engine.difference,
        common=engine.common,
        members=tuple(costs),
        ms_per_token=together,
        serial_ms_per_token=sum(cost.ms_per_token for cost in costs),
        text=text,
    )


async def _ms_per_token(engine: Engine, prompt: str, tokens: int) -> tuple[float, str]:
    await engine.complete(prompt, Sampling(0, max_tokens=2))  # the first call of a model allocates
    made = await engine.complete(prompt, Sampling(0, max_tokens=tokens))
    return 1000 * made.seconds / max(1, made.output_tokens), made.text


def _cost(member: TransformersEngine, ms_per_token: float) -> Cost:
    tensors = list(member.model.parameters())
    return Cost(
        name=member.name,
        parameters=sum(tensor.numel() for tensor in tensors),
        vocabulary=int(member.model.get_output_embeddings().weight.shape[0]),
        weight_bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
        cache_bytes_per_token=_cache_bytes(member.model.config.get_text_config(), tensors[0].element_size()),
        ms_per_token=ms_per_token,
    )


def _cache_bytes(config: Any, element: int) -> int:
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * size * element)
