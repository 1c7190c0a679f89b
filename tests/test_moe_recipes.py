"""Causal segment routing (Lory) and separate robust training (AdvMoE), on the reference layer."""

import pytest

from eot.errors import InputError

torch = pytest.importorskip("torch", reason="needs the extra eot[torch]")
from local_models.moe import routers  # noqa: E402
from local_models.moe.feed_forward import Sizes  # noqa: E402
from local_models.moe.layer import MoELayer  # noqa: E402
from local_models.moe.lory import segment_routed  # noqa: E402
from local_models.moe.parts import part_of  # noqa: E402
from local_models.moe.robust import Attack, robust_step  # noqa: E402

pytestmark = pytest.mark.torch
H, E = 8, 3


@pytest.fixture
def layer():
    torch.manual_seed(0)
    made = MoELayer(Sizes(H, 12, E), routers.DenseSoftmax())
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return made


def swiglu(x, gate_up, down):
    gate, up = (x @ gate_up.T).chunk(2, dim=-1)
    return (torch.nn.functional.silu(gate) * up) @ down.T


def test_a_segment_is_mixed_by_what_the_one_before_it_said(layer):
    x = torch.randn(2, 7, H)
    y, _ = segment_routed(layer, x, 3)
    own = layer.experts
    for row in range(2):
        weights = [torch.full((E,), 1 / E)]
        weights += [(x[row, start : start + 3].mean(0) @ layer.gate.weight.T).softmax(-1) for start in (0, 3)]
        for at in range(7):
            mixed = [(weights[at // 3][:, None, None] * w).sum(0) for w in (own.gate_up_proj, own.down_proj)]
            torch.testing.assert_close(y[row, at], swiglu(x[row, at], *mixed))


def test_a_shared_expert_adds_its_part_to_every_token(layer):
    torch.manual_seed(1)
    shared = MoELayer(Sizes(H, 12, E, 4, shared_gated=True), routers.DenseSoftmax())
    shared.load_state_dict(layer.state_dict(), strict=False)
    x = torch.randn(2, 7, H)
    part = shared.shared_expert_gate(x).sigmoid() * shared.shared_expert(x)
    torch.testing.assert_close(segment_routed(shared, x, 3)[0], segment_routed(layer, x, 3)[0] + part)
    assert bool(part.any())


def test_segments_never_look_ahead(layer):
    x = torch.randn(1, 9, H)
    whole, _ = segment_routed(layer, x, 3)
    for end in range(1, 9):
        changed = x.clone()
        changed[:, end:] = 7.0
        torch.testing.assert_close(segment_routed(layer, changed, 3)[0][:, :end], whole[:, :end])


@pytest.mark.parametrize("steps", [(1,) * 8, (5, 3), (2, 6), (8,)])
def test_going_on_from_a_segment_is_reading_at_once(layer, steps):
    x = torch.randn(2, 8, H)
    whole, last = segment_routed(layer, x, 3)
    segment, pieces = None, []
    for piece in x.split(list(steps), dim=1):
        y, segment = segment_routed(layer, piece, 3, segment)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole)
    torch.testing.assert_close(segment.weights, last.weights)
    assert segment.count == last.count == 2


def test_every_expert_and_the_gate_learn_from_every_segment(layer):
    segment_routed(layer, torch.randn(1, 6, H), 3)[0].square().sum().backward()
    assert bool((layer.experts.down_proj.grad.flatten(1).norm(dim=1) > 0).all())
    assert bool(layer.gate.weight.grad.any())
    with pytest.raises(InputError, match="segments of 0 tokens"):
        segment_routed(layer, torch.randn(1, 6, H), 0)


def problem(layer):
    """A two-class problem, and the loss of the layer with a linear head on it."""
    model = torch.nn.ModuleDict({"mixture": layer, "head": torch.nn.Linear(H, 2)})
    x = torch.randn(64, H)
    labels = (x[:, 0] * x[:, 1] > 0).long()

    def loss_of(inputs):
        return torch.nn.functional.cross_entropy(model["head"](inputs + model["mixture"](inputs).y), labels)

    return model, x, loss_of


def test_an_attack_stays_in_its_ball_and_hurts(layer):
    _, x, loss_of = problem(layer)
    moved = Attack(0.1)(loss_of, x)
    assert float((moved - x).abs().max()) <= 0.1 + 1e-6
    assert loss_of(moved).item() > loss_of(x).item()
    assert torch.equal(Attack(0.1, steps=0, rate=0.1)(loss_of, x), x)


class Noting(torch.optim.SGD):
    """Notes which parameters each step moved."""

    def step(self, closure=None):
        moved = [
            parameter for group in self.param_groups for parameter in group["params"] if parameter.grad is not None
        ]
        self.moved = [*getattr(self, "moved", []), {id(parameter) for parameter in moved}]
        return super().step(closure)


def test_each_half_of_a_robust_step_moves_its_own_part(layer):
    model, x, loss_of = problem(layer)
    router = {id(parameter) for name, parameter in model.named_parameters() if part_of(name) == "router"}
    others = {id(parameter) for parameter in model.parameters()} - router
    optimizer, calm = Noting(model.parameters(), lr=0.1, weight_decay=0.1), loss_of(x).item()
    met = robust_step(model, loss_of, x, optimizer, Attack(0.05, steps=2))
    assert optimizer.moved == [others, router]
    assert set(met) == {"all but the router", "router"}
    assert met["all but the router"] > calm + 1e-3  # it learned from the attacked input
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_robust_step_leaves_frozen_what_is_frozen(layer):
    model, x, loss_of = problem(layer)
    model["head"].requires_grad_(requires_grad=False)
    before = model["head"].weight.clone()
    robust_step(model, loss_of, x, torch.optim.SGD(model.parameters(), lr=0.1), Attack(0.05, steps=1))
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert {name for name, learns in flags.items() if not learns} == {"head.weight", "head.bias"}
    assert torch.equal(model["head"].weight, before)


def test_robust_training_lowers_the_loss_under_attack(layer):
    model, x, loss_of = problem(layer)
    attack = Attack(0.05, steps=3)
    before = loss_of(attack(loss_of, x)).item()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(30):
        robust_step(model, loss_of, x, optimizer, attack)
    assert loss_of(attack(loss_of, x)).item() < 0.6 * before
