"""Mixtures built from dense models: what plain transformers computes with them, against the dense models themselves."""

import json
import resource

import pytest

from eot.errors import InputError, WeightsError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from moe_models import (  # noqa: E402  (they import torch)
    COMMON,
    IDS,
    branch,
    dense,
    loaded,
    logits,
    logits_by_steps,
    with_tokenizer,
)

from local_models.moe.build import Source, build, random_gate  # noqa: E402
from local_models.moe.edit import add_expert, drop_expert  # noqa: E402
from local_models.moe.gate_init import heard, hidden_gate, ridge_gate, router_inputs  # noqa: E402
from local_models.moe.recipe import names_of, recipe  # noqa: E402
from local_models.transformers_load import load_model  # noqa: E402

pytestmark = pytest.mark.torch
NEAR = {"atol": 2e-5, "rtol": 1e-4}


def mixture(base, models, made_of, out, gate=None):
    experts = len(made_of.experts)
    return build(base, models, made_of, random_gate(3, experts, 32) if gate is None else gate, out)


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2"])
@pytest.mark.parametrize(("copies", "active"), [(1, 1), (4, 1), (4, 2), (4, 4)])
def test_a_mixture_of_copies_computes_what_the_dense_model_computes(tmp_path, kind, copies, active):
    base = dense(kind, tmp_path / "base")
    built = mixture(base, [], recipe(0, copies=copies, active=active), tmp_path / "moe")
    torch.testing.assert_close(logits(loaded(built.folder)), logits(loaded(base.folder)), **NEAR)
    assert built.model_type == ("qwen2_moe" if kind == "qwen2" else "mixtral")


def test_noise_tells_copies_apart(tmp_path):
    base = dense("llama", tmp_path / "base")
    built = mixture(base, [], recipe(0, copies=2, active=1, noise=0.1), tmp_path / "moe")
    experts = loaded(built.folder).model.layers[0].mlp.experts.down_proj
    assert 0.05 < (experts[0] - experts[1]).std() / experts.std() < 0.2


@pytest.mark.parametrize("shared", ["none", "base"])
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_shared_expert_beside_copies_still_computes_the_dense_model(tmp_path, kind, shared):
    base = dense(kind, tmp_path / "base")
    built = mixture(base, [], recipe(0, copies=3, active=2, shared=shared), tmp_path / "moe")
    torch.testing.assert_close(logits(loaded(built.folder)), logits(loaded(base.folder)), **NEAR)


def test_the_mean_of_the_models_is_the_expert_that_every_token_takes(tmp_path):
    base = dense("llama", tmp_path / "base")
    made_of = recipe(2, active=2, shared="mean")
    same = mixture(base, [base, base], made_of, tmp_path / "same")
    torch.testing.assert_close(logits(loaded(same.folder)), logits(loaded(base.folder)), **NEAR)
    branches = [branch(base, tmp_path / f"b{at}", at) for at in range(2)]
    block = loaded(mixture(base, branches, made_of, tmp_path / "moe").folder).model.layers[1].mlp
    theirs = [loaded(one.folder).model.layers[1].mlp for one in branches]
    mean = (theirs[0].up_proj.weight + theirs[1].up_proj.weight) / 2
    torch.testing.assert_close(block.shared_expert.up_proj.weight, mean)
    torch.testing.assert_close(block.experts.down_proj[1], theirs[1].down_proj.weight / 2)


def rows_that_pick(model, expert, experts):
    """A gate [L, E, H] whose logit is 20 for this expert and -20 for the others on every token of IDS."""
    layers = model.model.layers
    with heard(layers) as seen:
        logits(model)
    rows = []
    for at in range(len(layers)):
        towards = torch.linalg.lstsq(seen[at][0], torch.full((IDS.shape[1], 1), 20.0)).solution[:, 0]
        rows.append(torch.stack([towards if e == expert else -towards for e in range(experts)]))
    return torch.stack(rows)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("pieces", [1, 4])
@pytest.mark.parametrize("expert", [0, 2])
def test_a_gate_that_always_picks_one_branch_makes_the_mixture_that_branch(tmp_path, kind, pieces, expert):
    base = dense(kind, tmp_path / "base")
    branches = [branch(base, tmp_path / f"b{at}", at) for at in range(3)]
    chosen = loaded(branches[expert].folder)
    gate = rows_that_pick(chosen, expert, 3).repeat_interleave(pieces, dim=1)
    built = mixture(base, branches, recipe(3, pieces=pieces, active=pieces), tmp_path / "moe", gate)
    torch.testing.assert_close(logits(loaded(built.folder)), logits(chosen), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("shared_pieces", [0, 1, 2])
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_layer_in_pieces_that_are_all_active_is_the_layer(tmp_path, kind, shared_pieces):
    base = dense(kind, tmp_path / "base")
    made_of = recipe(0, pieces=4, shared_pieces=shared_pieces, active=4 - shared_pieces)
    built = mixture(base, [], made_of, tmp_path / "moe", torch.zeros(3, 4 - shared_pieces, 32))
    model = loaded(built.folder)
    torch.testing.assert_close(logits(model), logits(loaded(base.folder)), **NEAR)
    block = model.model.layers[0].mlp
    assert block.experts.down_proj.shape == (4 - shared_pieces, 32, 12)
    if shared_pieces:
        assert block.shared_expert.down_proj.weight.shape == (32, 12 * shared_pieces)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_eager_grouped_and_cached_are_one(tmp_path, kind):
    base = dense(kind, tmp_path / "base")
    branches = [branch(base, tmp_path / f"b{at}", at) for at in range(3)]
    built = mixture(base, branches, recipe(3, active=2), tmp_path / "moe", 20 * random_gate(3, 3, 32))
    eager, grouped = (loaded(built.folder, experts_implementation=how) for how in ("eager", "grouped_mm"))
    torch.testing.assert_close(logits(grouped), logits(eager), **NEAR)
    torch.testing.assert_close(logits_by_steps(eager), logits(eager, use_cache=False), **NEAR)
    assert not torch.allclose(logits(eager), logits(loaded(branches[0].folder)), atol=0.1)


def test_attention_that_differs_is_averaged_and_what_is_shared_is_kept(tmp_path):
    base = dense("llama", tmp_path / "base")
    one, two = dense("llama", tmp_path / "one", seed=1), dense("llama", tmp_path / "two", seed=2)
    built = loaded(mixture(base, [one, two], recipe(2, active=1), tmp_path / "moe").folder)
    weights = [loaded(each.folder).model.layers[1].self_attn.q_proj.weight for each in (one, two)]
    torch.testing.assert_close(built.model.layers[1].self_attn.q_proj.weight, sum(weights) / 2)
    kept = loaded(mixture(base, [branch(base, tmp_path / "b", 5)], recipe(1, active=1), tmp_path / "kept").folder)
    assert torch.equal(kept.model.embed_tokens.weight, loaded(base.folder).model.embed_tokens.weight)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"models": 3, "active": 4}, "4 active of 3 experts: between 1 and 3"),
        ({"models": 3, "active": 0}, "0 active of 3 experts"),
        ({"models": 0, "active": 2}, "2 active of 1 expert:"),
        ({"models": 0, "active": 1, "pieces": 4, "shared_pieces": 4}, "fewer than the pieces"),
        ({"models": 2, "active": 1, "pieces": 4, "shared_pieces": 1}, "of one model's layers"),
        ({"models": 0, "active": 1, "copies": 2, "shared": "mean"}, "the mean of one model is the model"),
    ],
)
def test_recipes_that_cannot_be_are_refused(asked, said):
    with pytest.raises(InputError, match=said):
        recipe(**asked)


@pytest.mark.parametrize(
    ("kind", "dtype", "shape", "pieces", "said"),
    [
        ("llama", torch.float32, {}, 8, "width of 6 in float32 is no .* split into 1, 2, 3, 4, 6, 12$"),
        ("qwen2", torch.bfloat16, {}, 4, "width of 12 in bfloat16 is no .* split into 1, 2, 3, 6$"),
        ("llama", torch.bfloat16, {"intermediate_size": 44}, 1, "width of 44 in bfloat16 .* no number of pieces"),
        ("llama", torch.bfloat16, {"hidden_size": 24, "num_attention_heads": 2}, 2, ""),
        ("llama", torch.bfloat16, {"hidden_size": 40, "num_attention_heads": 10}, 2, ""),
        ("llama", torch.bfloat16, {"hidden_size": 36, "num_attention_heads": 2}, 1, "hidden size of 36 in bfloat16"),
        ("llama", torch.float32, {"hidden_size": 36, "num_attention_heads": 2}, 4, ""),
    ],
)
def test_what_is_built_runs_in_plain_transformers_as_its_configuration_says(tmp_path, kind, dtype, shape, pieces, said):
    base = dense(kind, tmp_path / "base", **shape)
    loaded(base.folder).to(dtype).save_pretrained(base.folder)
    made_of = recipe(0, copies=2, pieces=pieces, active=2)
    gate = torch.zeros(3, 2 * pieces, shape.get("hidden_size", 32))
    if said:
        with pytest.raises(InputError, match=said):
            mixture(base, [], made_of, tmp_path / "moe", gate)
        assert not (tmp_path / "moe").exists()
    else:
        built = mixture(base, [], made_of, tmp_path / "moe", gate)
        model = transformers.AutoModelForCausalLM.from_pretrained(built.folder)
        assert model.dtype == dtype
        assert logits(model).isfinite().all()


def test_where_the_configuration_names_no_dtype_the_stored_one_counts(tmp_path):
    base = dense("llama", tmp_path / "base")
    loaded(base.folder).to(torch.bfloat16).save_pretrained(base.folder)
    config = json.loads((base.folder / "config.json").read_text())
    del config["dtype"]
    (base.folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="width of 12 in bfloat16"):
        mixture(base, [], recipe(0, pieces=4, active=2), tmp_path / "moe")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_mixture_from_elsewhere_of_any_width_is_read(tmp_path, dtype):
    folder, shape = tmp_path / "moe", COMMON | {"intermediate_size": 6}
    config = transformers.AutoConfig.for_model("mixtral", num_local_experts=4, **shape)
    transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    with_tokenizer(folder)
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, experts_implementation="eager")
    model = load_model(folder, tmp_path, dtype)[0].cpu()
    torch.testing.assert_close(logits(model), logits(plain.eval()))


def test_what_was_cut_off_is_told_as_a_fault_of_the_weights(tmp_path):
    base = dense("llama", tmp_path / "base")
    built = mixture(base, [], recipe(0, copies=2, active=1), tmp_path / "moe")
    with_tokenizer(built.folder)
    weights = built.folder / "model.safetensors"
    for left in (weights.stat().st_size - 100, 20):
        with weights.open("r+b") as file:
            file.truncate(left)
        with pytest.raises(WeightsError, match="cannot load"):
            load_model(built.folder, tmp_path)
        with pytest.raises(WeightsError, match=r"cut off|damaged"):
            drop_expert(built.folder, 0, tmp_path / "less")


def test_models_that_cannot_be_mixed_are_refused_and_nothing_is_left(tmp_path):
    base = dense("llama", tmp_path / "base")
    wide = dense("llama", tmp_path / "wide", intermediate_size=64)
    with pytest.raises(InputError, match="intermediate_size is 48 in one and 64 in the other"):
        mixture(base, [wide], recipe(1, active=1), tmp_path / "moe")
    with pytest.raises(InputError, match="48 neurons cannot be split into 5"):
        mixture(base, [], recipe(0, pieces=5, active=1), tmp_path / "moe")
    with pytest.raises(InputError, match=r"the gate is \(3, 2, 32\) and this mixture needs \(3, 3, 32\)"):
        mixture(base, [], recipe(0, copies=3, active=1), tmp_path / "moe", random_gate(3, 2, 32))
    biased = dense("llama", tmp_path / "biased", attention_bias=True)
    with pytest.raises(InputError, match="attention_bias"):
        mixture(biased, [], recipe(0, copies=2, active=1), tmp_path / "moe")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))
    try:
        with pytest.raises(WeightsError, match="nothing is left"):
            mixture(base, [], recipe(0, copies=2, active=1), tmp_path / "moe")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "biased", "wide"]


def test_the_card_names_sources_by_their_digests_and_counts_what_a_token_uses(tmp_path):
    base = dense("llama", tmp_path / "base")
    branches = [branch(base, tmp_path / name, at) for at, name in enumerate(("code", "maths"))]
    built = mixture(base, branches, recipe(2, active=1), tmp_path / "moe")
    card = json.loads((tmp_path / "moe" / "moe.json").read_text())
    assert [one["name"] for one in card["sources"]] == ["code", "maths"]
    assert len(card["sources"][0]["weights_sha256"][0]) == 64
    assert card["experts"] == ["code", "maths"]
    dense_size = sum(one.numel() for one in loaded(base.folder).parameters())
    assert built.parameters == sum(one.numel() for one in loaded(built.folder).parameters())
    assert built.active_parameters == dense_size + 3 * 2 * 32
    assert "not trained since it was built" in (tmp_path / "moe" / "README.md").read_text()
    assert names_of(recipe(2, pieces=2, active=1), ["a", "b"]) == ["a.1", "a.2", "b.1", "b.2"]


def test_the_gates_made_from_texts_are_the_published_formulas_on_what_a_router_sees(tmp_path):
    model = loaded(dense("llama", tmp_path / "base").folder)
    torch.manual_seed(0)
    domains = [torch.randint(0, 32, (3, 16)), torch.randint(32, 64, (4, 16))]
    found = router_inputs(model, domains)
    assert found.tokens == 48
    with heard(model.model.layers) as seen:
        rows = [[] for _ in domains]
        for at, windows in enumerate(domains):
            for row in windows[:3]:
                logits(model, row[None])
                rows[at].append(seen[1][0])
    one, two = (torch.cat(part) for part in rows)
    inputs = torch.cat([one, two]).double()
    wanted = torch.tensor([[1.0, -1.0]] * 48 + [[-1.0, 1.0]] * 48).double()
    solved = torch.linalg.solve(inputs.T @ inputs + 0.1 * 96 * torch.eye(32), inputs.T @ wanted)
    torch.testing.assert_close(ridge_gate(found)[1], (4 * solved.T).float(), atol=1e-4, rtol=1e-3)
    mean = torch.stack([one.mean(dim=0), two.mean(dim=0)])
    torch.testing.assert_close(hidden_gate(found)[1], mean / mean.norm(dim=1, keepdim=True), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_an_expert_is_added_and_dropped_without_touching_the_others(tmp_path, kind):
    base = dense(kind, tmp_path / "base")
    branches = [branch(base, tmp_path / f"b{at}", at) for at in range(3)]
    gate = 5 * random_gate(3, 3, 32)
    two = mixture(base, branches[:2], recipe(2, active=1), tmp_path / "two", gate[:, :2])
    three = mixture(base, branches, recipe(3, active=1), tmp_path / "three", gate)
    card = add_expert(two.folder, branches[2], gate[:, 2], tmp_path / "added")
    assert torch.equal(logits(loaded(tmp_path / "added")), logits(loaded(three.folder)))
    assert (card.experts, card.parameters) == (("b0", "b1", "b2"), three.parameters)
    assert card.active_parameters == three.active_parameters
    drop_expert(tmp_path / "added", 0, tmp_path / "dropped")
    others = mixture(base, branches[1:], recipe(2, active=1), tmp_path / "others", gate[:, 1:])
    assert torch.equal(logits(loaded(tmp_path / "dropped")), logits(loaded(others.folder)))
    drop_expert(tmp_path / "dropped", 1, tmp_path / "one")
    torch.testing.assert_close(logits(loaded(tmp_path / "one")), logits(loaded(branches[1].folder)), **NEAR)
    for expert, said in ((1, "no expert 1: they are numbered 0 to 0"), (0, "^0 experts would be left, and 1")):
        with pytest.raises(InputError, match=said):
            drop_expert(tmp_path / "one", expert, tmp_path / "none")
    wide = dense(kind, tmp_path / "wide", intermediate_size=64)
    with pytest.raises(InputError, match="intermediate_size is 48 in the mixture's experts and 64 in the model"):
        add_expert(two.folder, wide, gate[:, 2], tmp_path / "no")
    with pytest.raises(InputError, match="has an expert called b1 already"):
        add_expert(two.folder, branches[1], gate[:, 2], tmp_path / "no")
    with pytest.raises(InputError, match=f"of type {three.model_type}: give a dense model"):
        add_expert(two.folder, Source(three.folder, "three"), gate[:, 2], tmp_path / "no")
    with pytest.raises(InputError, match=f"is {kind} in one and {three.model_type} in the other"):
        mixture(base, [Source(three.folder, "three")], recipe(1, active=1), tmp_path / "no")
    with pytest.raises(InputError, match=r"is no mixture that was built here"):
        drop_expert(base.folder, 0, tmp_path / "no")
