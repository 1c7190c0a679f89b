"""Branches, routers and reports on tiny models of two made-up languages: what is trained, what stays, what resumes."""

import json
from dataclasses import replace
from itertools import permutations

import pytest

from eot.errors import InputError, WeightsError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from fusion_models import byte_level  # noqa: E402  (it imports torch)
from moe_models import branch, dense, loaded, logits, with_tokenizer  # noqa: E402

from local_models.moe.branches import feed_forward, train_branch  # noqa: E402
from local_models.moe.build import Source, build, random_gate  # noqa: E402
from local_models.moe.corpora import Corpus, documents, read_corpus  # noqa: E402
from local_models.moe.descent import Schedule, Task, descend  # noqa: E402
from local_models.moe.explain import explain  # noqa: E402
from local_models.moe.journey import Journey, Plan  # noqa: E402
from local_models.moe.judge import judge_mixture, losses  # noqa: E402
from local_models.moe.recipe import recipe  # noqa: E402
from local_models.moe.routing import Routed, balance_loss, load_of, routers_of, watched, z_loss  # noqa: E402
from local_models.moe.train import RouterLosses, Training, train_mixture, trained_of, used_experts  # noqa: E402

pytestmark = pytest.mark.torch


def language(start, step, rows=24, length=32):
    """Rows in which each token is the one before it plus `step`, among 32 tokens from `start` on."""
    torch.manual_seed(start)
    begin = torch.randint(0, 32, (rows, 1))
    return (begin + step * torch.arange(length)) % 32 + start


def corpora():
    """`up` and `down` are spoken with other tokens, so that a router can tell them apart."""
    return [
        Corpus(name, language(*how)[:18], language(*how)[18:], f"{name}.txt", (1, 1))
        for name, how in {"up": (0, 1), "down": (32, -3)}.items()
    ]


def mean_of(values):
    return sum(values) / len(values)


class KilledError(Exception):
    """As if the process had been killed at this step."""


def test_a_training_that_is_killed_and_goes_on_ends_where_an_uninterrupted_one_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("local_models.moe.descent._SAVE_SECONDS", 0.0)
    base = dense("llama", tmp_path / "base")
    windows, schedule = language(0, 1), Schedule(tokens=32 * 12, batch=2, rate=1e-2)
    whole = loaded(base.folder)
    straight = descend(whole, Task("t", feed_forward(whole)), windows, schedule)

    def die(step):
        if step.step == 4:
            raise KilledError

    first = loaded(base.folder)
    state = tmp_path / "state.safetensors"
    with pytest.raises(KilledError):
        descend(first, Task("t", feed_forward(first)), windows, schedule, state=state, watch=die)
    again = loaded(base.folder)
    made = descend(again, Task("t", feed_forward(again)), windows, schedule, state=state)
    assert made == straight
    assert torch.equal(logits(again), logits(whole))
    with pytest.raises(InputError, match="other settings, texts or weights"):
        descend(again, Task("t", feed_forward(again)), windows, Schedule(tokens=64), state=state)
    state.write_bytes(b"\x08\0\0\0\0\0\0\0{")
    with pytest.raises(WeightsError, match="is damaged"):
        descend(again, Task("t", feed_forward(again)), windows, schedule, state=state)


def test_a_training_goes_on_with_its_own_mixture_and_losses_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("local_models.moe.descent._SAVE_SECONDS", 0.0)
    base, out = dense("llama", tmp_path / "base", num_hidden_layers=1), tmp_path / "out"
    one, other = (
        build(base, [], recipe(0, copies=2, active=2), random_gate(1, 2, 32, seed), tmp_path / f"moe{seed}").folder
        for seed in (0, 1)
    )
    asked = Training("router", Schedule(tokens=32 * 4, rate=1e-2))

    def die(step):
        if step.step == 2:
            raise KilledError

    with pytest.raises(KilledError):
        train_mixture(one, loaded(one), language(0, 1), asked, out, watch=die)
    for folder, training in (
        (other, asked),
        (one, replace(asked, losses=RouterLosses(balance=0.5))),
        (one, replace(asked, what="experts")),
    ):
        with pytest.raises(InputError, match="other settings, texts or weights"):
            train_mixture(folder, loaded(folder), language(0, 1), training, out)
    assert len(train_mixture(one, loaded(one), language(0, 1), asked, out)) == 4


def test_a_journey_goes_on_only_with_its_own_base_and_texts(tmp_path):
    base = dense("llama", tmp_path / "base", num_hidden_layers=1)
    up, down = corpora()

    def begin(*read):
        Journey(base, read, Plan(), tmp_path / "work", tmp_path)._begin()

    begin(up, down)
    begin(up, down)
    with pytest.raises(InputError, match="other options or texts"):
        begin(up, replace(down, held=down.held[:3]))
    dense("llama", tmp_path / "base", num_hidden_layers=1, seed=1)  # another one under the same name
    with pytest.raises(InputError, match="another base"):
        begin(up, down)


def test_esft_looks_at_every_domain_whatever_their_order(tmp_path):
    base = dense("llama", tmp_path / "base")
    built = build(base, [], recipe(0, copies=6, active=2), 5 * random_gate(3, 6, 32), tmp_path / "moe")
    model = loaded(built.folder)
    domains = [language(0, 1), language(32, -3), language(16, 5)]
    found = [used_experts(model, torch.cat(order)) for order in permutations(domains)]
    assert found == [found[0]] * 6
    assert any(used_experts(model, domain) != found[0] for domain in domains)


def test_a_branch_learns_its_domain_and_shares_all_but_the_feed_forward_layers_to_the_bit(tmp_path):
    base = dense("llama", tmp_path / "base")
    up, down = corpora()
    model = loaded(base.folder)
    before = losses(model, up.held), losses(model, down.held)
    train_branch(base.folder, model, up, Schedule(tokens=32 * 40, rate=1e-2), tmp_path / "up")
    made = loaded(tmp_path / "up")
    assert mean_of(losses(made, up.held)) < mean_of(before[0]) - 1
    assert mean_of(losses(made, down.held)) > mean_of(before[1]) - 0.5
    for (name, mine), theirs in zip(made.named_parameters(), loaded(base.folder).parameters(), strict=True):
        assert torch.equal(mine, theirs) == (".mlp." not in name), name
    card = json.loads((tmp_path / "up" / "branch.json").read_text())
    assert (card["domain"], card["tokens"], len(card["losses"])) == ("up", 1280, 40)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "up"]


def test_a_journey_ends_with_a_mixture_that_knows_both_domains_and_a_report_beside_all_others(tmp_path):
    base = dense("llama", tmp_path / "base", num_hidden_layers=2)
    with_tokenizer(base.folder)
    plan = Plan(
        branch=Schedule(tokens=32 * 40, rate=1e-2), router=Schedule(tokens=32 * 20, rate=1e-2),
        trains=("router", "experts-frozen"),
    )  # fmt: skip
    said = []
    journey = Journey(base, corpora(), plan, tmp_path / "work", tmp_path / "home", tell=said.append)
    report = json.loads(json.dumps(journey.run()))

    def loss(system, domain):
        return mean_of(report["systems"][system]["losses"][domain])

    def mean(system):
        return (loss(system, "up") + loss(system, "down")) / 2

    best = (loss("branch up", "up") + loss("branch down", "down")) / 2
    ridge = mean("ridge gate, 1 active")
    assert best - 0.05 < ridge < mean("weight average") - 0.3
    assert mean("ridge gate, 2 active") < mean("random gate, 2 active") - 0.1
    assert mean("router trained, 2 active") <= mean("ridge gate, 2 active") + 0.05
    assert mean("experts-frozen trained, 2 active") < mean("ridge gate, 2 active")
    shares = report["systems"]["ridge gate, 1 active"]["spread"]
    assert min(layer[0] for layer in shares["up"]["shares"]) > 0.7
    assert min(layer[1] for layer in shares["down"]["shares"]) > 0.7
    assert json.loads((tmp_path / "work" / "report.json").read_text()) == report
    assert report["retaught"] == ["up", "down"]
    assert any("of up, down there is no more text than the branches learnt from" in line for line in said)
    said.clear()
    again = Journey(base, corpora(), plan, tmp_path / "work", tmp_path / "home", tell=said.append).run()
    assert json.loads(json.dumps(again)) == report
    assert said == []
    card = json.loads((journey.mixture / "moe.json").read_text())
    assert (card["experts"], card["trained"][0]["what"]) == (["up", "down"], "router")


def test_only_the_domains_whose_windows_all_went_to_their_branch_are_taught_them_again(tmp_path):
    base = dense("llama", tmp_path / "base", num_hidden_layers=1)
    with_tokenizer(base.folder)
    up, down = corpora()
    up = replace(up, taught=up.taught[:3])
    said, one = [], Schedule(tokens=32 * 3, rate=1e-2)
    journey = Journey(base, [up, down], Plan(one, one), tmp_path / "work", tmp_path / "home", tell=said.append)
    assert journey.run()["retaught"] == ["up"]
    assert any("of up there is no more text" in line for line in said)


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"active": 3}, "3 active of 2 experts"),
        ({"active": 1}, "its router learns nothing"),
        ({"active": 1, "trains": ("experts", "router")}, "its router learns nothing"),
    ],
)
def test_a_journey_that_cannot_end_in_a_mixture_is_not_begun(tmp_path, plan, said):
    base = dense("llama", tmp_path / "base")
    built = build(base, [], recipe(0, copies=2, active=2), random_gate(3, 2, 32), tmp_path / "moe")
    for of, wrong, reason in ((base, plan, said), (Source(built.folder, "moe"), {}, "these are of type mixtral")):
        journey = Journey(of, corpora(), Plan(**wrong), tmp_path / "work", tmp_path / "home")
        with pytest.raises(InputError, match=reason):
            journey.run()
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("what", ["router", "experts-frozen", "experts", "esft"])
def test_each_way_of_training_changes_what_it_says_and_what_is_written_is_what_was_trained(tmp_path, kind, what):
    base = dense(kind, tmp_path / "base")
    branches = [branch(base, tmp_path / f"b{at}", at) for at in range(3)]
    built = build(base, branches, recipe(3, active=2), 5 * random_gate(3, 3, 32), tmp_path / "moe")
    model, before = loaded(built.folder), loaded(built.folder)
    training = Training(what, Schedule(tokens=32 * 3, rate=1e-2), RouterLosses(balance=0.01))
    train_mixture(built.folder, model, language(0, 1), training, tmp_path / "out")
    after = loaded(tmp_path / "out")
    torch.testing.assert_close(logits(after), logits(model), atol=1e-6, rtol=1e-6)
    changed = {
        name
        for (name, one), two in zip(after.named_parameters(), before.parameters(), strict=True)
        if not torch.equal(one, two)
    }
    assert changed
    assert changed <= set(trained_of(before, what))
    assert any(".gate." in name for name in changed) == (what in {"router", "experts-frozen"})
    assert any(".experts." in name for name in changed) == (what in {"experts", "esft"})
    if what == "esft":
        stayed = [
            expert
            for expert in range(3)
            if torch.equal(after.model.layers[0].mlp.experts.down_proj[expert],
                           before.model.layers[0].mlp.experts.down_proj[expert])
        ]  # fmt: skip
        assert stayed


def test_a_router_with_one_active_expert_is_refused_since_it_would_learn_nothing(tmp_path):
    base = dense("llama", tmp_path / "base")
    built = build(base, [], recipe(0, copies=2, active=1), random_gate(3, 2, 32), tmp_path / "moe")
    with pytest.raises(InputError, match="its weight is always 1"):
        trained_of(loaded(built.folder), "router")


def test_a_mixture_without_a_card_is_refused_before_it_is_trained(tmp_path):
    base = dense("llama", tmp_path / "base")
    built = build(base, [], recipe(0, copies=2, active=2), random_gate(3, 2, 32), tmp_path / "moe")
    (built.folder / "moe.json").unlink()
    steps = []
    with pytest.raises(InputError, match=r"no readable moe\.json"):
        train_mixture(
            built.folder, loaded(built.folder), language(0, 1), Training(), tmp_path / "out", watch=steps.append
        )
    assert not steps


def test_balance_and_z_losses_are_their_formulas_on_worked_numbers():
    logits_ = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1]]))
    layer = Routed(logits_, torch.ones(2, 1), torch.tensor([[0], [0]]))
    assert float(balance_loss([layer])) == pytest.approx(3 * 1.0 * 0.65)
    assert float(z_loss([Routed(logits_ + 2, layer.weights, layer.experts)])) == pytest.approx(4.0)
    load = load_of([Routed(torch.zeros(4, 2), torch.ones(4, 1), torch.tensor([[0], [0], [0], [1]]))])[0]
    assert load.shares == (0.75, 0.25)
    assert load.max_violation == pytest.approx(0.5)
    assert load.entropy == pytest.approx(0.6931, abs=1e-4)


def test_an_explanation_says_for_every_token_which_experts_took_it_and_with_what_weight(tmp_path):
    base = dense("llama", tmp_path / "base", vocab_size=300)
    built = build(base, [], recipe(0, copies=4, active=2), random_gate(3, 4, 32), tmp_path / "moe")
    model = loaded(built.folder)
    found = explain(model, byte_level(), "the cat sat")
    assert "".join(found.tokens) == "the cat sat"
    assert (len(found.experts), len(found.experts[0]), len(found.experts[0][0])) == (3, len(found.tokens), 2)
    for layer in found.weights:
        assert all(sum(token) == pytest.approx(1, abs=1e-3) for token in layer)
    assert sum(found.by_expert) == pytest.approx(1)
    ids = torch.tensor([byte_level().encode("the cat sat")])
    with watched(model) as layers:
        logits(model, ids)
    assert layers[2].experts.tolist() == found.experts[2]
    with pytest.raises(InputError, match="0 tokens"):
        explain(model, byte_level(), "")
    with pytest.raises(InputError, match="is no mixture of experts"):
        routers_of(loaded(base.folder))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_router_that_ranks_no_finite_numbers_is_refused_by_its_layer(tmp_path, wrong):
    base = dense("llama", tmp_path / "base", vocab_size=300)
    gate = random_gate(3, 2, 32)
    gate[1, 0, 3] = wrong
    model = loaded(build(base, [], recipe(0, copies=2, active=2), gate, tmp_path / "moe").folder)
    with pytest.raises(InputError, match="the router of layer 1 gives what is no finite number"):
        explain(model, byte_level(), "the cat sat")
    with pytest.raises(InputError, match="the router of layer 1"):
        judge_mixture(model, {"up": corpora()[0].held})


def test_corpora_are_read_from_texts_rows_and_folders_and_hold_out_whole_documents(tmp_path):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": f"doc {at} " * 9}) + "\n" for at in range(40)))
    (tmp_path / "folder").mkdir()
    for at in range(3):
        (tmp_path / "folder" / f"{at}.py").write_text(f"x = {at}\n\n" * 400)
    assert len(documents(tmp_path / "rows.jsonl")) == 40
    assert len(documents(tmp_path / "folder")) > 3
    found = read_corpus("d", tmp_path / "rows.jsonl", byte_level(), window=16, most=(64, None))
    assert found.taught.shape == (4, 16)
    assert found.held.shape[1] == 16
    again = read_corpus("d", tmp_path / "rows.jsonl", byte_level(), window=16, most=(96, None))
    assert torch.equal(again.taught[:4], found.taught)
    for content, said in (
        ("{}\n", r'a row is \{"text"'),
        ("", "has no text"),
        ('{"text": "a"}\n', "is too short: 1 document cannot"),
    ):
        (tmp_path / "bad.jsonl").write_text(content)
        with pytest.raises(InputError, match=said):
            read_corpus("d", tmp_path / "bad.jsonl", byte_level())
    with pytest.raises(InputError, match="cannot be read"):
        documents(tmp_path / "nowhere.txt")
