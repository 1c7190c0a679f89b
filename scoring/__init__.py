"""Plain functions of plain values: reading answers, how alike texts are, and the crowd's vote."""

from scoring.answers_file import AnswerRow, answer_row, read_answers
from scoring.ballots import Ballot
from scoring.json_answers import NoJsonError, json_in
from scoring.json_schema import schema_check
from scoring.kind import choices_in, infer_kind, kind_with_gold
from scoring.methods import METHODS, Embed
from scoring.published import read_as_published, vote_as_published
from scoring.read import canonical, read_answer, same
from scoring.vote import vote

__all__ = [
    "METHODS",
    "AnswerRow",
    "Ballot",
    "Embed",
    "NoJsonError",
    "answer_row",
    "canonical",
    "choices_in",
    "infer_kind",
    "json_in",
    "kind_with_gold",
    "read_answer",
    "read_answers",
    "read_as_published",
    "same",
    "schema_check",
    "vote",
    "vote_as_published",
]
