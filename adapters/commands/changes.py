"""``execgraph changes``: what became of resources, and when."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

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
    from ...graphstore.model import ChangeEvent

__all__ = ["as_json_line", "as_line", "changes"]


def changes(
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on printing changes as they are made.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="How far back: seconds, or 30s, 5m, 1h, 2d."),
    ] = None,
    resource: Annotated[
        str | None, typer.Option(metavar="URI", help="Only this resource's: acl:prod/deploy.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, help="At most so many: the newest ones (100), or with --follow the next ones."
        ),
    ] = None,
    json_output: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = "default",
) -> None:
    """Show how resources changed, the newest last.

    With --follow, changes are printed as they are made, by whatever process; with --json one
    JSON object a line. A store that goes away meanwhile is waited for.

    Example: execgraph changes --since 1h --resource acl:prod/deploy
    """
    begin = None if since is None else datetime.now(UTC) - ago(since)

    async def show() -> None:
        from ...engine.asking.as_json import change_as_json
        from ...invalidation.resources import check_uri

        only = None if resource is None else check_uri(resource)
        async with opened(store, namespace) as engine:
            graph = engine.session().store
            if follow:
                await _follow(engine, begin, resource, limit, json_output=json_output)
                return
            events = await graph.changes(
                resource=only,
                since=None if begin is None else int(begin.timestamp() * 1000),
                limit=limit or 100,
            )
        events.reverse()
        if json_output:
            print_json([change_as_json(event) for event in events])
        elif events:
            _print_table(events)
        else:
            which = "" if resource is None else f" of {resource}"
            which += "" if since is None else f" in the last {since}"
            where = f"in the namespace {namespace!r} of {graph.url}"
            say(f"no changes{which} {where}", err=True)

    run(show)


async def _follow(
    engine: Any,
    begin: datetime | None,
    resource: str | None,
    limit: int | None,
    *,
    json_output: bool,
) -> None:
    printed = 0
    async for event in engine.changes(since=begin, resource=resource):
        if json_output:
            typer.echo(as_json_line(event))
        else:
            say(as_line(event))
        printed += 1
        if printed == limit:
            return


def as_json_line(event: ChangeEvent) -> str:
    """A change as a JSON object, in one line."""
    from ...engine.asking.as_json import change_as_json

    return json.dumps(change_as_json(event), ensure_ascii=False)


def as_line(event: ChangeEvent) -> str:
    """A change in one line."""
    moment = datetime.fromtimestamp(event.at / 1000, UTC)
    return (
        f"{moment:%Y-%m-%dT%H:%M:%SZ} {event.resource} {event.kind.value}"
        f" {_versions(event)} [{_facets(event)}] by {event.source}"
    )


def _print_table(events: Sequence[ChangeEvent]) -> None:
    from rich.markup import escape

    table = headed("when", "resource", "what", "version", "facets", "source")
    for event in events:
        row = (event.resource, event.kind.value, _versions(event), _facets(event), event.source)
        table.add_row(at(event.at), *map(escape, row))
    console().print(table)


def _versions(event: ChangeEvent) -> str:
    if event.from_version == event.to_version:
        return str(event.to_version)
    return f"{event.from_version} -> {event.to_version}"


def _facets(event: ChangeEvent) -> str:
    return ", ".join(sorted(it.selector or "all of it" for it in event.changed)) or "no facet"
