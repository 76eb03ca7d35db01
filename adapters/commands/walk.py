"""``execgraph walk``: bring the marks on steps up to date, or see what is left to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import (
    MOST_WALKS,
    JsonOption,
    NamespaceOption,
    StoreOption,
    at,
    console,
    count,
    opened,
    print_json,
    run,
    say,
    working,
)

if TYPE_CHECKING:
    from ...graphstore.model import Walk
    from ...invalidation.walker import OnWalk

__all__ = ["walk"]


def walk(
    *,
    status: Annotated[
        bool, typer.Option("--status", help="Only list the walks that are open, oldest first.")
    ] = False,
    json_output: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = "default",
) -> None:
    """Mark the steps that a change took away, and clear those that it brought back.

    A change, an expiry and a late publication each open a walk. Engines and the watcher do them
    by themselves; this does those that are left, or waits for whoever is at it, until the marks
    are exact. Marks are for people and queries: no replay depends on them.

    Example: execgraph walk --status
    """

    async def look() -> list[Walk]:
        async with opened(store, namespace) as engine:
            return await engine.session().store.walks(limit=MOST_WALKS)

    async def work() -> list[Walk]:
        done: dict[str, Walk] = {}
        async with opened(store, namespace) as engine:
            with _progress() as show:

                def follow(walk: Walk) -> None:
                    done[walk.id] = walk
                    show(walk)

                await engine.session().walker.settle(progress=follow)
        return [walk for walk in done.values() if walk.ended_at is not None]  # others' are theirs

    walks = run(look if status else work)
    if json_output:
        print_json([_as_json(it) for it in walks])
    elif status:
        _print_open(walks)
    else:
        _print_done(walks)


def _as_json(walk: Walk) -> dict[str, Any]:
    from ...engine.asking.as_json import iso

    ended = None if walk.ended_at is None else iso(walk.ended_at)
    return {**walk.model_dump(mode="json"), "at": iso(walk.at), "ended_at": ended}


def _print_open(walks: list[Walk]) -> None:
    if not walks:
        say("No walk is open: the marks are exact.")
        return
    from rich.table import Table

    table = Table("walk", "of", "since", "come to", "invalid", "valid")
    for walk in walks:
        since = at(walk.at) if walk.at else ""
        counts = (f"{walk.marked:,}", f"{walk.cleared:,}")
        table.add_row(
            walk.id, walk.resource or "its publication", since, walk.cursor or "", *counts
        )
    console().print(table)


def _print_done(walks: list[Walk]) -> None:
    if not walks:
        say("Nothing to walk: the marks are exact.")
        return
    invalid, valid = sum(it.marked for it in walks), sum(it.cleared for it in walks)
    some, steps = count(len(walks), "walk"), count(invalid, "step")
    say(f"{some} done: {steps} found invalid, {valid:,} valid.")


@contextmanager
def _progress() -> Iterator[OnWalk]:
    """Shows what a walk has come to, while it goes on."""
    pace = Pace(time.monotonic)

    def line(walk: Walk) -> str:
        steps = f"{count(walk.marked, 'step')} invalid, {walk.cleared:,} valid"
        rate = pace.of(walk)
        a_second = "" if rate is None else f", {rate:,.0f} a second"
        return f"{walk.resource or walk.id}: {steps}{a_second}"

    with working("looking for walks") as show:
        yield lambda walk: show(line(walk))


class Pace:
    """How many steps of a walk are looked at in a second, from when it was first seen on.

    ``clock``: seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._first: dict[str, tuple[float, int]] = {}

    def of(self, walk: Walk) -> float | None:
        """None as long as nothing is known but what others did before."""
        now, steps = self._clock(), walk.marked + walk.cleared
        since, before = self._first.setdefault(walk.id, (now, steps))
        return (steps - before) / (now - since) if now > since and steps > before else None
