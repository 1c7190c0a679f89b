"""Routers, losses and capacity of the reference layer, against numbers worked by hand."""

import math

import pytest

from eot.errors import InputError

torch = pytest.importorskip("torch", reason="needs the extra eot[torch]")
from local_models.moe import losses, routers  # noqa: E402
from local_models.moe.capacity import Capacity, limited, queue  # noqa: E402
from local_models.moe.feed_forward import Sizes  # noqa: E402
from local_models.moe.layer import MoELayer  # noqa: E402
from local_models.moe.routers.route import Route  # noqa: E402

pytestmark = pytest.mark.torch
LN2, LN3, LN4 = math.log(2), math.log(3), math.log(4)


def gate_of(rows, **wanted):
    """A gate whose logits are its input: each token is its own row of logits."""
    gate = routers.Gate(len(rows[0]), len(rows[0]), **wanted)
    with torch.no_grad():
        gate.weight.copy_(torch.eye(len(rows[0])))
    return gate


def routed(router, rows, *, training=False, sequences=1, **gate):
    made = gate_of(rows, noisy=router.noisy, biased=router.biased)
    for name, value in gate.items():
        getattr(made, name).data.copy_(torch.tensor(value))
    return router(made, torch.tensor(rows), training=training, sequences=sequences)


def close(value, expected, atol=1e-6):
    found = torch.as_tensor(value).detach().float()
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=atol)


# Softmax of (0, ln 2, ln 3) is (1, 2, 3)/6; of (ln 3, 0, ln 4) it is (3, 1, 4)/8.
ROWS = [[0.0, LN2, LN3], [LN3, 0.0, LN4]]


def test_the_dense_gate_asks_all_with_their_probabilities():
    route = routed(routers.DenseSoftmax(), ROWS)
    assert route.experts.tolist() == [[2, 1, 0], [2, 0, 1]]
    close(route.weights, [[3 / 6, 2 / 6, 1 / 6], [4 / 8, 3 / 8, 1 / 8]])


def test_mixtral_normalises_its_two_and_qwen_does_not():
    close(routed(routers.Mixtral(), ROWS).weights, [[3 / 5, 2 / 5], [4 / 7, 3 / 7]])
    close(routed(routers.Mixtral(normalised=False), ROWS).weights, [[3 / 6, 2 / 6], [4 / 8, 3 / 8]])


def test_mixtrals_loss_is_the_one_of_transformers():
    load_balancing_loss_func = pytest.importorskip(
        "transformers.models.mixtral.modeling_mixtral"
    ).load_balancing_loss_func
    torch.manual_seed(0)
    rows = torch.randn(40, 6)
    route = routers.Mixtral(balance=1.0)(gate_of(rows.tolist()), rows, training=True)
    theirs = load_balancing_loss_func((route.logits,), 6, 2)
    torch.testing.assert_close(route.loss, theirs)


def test_the_balance_loss_and_its_gradient_are_those_worked_by_hand():
    # P = mean((1,2,3)/6, (3,1,4)/8) = (13, 11, 24)/48; first choices f = (0, 0, 1): 3 * 24/48.
    scores = torch.tensor([[1 / 6, 2 / 6, 3 / 6], [3 / 8, 1 / 8, 4 / 8]], requires_grad=True)
    loss = losses.balance(scores, torch.tensor([[2], [2]]))
    close(loss, 1.5)
    loss.backward()
    close(scores.grad, [[0.0, 0.0, 1.5], [0.0, 0.0, 1.5]])  # E f_i / T
    # Two choices each, f = (1/4, 1/4, 1/2): 3 (13/4 + 11/4 + 24/2)/48 = 54/48.
    close(losses.balance(scores.detach(), torch.tensor([[2, 1], [2, 0]])), 54 / 48)


def test_an_even_load_has_balance_one():
    scores = torch.full((4, 4), 0.25)
    close(losses.balance(scores, torch.arange(4)[:, None]), 1.0)
    close(losses.device_balance(scores, torch.arange(4)[:, None], 2), 1.0)


def test_switch_keeps_the_probability_so_that_a_gradient_reaches_the_gate():
    router = routers.Switch(jitter=0.0, balance=1.0, z=1.0)
    gate = gate_of(ROWS)
    route = router(gate, torch.tensor(ROWS), training=True)
    assert route.experts.tolist() == [[2], [2]]
    close(route.weights, [[3 / 6], [4 / 8]])
    close(route.losses["balance"], 1.5)
    # logsumexp: ln 6 and ln 8.
    close(route.losses["z"], (math.log(6) ** 2 + math.log(8) ** 2) / 2)
    (slope,) = torch.autograd.grad(route.weights[0, 0], route.logits)
    close(slope, [[-1 / 12, -2 / 12, 3 / 12], [0.0, 0.0, 0.0]])  # p_2 (1[i = 2] - p_i)


def test_jitter_multiplies_what_the_router_reads_while_it_trains():
    router, rows = routers.Switch(jitter=0.25), [[1.0, 2.0, 4.0]] * 500
    still, shaken = routed(router, rows), routed(router, rows, training=True)
    factors = (shaken.logits / still.logits).detach()
    assert 0.75 <= float(factors.min()) < 0.76
    assert 1.24 < float(factors.max()) <= 1.25


def test_gshards_second_expert_is_asked_as_often_as_twice_its_weight():
    router = routers.GShard(balance=1.0)
    even = routed(router, [[0.0, 0.0, -50.0]] * 50, training=True)
    assert bool((even.experts[:, 1] < 3).all())  # 2 * 1/2 = 1 is above every draw
    seldom = routed(router, [[LN3, 0.0, -50.0]] * 4000, training=True)  # 3/4 and 1/4: asked half of the time
    assert 0.46 < float((seldom.experts[:, 1] == 1).float().mean()) < 0.54
    assert routed(router, [[LN3, 0.0, -50.0]]).experts.tolist() == [[0, 1]]  # no draw outside of training
    rows = [[LN3, 0.0, -50.0]] * 6
    gate = gate_of(rows)
    torch.manual_seed(5)
    draws = torch.rand(6)
    torch.manual_seed(5)
    asked = router(gate, torch.tensor(rows), training=True).experts[:, 1] == 1
    assert asked.tolist() == (draws < 0.5).tolist()


def test_noisy_top_k_without_noise_is_a_softmax_over_the_kept():
    close(routed(routers.NoisyTopK(), ROWS).weights, [[3 / 5, 2 / 5], [4 / 7, 3 / 7]])


def test_the_importance_loss_is_the_squared_variation_of_the_gates_sums():
    # Sums (3, 1): mean 2, variance 1.
    close(losses.importance(torch.tensor([[1.0, 0.0], [2.0, 1.0]])), 0.25)
    assert float(losses.cv_squared(torch.ones(5))) == 0


def test_the_smooth_load_is_the_chance_to_be_chosen_again():
    # k = 1 of (2, 1, 0), spread 1, no noise drawn: thresholds (1, 2, 2), P = Phi(1), Phi(-1), Phi(-2).
    clean = torch.tensor([[2.0, 1.0, 0.0]])
    chances = [0.8413447460685429, 0.15865525393145707, 0.02275013194817921]
    mean = sum(chances) / 3
    expected = sum((one - mean) ** 2 for one in chances) / 3 / mean**2
    close(losses.smooth_load(clean, clean, torch.ones(1, 3), 1), expected)


def test_noise_and_its_losses_are_for_training_only():
    router = routers.NoisyTopK(k=1)
    rows = [[0.0, 0.0, 0.0, 0.1]] * 400
    calm, noisy = routed(router, rows), routed(router, rows, training=True)
    assert calm.load.tolist() == [0, 0, 0, 400]
    assert int(noisy.load.min()) > 50  # softplus(0) = 0.69 of noise
    assert set(noisy.losses) == {"importance", "load"}
    assert not calm.losses
    assert set(routed(routers.NoisyTopK(k=4), rows, training=True).losses) == {"importance"}  # nobody left out


def test_deepseek_v3_chooses_with_its_bias_and_weighs_without():
    # Sigmoids of (0, ln 3, -ln 3) are (1/2, 3/4, 1/4).
    router = routers.DeepSeekV3(k=2, scale=2.0, sequence=1.0)
    row = [[0.0, LN3, -LN3]]
    assert routed(router, row).experts.tolist() == [[1, 0]]
    route = routed(router, row, e_score_correction_bias=[-1.0, 0.0, 0.5])
    assert route.experts.tolist() == [[1, 2]]
    close(route.weights, [[2 * 0.75, 2 * 0.25]])
    # Unit scores (2, 3, 1)/6, chosen 1 and 2: E/K (3/6 + 1/6) = 3/2 * 4/6.
    close(route.losses["sequence"], 1.0)


def test_deepseek_v3_balances_sequence_by_sequence():
    rows = [[LN3, -LN3], [LN3, -LN3], [-LN3, LN3], [-LN3, LN3]]  # even over both, not within either
    router = routers.DeepSeekV3(k=1, sequence=1.0)
    close(routed(router, rows).losses["sequence"], 1.0)
    close(routed(router, rows, sequences=2).losses["sequence"], 1.5)  # 2 * 3/4 in each


def test_deepseek_v3s_groups_stand_by_their_two_best():
    # Group sums of the two best: (0.9 + 0.1) < (0.6 + 0.6): the best single expert stands outside.
    scores = torch.tensor([[0.9, 0.1, 0.6, 0.6]])
    router = routers.DeepSeekV3(k=2, groups=2, kept_groups=1)
    route = routed(router, scores.logit().tolist())
    assert sorted(route.experts[0].tolist()) == [2, 3]


def test_deepseek_v3s_bias_moves_against_the_load_by_its_speed():
    router = routers.DeepSeekV3(k=1, speed=0.125)
    gate = gate_of([[0.0, 0.0, 0.0]], biased=True)
    router.adapt(gate, torch.tensor([6, 2, 4]))
    close(gate.e_score_correction_bias, [-0.125, 0.125, 0.0])


def test_deepseek_v3s_bias_evens_a_lopsided_load_without_any_loss():
    torch.manual_seed(0)
    rows = torch.randn(256, 4) + torch.tensor([2.0, 0.0, 0.0, 0.0])
    router, gate = routers.DeepSeekV3(k=1, speed=0.01), gate_of(rows.tolist(), biased=True)
    before = router(gate, rows, training=True).violation
    for _ in range(100):
        router.adapt(gate, router(gate, rows, training=True).load)
    assert before > 1.5
    assert router(gate, rows, training=True).violation < 0.15


def test_deepseek_v3_routes_as_transformers_does():
    modeling = pytest.importorskip("transformers.models.deepseek_v3.modeling_deepseek_v3")
    config = modeling.DeepseekV3Config(
        hidden_size=8, n_routed_experts=8, num_experts_per_tok=3, n_group=4, topk_group=2, routed_scaling_factor=2.5
    )
    torch.manual_seed(0)
    theirs = modeling.DeepseekV3TopkRouter(config)
    torch.nn.init.normal_(theirs.weight)
    torch.nn.init.normal_(theirs.e_score_correction_bias, std=0.1)
    x = torch.randn(50, 8)
    _, weights, experts = theirs(x)
    gate = routers.Gate(8, 8, biased=True)
    gate.load_state_dict(theirs.state_dict())
    ours = routers.DeepSeekV3(k=3, groups=4, kept_groups=2)(gate, x, training=False)
    dense = torch.zeros(50, 8)
    torch.testing.assert_close(
        dense.scatter(1, ours.experts, ours.weights.detach()), dense.scatter(1, experts, weights.detach())
    )


def test_deepseek_moe_does_not_normalise_and_counts_its_devices():
    route = routed(routers.DeepSeekMoE(k=2, balance=1.0), ROWS)
    close(route.weights, [[3 / 6, 2 / 6], [4 / 8, 3 / 8]])
    close(route.losses["balance"], 54 / 48)
    # Four experts on two devices; all four choices on device 0: f' = (2, 0), P' = (3/4, 1/4).
    scores = torch.tensor([[0.5, 0.25, 0.125, 0.125]] * 2)
    close(losses.device_balance(scores, torch.tensor([[0, 1], [0, 1]]), 2), 1.5)


def test_fine_grained_experts_keep_the_flops_and_set_the_shared_aside():
    made = routers.fine_grained(16, 2, 1024, parts=4, shared=1)
    assert made == routers.FineGrained(experts=63, active=7, inner=256, shared=256)
    assert (made.active * made.inner + made.shared) == 2 * 1024
    with pytest.raises(InputError, match="m = 3"):
        routers.fine_grained(16, 2, 1024, parts=3)
    with pytest.raises(InputError, match="one at least must be chosen"):
        routers.fine_grained(16, 2, 1024, parts=4, shared=8)


def test_expert_choice_fills_every_expert_alike():
    # Both tokens like expert 0 best; each of two experts takes its one best token.
    route = routed(routers.ExpertChoice(factor=1.0), [[LN4, 0.0], [LN3, 0.0]])
    assert route.experts.tolist() == [[0], [1]]
    close(route.weights, [[4 / 5], [1 / 4]])
    both = routed(routers.ExpertChoice(factor=1.0), [[LN4, 0.0, 9.0], [LN3, 0.0, 9.0], [5.0, 5.0, 0.0]])
    assert both.experts[2].tolist() == [0, 1]  # one token twice, another not at all
    assert both.load.tolist() == [1, 1, 1]
    assert not routers.ExpertChoice.causal


def test_top_p_asks_more_experts_for_harder_tokens():
    # (3, 1)/4 reaches 0.7 at once; (2, 1, 1)/4 needs two; an even row of four needs three.
    hard = [[LN3 + LN2, LN2, 0.0, -50.0], [LN2, 0.0, 0.0, -50.0], [0.0, 0.0, 0.0, 0.0]]
    route = routed(routers.DynamicTopP(p=0.7, entropy=1.0, balance=0.0), hard)
    assert (route.experts < 4).sum(-1).tolist() == [2, 2, 3]  # 6/9 = 0.67 < 0.7
    close(route.weights[1], [0.5, 0.25, 0.0])
    ninths = -(6 / 9 * math.log(6 / 9) + 2 / 9 * math.log(2 / 9) + 1 / 9 * math.log(1 / 9))
    close(route.losses["entropy"], (ninths + 1.5 * LN2 + LN4) / 3, atol=1e-5)
    assert routed(routers.DynamicTopP(p=0.7, most_k=1), hard).experts.shape == (3, 1)
    assert routed(routers.DynamicTopP(p=1e-9), hard).experts.shape == (3, 1)  # never nobody


def test_the_bias_keeps_its_small_steps_in_a_model_of_half_precision():
    router = routers.DeepSeekV3(k=1)
    gate = gate_of([[0.0, 0.0]], biased=True)
    gate.e_score_correction_bias += 1.0
    gate.to(torch.bfloat16)
    assert (gate.weight.dtype, gate.e_score_correction_bias.dtype) == (torch.bfloat16, torch.float32)
    router.adapt(gate, torch.tensor([2, 0]))
    close(gate.e_score_correction_bias, [0.999, 1.001])
    assert gate.double().e_score_correction_bias.dtype == torch.float64


def test_jitter_goes_both_ways_in_half_precision():
    router, x = routers.Switch(jitter=0.01), torch.ones(500, 2, dtype=torch.bfloat16)
    logits = router(gate_of([[0.0, 0.0]]).to(torch.bfloat16), x, training=True).logits.detach()
    assert 0.99 <= float(logits.min()) < 0.995
    assert 1.005 < float(logits.max()) <= 1.01


@pytest.mark.parametrize(
    ("router", "part"),
    [(routers.NoisyTopK(k=1), "noise_weight"), (routers.DeepSeekV3(k=1), "e_score_correction_bias")],
)
def test_what_is_really_ranked_must_be_numbers(router, part):
    gate = gate_of([[0.0, 0.0]], noisy=router.noisy, biased=router.biased)
    getattr(gate, part).data.fill_(float("nan"))
    with pytest.raises(InputError, match="NaN"):
        router(gate, torch.ones(3, 2), training=True)


def test_choices_queue_in_token_order():
    assert queue(torch.tensor([1, 0, 1, 1, 0, 2]), 2).tolist() == [0, 0, 1, 2, 1, 0]


def test_a_full_expert_turns_later_tokens_away_first_choices_first():
    experts = torch.tensor([[0, 1], [0, 1], [0, 2], [1, 0]])
    route = Route(torch.zeros(4, 3), torch.zeros(4, 3), experts, torch.ones(4, 2))
    kept = limited(route, 2)
    # Expert 0 has its two first choices; expert 1 its one first choice (token 3) and token 0's second.
    assert kept.experts.tolist() == [[0, 1], [0, 3], [3, 2], [1, 3]]
    assert kept.overflow == 3
    assert kept.load.tolist() == [2, 2, 1]
    assert limited(route, 0).experts.tolist() == [[3, 3]] * 4
    assert limited(route, 0).overflow == 8


def test_capacity_is_counted_as_gshard_counts_it_and_follows_its_schedule():
    capacity = Capacity(train=((0, 2.0), (100, 1.0)), evaluation=4.0, least=4)
    assert capacity.places(128, 8, training=True) == 32  # 2 * 64 * 2.0 / 8
    assert capacity.places(128, 8, training=True, step=50) == 24
    assert capacity.places(128, 8, training=True, step=999) == 16
    assert capacity.places(128, 8, training=False) == 64
    assert capacity.places(3, 8, training=True) == 4
    assert Capacity().places(10, 4, training=True) == 4  # ceil(10 * 1.25 / 4)
    assert Capacity(train=((0, 1.1),)).places(50, 5, training=True) == 11  # in floats it is a little more
    assert Capacity(train=((0, 1.0), (10, 1.2))).places(50, 5, training=True, step=5) == 11
    assert routers.route.places(50, 1.1, 5) == 11
    for wrong in ((), ((5, 1.0), (5, 2.0)), ((0, -1.0),), ((0, math.nan),), ((0, math.inf),)):
        with pytest.raises(InputError, match="schedule"):
            Capacity(train=wrong)
    with pytest.raises(InputError, match="schedule"):
        Capacity(evaluation=math.nan)
    with pytest.raises(InputError, match="least = -3"):
        Capacity(least=-3)


@pytest.mark.parametrize(
    ("router", "experts", "match"),
    [
        (routers.Mixtral(k=5), 4, "k = 5"),
        (routers.Mixtral(k=0), 4, "k = 0"),
        (routers.NoisyTopK(k=3), 2, "k = 3"),
        (routers.GShard(), 1, "k = 2"),
        (routers.DeepSeekMoE(k=2, devices=3), 4, "3 devices"),
        (routers.DeepSeekV3(k=4, groups=4, kept_groups=1), 8, "k = 4"),
        (routers.DeepSeekV3(k=1, groups=3), 8, "3 equal groups"),
        (routers.DynamicTopP(p=0.0), 4, "p = 0"),
        (routers.ExpertChoice(factor=math.nan), 4, "factor = nan"),
        (routers.DynamicTopP(most_k=9), 4, "k = 9"),
        (routers.DynamicTopP(most_k=0), 4, "most_k = 0"),
        (routers.DeepSeekMoE(k=2, devices=0), 4, "devices = 0: a finite number of 1 or more"),
        (routers.DeepSeekV3(k=2, groups=0), 4, "groups = 0"),
        (routers.DeepSeekV3(k=2, scale=math.nan), 4, "scale = nan: a finite number of 0 or more"),
        (routers.Switch(jitter=-1), 4, "jitter = -1"),
        (routers.Switch(balance=math.nan), 4, "balance = nan"),
        (routers.NoisyTopK(load=math.inf), 4, "load = inf"),
    ],
)
def test_a_router_whose_numbers_cannot_be_is_refused(router, experts, match):
    with pytest.raises(InputError, match=match):
        MoELayer(Sizes(8, 8, experts), router)


@pytest.mark.parametrize("router", [routers.Switch(jitter=0, balance=0, z=0), routers.DeepSeekMoE(k=2, balance=0)])
def test_what_weighs_nothing_may_be_a_whole_number(router):
    assert MoELayer(Sizes(8, 8, 4), router)(torch.randn(3, 8)).route.loss == 0


@pytest.mark.parametrize("name", sorted(routers.ROUTERS))
def test_numbers_that_are_none_are_refused_by_every_router(name):
    router = routers.ROUTERS[name]()
    rows = [[0.0] * 8, [float("nan")] + [0.0] * 7]
    with pytest.raises(InputError, match="NaN"):
        routed(router, rows)
    with pytest.raises(InputError, match="NaN"):
        routed(router, [[float("inf")] + [0.0] * 7])


@pytest.mark.parametrize("name", sorted(routers.ROUTERS))
def test_only_causal_routers_route_a_token_alike_whatever_follows(name):
    router = routers.ROUTERS[name]()
    torch.manual_seed(1)
    rows = torch.randn(12, 8)
    gate = gate_of(rows.tolist(), noisy=router.noisy, biased=router.biased)
    whole, begun = (router(gate, part, training=False) for part in (rows, rows[:5]))
    spread = [torch.zeros(len(r.experts), 9).scatter(1, r.experts, r.weights.detach())[:, :8] for r in (whole, begun)]
    assert torch.equal(spread[0][:5], spread[1]) == router.causal
