"""What tuning does to a small model, on word problems: the data for it, and 100 questions asked before and after.

`tuning.py prepare DATA OUT`: from DATA (the folder with `questions/` and `answers/`) write `examples.jsonl` (short
answers to AddSub, SingleEq and SVAMP), `questions.jsonl` (100 problems of SVAMP, none of which is in the examples) and
`pairs.jsonl` (GSM8K: an answer of a published model that was right, and one that was wrong; the 120 shortest).

`tuning.py ask MODEL... --questions FILE`: for each folder how many questions it answers rightly once its answer begins
with "The answer is" (greedy: the number, and that it ends there), and the loss of the right number and its full stop
in nats a token.
"""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import torch
from report import arguments, report

from local_models.training.loading import load_for_training

ASKED, PAIRS = 100, 120


def said(answer: str) -> str:
    return f"The answer is {answer}."


def rows_of(file: Path) -> list[dict[str, Any]]:
    content = file.read_bytes()
    text = gzip.decompress(content) if file.suffix == ".gz" else content
    return [json.loads(line) for line in text.splitlines()]


def prepare(data: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    svamp = rows_of(data / "questions" / "svamp.jsonl")
    asked = svamp[::5][:ASKED]
    taken = {row["id"] for row in asked}
    others = [row for name in ("addsub", "singleeq") for row in rows_of(data / "questions" / f"{name}.jsonl")]
    learnt = [row for row in [*svamp, *others] if row["id"] not in taken]
    learnt.sort(key=lambda row: hash_of(row["text"]))  # the sets mixed, the same way each time
    pairs = []
    for row in rows_of(data / "answers" / "gsm8k_openai_4models.jsonl.gz"):
        right = [each["text"] for each in row["candidates"] if each["correct"]]
        wrong = [each["text"] for each in row["candidates"] if not each["correct"]]
        if right and wrong:
            pairs.append({"prompt": row["question"], "chosen": right[0], "rejected": wrong[0]})
    pairs = sorted(pairs, key=lambda row: sum(map(len, row.values())))[:PAIRS]
    examples = [{"question": row["text"], "answer": said(row["answer"])} for row in learnt]
    for name, rows in (("questions", asked), ("examples", examples), ("pairs", pairs)):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (out / f"{name}.jsonl").write_text(text, encoding="utf-8")
        print(f"{name}: {len(rows)}")


def hash_of(text: str) -> int:
    return zlib.crc32(text.encode())


def ask(folder: Path, questions: Path) -> dict[str, float]:
    """One reading of each question with its right answer says both: what follows each token most likely is there."""
    model, tokenizer, _ = load_for_training(folder)
    model.eval()
    right, loss, tokens = 0, 0.0, 0
    rows = rows_of(questions)
    for row in rows:
        asked = [{"role": "user", "content": row["text"]}]
        prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        start, end = said(row["answer"]).split(row["answer"])
        before = tokenizer(prompt + start.rstrip(), return_tensors="pt", add_special_tokens=False)["input_ids"]
        answer = tokenizer(f" {row['answer']}{end}", return_tensors="pt", add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            logits = model(input_ids=torch.cat([before, answer], dim=1)).logits[0, before.shape[1] - 1 : -1].float()
        right += bool((logits.argmax(-1) == answer[0]).all())
        loss += float(torch.nn.functional.cross_entropy(logits, answer[0], reduction="sum"))
        tokens += answer.shape[1]
    return {"right": right, "of": len(rows), "answer_nats_per_token": round(loss / tokens, 4)}


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("task", choices=["prepare", "ask"])
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--questions", type=Path)
    asked = parser.parse_args()
    if asked.task == "prepare":
        prepare(*asked.paths)
        return
    figures: dict[str, float] = {}
    for folder in asked.paths:
        figures |= {f"{folder.name}.{key}": value for key, value in ask(folder, asked.questions).items()}
    report("asked before and after", figures, as_json=asked.json)


if __name__ == "__main__":
    main()
