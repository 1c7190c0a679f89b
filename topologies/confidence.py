"""How sure an agent is of its latest answer, read from how it answered over the rounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def confidence(answers: Sequence[str | None]) -> float | None:
    """Share of an agent's readable answers a_0..a_k, oldest first, that equal the latest one; in 0..1.

    None where nothing can be said: the latest answer is unreadable, or only one could be read.
    """
    readable = [answer for answer in answers if answer is not None]
    if len(readable) < 2 or answers[-1] is None:
        return None
    return readable.count(answers[-1]) / len(readable)


def confidence_as_published(answers: Sequence[str | None]) -> float | None:
    """Share of the most frequent answer, unreadable ones counted as one more answer, in 0..1 (the EoT code's rule).

    Its known defect is kept: 18, 18, 99 gives 0.667 although the latest answer is 99, and three unreadable answers
    give 1.0.
    """
    if len(answers) < 2:
        return None
    return Counter(answers).most_common(1)[0][1] / len(answers)
