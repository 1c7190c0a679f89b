"""A report's rows as text, the same for the terminal and the page. Unknown is said to be unknown, never 0."""

from __future__ import annotations

from evaluation.summary import Comparison, Score

SCORED = (
    "system",
    "right %",
    "95 %",
    "graded",
    "failed",
    "calls",
    "tokens in",
    "tokens out",
    "$",
    "s",
    "ECE",
)
COMPARED = ("system", "baseline", "questions", "difference %", "95 %", "only it", "only the other", "p")


def score_cells(score: Score) -> tuple[str, ...]:
    share = score.accuracy
    return (
        f"{score.system} = {score.hindsight}" if score.hindsight else score.system,
        f"{100 * share.mean:.1f}" if share else "unknown",
        f"{100 * share.low:.1f} to {100 * share.high:.1f}" if share else "",
        str(score.graded),
        str(score.failed),
        f"{score.calls:.1f}",
        f"{score.input_tokens:,.0f}",
        f"{score.output_tokens:,.0f}",
        "unknown" if score.cost_usd is None else f"{score.cost_usd:.4f}",
        f"{score.seconds:.1f}",
        f"{score.calibration.ece:.2f}" if score.calibration else "",
    )


def comparison_cells(one: Comparison) -> tuple[str, ...]:
    return (
        one.system,
        one.baseline,
        str(one.questions),
        f"{100 * one.difference.mean:+.1f}",
        f"{100 * one.difference.low:+.1f} to {100 * one.difference.high:+.1f}",
        str(one.test.only_ours),
        str(one.test.only_theirs),
        f"{one.test.p_value:.3f}",
    )
