"""What is read to train on: corpora, windows of them, examples and pairs."""

import gzip
import json
from itertools import chain

import pytest

from eot.errors import InputError

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from local_models.training.corpus import Passed, files_of, pieces  # noqa: E402
from local_models.training.rows import examples, pairs, parted  # noqa: E402
from local_models.training.windows import EVERY, held_out, trained_on, windows  # noqa: E402

pytestmark = pytest.mark.torch

TEXT = "".join(f"Box {n} holds {n * n} pens, and {n} more lie on the shelf.\n" for n in range(600))


def encode(text):
    return [ord(letter) % 256 + 1 for letter in text]


def text_of(file):
    passed = Passed()
    return [(piece.text, piece.ends) for piece in pieces([file], passed)], passed


def test_a_corpus_with_empty_lines_bad_bytes_and_a_line_of_10_mb_is_read_and_said_to_be_so(tmp_path):
    file = tmp_path / "c.jsonl"
    long = "ab" * 5_000_000
    rows = [
        b'{"text": "one"}',
        b"",
        b"\xff\xfe",
        b'{"text": ""}',
        b"{",
        b'["no"]',
        b'"two"',
        b'{"text": 7}',
        b"[" * 200_000,
    ]
    file.write_bytes(b"\n".join([*rows, json.dumps({"text": long}).encode()]))
    found, passed = text_of(file)
    assert found[:2] == [("one", True), ("two", True)]
    assert [ends for _, ends in found[2:]] == [False] * (len(found) - 3) + [True]
    assert "".join(text for text, _ in found[2:]) == long
    assert max(len(text) for text, _ in found) <= 1 << 15
    assert (passed.lines, passed.files) == (7, 0)
    plain = tmp_path / "c.txt"
    plain.write_bytes("\n\nüber ".encode() + b"\xff\n" + b"x" * 10_000_000)
    found, passed = text_of(plain)
    assert "".join(text for text, _ in found).startswith("\n\nüber \ufffd\n")
    assert sum(len(text) for text, _ in found) == 10_000_009
    assert passed.files == 1
    assert found[-1][1]


def test_a_folder_is_its_text_files_and_what_is_no_text_is_refused(tmp_path):
    (tmp_path / "b.py").write_text("b = 1")
    (tmp_path / "a.md").write_text("a")
    (tmp_path / "c.png").write_bytes(b"\x89")
    assert [file.name for file in files_of([tmp_path])[0]] == ["a.md", "b.py"]
    assert files_of([tmp_path])[1] == 1
    with pytest.raises(InputError, match="there is no file or folder"):
        files_of([tmp_path / "none"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has none of"):
        files_of([tmp_path / "empty"])


def test_windows_are_the_documents_end_to_end_and_those_held_out_are_never_trained_on(tmp_path):
    file = tmp_path / "c.txt"
    file.write_text(TEXT)
    whole = list(windows(pieces([file], Passed()), encode, 0, 32))
    assert list(chain(*whole)) == [*encode(TEXT), 0][: len(whole) * 32]
    held = held_out([file], encode, 0, 32, 1000)
    assert held == whole[::EVERY]
    source = trained_on([file], encode, 0, 32, 7, Passed())
    one_pass = [next(source) for _ in range(len(whole) - len(held))]
    assert sorted(one_pass) == sorted(window for at, window in enumerate(whole) if at % EVERY)
    assert one_pass != [window for at, window in enumerate(whole) if at % EVERY], "they are mixed"
    again = trained_on([file], encode, 0, 32, 7, Passed())
    assert [next(again) for _ in one_pass] == one_pass, "the same seed gives the same windows"
    (tmp_path / "short.txt").write_text("Too short.")
    with pytest.raises(InputError, match="less than two windows of 32 tokens"):
        held_out([tmp_path / "short.txt"], encode, 0, 32, 4)


def test_examples_and_pairs_are_read_in_the_shapes_that_people_have_and_the_rest_is_counted(tmp_path):
    def written(*rows):
        file = tmp_path / "rows.jsonl"
        file.write_bytes(b"\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows))
        return [file]

    user, said = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    found, passed = examples(
        written(
            {"prompt": "q", "completion": "a"},
            {"question": "q", "answer": "a"},
            {"messages": [user, said]},
            {"messages": [user]},
            {"prompt": "q"},
            {"messages": [{"role": "user"}]},
            b"",
            b"\xff",
        )
    )
    assert found == [{"prompt": [user], "completion": [said]}] * 3
    assert passed == 5
    worse = {"role": "assistant", "content": "b"}
    found, passed = pairs(
        written(
            {"prompt": "q", "chosen": "a", "rejected": "b"},
            {"rephrased_question": "q", "rephrased_answer": "a", "original_answer": "b"},
            {"prompt": "q", "chosen": "a", "rejected": "a"},
        )
    )
    assert found == [{"prompt": [user], "chosen": [said], "rejected": [worse]}] * 2
    assert passed == 1
    with pytest.raises(InputError, match=r"no line of .* can be learnt from: write"):
        pairs(written({"prompt": "q"}))
    learnt, held = parted(list(range(25)), 2)
    assert held == [0, 10]
    assert learnt == [each for each in range(25) if each not in held]


def test_a_packed_file_is_refused_by_its_name_and_kind(tmp_path):
    (tmp_path / "c.txt").write_bytes(gzip.compress(TEXT.encode()))
    with pytest.raises(InputError, match=r"c\.txt is no text but gzip: unpack it"):
        files_of([tmp_path])
    (tmp_path / "wrong.jsonl").write_text('{"body": "no text"}\n' * 5)
    with pytest.raises(InputError, match=r"5 lines have none: JSON lines are"):
        held_out([tmp_path / "wrong.jsonl"], encode, 0, 32, 4)


def test_a_line_that_is_too_long_is_passed_over_once(tmp_path, monkeypatch):
    monkeypatch.setattr("local_models.training.corpus._LONGEST_LINE", 50)
    lines = [{"text": "short"}, {"text": "long " * 100}, {"text": "last"}]
    (tmp_path / "c.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found, passed = text_of(tmp_path / "c.json")
    assert [text for text, _ in found] == ["short", "last"]
    assert passed.lines == 1


def test_half_an_emoji_is_read_as_a_question_mark(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"text": "cut \\ud83d off"}\n')
    assert text_of(tmp_path / "c.jsonl")[0] == [("cut ? off", True)]
    (tmp_path / "r.jsonl").write_text('{"prompt": "\\ud83d", "completion": "a"}\n' + "[" * 200_000 + "\n")
    found, passed = examples([tmp_path / "r.jsonl"])
    assert found[0]["prompt"][0]["content"] == "?"
    assert passed == 1
