"""``execgraph stats``: what all runs came to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .common import JsonOption, NamespaceOption, StoreOption, ago, console, opened, print_json, run

if TYPE_CHECKING:
    from rich.table import Table

    from ...engine.stats import Stats

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

    found = run(ask)
    if json_output:
        print_json(found.as_json())
        return
    console().print(table(found))
    if found.misses:
        console().print("", _misses(found), sep="\n")


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
        ("tokens paid", f"{stats.tokens:,}"),
        ("tokens saved", f"{stats.saved_tokens:,}"),
        ("cost", f"${stats.cost:,.4f}"),
        ("traces kept", f"{stats.traces:,}"),
    ):
        table.add_row(name, value)
    return table


def _misses(stats: Stats) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("why not all was replayed")
    table.add_column("runs", justify="right")
    for kind, number in stats.misses.items():
        table.add_row(kind, f"{number:,}")
    return table
