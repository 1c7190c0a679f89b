"""The report as one self-contained HTML page: plots inside, nothing fetched, no script, every foreign text escaped."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from eot.text import clean
from evaluation.cells import COMPARED, SCORED, comparison_cells, score_cells
from evaluation.datasets import Labelled
from evaluation.exchanged import Case, Exchanged
from evaluation.summary import Report

_SHOWN = 200
"""Questions listed under each heading; the results file has them all."""
_LONGEST = 600
_CAPTIONS = {
    "front": "Accuracy over tokens. The dashed line joins the systems that no other beats in both; a hollow mark was "
    "chosen with hindsight.",
    "calibration": "Calibration: how often an answer of a given support is right. On the diagonal, support is the "
    "chance to be right.",
    "exchange": "What the exchange did to the vote over first answers.",
}
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;font-size:13px;margin:1rem 0}th,td{padding:.25rem .6rem;border-bottom:1px solid #ddd;
text-align:right}th:first-child,td:first-child,.text td,.text th{text-align:left;vertical-align:top}
td{font-variant-numeric:tabular-nums}img{max-width:100%}.text td{white-space:pre-wrap;overflow-wrap:anywhere}
figure{margin:1.5rem 0}figcaption{color:#666;font-size:13px}summary{cursor:pointer}"""
# The page holds text of models and of question files: nothing in it may run or call out, even where escaping failed.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(report: Report, questions: Mapping[str, Labelled], plots: Mapping[str, bytes]) -> str:
    """The page. `questions` by id, for the texts behind what was mended, broken and left; `plots` are PNG by name."""
    body = "\n".join(
        [
            "<h1>Councils and baselines at equal budget</h1>",
            *(f"<p>{escape(note)}</p>" for note in _opening(report)),
            _table(SCORED, [score_cells(score) for score in report.scores]),
            _figure("front", plots),
            "<h2>Paired comparisons</h2><p>On the same questions; exact McNemar test, 95 % bootstrap interval.</p>",
            *_comparisons(report),
            _figure("calibration", plots),
            "<h2>What the exchange did</h2>",
            _figure("exchange", plots),
            *(_exchange(one, questions) for one in report.exchanges),
            *(f"<p>{escape(note)}</p>" for note in report.notes),
        ]
    )
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>eot eval</title><style>{_STYLE}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _opening(report: Report) -> Iterable[str]:
    if report.ended:
        yield f"Ended early: the cap of {report.ended} was reached. Run it again with a higher one to go on."
    yield (
        "Calls, tokens and seconds (s) are means a question, dollars ($) a sum; seconds are the critical path. "
        "Systems named after a council are held to what it spent on the same question."
    )


def _comparisons(report: Report) -> Iterable[str]:
    """The councils' in sight; baselines among themselves behind a fold."""
    councils = [comparison_cells(one) for one in report.comparisons if one.system.startswith("council:")]
    others = [comparison_cells(one) for one in report.comparisons if not one.system.startswith("council:")]
    yield _table(COMPARED, councils)
    yield f"<details><summary>baselines among themselves: {len(others)}</summary>{_table(COMPARED, others)}</details>"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(clean(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>'


def _figure(name: str, plots: Mapping[str, bytes]) -> str:
    if name not in plots:
        return ""
    data, caption = base64.b64encode(plots[name]).decode(), _CAPTIONS[name]
    image = f'<img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def _exchange(one: Exchanged, questions: Mapping[str, Labelled]) -> str:
    facts = [
        ("rounds played", ", ".join(f"{rounds}: {count}" for rounds, count in one.rounds.items())),
        ("stopped by", ", ".join(f"{rule}: {count}" for rule, count in one.stops.items())),
        *(
            (f"{name}", f"spoke for {won.spoke:.0%}, agreed with {won.agreed:.0%} of the verdicts")
            for name, won in one.winners.items()
        ),
    ]
    cases = {"mended": one.mended, "broken": one.broken, "left wrong": one.left}
    return "\n".join(
        [
            f"<h3>{escape(one.council)}</h3>",
            _table(["", ""], facts, "text"),
            *(_cases(title, listed, questions) for title, listed in cases.items()),
        ]
    )


def _cases(title: str, cases: Sequence[Case], questions: Mapping[str, Labelled]) -> str:
    more = f", the first {_SHOWN} shown" if len(cases) > _SHOWN else ""
    rows = [_case(case, questions) for case in cases[:_SHOWN]]
    table = _table(["id", "question", "gold", "round 0", "verdict"], rows, "text")
    return f"<details><summary>{escape(title)}: {len(cases)}{more}</summary>{table}</details>"


def _case(case: Case, questions: Mapping[str, Labelled]) -> list[str]:
    asked = questions.get(case.question)
    said = [asked.question.text if asked else "", (asked and asked.gold) or "", case.before or "-", case.after or "-"]
    return [case.question, *(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…" for text in said)]
