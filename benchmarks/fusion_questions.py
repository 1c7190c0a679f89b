"""What `fusion_quality.py` asks: questions of a folder, and the worked examples before them, written for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evaluation.datasets import Labelled, read_questions

CHOICES = (
    ("Where would you put a plate after washing it?", "cupboard|river|oven|garden|mailbox", "A"),
    ("What do people use to cut paper?", "spoon|pillow|scissors|ladder|candle", "C"),
    ("If it is raining, what might you carry?", "hammer|umbrella|melon|curtain|violin", "B"),
    ("What would a hungry child probably want?", "homework|sleep|noise|food|shoes", "D"),
    ("Where do fish live?", "desert|attic|tree|cloud|water", "E"),
)
SUMS = (
    ("A pen costs 3 dollars. How much do 4 pens cost, in dollars?", "7|10|12|14|16", "C"),
    ("What is 25 percent of 80?", "20|25|40|55|60", "A"),
    ("A train goes 60 km in one hour. How many km does it go in 3 hours?", "20|63|120|160|180", "E"),
    ("If x + 7 = 15, what is x?", "6|8|9|22|105", "B"),
)
PROBLEMS = (
    ("Tom had 9 apples and gave 4 of them away. How many apples does he have now?", "9 - 4 = 5", "5"),
    (
        "A box holds 6 eggs. Mia buys 3 boxes and breaks 2 eggs. How many eggs are left?",
        "6 * 3 = 18, 18 - 2 = 16",
        "16",
    ),
    ("20 pencils are shared equally by 5 children. How many does each child get?", "20 / 5 = 4", "4"),
    ("Ann has 12 stamps, Ben has 7. How many more stamps does Ann have than Ben?", "12 - 7 = 5", "5"),
)


def drawn(folder: Path, sets: Sequence[tuple[str, int]], limit: int | None) -> list[tuple[str, Labelled]]:
    """The first questions of each set, with the set's name."""
    found = []
    for name, count in sets:
        every = list(read_questions(folder / f"{name}.jsonl"))
        found += [(name, one) for one in every[: min(count, limit or count)]]
    return found


def letter_prompt(dataset: str, question: Labelled) -> str:
    """Five-way examples with their letters, and the question up to where its letter comes."""
    shown = SUMS if dataset == "aqua" else CHOICES
    parts = [
        _with_options(text, dict(zip("ABCDE", options.split("|"), strict=True)), f" {letter}")
        for text, options, letter in shown
    ]
    return "\n\n".join([*parts, _with_options(question.question.text, question.question.choices, "")])


def _with_options(text: str, options: dict[str, str] | object, answer: str) -> str:
    assert isinstance(options, dict)
    lines = [f"{letter}. {option}" for letter, option in options.items()]
    return "\n".join([f"Question: {text}", *lines, f"Answer:{answer}"])


def likelihood_prompt(question: Labelled) -> str:
    """Examples with their answers in words, and the question up to where an option would come."""
    parts = [
        f"Question: {text}\nAnswer: {options.split('|')['ABCDE'.index(letter)]}" for text, options, letter in CHOICES
    ]
    return "\n\n".join([*parts, f"Question: {question.question.text}\nAnswer:"])


def problem_prompt(question: Labelled) -> str:
    parts = [f"Question: {text}\nAnswer: {steps}. The answer is {answer}." for text, steps, answer in PROBLEMS]
    return "\n\n".join([*parts, f"Question: {question.question.text}\nAnswer:"])
