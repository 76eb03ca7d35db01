"""``execgraph runs``: which runs there are, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .common import (
    JsonOption,
    NamespaceOption,
    StoreOption,
    ago,
    at,
    console,
    headed,
    opened,
    print_json,
    run,
    say,
)

if TYPE_CHECKING:
    from rich.table import Table

    from ...engine.asking.runs import Runs

__all__ = ["runs"]

_SHORT = 12  # characters of a task's key, which is a digest


def runs(
    *,
    agent: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only those of this agent or program.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Only those of this task; the beginning is enough."),
    ] = None,
    mode: Annotated[
        str | None, typer.Option(metavar="MODE", help="live, partial or replay.")
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            metavar="STATE",
            help="running, killed, published, unapproved, unpublished, rejected or failed.",
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=TEXT", help="Only those with this label; may be repeated."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only those that began so long ago: 30m, 12h, 7d."),
    ] = None,
    before: Annotated[
        str | None, typer.Option(metavar="EXECUTION_ID", help="Only those older than this run.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many.")] = 20,
    json_output: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = "default",
) -> None:
    """List runs, newest first. `execgraph show` tells what one did, `execgraph why` why.

    Where there are older ones, the last line says how to go on.

    Example: execgraph runs --agent deployer --state failed --label pr=5 --since 7d
    """
    span = None if since is None else ago(since)
    labels = dict(map(_label, label or ()))

    async def ask() -> Runs:
        async with opened(store, namespace) as engine:
            return await engine.runs(
                agent=agent,
                task=task,
                mode=mode,
                state=state,
                labels=labels,
                since=span,
                before=before,
                limit=limit,
            )

    found = run(ask)
    if json_output:
        print_json(found.as_json())
        return
    if found:
        console().print(_table(found))
    else:
        say(f"no such runs in the namespace {namespace!r}", err=True)
    if found.hint is not None:
        say(found.hint, err=True)
    if found.older is not None:
        say(f"older ones: --before {found.older}", err=True)


def _label(given: str) -> tuple[str, str]:
    name, equals, text = given.partition("=")
    if not equals:
        raise typer.BadParameter(
            f"{given!r} is no label; write its name and its text, as pr=5", param_hint="--label"
        )
    return name, text


def _table(found: Runs) -> Table:
    from rich.markup import escape

    table = headed(
        *("started", "run", "agent", "task", "mode", "state", "labels"),
        numbers=("steps", "ms", "tokens", "saved"),
    )
    for it in found:
        labels = " ".join(f"{name}={text}" for name, text in it.labels.items())
        state, steps = found.told(it)
        texts = (it.id, it.agent, it.task[:_SHORT], it.mode.value, state, labels)
        numbers = (round(it.duration_ms), it.usage.total, it.saved_tokens)
        table.add_row(
            at(it.started_at),
            *(escape(text) for text in texts),
            steps,
            *(f"{number:,}" for number in numbers),
        )
    return table
