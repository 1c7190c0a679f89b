"""What runs differently on a CUDA GPU, against the processor. Skipped where there is none, as in CI."""

import asyncio

import pytest

torch = pytest.importorskip("torch", reason="needs the extra eot[torch]")
pytest.importorskip("transformers", reason="needs the extra eot[torch]")
from fusion_models import byte_level, engine, sentence_piece  # noqa: E402
from torch import distributed  # noqa: E402

from eot.fusion import FusionSettings  # noqa: E402
from local_models import Sampling  # noqa: E402
from local_models.fusion import FusionEngine  # noqa: E402
from local_models.moe import routers  # noqa: E402
from local_models.moe.capacity import Capacity  # noqa: E402
from local_models.moe.dispatch import DISPATCHES  # noqa: E402
from local_models.moe.feed_forward import Sizes  # noqa: E402
from local_models.moe.layer import MoELayer  # noqa: E402
from local_models.moe.parallel import average_gradients, shard  # noqa: E402
from local_models.transformers_engine import TransformersEngine  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]
T = 96


@pytest.fixture(autouse=True)
def _alike():
    torch.manual_seed(0)


def layer_of(router, *, hidden=64, inner=48, **more):
    layer = MoELayer(Sizes(hidden, inner, 8, shared=32), router, **more)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return layer


def found(layer, x, dy, dispatch="grouped", *, device="cuda", dtype=torch.float32):
    """Output, the input's gradient and all others, in fp32 on the processor."""
    twin = MoELayer(layer.sizes, layer.router, capacity=layer.capacity, dropout=layer.dropout).train(layer.training)
    twin.load_state_dict(layer.state_dict())
    twin.to(device, dtype).dispatch = DISPATCHES[dispatch]
    x = x.detach().clone().to(device, dtype).requires_grad_()
    torch.manual_seed(3)
    y, route = twin(x)
    ((y * dy.to(device, dtype)).sum() + route.loss).backward()
    grads = {name: parameter.grad for name, parameter in twin.named_parameters() if parameter.grad is not None}
    return {name: value.float().cpu() for name, value in {"y": y.detach(), "x": x.grad, **grads}.items()}


def assert_near(one, other, share):
    """Each tensor's difference is no more than this share of its length."""
    assert one.keys() == other.keys()
    for name, value in other.items():
        assert float((one[name] - value).norm()) <= share * float(value.norm()) + 1e-6, name


@pytest.mark.parametrize("name", sorted(routers.ROUTERS))
@pytest.mark.parametrize("more", [{}, {"capacity": Capacity(train=((0, 0.5),))}, {"dropout": 0.4}])
def test_the_grouped_product_is_the_loop_over_the_experts(name, more):
    layer, x, dy = layer_of(routers.ROUTERS[name](), **more), torch.randn(T, 64), torch.randn(T, 64)
    assert_near(found(layer, x, dy), found(layer, x, dy, "eager"), 1e-5)


@pytest.mark.parametrize(("dtype", "share"), [(torch.float16, 0.01), (torch.bfloat16, 0.05)])
def test_half_precision_stays_near_the_loop(dtype, share):
    layer, x, dy = layer_of(routers.Mixtral()), torch.randn(T, 64), torch.randn(T, 64)
    assert_near(found(layer, x, dy, dtype=dtype), found(layer, x, dy, "eager", dtype=dtype), share)


def test_without_chance_it_is_what_the_processor_finds():
    layer, x, dy = layer_of(routers.Mixtral()), torch.randn(T, 64), torch.randn(T, 64)
    assert_near(found(layer, x, dy), found(layer, x, dy, device="cpu"), 1e-5)


def test_widths_that_the_grouped_kernel_cannot_take_are_served_all_the_same():
    layer, x, dy = layer_of(routers.Mixtral(), hidden=30, inner=7), torch.randn(T, 30), torch.randn(T, 30)
    assert_near(found(layer, x, dy), found(layer, x, dy, device="cpu"), 1e-5)
    half = {"dtype": torch.bfloat16}
    assert_near(found(layer, x, dy, **half), found(layer, x, dy, "eager", **half), 0.05)


def test_autocast_reaches_the_experts_and_not_the_gate():
    layer, x = layer_of(routers.Mixtral()).cuda(), torch.randn(T, 64, device="cuda")
    plain, logits = layer(x).y, layer.gate.logits(x)
    with torch.autocast("cuda", torch.bfloat16):
        cast = layer(x).y
        assert torch.equal(layer.gate.logits(x), logits)
    assert 0 < float((cast - plain).detach().norm()) < 0.05 * float(plain.detach().norm())
    cast.square().sum().backward()
    assert layer.experts.gate_up_proj.grad.dtype == torch.float32


def test_the_same_step_gives_the_same_bits():
    layer, x, dy = layer_of(routers.Mixtral()), torch.randn(T, 64), torch.randn(T, 64)
    first, second = found(layer, x, dy, dtype=torch.bfloat16), found(layer, x, dy, dtype=torch.bfloat16)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def nccl(tmp_path):
    """A group of one process: two would need two GPUs."""
    distributed.init_process_group("nccl", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("nccl")
def test_experts_spread_by_nccl_are_the_experts_whole():
    layer, x, dy = layer_of(routers.Mixtral()).cuda(), torch.randn(T, 64, device="cuda"), torch.randn(T, 64).cuda()
    y = layer(x).y
    (y * dy).sum().backward()
    whole = {name: parameter.grad for name, parameter in layer.named_parameters()}
    layer.zero_grad(set_to_none=True)
    shard(layer)
    spread = layer(x).y
    (spread * dy).sum().backward()
    average_gradients(layer)
    torch.testing.assert_close(spread, y)
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(parameter.grad, whole[name], atol=1e-4, rtol=1e-4)


async def said(one, prompts):
    answers = await asyncio.gather(*(one.complete(prompt, Sampling(0, max_tokens=40)) for prompt in prompts))
    return [made.text for made in answers]


PROMPTS = [f"the cat {number} ran after the dog and" for number in range(6)]


def moved(one):
    """The same engine on the GPU."""
    return TransformersEngine(one.model.cuda(), one.tokenizer, one.name, parallel=8, context=512)


async def test_a_batch_is_continued_as_on_the_processor():
    here = engine(0)
    expected = await said(here, PROMPTS)
    there = moved(here)
    assert await said(there, PROMPTS) == expected
    await there.close()


@pytest.mark.parametrize(
    ("settings", "across"),
    [
        ({"method": "logit"}, False),
        ({"method": "prob", "weights": (2, 1)}, False),
        ({"method": "logit", "draft": 3}, False),
        ({"method": "unite"}, True),
        ({"method": "gac"}, True),
        ({"method": "deepen"}, True),
    ],
)
async def test_members_are_fused_as_on_the_processor(settings, across):
    members = [engine(0, byte_level()), engine(1, sentence_piece() if across else byte_level())]
    told = FusionSettings(members=("m0", "m1"), **settings)
    here = FusionEngine(members, told, "pair", parallel=8)
    expected = await said(here, PROMPTS)
    there = FusionEngine([moved(one) for one in members], told, "pair", parallel=8)
    assert await said(there, PROMPTS) == expected
    await there.close()
