"""The routers, each named after its paper: frozen data that turns a gate's logits into a route."""

from local_models.moe.routers.deepseek import DeepSeekMoE, DeepSeekV3, FineGrained, fine_grained
from local_models.moe.routers.dense import DenseSoftmax
from local_models.moe.routers.expert_choice import ExpertChoice
from local_models.moe.routers.gshard import GShard
from local_models.moe.routers.mixtral import Mixtral
from local_models.moe.routers.noisy_topk import NoisyTopK
from local_models.moe.routers.route import Gate, Route, Router
from local_models.moe.routers.switch import Switch
from local_models.moe.routers.top_p import DynamicTopP

ROUTERS: dict[str, type[Router]] = {
    "dense": DenseSoftmax,
    "noisy-top-k": NoisyTopK,
    "gshard": GShard,
    "switch": Switch,
    "mixtral": Mixtral,
    "deepseek-moe": DeepSeekMoE,
    "deepseek-v3": DeepSeekV3,
    "expert-choice": ExpertChoice,
    "top-p": DynamicTopP,
}

__all__ = [
    "ROUTERS",
    "DeepSeekMoE",
    "DeepSeekV3",
    "DenseSoftmax",
    "DynamicTopP",
    "ExpertChoice",
    "FineGrained",
    "GShard",
    "Gate",
    "Mixtral",
    "NoisyTopK",
    "Route",
    "Router",
    "Switch",
    "fine_grained",
]
