"""A gate learns who is good at what, says what it is worth, and claims nothing inside the noise."""

import numpy as np
import pytest

from agents.gating import Balance, Recipe, Scored, examples, fit, load, save, top_k, top_p
from agents.gating.examples import Examples
from eot.errors import InputError
from evaluation.gating import judge

AGENTS = ("maths", "law", "poetry")


def world(count, seed, *, skilled=0.9, other=0.3):
    """Questions of three kinds as noisy unit vectors; each agent is good at one kind."""
    draw = np.random.default_rng(seed)
    kinds = draw.integers(3, size=count)
    vectors = np.eye(3, 8)[kinds] + draw.normal(0, 0.15, (count, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    chance = np.where(np.eye(3, dtype=bool)[kinds], skilled, other)
    rewards = (draw.random((count, 3)) < chance).astype(float)
    return Examples(tuple(f"q{seed}-{at}" for at in range(count)), AGENTS, rewards), vectors


@pytest.mark.parametrize("recipe", [Recipe(neighbours=30), Recipe("linear"), Recipe("linear", noise=0.5)], ids=str)
def test_a_gate_finds_the_specialist_and_its_gain_is_claimed(recipe):
    taught, seen = world(400, 1)
    test, unseen = world(300, 2)
    report = judge({"gate": fit(taught, seen, "e", recipe)}, test, unseen)
    gate, best, oracle, by_chance = report.routers
    assert gate.reward.mean == pytest.approx(0.9, abs=0.06)
    assert gate.vs_best.low > 0.2
    assert report.verdict.startswith("the gate gate gains")
    assert by_chance.reward.mean < best.reward.mean + 0.1 < gate.reward.mean < oracle.reward.mean
    assert report.preselected[0].routed == gate.reward
    assert report.preselected[1].gain.low > 0


@pytest.mark.parametrize(("rows", "neighbours"), [(20, 5), (56, 5), (70, 7), (400, 40), (5608, 100)])
def test_the_default_number_of_neighbours_follows_the_rows(rows, neighbours):
    found = Examples(tuple(f"q{at}" for at in range(rows)), AGENTS, np.ones((rows, 3)))
    assert fit(found, np.ones((rows, 1)), "e").model.neighbours == neighbours
    assert fit(found, np.ones((rows, 1)), "e", Recipe(neighbours=rows - 1)).model.neighbours == rows - 1
    with pytest.raises(InputError, match=f"take fewer, or leave the number out: {neighbours}"):
        fit(found, np.ones((rows, 1)), "e", Recipe(neighbours=rows))


def test_where_agents_are_good_at_the_same_things_no_gain_is_claimed():
    taught, seen = world(400, 1, skilled=0.6, other=0.6)
    test, unseen = world(300, 2, skilled=0.6, other=0.6)
    report = judge({"gate": fit(taught, seen, "e")}, test, unseen)
    assert report.verdict.startswith("no gain of the gate gate can be claimed")


def test_a_balance_loss_evens_the_load_and_costs_reward_where_agents_differ_in_quality():
    draw = np.random.default_rng(5)
    vectors = draw.normal(size=(600, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rewards = (draw.random((600, 3)) < [0.8, 0.6, 0.55]).astype(float)
    taught = Examples(("q",) * 600, AGENTS, rewards)
    loose, even = (fit(taught, vectors, "e", Recipe("linear", balance=by)).expected(vectors) for by in (0.0, 10.0))

    def spread(expected):
        return np.bincount(expected.argmax(axis=1), minlength=3).std()

    assert spread(even) < 0.7 * spread(loose)
    assert rewards[range(600), even.argmax(axis=1)].mean() < rewards[range(600), loose.argmax(axis=1)].mean()


def test_an_agent_that_no_neighbour_asked_falls_back_to_what_is_known_of_it_elsewhere():
    taught, seen = world(200, 3)
    rewards = taught.rewards.copy()
    near = seen[:, 0] > 0.7
    rewards[near, 1] = np.nan
    gate = fit(Examples(taught.questions, AGENTS, rewards), seen, "e", Recipe(neighbours=20))
    expected = gate.expected(np.eye(1, 8))[0]
    assert not np.isnan(expected).any()
    assert expected[1] == pytest.approx(np.nanmean(rewards[:, 1]), abs=0.05)


def test_harder_questions_are_put_to_more_agents():
    assert top_p(np.array([0.2, 0.95, 0.3]), 0.9, 3) == [1]
    assert top_p(np.array([0.6, 0.7, 0.2]), 0.85, 3) == [1, 0]
    assert top_p(np.array([0.1, 0.2, 0.1]), 0.9, 2) == [1, 0]
    assert top_k(np.array([0.5, 0.7, 0.5]), 2) == [1, 0]


def test_a_bias_on_selection_keeps_to_the_target_shares():
    balance = Balance([0.5, 0.3, 0.2])
    draw = np.random.default_rng(0)
    asked = [balance.pick(np.array([0.9, 0.6, 0.5]) + 0.1 * draw.random(3), 1)[0] for _ in range(4000)]
    assert np.bincount(asked[1000:]) / 3000 == pytest.approx([0.5, 0.3, 0.2], abs=0.03)


def test_an_agent_with_its_capacity_of_the_last_choices_is_passed_over_until_they_are_past():
    balance = Balance([0.5, 0.5], rate=0, capacity=1.2)
    expected = np.array([0.9, 0.6])
    asked = [balance.pick(expected, 1)[0] for _ in range(220)]
    assert asked[:60] == [0] * 60
    assert asked[60:100] == [1] * 40
    assert asked[101:160] == [0] * 59
    assert max(asked[at : at + 100].count(0) for at in range(121)) == 60
    assert not balance.full.all()
    even = Balance([0.5, 0.5], rate=0, capacity=1.0)
    assert [even.pick(expected, 2) for _ in range(200)] == [[0, 1]] * 200, "where all are full, the best are asked"
    never = Balance([1.0, 0.0], rate=0, capacity=1.0)
    assert never.pick(np.array([0.1, 0.9]), 1) == [0]
    tenth = Balance([0.1, 0.9], rate=0, capacity=1.1)
    assert [tenth.pick(expected, 1)[0] for _ in range(30)].count(0) == 11, "1.1 x 0.1 x 100, whatever floats make of it"


def test_a_gate_with_a_balance_spreads_its_picks_and_still_asks_as_few_as_are_needed():
    taught, seen = world(400, 1, skilled=0.9, other=0.85)
    gate = fit(taught, seen, "e", Recipe(neighbours=30))
    balance = Balance([0.8, 0.1, 0.1], rate=0.05)
    draw = np.random.default_rng(3)
    vectors = seen[draw.integers(len(seen), size=1500)]
    asked = [gate.pick(vector, AGENTS, most=1, balance=balance).agents[0] for vector in vectors]
    shares = [asked[500:].count(name) / 1000 for name in AGENTS]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.05)
    pick = gate.pick(seen[0], AGENTS, most=3, wanted=0.5, balance=balance)
    assert len(pick.agents) == 1
    assert max(pick.expected.values()) <= 1


def test_costs_that_the_questions_carry_are_those_of_who_is_asked():
    rows = [Scored(f"q{at}", {"a": 1.0, "b": 0.0}, {"a": 2.0} | ({"b": 10.0} if at % 2 else {})) for at in range(20)]
    found, vectors = examples(rows), np.tile(np.eye(1, 4), (20, 1))
    gate = {"g": fit(examples([Scored(f"taught {row.question}", row.scores) for row in rows]), vectors, "e")}
    report = judge(gate, found, vectors)
    assert report.routers[0].cost == 2.0
    assert report.routers[-1].cost is None, "of half of the questions nobody knows what b costs"
    assert (report.preselected[1].routed_cost, report.preselected[1].fixed_cost) == (None, None)
    whole = judge(gate, found.at(range(1, 20, 2)), vectors[1::2])
    assert (whole.routers[-1].cost, whole.preselected[1].fixed_cost) == (6, 12)
    assert judge(gate, found, vectors, {"a": 7}).routers[0].cost == 7
    bare = Examples(found.questions, found.agents, found.rewards)
    assert judge(gate, bare, vectors).routers[0].cost is None
    assert judge(gate, bare, vectors).preselected[0].routed_cost is None


def test_who_asks_the_unpriced_agent_is_not_shown_as_cheap():
    taught, seen = world(100, 1)
    test, unseen = world(100, 2)
    right = Examples(test.questions, AGENTS, np.tile([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], (50, 1)))
    report = judge({"g": fit(taught, seen, "e")}, right, unseen, {"law": 2, "poetry": 1})
    costs = {router.name: router.cost for router in report.routers}
    assert costs["oracle"] is None, "it asks maths half of the time"
    assert costs["random"] is None
    assert costs["best single (poetry)"] == 1


def test_of_agents_that_are_all_right_the_oracle_asks_the_cheapest():
    taught, seen = world(100, 1)
    test, unseen = world(100, 2)
    right = Examples(test.questions, AGENTS, np.tile([1.0, 0.0, 1.0], (100, 1)))
    oracle = judge({"g": fit(taught, seen, "e")}, right, unseen, {"maths": 5, "law": 1, "poetry": 3}).routers[2]
    assert (oracle.name, oracle.cost, oracle.reward.mean) == ("oracle", 3, 1)


@pytest.mark.parametrize("recipe", [Recipe(), Recipe("linear")], ids=str)
def test_who_was_seldom_asked_is_not_taken_for_one_who_was_wrong(recipe):
    """B is right on 87.5 % of the 40 questions it was asked, A on 60 % of all 400."""
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(400, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rewards = np.stack([np.arange(400) % 5 < 3, np.full(400, np.nan)], axis=1).astype(float)
    rewards[::10, 1] = np.arange(40) % 8 > 0
    found = Examples(tuple(f"q{at}" for at in range(400)), ("A", "B"), rewards)
    gate = fit(found, vectors, "e", recipe)
    picked = gate.expected(vectors).argmax(axis=1)
    assert picked.mean() > 0.9, "B is better wherever it is known"
    assert gate.means == pytest.approx([242.5 / 405, 37.5 / 45])


def test_a_verdict_rests_on_questions_that_every_agent_was_scored_on():
    taught, seen = world(400, 1)
    test, unseen = world(300, 2)
    gate = {"g": fit(taught, seen, "e")}
    partial = test.rewards.copy()
    partial[::2, 0] = np.nan
    report = judge(gate, Examples(test.questions, AGENTS, partial), unseen)
    whole = judge(gate, test.at(range(1, 300, 2)), unseen[1::2])
    assert (report.questions, report.half_scored, report.already_taught) == (150, 150, 0)
    assert (report.routers, report.verdict) == (whole.routers, whole.verdict)
    partial[:290, 1] = np.nan
    assert judge(gate, Examples(test.questions, AGENTS, partial), unseen).verdict.startswith(
        "nothing can be said of the gate g on 5 questions"
    )
    partial[:, 1] = np.nan
    none = judge(gate, Examples(test.questions, AGENTS, partial), unseen)
    assert (none.questions, none.routers, none.preselected) == (0, (), ())
    assert "on 0 questions: 10 or more are needed" in none.verdict


def test_a_question_that_comes_again_is_one_question_with_the_mean_of_its_scores():
    taught, seen = world(400, 1)
    test, unseen = world(60, 2)
    gate = {"g": fit(taught, seen, "e")}
    once = judge(gate, test, unseen)
    twice = Examples(
        (*test.questions, *(f"{question} " for question in test.questions)), AGENTS, np.vstack([test.rewards] * 2)
    )
    again = judge(gate, twice, np.vstack([unseen] * 2))
    assert (again.questions, again.repeated) == (60, 60)
    assert (again.routers, again.preselected) == (once.routers, once.preselected)
    other = Examples(twice.questions, AGENTS, np.vstack([test.rewards, 1 - test.rewards]))
    assert {router.reward.mean for router in judge(gate, other, np.vstack([unseen] * 2)).routers} == {0.5}


def test_questions_that_a_gate_was_taught_say_nothing_of_it(tmp_path):
    taught, seen = world(200, 1)
    test, unseen = world(100, 2)
    save(fit(taught, seen, "e", Recipe("linear")), tmp_path / "g.npz")
    both = Examples(
        (*(f" {question}\n" for question in taught.questions), *test.questions),
        AGENTS,
        np.vstack([taught.rewards, test.rewards]),
    )
    report = judge({"g": load(tmp_path / "g.npz")}, both, np.vstack([seen, unseen]))
    assert (report.questions, report.already_taught, report.learnt_from) == (100, 200, 200)
    means = (taught.rewards.sum(axis=0) + 2.5) / 205
    assert list(report.agents.values()) == pytest.approx(means)
    assert report.routers[1].name == f"best single ({AGENTS[means.argmax()]})"


@pytest.mark.parametrize("recipe", [Recipe(), Recipe("linear")], ids=str)
def test_a_gate_survives_its_file(tmp_path, recipe):
    taught, seen = world(400, 1)
    gate = fit(taught, seen, "minilm", recipe)
    save(gate, tmp_path / "gates" / "g.npz")
    again = load(tmp_path / "gates" / "g.npz")
    assert (again.agents, again.embedder, again.learnt_from) == (AGENTS, "minilm", 400)
    assert again.expected(seen) == pytest.approx(gate.expected(seen), abs=1e-5)
    pick = again.pick(np.eye(1, 8)[0], ["law", "maths", "stranger"], most=1)
    assert pick.agents == ("maths",)
    assert set(pick.expected) == {"law", "maths"}


def test_options_of_the_other_method_are_refused():
    for method, more in (("linear", {"neighbours": 5}), ("knn", {"noise": 0.5}), ("knn", {"balance": 1.0})):
        with pytest.raises(InputError, match=r"or take the method (knn|linear)"):
            Recipe(method, **more)


def test_what_cannot_work_is_refused_with_what_would_be_right(tmp_path):
    taught, seen = world(100, 1)
    gate = fit(taught, seen, "minilm")
    with pytest.raises(InputError, match=r"vectors of 8 numbers by minilm.*train the gate again"):
        gate.expected(np.eye(1, 3))
    with pytest.raises(InputError, match="none of stranger"):
        gate.pick(np.eye(1, 8)[0], ["stranger"], most=1)
    with pytest.raises(InputError, match="there is no gate 'g': train one"):
        load(tmp_path / "g.npz")
    for content in (b"", b"PK\x03\x04 no archive", b"\x93NUMPY"):
        (tmp_path / "g.npz").write_bytes(content)
        with pytest.raises(InputError, match="is no gate of eot, or is damaged"):
            load(tmp_path / "g.npz")
    with pytest.raises(InputError, match="3 scored questions are too few"):
        examples([Scored(f"q{at % 3}", {"a": 1.0}) for at in range(40)])
    with pytest.raises(InputError, match=r"row 1: the score of a is 7"):
        examples([Scored("q", {"a": 7.0})] * 12)
    with pytest.raises(InputError, match="nobody scored zed; scored are maths"):
        taught.of(["zed"])
