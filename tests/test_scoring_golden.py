"""Votes and readings on real answers of real models, against figures measured elsewhere on the same answers."""

import gzip
import json
from collections import Counter

import pytest

from scoring import Ballot, choices_in, infer_kind, read_answer, read_answers, same, vote

pytestmark = pytest.mark.data

POOLS = {
    "A8": (
        "Mixtral-8x7B-Instruct-v0.1", "reka-flash-20240226", "Yi-1.5-9B-Chat", "Meta-Llama-3-8B-Instruct",
        "Qwen2-7B-Instruct", "command-r-plus", "gpt-3.5-turbo-0125", "Mistral-Nemo-Instruct-2407",
    ),
    "B5": (
        "gemma-2-2b-it", "command-r", "Mixtral-8x7B-Instruct-v0.1", "gpt-3.5-turbo-0125", "claude-3-haiku-20240307",
    ),
    "C5": (
        "gpt-4o-2024-08-06", "claude-3-5-sonnet-20241022", "Mistral-Large-2", "gemini-1.5-pro",
        "Meta-Llama-3.1-70B-Instruct",
    ),
}  # fmt: skip


def rows(folder, name):
    with gzip.open(folder / "answers" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def expected_right(verdict, gold, kind="number"):
    """1 or 0, and for a tie the chance that a random choice among the tied answers is right."""
    tied = [support.answer for support in verdict.supports if support.share >= verdict.support - 1e-9]
    return sum(same(answer, gold, kind) for answer in tied) / len(tied)


@pytest.mark.parametrize(("pool", "percent"), [("A8", 91.2), ("B5", 86.6), ("C5", 97.2)])
def test_the_majority_of_real_models_is_right_as_often_as_was_measured(shared_data, pool, percent):
    scored = []
    for row in rows(shared_data, "zeroeval_gsm_answers_all_models"):
        ballots = [Ballot(model, "", row["answers"][model]) for model in POOLS[pool]]
        if any(ballot.answer is not None for ballot in ballots):
            scored.append(expected_right(vote(ballots, method="majority", kind="number"), row["gold"]))
        else:
            scored.append(0)
    assert len(scored) == 1319
    assert 100 * sum(scored) / len(scored) == pytest.approx(percent, abs=0.05)


def test_agreement_is_confidence(shared_data):
    right, seen = Counter(), Counter()
    for row in rows(shared_data, "zeroeval_gsm_answers_all_models"):
        verdict = vote([Ballot(model, "", row["answers"][model]) for model in POOLS["A8"]], kind="number")
        votes = len(verdict.supports[0].agents)
        seen[votes] += 1
        right[votes] += same(verdict.answer, row["gold"], "number")
    assert (seen[8], right[8]) == (492, 492)
    assert right[7] / seen[7] > 0.97
    assert right[4] / seen[4] < 0.85


def test_what_a_model_states_as_its_answer_is_read_as_the_recorders_read_it(shared_data):
    read, differing = 0, []
    for row in rows(shared_data, "gsm8k_openai_4models"):
        for candidate in row["candidates"]:
            answer = read_answer(candidate["text"], "number")
            if answer is None or candidate["answer"] is None:
                continue
            read += 1
            # their answers are rounded to four places
            if abs(float(answer) - float(candidate["answer"])) > 0.5e-4 * (1 + 1e-6):
                differing.append((candidate["text"][-60:], candidate["answer"], answer))
    assert read >= 2610
    # measured: "-1.8 billion", "1/5" and "7/14", which they read as -1.8, 5 and 14
    assert len(differing) <= 3, differing


def test_statements_of_sixteen_models_are_read_as_recorded(shared_data):
    read, differing = 0, []
    for row in rows(shared_data, "zeroeval_gsm_16models_300q_text"):
        for candidate in row["candidates"]:
            if candidate["answer"] is None:
                continue
            read += 1
            answer = read_answer(f"{candidate['text']}\nThe answer is {candidate['answer_raw']}.", "number")
            if not same(answer, candidate["answer"], "number"):
                differing.append((candidate["answer_raw"], candidate["answer"], answer))
    assert read == 4778
    # measured: 22; most are calculations ("40 * 21 * 4 = 3360") of which the recorder took the first number
    assert len(differing) <= 24, differing


KINDS = {"AQuA": "choice", "CSQA": "choice", "StrategyQA": "yesno"}


def test_the_papers_own_samples_are_read_as_recorded_or_not_at_all(shared_data):
    read, differing, unread = 0, [], []
    for row in rows(shared_data, "eot_samples_3agents"):
        kind = KINDS.get(row["dataset"], "number")
        choices = choices_in(row["question"]) if kind == "choice" else {}
        for candidate in row["candidates"]:
            answer = read_answer(candidate["text"], kind, choices)
            if answer is None:
                unread.append(candidate["text"][-60:])
                continue
            read += 1
            if not (candidate["answer"] and same(answer, candidate["answer"], kind)):
                differing.append((candidate["text"][-60:], candidate["answer"], answer))
    # measured: 35 of 1200 unread, all "either (C) or (D)", "not a simple yes or no", or a refusal
    assert len(unread) <= 36, unread
    assert len(differing) <= 4, differing
    assert read >= 1164


def test_votes_are_right_as_often_as_was_measured_on_the_papers_samples(shared_data):
    """EoT's samples: majority 88.5 when the first said wins ties, word 85.0, char 84.0, word+char 83.8.

    Those samples put the agent that is right first (391 of 400), so the first-said rule flatters: by chance it is 84.0.
    """
    right = Counter()
    for row in rows(shared_data, "eot_samples_3agents"):
        kind = KINDS.get(row["dataset"], "number")
        ballots = [Ballot(c["model"], c["text"], c["answer"] or None) for c in row["candidates"]]
        for method in ("word_a_f", "char_a_f", "sum"):
            right[method] += same(vote(ballots, method=method, kind=kind).answer, row["gold"], kind)
        majority = vote(ballots, method="majority", kind=kind)
        right["first said"] += bool(majority.supports) and same(majority.supports[0].answer, row["gold"], kind)
        right["by chance"] += expected_right(majority, row["gold"], kind) if majority.supports else 0
    percent = {method: 100 * count / 400 for method, count in right.items()}
    measured = {"first said": 88.5, "by chance": 84.0, "word_a_f": 85.0, "char_a_f": 84.0, "sum": 83.8}
    assert percent == pytest.approx(measured, abs=0.6)


def test_open_answers_by_word_and_character_score_as_was_measured(shared_data):
    """Vicuna-80, GPT-4 scores: mean 7.79, word 8.32, char 8.35, word+char 8.37."""
    scores = Counter()
    asked = rows(shared_data, "vicuna80_5models_gpt4scores")
    for row in asked:
        by_model = {candidate["model"]: candidate["gpt4_score"] for candidate in row["candidates"]}
        ballots = [Ballot(c["model"], c["text"], c["text"]) for c in row["candidates"]]
        for method in ("word_a_f", "char_a_f", "sum"):
            scores[method] += by_model[vote(ballots, method=method, kind="open").agent]
    mean = {method: total / len(asked) for method, total in scores.items()}
    assert mean == pytest.approx({"word_a_f": 8.32, "char_a_f": 8.35, "sum": 8.37}, abs=0.05)


@pytest.mark.parametrize(
    ("name", "kind", "share"),
    [
        ("gsm8k", "number", 0.98),
        ("svamp", "number", 0.99),
        ("multiarith", "number", 0.99),
        ("singleeq", "number", 0.99),
        ("addsub", "number", 0.99),
        ("strategyqa", "yesno", 0.99),
        ("aqua", "choice", 1.0),
        ("csqa", "choice", 1.0),
        ("penguins", "choice", 1.0),
    ],
)
def test_the_kind_of_public_questions_is_inferred(shared_data, name, kind, share):
    lines = (shared_data / "questions" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    asked = [json.loads(line) for line in lines]
    found = sum(infer_kind(question["text"], question.get("choices")) == kind for question in asked)
    assert found / len(asked) >= share


def test_every_file_of_answers_can_be_voted_on(shared_data):
    for path in sorted((shared_data / "answers").glob("*.jsonl.gz")):
        row = next(iter(read_answers(path)))
        verdict = vote(row.ballots, kind=row.kind)
        assert verdict.agent in {ballot.voter for ballot in row.ballots}, path
