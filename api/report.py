"""What a terminal shows of a finished run: each round's answers, the vote, the verdict, what the exchange changed."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from eot.text import clean
from eot.types import Exchange, Result, Silence, Support, Turn, Usage, Verdict
from topologies import RULES

_BAR = 20


def report(result: Result) -> RenderableType:
    """The rounds, the vote and the verdict of one run."""
    return Group(rounds(result.exchange), Text(), _vote(result.verdict), Text(), verdict(result))


def rounds(exchange: Exchange) -> Table:
    """A row a seat: whom it reads, its answer in every round, its confidence and what it cost."""
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"{exchange.topology} · who reads whom, and each round's answers",
        title_justify="left",
    )
    for heading in (
        "agent",
        "reads",
        *(f"round {turn}" for turn in range(len(exchange.rounds))),
        "confidence",
        "tokens",
        "seconds",
    ):
        table.add_column(heading)
    for seat in exchange.seats:
        turns = {turn.round: turn for turns in exchange.rounds for turn in turns if turn.agent == seat}
        sure = exchange.latest[seat].confidence if seat in exchange.latest else None
        table.add_row(
            Text(seat, style="bold"),
            Text(", ".join(peer for peer in exchange.hears[seat] if peer != seat) or "nobody", style="dim"),
            *(
                said(turns.get(turn), "not asked" if seat in exchange.unasked else "left")
                for turn in range(len(exchange.rounds))
            ),
            Text("" if sure is None else f"{sure:.2f}"),
            str(sum(turn.usage.tokens for turn in turns.values())),
            f"{sum(turn.seconds for turn in turns.values()):.1f}",
        )
    return table


def said(turn: Turn | None, otherwise: str = "left") -> Text:
    """One turn as a cell: the answer, or why there is none."""
    if turn is None:
        return Text(otherwise, style="dim")
    if isinstance(turn, Silence):
        return Text(f"silent: {turn.reason}", style="red")
    if turn.answer is None:
        return Text("unreadable" + (" (cut off)" if turn.finish == "length" else ""), style="yellow")
    return Text(one_line(turn.answer, 40))


def _vote(verdict: Verdict) -> RenderableType:
    table = Table(box=None, show_header=False, title=f"vote: {verdict.how}", title_justify="left", padding=(0, 1))
    for support in verdict.supports:
        table.add_row(*_support(support, won=support.answer == verdict.answer))
    if verdict.abstained:
        table.add_row(Text("abstained", style="dim"), "", Text(", ".join(verdict.abstained), style="dim"))
    return table


def _support(support: Support, *, won: bool) -> tuple[Text, Text, Text]:
    filled = round(support.share * _BAR)
    style = "green" if won else "dim"
    return (
        Text(one_line(support.answer or "", 40), style=f"bold {style}"),
        Text("█" * filled + "░" * (_BAR - filled) + f" {support.share:.0%}", style=style),
        Text(", ".join(support.agents), style=style),
    )


def verdict(result: Result) -> Panel:
    """The crowd's answer, the text behind it, and the facts that a reader should know of it."""
    found, exchange = result.verdict, result.exchange
    lines = [Text(found.text and clean(found.text).strip()), Text()]
    lines += [Text(fact, style="dim") for fact in facts(found, exchange)]
    answer = one_line(found.answer or "no answer could be read", 70)
    return Panel(Group(*lines), title=Text(f" {answer} ", style="bold green"), title_align="left", box=box.ROUNDED)


def facts(found: Verdict, exchange: Exchange) -> list[str]:
    """What the run says of itself, a sentence a line."""
    stop = exchange.stop
    told = [
        f"{found.how}; support {found.support:.0%}" + (", a tie" if found.tie else ""),
        f"stopped after round {stop.round}: {stop.rule} ({stop.detail})" if stop else "",
        changed(found, exchange),
        moved(exchange),
        *(f"degraded: lost {agent}: {_why_lost(agent, exchange)}" for agent in found.lost),
        *found.notes,
        spent(exchange.usage),
    ]
    return [clean(fact) for fact in told if fact]


def _why_lost(agent: str, exchange: Exchange) -> str:
    last = [silence for silence in exchange.silences if silence.agent == agent][-1]
    return one_line(last.detail or last.reason, 300)


def changed(found: Verdict, exchange: Exchange) -> str:
    """What the exchange did to the answer, against the vote over round 0 alone."""
    if found.shadow is None:
        return ""
    if len(exchange.rounds) == 1:
        agreed = exchange.stop and exchange.stop.rule in RULES
        return f"no exchange {'was needed' if agreed else 'took place'}: this is the vote over the first answers"
    if found.changed is None:
        return "whether the exchange changed an open answer cannot be told by comparing words"
    if not found.changed:
        return "the exchange changed nothing: the first answers alone give the same"
    return (
        f"the exchange changed the answer: the first answers alone give {one_line(found.shadow.answer or 'none', 40)}"
    )


def moved(exchange: Exchange) -> str:
    """Who answers otherwise now than alone at first. Open answers are left out: their words always differ."""
    pairs = {
        seat: (exchange.first[seat].answer, last.answer)
        for seat, last in exchange.latest.items()
        if seat in exchange.first
    }
    told = [
        f"{seat} {first or 'unreadable'} → {last or 'unreadable'}"
        for seat, (first, last) in pairs.items()
        if first != last
    ]
    return f"moved: {', '.join(told)}" if told and exchange.kind != "open" else ""


def spent(usage: Usage) -> str:
    """Calls, tokens and money in one line; a price that nobody knows is said to be unknown."""
    cost = "cost unknown" if usage.cost_usd is None else f"${usage.cost_usd:.3g}" if usage.cost_usd else "no money"
    return f"{usage.calls} calls, {usage.input_tokens:,} tokens read, {usage.output_tokens:,} written, {cost}"


def reasoning(result: Result) -> RenderableType:
    """Every text of every round, each under its agent's name."""
    panels = []
    for thought in result.exchange.thoughts:
        title = Text(f" {thought.agent} · round {thought.round} ")
        panels.append(
            Panel(
                Text(clean(thought.text).strip()), title=title, title_align="left", border_style="dim", box=box.ROUNDED
            )
        )
    return Group(*panels)


def one_line(text: str, width: int) -> str:
    """Model text on one line of at most `width` characters, safe to print."""
    flat = " ".join(clean(text).split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"
