"""``execgraph gc``: delete what nobody needs, or tell what that would be."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import (
    JsonOption,
    NamespaceOption,
    StoreOption,
    count,
    opened,
    print_json,
    run,
    say,
    span,
    working,
)

if TYPE_CHECKING:
    from ...graphstore.retention import Collected

__all__ = ["gc"]

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|kB|KB|MB|GB|TB)?")
_UNITS = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_AGE = "Seconds, or 30s, 5m, 1h, 90d."


def gc(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would be deleted.")
    ] = False,
    traces: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Traces kept of each task. [default: 8]"),
    ] = None,
    history: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Other runs kept of each task. [default: 100]"),
    ] = None,
    versions: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Versions kept of each resource, beside the current. [default: 100]",
        ),
    ] = None,
    max_age: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="Traces that nobody used for so long go. " + _AGE),
    ] = None,
    history_age: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="Other runs and versions so old go. [default: 30d]"),
    ] = None,
    max_bytes: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="What payloads may take, for example 2GB."),
    ] = None,
    grace: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="How long any run may take. [default: 1h]"),
    ] = None,
    json_output: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = "default",
) -> None:
    """Delete runs, versions and payloads that nobody needs. Totals stay as they are.

    Engines do so by themselves, now and then; this does all of it at once. Runs may go on
    meanwhile: what one of them is replaying stays for the grace. What is current stays, and so
    does an effect of which nobody knows whether it was done.

    Example: execgraph gc --dry-run --max-age 90d
    """
    ages = {"max_age": max_age, "history_age": history_age, "grace": grace}
    limits: dict[str, Any] = {
        "traces": traces,
        "history": history,
        "versions": versions,
        "max_bytes": None if max_bytes is None else _size(max_bytes),
        **{
            name: span(age, f"--{name.replace('_', '-')}")
            for name, age in ages.items()
            if age is not None
        },
    }

    async def work() -> tuple[Collected, str | None]:
        from ...graphstore.retention import Retention

        retention = Retention(
            **{name: value for name, value in limits.items() if value is not None}
        )
        async with opened(store, namespace) as engine:
            with _progress() as show:
                collected = await engine.collect(retention, dry_run=dry_run, progress=show)
            nothing = not any(asdict(collected).values())
            return collected, (await engine.runs(limit=1)).hint if nothing else None

    collected, hint = run(work)
    if json_output:
        print_json(_as_json(collected, dry_run=dry_run))
    else:
        say(_summary(collected, dry_run=dry_run))
    if hint is not None:
        say(hint, err=True)


def _as_json(collected: Collected, *, dry_run: bool) -> dict[str, Any]:
    counts = {name: value for name, value in asdict(collected).items() if name != "more"}
    return {"dry_run": dry_run, **counts}


def _summary(collected: Collected, *, dry_run: bool) -> str:
    named = (
        (collected.unpublished, "trace unpublished", "traces unpublished"),
        (collected.executions + collected.replays, "run", "runs"),
        (collected.effects, "effect", "effects"),
        (collected.tasks, "task", "tasks"),
        (collected.versions, "version", "versions"),
        (collected.events, "change event", "change events"),
        (collected.facets, "facet", "facets"),
        (collected.preconditions, "precondition", "preconditions"),
        (collected.approvals, "approval that nobody gave", "approvals that nobody gave"),
        (
            collected.values,
            f"payload ({_shown(collected.bytes)})",
            f"payloads ({_shown(collected.bytes)})",
        ),
    )
    counts = ", ".join(
        f"{many:,} {one if many == 1 else more}" for many, one, more in named if many
    )
    if not counts:
        return "There is nothing to delete."
    return f"{'Would go' if dry_run else 'Gone'}: {counts}."


def _shown(size: int) -> str:
    for unit in ("TB", "GB", "MB", "kB"):
        if size >= _UNITS[unit]:
            return f"{size / _UNITS[unit]:.1f} {unit}"
    return count(size, "byte")


def _size(text: str) -> int:
    if (match := _SIZE.fullmatch(text.strip())) is None:
        raise typer.BadParameter(
            f"{text!r} is no size; write bytes, or for example 500MB or 2GB",
            param_hint="--max-bytes",
        )
    return int(float(match[1]) * _UNITS[match[2] or "B"])


@contextmanager
def _progress() -> Iterator[Callable[[Collected], None]]:
    """Shows what has gone so far."""
    with working("looking for what nobody needs") as show:
        yield lambda taken: show(_summary(taken, dry_run=False))
