"""How batches look on a terminal: a live bar, a table, an estimate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from api.http.batch_types import BatchObject, EstimateObject, Spent
from eot.text import clean


@contextmanager
def progress(batch: str) -> Iterator[Callable[[BatchObject], None]]:
    """A bar on stderr while it is a terminal; nothing where it is piped."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(clean(batch), total=None)

        def show(now: BatchObject) -> None:
            counts = now.request_counts
            failed = f" · {counts.failed} failed" if counts.failed else ""
            told = f"{now.status} · {_spent(now.eot.spent)}{failed}"
            bar.update(task, completed=counts.completed + counts.failed, total=counts.total or None, description=told)

        yield show


def print_batches(batches: Sequence[BatchObject]) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("batch", "status", "answered", "failed", "of", "spent"):
        table.add_column(heading, justify="left" if heading in ("batch", "status") else "right", overflow="fold")
    for one in batches:
        counts = one.request_counts
        cells = (one.id, one.status, counts.completed, counts.failed, counts.total, _spent(one.eot.spent))
        table.add_row(*(Text(clean(str(cell))) for cell in cells))
    Console().print(table)


def estimated(found: EstimateObject) -> str:
    least, most = found.estimate.calls_least, found.estimate.calls_most
    usd = "unknown" if found.estimate.usd_most is None else f"{found.estimate.usd_most:.4f}"
    lines = [
        f"requests: {found.requests:,}",
        f"calls: {least:,} to {most:,}",
        f"tokens at most: {found.estimate.input_tokens_most:,} read, {found.estimate.output_tokens_most:,} written",
        f"US dollars at most: {usd}",
    ]
    lines += [clean(fault.message) for fault in (found.errors.data if found.errors else ())]
    return "\n".join(lines) + "\n"


def _spent(spent: Spent) -> str:
    usd = f"{spent.usd:.4f} $" + (f" and {spent.unpriced} of unknown price" if spent.unpriced else "")
    return f"{spent.calls:,} calls, {usd}"
