"""``execgraph runs``: which runs there are, newest first."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from .common import (
    JsonOption,
    NamespaceOption,
    StoreOption,
    ago,
    at,
    console,
    opened,
    print_json,
    run,
    say,
)

if TYPE_CHECKING:
    from rich.table import Table

    from ...engine.asking.runs import Runs

__all__ = ["runs"]

_NUMBERS = ("steps", "ms", "tokens", "saved")
_FOLDED = ("agent", "labels")  # over several lines, where there is no room
_MILLISECOND = 12  # characters with which an id says when: few others begin with the same


class _Layout(NamedTuple):
    """How a table is made that needs more or less room. ``task``: how many characters of its key,
    which is a digest. ``folded``: what a column gets at least that can be folded."""

    short: bool
    task: int
    gap: int
    folded: int


_LAYOUTS = (
    _Layout(short=False, task=12, gap=2, folded=12),
    _Layout(short=True, task=8, gap=2, folded=12),
    _Layout(short=True, task=0, gap=2, folded=12),
    _Layout(short=True, task=0, gap=1, folded=6),
)


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
    from ...engine.asking.runs import one_of, recorded_mode
    from ...graphstore.model import ExecutionState

    span = None if since is None else ago(since)
    labels = dict(map(_label, label or ()))
    wanted_mode = recorded_mode(mode, "--mode")
    wanted_state = one_of(ExecutionState, state, "--state")

    async def ask() -> Runs:
        async with opened(store, namespace) as engine:
            return await engine.runs(
                agent=agent,
                task=task,
                mode=wanted_mode,
                state=wanted_state,
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
        _print(found)
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


def _print(found: Runs) -> None:
    """The runs as a table, with as much of it as the terminal is wide enough for."""
    out = console()
    tables = [_table(found, layout) for layout in _LAYOUTS]
    table = next((it for it in tables if _least(it) <= out.width), tables[-1])
    out.width = max(out.width, _least(table))  # a terminal that is narrower breaks the lines
    with out.capture() as printed:
        out.print(table)
    typer.echo("\n".join(line.rstrip() for line in printed.get().split("\n")), nl=False)


def _table(found: Runs, layout: _Layout) -> Table:
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    columns = {name: texts for name, texts in _columns(found, layout).items() if any(texts)}
    table = Table(box=None, padding=(0, layout.gap, 0, 0), pad_edge=False, header_style="bold")
    for name, texts in columns.items():
        width = max(map(cell_len, (name, *texts)))
        folds, right = name in _FOLDED, name in _NUMBERS
        table.add_column(
            name,
            justify="right" if right else "left",
            overflow="fold",
            no_wrap=not folds,
            min_width=min(width, layout.folded) if folds else width,
        )
    for row in zip(*columns.values(), strict=True):
        table.add_row(*map(Text, row))
    return table


def _least(table: Table) -> int:
    """How wide a table is at least."""
    gaps = table.padding[1] * (len(table.columns) - 1)
    return gaps + sum(it.min_width or 0 for it in table.columns)


def _columns(found: Runs, layout: _Layout) -> dict[str, list[str]]:
    """What is told of the runs, by the heads of the columns."""
    told = [found.told(it) for it in found]
    return {
        "started": [(_moment if layout.short else at)(it.started_at) for it in found],
        "run": _beginnings([it.id for it in found]) if layout.short else [it.id for it in found],
        "agent": [it.agent for it in found],
        "task": [it.task[: layout.task] for it in found],
        "mode": [it.mode.value for it in found],
        "state": [state for state, _ in told],
        "labels": [" ".join(f"{a}={b}" for a, b in it.labels.items()) for it in found],
        "steps": [steps for _, steps in told],
        "ms": [f"{round(it.duration_ms):,}" for it in found],
        "tokens": [f"{it.usage.total:,}" for it in found],
        "saved": [f"{it.saved_tokens:,}" for it in found],
    }


def _moment(milliseconds: int) -> str:
    """A moment in few characters: the day and the minute, or of another year the date."""
    told = at(milliseconds)
    return told[5:16] if told[:4] == at(time.time_ns() // 1_000_000)[:4] else told[:10]


def _beginnings(ids: list[str]) -> list[str]:
    """As much of each id as tells it from the others, the same number of characters of all."""
    length = _MILLISECOND
    while len({it[:length] for it in ids}) < len(set(ids)):
        length += 1
    return [it[:length] for it in ids]
