"""Fused sets over a real socket: completions, chat, who may be a member, and what is left when a reader hangs up."""

import asyncio
import gc
import json
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from serving import serving, settings

from api.keys import Keyring

torch = pytest.importorskip("torch", reason="needs the extra eot[torch]")
pytest.importorskip("transformers", reason="needs the extra eot[torch]")
from fusion_models import byte_level, engine, sentence_piece  # noqa: E402
from transformers import DynamicCache  # noqa: E402

from local_models.lane import Lane  # noqa: E402

pytestmark = pytest.mark.torch
CANCELS = int(os.environ.get("FUSION_CANCELS", "60"))
"""The issue asks for 4,000: `FUSION_CANCELS=4000 pytest tests/test_service_fusion.py -k hang_up --timeout 3600`."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models on disk: a and b share a vocabulary, c has another one, sick has no numbers, base cannot chat."""
    home = tmp_path_factory.mktemp("models")
    kinds = {"a": byte_level(), "b": byte_level(), "c": sentence_piece(), "sick": byte_level(), "base": byte_level()}
    for seed, (name, tokenizer) in enumerate(kinds.items()):
        one = engine(seed, tokenizer)
        if name == "sick":
            torch.nn.init.constant_(one.model.lm_head.weight, torch.nan)
        one.model.save_pretrained(home / name)
        tokenizer.save_pretrained(home / name)
    (home / "base" / "chat_template.jinja").unlink()
    return home


def table(folder, tmp_path, serve=None, **more):
    agents = {name: {"model": f"local/{folder / name}"} for name in ("a", "b", "c", "sick", "base")}
    fusions = {"pair": {"members": [str(folder / "a"), str(folder / "b")], "method": "prob", "weights": [3, 1]}}
    given = {"threads": 1, "context": 128, "fusions": fusions, "serve": serve} | more
    return settings(tmp_path, agents=agents | {"s": {"model": "scripted", "script": ["7"]}}, **given)


@pytest.fixture(scope="module")
def served(folder, tmp_path_factory):
    with serving(table(folder, tmp_path_factory.mktemp("home"))) as one:
        yield one


def post(served, path="completions", **body):
    said = {"prompt": "the cat"} if path == "completions" else {"messages": [{"role": "user", "content": "the cat"}]}
    return httpx.post(f"{served.url}/v1/fusion/{path}", json=said | body, timeout=60)


def a_and_b(**keys):
    return {"members": ["a", "b"], "method": "prob", **keys}


def streamed(served, path="completions", **body):
    """The chunks of a stream, without its [DONE]."""
    *lines, done = [
        line[6:] for line in post(served, path, stream=True, **body).text.split("\n") if line[:5] == "data:"
    ]
    assert done == "[DONE]"
    return [json.loads(line) for line in lines]


def test_a_described_set_goes_on_from_a_prompt(served):
    alone = post(served, fusion={"members": ["a"]}, temperature=0, max_tokens=12).json()
    told = post(served, fusion=a_and_b(weights=[1, 0]), temperature=0, max_tokens=12).json()
    assert told["choices"][0]["text"] == alone["choices"][0]["text"]
    assert told["choices"][0]["finish_reason"] == "length"
    assert told["object"] == "text_completion"
    assert told["fusion"] == {"method": "prob", "members": ["a", "b"], "weights": [1.0, 0.0]}
    assert told["usage"]["completion_tokens"] == 12
    assert told["usage"]["total_tokens"] == 12 + told["usage"]["prompt_tokens"]


def test_a_set_of_the_settings_is_a_model_like_any_other(served):
    names = [one["id"] for one in httpx.get(f"{served.url}/v1/models").json()["data"]]
    assert "fusion/pair" in names
    assert httpx.get(f"{served.url}/v1/models/fusion/pair").json()["owned_by"] == "fusion"
    asked = {"temperature": 0, "max_tokens": 8}
    told = post(served, "chat/completions", model="fusion/pair", **asked).json()
    same = post(served, "chat/completions", fusion=a_and_b(weights=[3, 1]), **asked).json()
    assert told["choices"][0]["message"] == same["choices"][0]["message"]
    assert told["fusion"]["weights"] == [0.75, 0.25]
    body = {"model": "fusion/pair", "messages": [{"role": "user", "content": "the cat"}], **asked}
    council = httpx.post(f"{served.url}/v1/chat/completions", json=body, timeout=60).json()
    assert council["choices"][0]["message"]["content"].strip() == told["choices"][0]["message"]["content"].strip()


@pytest.mark.parametrize("path", ["completions", "chat/completions"])
def test_a_stream_says_what_the_whole_says(served, path):
    asked = {"fusion": a_and_b(), "seed": 5, "n": 2, "max_tokens": 10, "trace": 2}
    whole = post(served, path, **asked).json()
    chunks = streamed(served, path, **asked, stream_options={"include_usage": True})
    assert chunks[-1]["usage"] == whole["usage"]
    for choice in whole["choices"]:
        mine = [one["choices"][0] for one in chunks if one["choices"] and one["choices"][0]["index"] == choice["index"]]
        if path == "completions":
            assert "".join(one["text"] for one in mine) == choice["text"]
        else:
            assert "".join(one["delta"].get("content", "") for one in mine) == choice["message"]["content"]
        assert mine[-1]["finish_reason"] == choice["finish_reason"] == "length"
        assert [one for part in mine for one in part.get("trace", [])] == choice["trace"]
    texts = [json.dumps(choice.get("text") or choice["message"]) for choice in whole["choices"]]
    assert texts[0] != texts[1], "each choice has a seed of its own"
    assert chunks[-2]["fusion"]["method"] == "prob"


def test_the_trace_and_the_logprobs_name_each_members_share(served):
    told = post(served, fusion=a_and_b(weights=[3, 1]), temperature=0, max_tokens=4, logprobs=3, trace=2).json()
    [choice] = told["choices"]
    logprobs = choice["logprobs"]
    assert "".join(logprobs["tokens"]).rstrip("\ufffd") == choice["text"], "a cut character is not shown"
    assert logprobs["text_offset"] == [sum(map(len, logprobs["tokens"][:at])) for at in range(4)]
    for at, one in enumerate(choice["trace"]):
        assert one["token"] == logprobs["tokens"][at] == one["top"][0]["token"]
        assert one["logprob"] == logprobs["token_logprobs"][at] == max(logprobs["top_logprobs"][at].values())
        assert [view["name"] for view in one["members"]] == ["a", "b"]
        assert sum(view["share"] for view in one["members"]) == pytest.approx(1)
        if "\ufffd" not in one["token"]:  # parts of characters all read alike
            assert one["won"] == [view["name"] for view in one["members"] if view["top"][0]["token"] == one["token"]]
    chat = post(served, "chat/completions", fusion=a_and_b(), max_tokens=3, logprobs=True, top_logprobs=0).json()
    content = chat["choices"][0]["logprobs"]["content"]
    assert [set(one) for one in content] == [{"token", "logprob", "bytes", "top_logprobs", "members"}] * 3
    assert [one["top_logprobs"] for one in content] == [[]] * 3


def test_several_prompts_are_answered_in_their_order_and_stop_where_they_are_told(served):
    prompts = ["the cat", "the dog", "a face"]
    asked = {"fusion": a_and_b(), "temperature": 0, "max_tokens": 20}
    alone = [post(served, prompt=prompt, **asked).json()["choices"][0]["text"] for prompt in prompts]
    told = post(served, prompt=prompts, **asked).json()["choices"]
    assert [one["text"] for one in told] == alone
    stop = alone[0][8:10]
    cut = post(served, stop=stop, **asked).json()["choices"][0]
    assert (cut["text"], cut["finish_reason"]) == (alone[0].partition(stop)[0], "stop")


@pytest.mark.parametrize("method", ["unite", "gac", "deepen", "safe", "auto"])
def test_different_vocabularies_are_fused_and_traced_as_valid_json(served, method):
    fusion = {"members": ["a", "c"], "method": method}
    told = post(served, fusion=fusion, temperature=0, max_tokens=6, trace=3, logprobs=2)
    assert told.status_code == 200, told.text
    json.loads(told.text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert len(told.json()["choices"][0]["trace"]) == 6


@pytest.mark.parametrize(
    ("status", "said", "body"),
    [
        (404, "no fused set called 'fusion/pare'. Did you mean 'fusion/pair'", {"model": "fusion/pare"}),
        (404, "no fused set called ''", {}),
        (404, "no member called 'd'", {"fusion": {"members": ["a", "d"]}}),
        (404, "no member called '/etc/passwd'", {"fusion": {"members": ["a", "/etc/passwd"]}}),
        (404, "no member called 'http://x/y.gguf'", {"fusion": {"members": ["http://x/y.gguf"]}}),
        (404, "no member called 's'", {"fusion": {"members": ["a", "s"]}}),
        (400, "the same model; name it once", {"fusion": {"members": ["a", "a"]}}),
        (400, "needs members with one vocabulary, and id 1", {"fusion": {"members": ["a", "c"], "method": "logit"}}),
        (400, "only eot.toml can ask", {"fusion": {"members": ["a", "c"], "method": "deepen", "rows": "released"}}),
        (422, "is no weight; write numbers of at least 0", {"fusion": a_and_b(weights=[1, -1])}),
        (422, "all weights are 0", {"fusion": a_and_b(weights=[0, 0])}),
        (422, "3 weights for 2 members", {"fusion": a_and_b(weights=[1, 1, 1])}),
        (422, "fusion.weights", {"fusion": a_and_b(weights=[1, "much"])}),
        (422, "'logit', 'prob'", {"fusion": {"members": ["a", "b"], "method": "mined"}}),
        (422, "does not read top_k", {"fusion": a_and_b(top_k=4)}),
        (422, "less than or equal to 100", {"fusion": {"members": ["a", "c"], "method": "deepen", "eta": 1e308}}),
        (422, "weight", {"fusion": a_and_b(weight=[1, 2])}),
        (422, "at most 32 choices", {"fusion": a_and_b(), "prompt": ["x"] * 5, "n": 8}),
        (422, "it is empty", {"fusion": a_and_b(), "prompt": ""}),
        (400, "of a 128", {"fusion": a_and_b(), "prompt": "the cat " * 200}),
        (503, "bring it with: eot models pull", {"fusion": {"members": ["qwen2.5-coder-0.5b", "a"]}}),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_fused_is_refused_in_one_line(served, status, said, body, stream):
    answer = post(served, stream=stream, **body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert said in error["message"]


def test_numbers_that_are_none_are_refused(served):
    for word in ("NaN", "Infinity", "-Infinity", "1e999"):
        body = f'{{"prompt": "x", "fusion": {{"members": ["a", "b"], "weights": [1, {word}]}}}}'
        answer = httpx.post(
            f"{served.url}/v1/fusion/completions", content=body, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 422, answer.text


def test_one_model_under_two_names_is_found_out(folder, tmp_path):
    twin = tmp_path / "twin"
    twin.mkdir()
    for file in (folder / "a").iterdir():
        (twin / file.name).write_bytes(file.read_bytes())
    wanted = table(folder, tmp_path, fusions={"twins": {"members": [str(folder / "a"), str(twin)]}})
    with serving(wanted) as served:
        answer = post(served, model="fusion/twins")
    assert answer.status_code == 400
    assert "are the same model" in answer.json()["error"]["message"]


def test_a_base_model_goes_on_but_does_not_chat(served):
    assert post(served, fusion={"members": ["a", "base"]}, max_tokens=3).status_code == 200
    answer = post(served, "chat/completions", fusion={"members": ["a", "base"]})
    assert (answer.status_code, "base is a base model" in answer.text) == (400, True)


@pytest.mark.parametrize("method", ["prob", "unite"])
def test_a_member_without_numbers_is_dropped_and_the_answer_says_so(served, method):
    asked = {"temperature": 0, "max_tokens": 6}
    told = post(served, fusion={"members": ["a", "sick"], "method": method}, **asked).json()["choices"][0]
    alone = post(served, fusion={"members": ["a"], "method": method}, **asked).json()["choices"][0]
    assert told["text"] == alone["text"]
    assert told["notes"] == ["sick was dropped: its logits were not numbers"]
    last = streamed(served, fusion={"members": ["a", "sick"], "method": method}, **asked)[-1]
    assert last["choices"][0]["notes"] == told["notes"]


def test_a_member_out_of_memory_is_named_and_the_next_request_runs(served):
    asked = {"fusion": a_and_b(weights=[1, 2]), "max_tokens": 3}
    assert post(served, **asked).status_code == 200
    house = served.service.house
    [member] = [one for lent in house.lending._sets.values() for one in lent.task.result().members if one.name == "b"][
        :1
    ]

    def full(*_):
        raise torch.OutOfMemoryError("out of memory")

    hook = member.model.register_forward_pre_hook(full)
    answer = post(served, **asked)
    hook.remove()
    assert answer.status_code == 502
    assert "b: out of memory" in answer.json()["error"]["message"]
    assert post(served, **asked).status_code == 200


def test_models_of_sets_make_room_for_others_and_wait_for_nobody(folder, tmp_path):
    with serving(table(folder, tmp_path, serve={"fusion_models": 2})) as served:
        lending = served.service.house.lending
        loaded = served.service.house._engines._engines._tasks
        assert post(served, fusion=a_and_b(), max_tokens=2).status_code == 200
        assert post(served, fusion={"members": ["a", "c"]}, max_tokens=2).status_code == 200
        assert {path.name for path, _ in loaded} == {"a", "c"}
        assert len(lending) == 1
        assert post(served, fusion={"members": ["a", "b", "c"]}).status_code == 400
        go_on = threading.Event()
        [lent] = lending._sets.values()
        hook = lent.task.result().members[0].model.register_forward_pre_hook(lambda *_: go_on.wait(20) and None)
        with ThreadPoolExecutor(1) as other:
            busy = other.submit(post, served, fusion={"members": ["a", "c"]}, max_tokens=2)
            assert _eventually(lambda: lent.users, 1) == 1
            answer = post(served, fusion=a_and_b())
            go_on.set()
            assert busy.result().status_code == 200
        hook.remove()
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "models_in_use")
        assert answer.headers["retry-after"] == "5"
        assert post(served, model="fusion/pair", max_tokens=2).status_code == 200, "the operator's own always load"


def test_only_so_many_sets_are_kept(folder, tmp_path):
    with serving(table(folder, tmp_path)) as served:
        for weight in range(1, 12):
            assert post(served, fusion=a_and_b(weights=[1, weight]), max_tokens=1).status_code == 200
        assert len(served.service.house.lending) == 8


def test_it_wants_a_key_where_there_are_keys_and_charges_it(folder, tmp_path):
    with serving(table(folder, tmp_path)) as served:

        async def make(scopes, **limits):
            return (await Keyring(served.service.store).create("k", scopes, **limits))[1]

        def made(*scopes, **limits):
            return asyncio.run_coroutine_threadsafe(make(scopes, **limits), served.loop).result(20)

        chat, batch = made("chat", tokens_per_minute=40), made("batch")
        url, body = f"{served.url}/v1/fusion/completions", {"prompt": "the", "fusion": a_and_b(), "max_tokens": 100}
        assert _eventually(lambda: httpx.post(url, json=body).status_code) == 401
        assert httpx.post(url, json=body, headers={"authorization": f"Bearer {batch}"}).status_code == 403
        mine = {"authorization": f"Bearer {chat}"}
        assert httpx.post(url, json=body, headers=mine, timeout=60).status_code == 200
        assert _eventually(lambda: httpx.post(url, json=body, headers=mine, timeout=60).status_code, 429) == 429


def _eventually(look, wanted=401):
    for _ in range(100):
        if (found := look()) == wanted:
            return found
        time.sleep(0.05)
    return found


def test_a_server_that_goes_lets_sets_end_and_begins_no_more(folder, tmp_path, monkeypatch):
    quick = Lane.logits
    # 100 tokens of such small models take no longer than a server needs to notice that it is to go.
    monkeypatch.setattr(Lane, "logits", lambda lane: time.sleep(0.02) or quick(lane))
    with serving(table(folder, tmp_path, serve={"drain_seconds": 20})) as served:
        url = f"{served.url}/v1/fusion/completions"
        body = {"prompt": "the", "stream": True, "max_tokens": 100, "fusion": a_and_b()}
        with httpx.stream("POST", url, json=body, timeout=60) as under_way:
            lines = under_way.iter_lines()
            next(lines)
            assert served.service.in_flight == 1
            served.server.should_exit = True
            time.sleep(0.5)  # it looks ten times a second; one that it still took would wait for the stream's end
            assert post(served, fusion=a_and_b()).status_code == 503
            assert "data: [DONE]" in list(lines)


def test_readers_that_hang_up_leave_no_cache_behind(served):
    """At random places, over the socket, whichever way the set decodes."""
    draws = random.Random(1)
    sets = [a_and_b(), a_and_b(draft=2), {"members": ["a", "c"], "method": "unite"}, {"members": ["a", "c"]}]

    async def hang_up(client, number):
        left = draws.randrange(1, 9)
        body = {"prompt": "the cat", "stream": True, "max_tokens": 100, "seed": number, "fusion": sets[number % 4]}
        async with client.stream("POST", f"{served.url}/v1/fusion/completions", json=body) as answer:
            assert answer.status_code == 200, await answer.aread()
            async for line in answer.aiter_lines():
                left -= line.startswith("data: {")
                if not left:
                    return

    async def all_of_them():
        limits = httpx.Limits(max_connections=16)
        async with httpx.AsyncClient(timeout=httpx.Timeout(120, pool=None), limits=limits) as client:
            await asyncio.gather(*(hang_up(client, number) for number in range(CANCELS)))

    asyncio.run(all_of_them())
    assert _eventually(lambda: served.service.in_flight, 0) == 0
    for one in sets:  # whoever comes next is served, and the decoding threads have come to rest
        assert post(served, fusion=one, max_tokens=2).status_code == 200
    gc.collect()
    assert not [thing for thing in gc.get_objects() if type(thing) is DynamicCache]


EXTREMES = [
    {"temperature": 1e-300, "top_p": 1e-300},
    {"temperature": 5e-324, "fusion": a_and_b(draft=2)},
    {"temperature": 2, "top_p": 1, "seed": -(2**63), "n": 8},
    {"fusion": a_and_b(weights=[1e308, 1e308])},
    {"fusion": a_and_b(weights=[5e-324, 1e308])},
    {"fusion": {"members": ["a", "b"], "method": "power", "r": 5e-324}},
    {"fusion": {"members": ["a", "b"], "method": "contrastive", "alpha": 5e-324, "beta": 100}},
    {"fusion": {"members": ["a", "c"], "method": "deepen", "floor": 0, "keep": 65536, "neighbours": 64}},
    {"fusion": {"members": ["a", "c"], "method": "deepen", "inverse": "adamw", "eta": 100}},
    {"fusion": {"members": ["a", "c"], "method": "gac", "threshold": 5e-324}, "temperature": 1e-300},
    {"stop": ["\ud83d", "", "\u4f60", "\0"], "fusion": {"members": ["a", "c"]}},
    {
        "prompt": "\ud83d\ude00 \u4f60\u597d <|end|>",
        "fusion": {"members": ["a", "c"], "method": "safe", "sharpen": 0.99},
    },
]


@pytest.mark.parametrize("body", EXTREMES)
def test_the_edges_of_what_may_be_sent_give_an_answer_or_a_reason(served, body):
    """The fuzz of all routes finds no local models: here they are real."""
    asked = {"prompt": "the cat", "fusion": a_and_b(), "max_tokens": 3, "logprobs": 2, "trace": 1} | body
    content = json.dumps(asked).encode()
    answer = httpx.post(
        f"{served.url}/v1/fusion/completions", content=content, headers={"content-type": "application/json"}, timeout=60
    )
    wrong = "stop" in body  # half a character
    assert answer.status_code == (400 if wrong else 200), answer.text
    json.loads(answer.text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    if body.get("temperature", 1) < 1e-9:
        cold = post(served, **asked | {"temperature": 0})
        assert answer.json()["choices"][0]["text"] == cold.json()["choices"][0]["text"]


def test_the_methods_are_told_with_what_they_read(served):
    told = httpx.get(f"{served.url}/v1/fusion/methods").json()
    methods = {one["id"]: one for one in told["data"]}
    assert {"logit", "prob", "power", "contrastive", "unite", "gac", "deepen", "safe", "auto"} == set(methods)
    assert set(methods["unite"]["options"]) == {"weights", "top_k"}
    assert methods["unite"]["options"]["top_k"]["default"] == 10
    assert {one["vocabularies"] for name, one in methods.items() if name in ("logit", "prob")} == {"one"}
    members = {one["id"]: one for one in told["members"]}
    assert members["a"] == {"id": "a", "model": "a", "on_disk": True, "chat": None}
    assert "s" not in members
    assert members["gemma-3-270m"]["chat"] is False
    assert told["sets"] == [{"id": "fusion/pair", "method": "prob", "members": ["a", "b"], "weights": [0.75, 0.25]}]
    assert "/" not in json.dumps(told["members"]), "where files lie is nobody's business"
