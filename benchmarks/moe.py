"""A layer of experts forward and backward: the grouped dispatch beside dense, transformers and einsum.

Dense is one SwiGLU network as wide as the experts that a token meets (equal active parameters), by torch's own linear
layers, and once more by the layer's own products: a layer of one such expert, `one_expert`. Transformers' blocks have
the same weights and their own default dispatch; outputs and gradients must agree to 1e-5 or the benchmark fails, the
gate's gradient to 1e-5 of its largest value: that is up to 100, a sum over all tokens, which float32 cannot add closer.
All run in turns, gradients dropped before each run; a ratio is the median of the turns' ratios. Widths: SmolLM2-135M's.
`--device cuda --dtype bfloat16` measures a GPU. In half precision the blocks are not compared: theirs routes in it and
ours in fp32, so a token between two experts goes another way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median

import torch
from report import arguments, report
from torch import Tensor, nn
from torch.nn import functional
from transformers import MixtralConfig, Qwen2MoeConfig
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock
from transformers.models.qwen2_moe.modeling_qwen2_moe import Qwen2MoeSparseMoeBlock

from local_models.moe.dispatch import DISPATCHES
from local_models.moe.feed_forward import Sizes
from local_models.moe.layer import MoELayer
from local_models.moe.routers import Mixtral

HIDDEN, INNER, ACTIVE = 576, 1536, 2
TOKENS = (1, 4, 16, 64, 256, 1024, 4096)
EXPERTS = (4, 8, 16, 32, 64)
Step = Callable[[], object]


class Dense(nn.Module):
    """One SwiGLU network, its first two matrices fused as the experts' are."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(hidden, 2 * inner, bias=False)
        self.down = nn.Linear(inner, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(functional.silu(gate) * up)


def step(module: nn.Module, x: Tensor, dy: Tensor) -> Step:
    """Forward and backward of the module on x, from no gradients, as a training step begins."""

    def run() -> Tensor:
        module.zero_grad(set_to_none=True)
        x.grad = None
        out = module(x)
        y = out[0] if isinstance(out, tuple) else out
        y.backward(dy)
        return y

    return run


def turns(runs: Mapping[str, Step], repeats: int) -> dict[str, list[float]]:
    """Seconds of each run in each turn; one turn before warms up."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            if torch.get_default_device().type == "cuda":
                torch.cuda.synchronize()
            if turn:
                found[name].append(time.perf_counter() - began)
    return found


def ratio(found: Mapping[str, Sequence[float]], one: str, other: str) -> float:
    return median(a / b for a, b in zip(found[one], found[other], strict=True))


def layer_of(experts: int, dispatch: str, *, shared: int = 0, normalised: bool = True) -> MoELayer:
    sizes = Sizes(HIDDEN, INNER, experts, shared=shared, shared_gated=bool(shared))
    return MoELayer(sizes, Mixtral(ACTIVE, normalised=normalised, balance=0.0), dispatch=dispatch)


def blocks(experts: int) -> dict[str, tuple[nn.Module, MoELayer]]:
    """Transformers' two blocks, each beside our layer with its weights."""
    common = {"hidden_size": HIDDEN, "num_experts_per_tok": ACTIVE, "experts_implementation": "grouped_mm"}
    mixtral = MixtralSparseMoeBlock(MixtralConfig(**common, intermediate_size=INNER, num_local_experts=experts))
    widths = {"moe_intermediate_size": INNER, "shared_expert_intermediate_size": INNER}
    qwen = Qwen2MoeSparseMoeBlock(Qwen2MoeConfig(**common, **widths, num_experts=experts, norm_topk_prob=False))
    pairs: dict[str, tuple[nn.Module, MoELayer]] = {
        "mixtral": (mixtral, layer_of(experts, "grouped")),
        "qwen2_moe": (qwen, layer_of(experts, "grouped", shared=INNER, normalised=False)),
    }
    for theirs, ours in pairs.values():
        for parameter in theirs.parameters():
            nn.init.normal_(parameter, std=0.02)
        ours.load_state_dict(theirs.state_dict())
    return pairs


def agree(theirs: nn.Module, ours: nn.Module, x: Tensor, dy: Tensor) -> None:
    """Outputs and all gradients to 1e-5, the gate's to 1e-5 of its largest value.

    Raises:
        AssertionError: they differ; it says where.
    """
    results = []
    for module in (theirs, ours):
        own = x.detach()[None].requires_grad_()  # its gradient, too, is this module's alone
        y = step(module, own, dy[None])()
        grads = {name: parameter.grad for name, parameter in module.named_parameters()}
        results.append({"y": y, "x": own.grad, **grads})
    for name, expected in results[0].items():
        near = 1e-5 * (float(expected.abs().max()) if name == "gate.weight" else 1)
        torch.testing.assert_close(results[1][name], expected, rtol=1e-5, atol=near, msg=lambda why, at=name: at + why)


def against(tokens: int, experts: int, repeats: int, dispatches: Iterable[str]) -> dict[str, list[float]]:
    """Dense in its two ways and the dispatches, on the same x."""
    x, dy = torch.randn(tokens, HIDDEN, requires_grad=True), torch.randn(tokens, HIDDEN)
    one = MoELayer(Sizes(HIDDEN, ACTIVE * INNER, 1), Mixtral(1, balance=0.0))
    runs = {"dense": step(Dense(HIDDEN, ACTIVE * INNER), x, dy), "one_expert": step(one, x, dy)}
    first: MoELayer | None = None
    for name in dispatches:
        layer = layer_of(experts, name)
        first = first or layer
        layer.load_state_dict(first.state_dict())
        runs[name] = step(layer, x, dy)
    return turns(runs, repeats)


def transformers_too(tokens: int, experts: int, repeats: int) -> dict[str, float]:
    x, dy = torch.randn(tokens, HIDDEN, requires_grad=True), torch.randn(tokens, HIDDEN)
    figures = {}
    for name, (theirs, ours) in blocks(experts).items():
        if x.dtype == torch.float32:
            agree(theirs, ours, x, dy)
        found = turns({"theirs": step(theirs, x[None], dy[None]), "ours": step(ours, x[None], dy[None])}, repeats)
        figures[f"over_{name}_{tokens}"] = ratio(found, "ours", "theirs")
    return {f"over_transformers_{tokens}": max(figures.values()), **figures}


def quick(experts: int, repeats: int) -> dict[str, float]:
    figures: dict[str, float] = {}
    for tokens in (256, 4096):
        found = against(tokens, experts, repeats, DISPATCHES)
        figures |= {
            f"grouped_over_dense_active_{tokens}": ratio(found, "grouped", "dense"),
            f"grouped_over_one_expert_{tokens}": ratio(found, "grouped", "one_expert"),
            f"einsum_over_grouped_{tokens}": ratio(found, "einsum", "grouped"),
            f"eager_over_grouped_{tokens}": ratio(found, "eager", "grouped"),
            f"grouped_ms_{tokens}": 1000 * median(found["grouped"]),
            f"dense_active_ms_{tokens}": 1000 * median(found["dense"]),
        }
        figures |= transformers_too(tokens, experts, repeats)
    return figures


def table(repeats: int) -> dict[str, float]:
    """Every T and E: what each dispatch takes, in times of dense at equal active parameters."""
    figures = {}
    for experts in EXPERTS:
        for tokens in TOKENS:
            found = against(tokens, experts, repeats, DISPATCHES)
            for name in DISPATCHES:
                figures[f"{name}_over_dense_active_e{experts}_t{tokens}"] = ratio(found, name, "dense")
    return figures


def plot(figures: Mapping[str, float], path: Path) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415  the extra `eval`

    figure = Figure(figsize=(11, 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(DISPATCHES), sharey=True), DISPATCHES, strict=True):
        for experts in EXPERTS:
            ratios = [figures[f"{name}_over_dense_active_e{experts}_t{tokens}"] for tokens in TOKENS]
            axes.loglog(TOKENS, ratios, marker="o", label=f"E = {experts}")
        axes.axhline(1.3, color="grey", linestyle=":")
        axes.set(title=name, xlabel="tokens")
    figure.axes[0].set_ylabel(f"time / dense at equal active parameters (k = {ACTIVE})")
    figure.axes[0].legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    parser = arguments(__doc__ or "")
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--full", action="store_true", help="every T and E as well; some minutes")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the full table; implies --full")
    parser.add_argument("--device", default="cpu", help="where; default: cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    asked = parser.parse_args()
    torch.set_default_device(asked.device)
    torch.set_default_dtype(getattr(torch, asked.dtype))
    torch.manual_seed(0)
    shown = quick(asked.experts, asked.repeats)
    if asked.full or asked.plot:
        shown |= table(asked.repeats)
    if asked.plot:
        plot(shown, asked.plot)
    on = torch.cuda.get_device_name() if asked.device == "cuda" else f"{torch.get_num_threads()} threads"
    threads = f"{on}, torch {torch.__version__}"
    sizes = f"H = {HIDDEN}, I = {INNER}, E = {asked.experts}, k = {ACTIVE}, {asked.dtype}"
    report("mixture of experts, forward and backward", shown, [sizes, threads], as_json=asked.json)
