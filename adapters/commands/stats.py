"""``execgraph stats``: what all runs came to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .common import (
    JsonOption,
    NamespaceOption,
    StoreOption,
    ago,
    console,
    headed,
    opened,
    print_json,
    run,
)

if TYPE_CHECKING:
    from rich.table import Table

    from ...engine.asking.stats import Stats

__all__ = ["stats", "table"]


def stats(
    *,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only runs that began so long ago: 30m, 12h, 7d."),
    ] = None,
    json_output: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = "default",
) -> None:
    """Show how many runs asked no model, what was paid and saved, and why models were asked.

    Example: execgraph stats --since 7d
    """
    span = None if since is None else ago(since)

    async def ask() -> Stats:
        async with opened(store, namespace) as engine:
            return await engine.stats(span)

    totals = run(ask)
    if json_output:
        print_json(totals.as_json())
        return
    console().print(table(totals))
    if totals.hint is not None:
        console().print("", totals.hint, sep="\n", markup=False)
    if len(totals.agents) > 1:
        console().print("", _agents(totals), sep="\n")
    if totals.misses:
        console().print("", _misses(totals), sep="\n")


def table(stats: Stats) -> Table:
    """What all runs came to, as people see it."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    rate = "" if stats.hit_rate is None else f" ({stats.hit_rate:.1%})"
    for name, value in (
        ("runs", f"{stats.executions:,}"),
        ("asked no model", f"{stats.hits:,}{rate}"),
        ("asked in part", f"{stats.partial:,}"),
        ("asked throughout", f"{stats.live:,}"),
        ("failed", f"{stats.failed:,}"),
        ("killed", f"{stats.killed:,}"),
        ("not ended", f"{stats.running:,}"),
        ("calls asked", f"{stats.calls_asked:,}"),
        ("calls served", f"{stats.calls_served:,}"),
        ("tokens paid", f"{stats.tokens:,}"),
        ("  read from a cache", f"{stats.cache_read_tokens:,}"),
        ("  written to a cache", f"{stats.cache_write_tokens:,}"),
        ("tokens saved", f"{stats.saved_tokens:,}"),
        ("cost", dollars(stats.cost, stats.cost_at_least)),
        ("saved", dollars(stats.saved_cost, stats.saved_cost_at_least)),
        ("traces kept", f"{stats.traces:,}"),
        ("to be approved", f"{stats.unapproved:,}"),
        ("rejected", f"{stats.rejected:,}"),
        ("same in shadow", _agreed(stats)),
    ):
        table.add_row(name, value)
    return table


def _agreed(stats: Stats) -> str:
    same, compared = stats.shadow
    return f"{same:,} of {compared:,} ({stats.shadow.rate:.1%})" if compared else "none compared"


def dollars(cost: float | None, at_least: float) -> str:
    """A sum of dollars; if a part of it is not known, what is."""
    if cost is not None:
        return f"${cost:,.4f}"
    return f"not known (at least ${at_least:,.4f})" if at_least else "not known"


def _agents(stats: Stats) -> Table:
    from rich.markup import escape

    table = headed("agent", numbers=("runs", "asked", "served", "tokens", "saved", "cost"))
    for agent, one in stats.agents.items():
        numbers = (one.executions, one.calls_asked, one.calls_served, one.tokens, one.saved_tokens)
        cost = dollars(one.cost, one.cost_at_least)
        table.add_row(escape(agent), *(f"{number:,}" for number in numbers), cost)
    return table


def _misses(stats: Stats) -> Table:
    table = headed("why a model was asked", numbers=("calls", "tokens"))
    for kind, tokens in stats.misses.items():
        table.add_row(kind, f"{stats.missed_calls[kind]:,}", f"{tokens:,}")
    return table
