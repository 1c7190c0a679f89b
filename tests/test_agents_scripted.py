"""The agents that need no model: scripted and replayed, and what their settings add to a prompt."""

import asyncio
import gzip
import json
import time
from pathlib import Path

import pytest

from agents import Briefed, ReplayAgent, ScriptedAgent
from eot.errors import AnswersError, CallError, InputError, TransientError
from eot.types import Delta, Message, Prompt

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


def prompt(text="What is 2 + 2?", **fields):
    return Prompt(messages=(Message(role="user", content=text),), **fields)


async def test_a_scripted_agent_says_one_text_a_round_and_repeats_the_last():
    agent = ScriptedAgent("a", ["one", "two"])
    assert [(await agent.ask(prompt(round=k))).text for k in range(4)] == ["one", "two", "two", "two"]


async def test_what_is_heard_is_what_is_said_to_the_letter():
    text = "  Two  and two\nmake\tfour.\n\nThe answer is 4. "
    for size in (1, 3):
        heard: list[Delta] = []
        reply = await ScriptedAgent("a", [text], words_a_piece=size).ask(prompt(), heard.append)
        assert "".join(delta.text for delta in heard) == text == reply.text
        assert len(heard) >= 8 // size


async def test_a_line_may_be_computed_from_the_prompt():
    agent = ScriptedAgent("a", [lambda asked: asked.messages[-1].content.upper()])
    reply = await agent.ask(prompt("hello you"))
    assert (reply.text, reply.usage.input_tokens, reply.usage.output_tokens) == ("HELLO YOU", 2, 2)
    assert reply.usage.cost_usd == 0


async def test_a_delay_is_waited_before_the_first_word():
    heard_at: list[float] = []
    started = time.perf_counter()
    await ScriptedAgent("a", ["one two"], delay=0.1).ask(prompt(), lambda _: heard_at.append(time.perf_counter()))
    assert heard_at[0] - started >= 0.1


async def test_a_script_can_rehearse_failures():
    agent = ScriptedAgent("a", ["!fail", "!empty", "!flood", "!hang"])
    with pytest.raises(TransientError):
        await agent.ask(prompt(round=0))
    assert (await agent.ask(prompt(round=1))).text == ""
    assert len((await agent.ask(prompt(round=2))).text) == 10_000_000
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(agent.ask(prompt(round=3)), 0.05)


def test_an_empty_script_is_refused():
    with pytest.raises(InputError, match="'mute' has nothing to say"):
        ScriptedAgent("mute", [])


async def test_instructions_join_the_system_message_and_the_seeds_add_up():
    seen: list[Prompt] = []
    agent = Briefed(ScriptedAgent("a", [lambda asked: seen.append(asked) or "ok"]), "Be brief.", seed=7)
    await agent.ask(prompt("hi", seed=100))
    await agent.ask(Prompt(messages=(Message(role="system", content="Rules."), Message(role="user", content="hi"))))
    assert [(m.role, m.content) for m in seen[0].messages] == [("system", "Be brief."), ("user", "hi")]
    assert [(m.role, m.content) for m in seen[1].messages] == [("system", "Be brief.\n\nRules."), ("user", "hi")]
    assert [asked.seed for asked in seen] == [107, 7]


async def test_without_settings_of_its_own_an_agent_gets_the_prompt_unchanged():
    seen: list[Prompt] = []
    asked = prompt("hi", seed=3)
    await Briefed(ScriptedAgent("a", [lambda got: seen.append(got) or "ok"])).ask(asked)
    assert seen == [asked]


def recording(path, *rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


async def test_a_replay_finds_its_answer_by_question_and_round(tmp_path):
    path = recording(
        tmp_path / "said.jsonl",
        {"question": "How  many?\n", "text": "Four."},
        {"question": "How many?", "round": 1, "answer": "Still four."},
        {"question": "几个？", "text": "四个。"},
    )
    agent, heard = ReplayAgent("any", path), []
    assert (await agent.ask(prompt("instructions, then How many?", question="How many?"), heard.append)).text == "Four."
    assert (await agent.ask(prompt(question=" How many? ", round=1))).text == "Still four."
    assert (await agent.ask(prompt("几个？"))).text == "四个。"
    assert heard == [Delta(text="Four.")]


async def test_a_missing_recording_says_which_question_in_which_file(tmp_path):
    path = recording(tmp_path / "said.jsonl", {"question": "How many?", "text": "Four."})
    with pytest.raises(CallError, match=r"said\.jsonl has no answer of 'a' in round 2 to: How many\?"):
        await ReplayAgent("a", path).ask(prompt(question="How many?", round=2))


async def test_with_several_speakers_each_replay_gives_its_own_words(tmp_path):
    rows = [{"question": "Q", "agent": name, "text": f"I am {name}"} for name in ("ann", "bob")]
    path = recording(tmp_path / "said.jsonl", *rows)
    assert (await ReplayAgent("bob", path).ask(prompt("Q"))).text == "I am bob"
    with pytest.raises(AnswersError, match=r"no answers by 'cy'; it has those of: ann, bob"):
        ReplayAgent("cy", path)


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[1]",
        '{"question": "Q"}',
        '{"question": 1, "text": "t"}',
        '{"question": "Q", "text": 4}',
        '{"question": "Q", "text": "t", "round": 1e999}',
        "[" * 100_000,
        '{"a":' * 100_000,
    ],
)
def test_a_row_that_cannot_be_read_is_named(tmp_path, line):
    path = tmp_path / "said.jsonl"
    path.write_text('{"question": "Q", "text": "t"}\n\n' + line + "\n", encoding="utf-8")
    with pytest.raises(AnswersError, match=r"said\.jsonl, line 3: a row looks like"):
        ReplayAgent("a", path)


async def test_what_a_message_quotes_of_a_recording_or_a_question_cannot_steer_a_terminal(tmp_path):
    path = tmp_path / "said.jsonl"
    path.write_text("no row \x1b[31m\u202e\n", encoding="utf-8")
    with pytest.raises(AnswersError, match=r"this one: no row \[31m$"):
        ReplayAgent("a", path)
    path = recording(
        path, {"question": "Q", "agent": "b\x1b[1m", "text": "t"}, {"question": "Q", "agent": "c", "text": "t"}
    )
    with pytest.raises(AnswersError, match=r"those of: b\[1m, c$"):
        ReplayAgent("a", path)
    with pytest.raises(CallError, match=r"to: who\[31m$"):
        await ReplayAgent("c", path).ask(prompt(question="who\x1b[31m\u2066"))


BROKEN = bytearray(gzip.compress(b'{"question": "Q"}' * 100, mtime=0))
BROKEN[10:20] = b"\xff" * 10


@pytest.mark.parametrize("content", [None, b"\xff\xfe", gzip.compress(b'{"question": "Q"}')[:20], bytes(BROKEN)])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "said.jsonl.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AnswersError, match=r"said\.jsonl\.gz cannot be read"):
        ReplayAgent("a", path)


@pytest.mark.data
async def test_real_recorded_answers_of_four_models_can_be_replayed():
    path = SHARED / "answers" / "gsm8k_openai_4models.jsonl.gz"
    if not path.exists():
        pytest.skip("the shared evaluation data is not beside this checkout")
    with gzip.open(path, "rt", encoding="utf-8") as rows:
        row = json.loads(next(rows))
    for said in row["candidates"]:
        reply = await ReplayAgent(said["model"], path).ask(prompt("...", question=row["question"]))
        assert reply.text == said["text"]
