"""What an agent is asked in each round.

The shared part comes first and in the same order every round (question, then the agent's own last message, then its
peers), so that a provider's prompt cache and a local model's KV cache hit. Peers' text is untrusted: it stands
between marks that its writer could not know, is stripped of invisible characters, and is capped in length.
"""

from __future__ import annotations

import hashlib
import hmac
import re

from eot.text import clean
from eot.types import Exchange, Kind, Message, Prompt, Question, Thought
from scoring import choices_in
from topologies.confidence import confidence, confidence_as_published
from topologies.languages import Language, language_of

MAX_PEER_CHARACTERS = 4000
"""What one peer may put into another's prompt; the end is kept, since the answer stands there."""
FIRST_ROUND_TOLD_CONFIDENCE = 2
_JOINERS = re.compile("[\u200c\u200d]")  # zero-width: they could split a mark that a model still reads as one


def prompt_for(exchange: Exchange, seat: str, reads: tuple[str, ...], seed: int, salt: str = "") -> Prompt:
    """The prompt of this seat in the round that comes next.

    `reads` names the peers whose last message it is shown; `salt`, a secret, makes the marks around them unforeseeable.
    """
    turn = len(exchange.rounds)
    words = language_of(exchange.question.text)
    said = exchange.latest
    ask = question_text(exchange.question, exchange.kind, words)
    peers = [said[peer] for peer in reads]
    mark = fence(salt, exchange.id, turn) if peers else ""
    look_again = _reconsider(exchange, seat, peers, words, mark) if peers or seat in said else ""
    if seat in said:
        turns = [("user", ask), ("assistant", said[seat].text), ("user", look_again)]
    else:  # one message: many chat templates refuse two of a user's in a row
        turns = [("user", "\n\n".join(filter(None, [ask, look_again])))]
    return Prompt(
        messages=tuple(Message(role=role, content=content) for role, content in [("system", words.system), *turns]),
        run_id=exchange.id,
        round=turn,
        seed=_seed(seed, seat, turn),
        question=exchange.question.text,
    )


def question_text(question: Question, kind: Kind, words: Language) -> str:
    """The question as every agent reads it: background, text, choices, and how to finish."""
    choices = "\n".join(f"{letter}. {text}" for letter, text in question.choices.items())
    ask = _ask(question, kind, words)
    parts = [
        words.context.format(context=question.context) if question.context else "",
        question.text,
        words.choices.format(choices=choices) if choices else "",
        ask,
    ]
    return "\n\n".join(filter(None, parts))


def _ask(question: Question, kind: Kind, words: Language) -> str:
    """How to finish, so that the answer can be read."""
    letters = "/".join(question.choices or choices_in(question.text))
    return words.ask[kind].format(letters=letters, schema=question.json_schema or "{}")


def _reconsider(exchange: Exchange, seat: str, peers: list[Thought], words: Language, mark: str) -> str:
    """The part that differs between agents: what the peers said, fenced, and the request to look again."""
    again = words.first if seat not in exchange.latest else words.again if peers else words.alone
    told = len(exchange.rounds) >= FIRST_ROUND_TOLD_CONFIDENCE
    sure = {peer.agent: _confidence(exchange, peer.agent) if told else None for peer in peers}
    parts = [
        words.peers if peers else "",
        words.untrusted.format(fence=mark) if peers else "",
        *(_quote(peer, mark, sure[peer.agent], words) for peer in peers),
        words.sure if any(value is not None for value in sure.values()) else "",
        again,
        _ask(exchange.question, exchange.kind, words),
    ]
    return "\n\n".join(filter(None, parts))


def _quote(peer: Thought, mark: str, sure: float | None, words: Language) -> str:
    text, again = _JOINERS.sub("", clean(peer.text)), None
    while text != again:  # taking one out may join the halves of another
        text, again = re.sub(mark, "", text, flags=re.IGNORECASE), text
    if len(text) > MAX_PEER_CHARACTERS:
        text = f"{words.cut} {text[-MAX_PEER_CHARACTERS:]}"
    facts = f" confidence={sure:.2f}" if sure is not None else ""
    return f"<{mark} from={peer.agent} round={peer.round}{facts}>\n{text.strip()}\n</{mark}>"


def _confidence(exchange: Exchange, agent: str) -> float | None:
    read = confidence_as_published if exchange.mode == "eot-compat" else confidence
    return read([thought.answer for thought in exchange.of(agent)])


def fence(salt: str, run_id: str, turn: int) -> str:
    """The mark around quotations of one round: unknown to those quoted, the same again when a run is resumed."""
    return f"quote-{hmac.digest(salt.encode(), f'{run_id} {turn}'.encode(), 'sha256').hex()[:10]}"


def _seed(seed: int, seat: str, turn: int) -> int:
    """One agent's seed for one round, in 0..2³¹-1: agents with the same model must not write the same text."""
    return int.from_bytes(hashlib.sha256(f"{seed} {seat} {turn}".encode()).digest()[:4], "big") >> 1
