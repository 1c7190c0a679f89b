"""The reference layer: its ways to dispatch against each other, dense networks, transformers' blocks, and its edges."""

import copy

import pytest

from eot.errors import InputError, UnknownNameError

torch = pytest.importorskip("torch", reason="needs the extra eot[torch]")
transformers = pytest.importorskip("transformers", reason="needs the extra eot[torch]")
from local_models.moe import routers  # noqa: E402
from local_models.moe.capacity import Capacity  # noqa: E402
from local_models.moe.dispatch import DISPATCHES  # noqa: E402
from local_models.moe.feed_forward import Experts, Sizes  # noqa: E402
from local_models.moe.grouped import grouped_mm  # noqa: E402
from local_models.moe.layer import MoELayer  # noqa: E402
from local_models.moe.multihead import MultiHeadMoE  # noqa: E402
from local_models.moe.pages import MOST_BLOCKS, Pages  # noqa: E402
from local_models.moe.parts import decay_groups, tasked_experts, train_only, train_only_experts  # noqa: E402
from local_models.moe.routers.route import Route  # noqa: E402

pytestmark = pytest.mark.torch
H, INNER, E, T = 16, 24, 4, 12
WAYS = {**DISPATCHES, "grouped_mm": grouped_mm}


@pytest.fixture(autouse=True)
def _alike():
    torch.manual_seed(0)
    torch.set_num_threads(1)


def layer_of(router=None, *, experts=E, std=0.3, dtype=torch.float32, **more):
    widths = {name: more.pop(name) for name in ("shared", "shared_gated") if name in more}
    layer = MoELayer(Sizes(H, INNER, experts, **widths), router or routers.Mixtral(balance=0.0), **more)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return layer.to(dtype)


def swiglu(x, gate_up, down):
    gate, up = (x @ gate_up.T).chunk(2, dim=-1)
    return (torch.nn.functional.silu(gate) * up) @ down.T


def results(layer, way, x, dy):
    """Output and all gradients by one way to dispatch."""
    twin = copy.deepcopy(layer)
    twin.dispatch = WAYS[way]
    x = x.detach().clone().requires_grad_()
    torch.manual_seed(3)
    y, route = twin(x)
    ((y * dy).sum() + route.loss).backward()
    return y.detach(), x.grad, {name: parameter.grad for name, parameter in twin.named_parameters()}


def assert_all_ways_agree(layer, x, **tolerance):
    dy = torch.randn_like(x)
    plain = results(layer, "eager", x, dy)
    for way in WAYS:
        torch.testing.assert_close(results(layer, way, x, dy), plain, **tolerance, msg=lambda text, way=way: way + text)


def router_of(name):
    kinds = {"deepseek-moe": routers.DeepSeekMoE(k=3), "deepseek-v3": routers.DeepSeekV3(k=3)}
    return kinds.get(name) or routers.ROUTERS[name]()


@pytest.mark.parametrize("name", sorted(routers.ROUTERS))
@pytest.mark.parametrize("more", [{}, {"capacity": Capacity(train=((0, 0.5),))}, {"dropout": 0.4}, None])
def test_all_ways_to_dispatch_agree_in_output_and_gradients(name, more):
    layer = layer_of(router_of(name), shared=8, shared_gated=True, **(more or {})).train(more is not None)
    assert_all_ways_agree(layer, torch.randn(T, H))


@pytest.mark.parametrize("name", sorted(routers.ROUTERS))
@pytest.mark.parametrize(("dtype", "near"), [(torch.float16, 0.01), (torch.bfloat16, 0.05)])
def test_all_ways_to_dispatch_agree_in_half_precision(name, dtype, near):
    layer = layer_of(router_of(name), shared=8).to(dtype)
    x, dy = torch.randn(T, H, dtype=dtype), torch.randn(T, H, dtype=dtype)
    (y, dx, grads), *others = (results(layer, way, x, dy) for way in ("eager", "grouped", "einsum", "grouped_mm"))
    for other in others:
        assert_near(other[0], y, near)
        assert_near(other[1], dx, near)
        for part, grad in grads.items():
            assert_near(other[2][part], grad, near)


@pytest.mark.parametrize("way", sorted(WAYS))
def test_under_autocast_the_ways_agree_and_the_gate_stays_in_fp32(way):
    layer, x, dy = layer_of(shared=8, dropout=0.2), torch.randn(T, H), torch.randn(T, H)
    logits = layer.gate.logits(x)
    plain = results(layer, "eager", x, dy)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.gate.logits(x), logits)
        cast = results(layer, way, x, dy)
    assert_near(cast[0], plain[0], 0.05)
    assert_near(cast[1], plain[1], 0.05)
    for name, grad in plain[2].items():
        assert cast[2][name].dtype == torch.float32
        assert_near(cast[2][name], grad, 0.05)


def assert_near(found, wanted, share):
    """The difference is no more than this share of what is wanted, both as lengths of vectors."""
    assert float((found.float() - wanted.float()).norm()) <= share * float(wanted.float().norm()) + 1e-6


@pytest.mark.parametrize("capacity", [0.0, 0.5, 1.0])
def test_all_ways_agree_on_whom_nobody_serves(capacity):
    layer = layer_of(routers.GShard(), capacity=Capacity(train=((0, capacity),)))
    assert layer(torch.randn(T, H)).route.overflow > 0
    assert_all_ways_agree(layer, torch.randn(T, H))


def test_all_ways_drop_the_same_activations():
    layer = layer_of(dropout=0.4)
    assert_all_ways_agree(layer, torch.randn(T, H))
    x = torch.randn(T, H)
    assert not torch.equal(layer(x).y, layer(x).y)
    layer.eval()
    assert torch.equal(layer(x).y, layer(x).y)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float16, 2e-2), (torch.bfloat16, 1e-1)])
def test_half_precision_stays_near_the_full_one(dtype, atol):
    layer = layer_of(shared=8)
    x, dy = torch.randn(T, H), torch.randn(T, H)
    # The gate stays as it is rounded, so that both choose the same experts.
    layer.load_state_dict({name: value.to(dtype).float() for name, value in layer.state_dict().items()})
    full = results(layer, "eager", x.to(dtype).float(), dy.to(dtype).float())
    for way in WAYS:
        y, dx, grads = results(copy.deepcopy(layer).to(dtype), way, x.to(dtype), dy.to(dtype))
        assert y.dtype == dx.dtype == dtype
        torch.testing.assert_close(y.float(), full[0], atol=atol, rtol=0.05)
        torch.testing.assert_close(dx.float(), full[1], atol=atol, rtol=0.05)
        for name, grad in grads.items():
            torch.testing.assert_close(grad.float(), full[2][name], atol=atol, rtol=0.05)


@pytest.mark.parametrize("onednn", [True, False])
def test_either_product_leads_to_the_same(onednn, monkeypatch):
    monkeypatch.setattr("local_models.moe.grouped.ONEDNN", onednn and torch.backends.mkldnn.is_available())
    layer = layer_of(routers.GShard(), experts=8, dropout=0.2)  # twelve tokens: some experts have one row, some none
    assert_all_ways_agree(layer, torch.randn(T, H))


def test_the_hand_written_backward_is_the_derivative_of_the_forward():
    own = Experts(Sizes(3, 4, 3)).double()
    for parameter in own.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    route = Route(torch.zeros(5, 3), torch.zeros(5, 3), torch.tensor([[0, 1], [1, 0], [3, 1], [3, 3], [1, 3]]), None)
    weights = torch.rand(5, 2, dtype=torch.float64, requires_grad=True)
    kept = torch.rand(5, 2, 4, dtype=torch.float64)

    def output(x, weights, gate_up, down):
        experts = Experts(Sizes(3, 4, 3))
        del experts.gate_up_proj, experts.down_proj
        experts.gate_up_proj, experts.down_proj = gate_up, down
        routed = Route(route.logits, route.scores, route.experts, weights)
        return DISPATCHES["grouped"](x, routed, experts, kept)

    assert torch.autograd.gradcheck(output, (x, weights, own.gate_up_proj, own.down_proj))


def test_identical_experts_are_the_dense_network():
    layer = layer_of()
    with torch.no_grad():
        for weight in (layer.experts.gate_up_proj, layer.experts.down_proj):
            weight.copy_(weight[:1].expand_as(weight).clone())
    x = torch.randn(T, H)
    for way in WAYS.values():
        layer.dispatch = way
        dense = swiglu(x, layer.experts.gate_up_proj[0], layer.experts.down_proj[0])
        torch.testing.assert_close(layer(x).y, dense)


def test_a_one_hot_gate_is_its_expert():
    layer = layer_of(routers.DenseSoftmax())
    x = torch.randn(T, H).abs()
    with torch.no_grad():
        layer.gate.weight.fill_(-50.0)
        layer.gate.weight[2] = 50.0
    expert = swiglu(x, layer.experts.gate_up_proj[2], layer.experts.down_proj[2])
    torch.testing.assert_close(layer(x).y, expert)


def test_one_expert_is_the_dense_network_and_all_experts_are_their_mean():
    x = torch.randn(T, H)
    one = layer_of(routers.Mixtral(k=1), experts=1)
    torch.testing.assert_close(one(x).y, swiglu(x, one.experts.gate_up_proj[0], one.experts.down_proj[0]))
    every = layer_of(routers.Mixtral(k=E))
    with torch.no_grad():
        every.gate.weight.zero_()
    outs = [swiglu(x, *pair) for pair in zip(every.experts.gate_up_proj, every.experts.down_proj, strict=True)]
    torch.testing.assert_close(every(x).y, torch.stack(outs).mean(0))


def test_every_token_at_one_expert_leaves_the_others_without_gradient():
    layer = layer_of(routers.Switch(jitter=0.0))
    with torch.no_grad():
        layer.gate.weight.fill_(-50.0)
        layer.gate.weight[1] = 50.0
    x = torch.randn(T, H).abs()
    assert_all_ways_agree(layer, x)
    layer(x).y.sum().backward()
    grad = layer.experts.gate_up_proj.grad
    assert bool(grad[1].any())
    assert not bool(grad[[0, 2, 3]].any())
    assert layer(x).route.violation == 3.0


def test_without_places_the_layer_adds_nothing_and_the_residual_carries_all():
    layer = layer_of(routers.Switch(), capacity=Capacity(train=((0, 0.0),), evaluation=0.0))
    x = torch.randn(T, H)
    y, route = layer(x)
    assert torch.equal(x + y, x)
    assert route.overflow == T
    layer.zero_grad()
    (y.sum() + route.loss).backward()
    assert not bool(layer.experts.down_proj.grad.any())


def test_no_tokens_are_no_trouble():
    layer = layer_of(routers.Mixtral(balance=1.0), shared=8)
    for way in WAYS.values():
        layer.dispatch = way
        y, route = layer(torch.zeros(0, H))
        assert y.shape == (0, H)
        assert float(route.loss.detach()) == 0
        (y.sum() + route.loss).backward()


def test_no_sequences_are_no_trouble_for_a_loss_within_each():
    for shape in ((0, 3, H), (2, 0, H)):
        y, route = layer_of(routers.DeepSeekV3(k=2))(torch.zeros(shape))
        assert y.shape == shape
        assert float(route.loss.detach()) == 0


def test_where_tokens_ask_for_more_or_fewer_capacity_counts_what_they_asked():
    layer = layer_of(routers.DynamicTopP(), capacity=Capacity(train=((0, 1.0),)))
    with torch.no_grad():
        layer.gate.weight.fill_(-50.0)
        layer.gate.weight[1] = 50.0
    assert layer(torch.randn(T, H).abs()).route.overflow == T - T // E  # each token asks one expert, the same
    for router in (routers.DenseSoftmax(), routers.ExpertChoice()):
        assert layer_of(router, capacity=Capacity(train=((0, 1.0),)))(torch.randn(T, H)).route.overflow == 0


def test_a_step_counter_moves_the_capacity():
    layer = layer_of(routers.Switch(jitter=0.0), capacity=Capacity(train=((0, 0.0), (10, 4.0))))
    x = torch.randn(T, H)
    assert layer(x).route.overflow == T
    layer.step = 10
    assert layer(x).route.overflow == 0  # 12 * 4 / 4 places an expert: room for all


def test_wrong_settings_are_refused():
    with pytest.raises(UnknownNameError, match="batched_mm"):
        layer_of(dispatch="batched_mm")
    with pytest.raises(InputError, match="dropout = 1"):
        layer_of(dropout=1.0)
    with pytest.raises(InputError, match="1 or more"):
        layer_of(experts=0)


def blocks():
    common = {"hidden_size": H, "num_experts_per_tok": 2}
    mixtral = transformers.MixtralConfig(**common, intermediate_size=INNER, num_local_experts=E)
    widths = {"moe_intermediate_size": INNER, "shared_expert_intermediate_size": 8}
    qwen = transformers.Qwen2MoeConfig(**common, **widths, num_experts=E, norm_topk_prob=False)
    theirs = transformers.models.mixtral.modeling_mixtral, transformers.models.qwen2_moe.modeling_qwen2_moe
    return {
        "mixtral": (theirs[0].MixtralSparseMoeBlock(mixtral), layer_of()),
        "qwen2_moe": (
            theirs[1].Qwen2MoeSparseMoeBlock(qwen),
            layer_of(routers.Mixtral(normalised=False, balance=0.0), shared=8, shared_gated=True),
        ),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["mixtral", "qwen2_moe"])
def test_transformers_blocks_have_the_same_weights_outputs_and_gradients(kind, dtype):
    block, layer = (module.to(dtype) for module in blocks()[kind])
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    layer.load_state_dict(block.state_dict())  # every name and shape
    found = []
    for module in (block, layer):
        x = torch.randn(2, T, H, generator=torch.Generator().manual_seed(1), dtype=dtype).requires_grad_()
        out = module(x)
        y = out if isinstance(out, torch.Tensor) else out.y
        y.square().sum().backward()
        found.append({"y": y, "x": x.grad} | {name: parameter.grad for name, parameter in module.named_parameters()})
    for name, expected in found[0].items():
        # Sums of squares reach hundreds: float32 has 1e-5 of them on every processor, float64 has 1e-5 itself.
        near = 1e-5 * (float(expected.detach().abs().max()) if dtype == torch.float32 else 1)
        torch.testing.assert_close(found[1][name], expected, atol=near, rtol=1e-5 if dtype == torch.float64 else 0)


class Block(torch.nn.Module):
    """The layer where transformers' block was."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x).y


@torch.inference_mode()
def test_decoding_with_a_cache_is_reading_at_once():
    config = transformers.MixtralConfig(
        vocab_size=32,
        hidden_size=H,
        intermediate_size=INNER,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=E,
        initializer_range=0.3,
    )
    model = transformers.MixtralForCausalLM(config).eval()
    ids = torch.randint(0, 32, (1, 10))
    theirs = model(ids, use_cache=False).logits
    for decoder in model.model.layers:
        layer = layer_of().eval()
        layer.load_state_dict(decoder.mlp.state_dict())
        decoder.mlp = Block(layer)
    at_once = model(ids, use_cache=False).logits
    torch.testing.assert_close(at_once, theirs, atol=1e-5, rtol=1e-5)
    cache, rows = None, []
    for at in range(10):
        out = model(ids[:, at : at + 1], past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        rows.append(out.logits)
    torch.testing.assert_close(torch.cat(rows, dim=1), at_once, atol=1e-5, rtol=1e-5)


def test_the_same_step_gives_the_same_bits():
    layer, x = layer_of(), torch.randn(64, H)
    first, second = (results(layer, "grouped", x, torch.ones_like(x)) for _ in range(2))
    torch.testing.assert_close(second, first, atol=0, rtol=0)


def test_a_frozen_part_gets_no_gradient_and_the_others_the_same():
    layer, x = layer_of(), torch.randn(T, H)
    full = results(layer, "grouped", x, torch.ones_like(x))
    router = H * E
    experts = E * 3 * H * INNER
    assert train_only(layer, "all but the experts") == router
    part = results(layer, "grouped", x, torch.ones_like(x))
    assert part[2]["experts.down_proj"] is part[2]["experts.gate_up_proj"] is None
    torch.testing.assert_close((part[1], part[2]["gate.weight"]), (full[1], full[2]["gate.weight"]))
    assert train_only(layer, "experts") == experts
    part = results(layer, "grouped", x, torch.ones_like(x))
    assert part[2]["gate.weight"] is None
    torch.testing.assert_close(part[2]["experts.gate_up_proj"], full[2]["experts.gate_up_proj"])
    assert train_only(layer, "router") == router
    assert train_only(layer, "all") == router + experts


def test_weight_decay_goes_by_part_and_spares_vectors():
    layer = layer_of(shared=8)
    layer.register_parameter("norm", torch.nn.Parameter(torch.ones(H)))
    groups = {group["weight_decay"]: len(group["params"]) for group in decay_groups(layer, experts=0.2, rest=0.1)}
    assert groups == {0.2: 2, 0.1: 3, 0.0: 2}  # two tensors of experts, three shared, the gate and the vector
    train_only(layer, "router")
    assert [group["weight_decay"] for group in decay_groups(layer, experts=0.2, rest=0.1)] == [0.0]


def test_only_the_experts_that_a_task_uses_are_trained():
    scores = torch.zeros(3, E)
    # Gate weight on experts 0..3: 1.5, 1.1, 0.4, 0 of 3; the fourth choice fell on nobody.
    route = Route(
        scores,
        scores,
        torch.tensor([[0, 1], [1, 2], [0, 4]]),
        torch.tensor([[0.5, 0.5], [0.6, 0.4], [1.0, 9.0]]),
    )
    assert tasked_experts([route], 0.5) == [0]
    assert tasked_experts([route], 0.51) == [0, 1]
    assert tasked_experts([route, route], 1.0) == [0, 1, 2]
    with pytest.raises(InputError, match="no route"):
        tasked_experts([], 0.5)
    layer, x = layer_of(), torch.randn(64, H)
    handles = train_only_experts(layer, [2])
    layer(x).y.sum().backward()
    grad = layer.experts.gate_up_proj.grad
    assert bool(grad[2].any())
    assert not bool(grad[[0, 1, 3]].any())
    assert layer.gate.weight.grad is None
    for handle in handles:
        handle.remove()


def test_multi_head_routes_the_parts_of_a_token_apart():
    inner = layer_of(routers.Mixtral(k=1), experts=E)
    heads = MultiHeadMoE(3 * H, 3, inner)
    x = torch.randn(2, 5, 3 * H)
    y, route = heads(x)
    assert y.shape == x.shape
    assert route.experts.shape == (2 * 5 * 3, 1)
    parts = heads.split(x).view(2, 5, 3, H)
    torch.testing.assert_close(y[1, 4], heads.merge(torch.cat([inner(parts[1, 4, at][None]).y[0] for at in range(3)])))
    torch.testing.assert_close(heads(x[0]).y, y[0])
    with pytest.raises(InputError, match="4 heads of width 16"):
        MultiHeadMoE(3 * H, 4, inner)


def test_kept_pages_are_lent_again_only_when_no_tensor_is_left_on_them():
    pages, like = Pages(least=0), torch.zeros(3, 5)
    first = pages.like(like)
    place = first.data_ptr()
    view = first[1:]
    del first
    assert pages.like(like).data_ptr() != place  # the view still lives there
    del view
    assert place in {one.data_ptr() for one in [pages.like(like) for _ in range(MOST_BLOCKS)]}
    held = [pages.like(like) for _ in range(MOST_BLOCKS + 3)]
    assert len({one.data_ptr() for one in held}) == MOST_BLOCKS + 3
    assert pages.like(torch.zeros(7, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_gradients_are_right_on_kept_pages_accumulated_or_dropped():
    layer, x, other = layer_of(), torch.randn(T, H), torch.randn(T, H)
    layer.experts.pages = Pages(least=0)
    weight = layer.experts.gate_up_proj

    def grad(*inputs):
        layer.zero_grad(set_to_none=True)
        for one in inputs:
            layer(one).y.sum().backward()
        return weight.grad.clone()

    apart = grad(x), grad(other)
    torch.testing.assert_close(grad(x, other), apart[0] + apart[1])
    grad(x)
    place = weight.grad.data_ptr()
    kept = weight.grad
    assert torch.equal(grad(other), apart[1])
    assert torch.equal(kept, apart[0])  # who holds a gradient keeps it
    del kept
    grad(x)
    grad(x)
    assert weight.grad.data_ptr() in {place, *(block.ctypes.data for block, _ in layer.experts.pages._blocks)}
