"""``execgraph demo``. What is slow to import is imported once the command runs."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from .report import Screen
    from .stage import Settings

__all__ = ["demo"]


def demo(
    *,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where the graph is kept: sqlite:///graph.db or neo4j://user:password@host:7687."
            " By default a file that the demo removes at its end. A store that is given keeps"
            " the graph, in a namespace of its own.",
        ),
    ] = None,
    runs: Annotated[
        int, typer.Option(min=3, help="How often the unchanged task runs, the first run included.")
    ] = 100,
    latency: Annotated[
        float, typer.Option(min=0, help="Seconds that each call of the local model takes.")
    ] = 0.45,
    model: Annotated[
        str, typer.Option(help="The model that is asked, and by whose prices costs are told.")
    ] = "claude-sonnet-5",
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="Ask the real service, which needs ANTHROPIC_API_KEY.",
        ),
    ] = False,
    interactive: Annotated[
        bool,
        typer.Option(
            "--interactive",
            "-i",
            help="Play no acts: edit the watched files yourself, and run the task in between.",
        ),
    ] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead of trees and a table.")
    ] = False,
) -> None:
    """Watch an agent being recorded, replayed, and asked again for what a change took away.

    A deployment agent works on this machine, in a temporary folder: it reads a service registry,
    checks an access rule, builds a release, starts it as a process and asks its health over HTTP.
    Each claim that is shown is checked; exit code 1 if one fails.

    Example: execgraph demo --store neo4j://neo4j:password@localhost:7687
    """
    from .stage import Settings

    if interactive and json_output:
        raise typer.BadParameter("--interactive talks to a person, and has no --json")
    settings = Settings(store=store, runs=runs, latency=latency, model=model, live=live)
    try:
        if interactive:
            asyncio.run(_converse(settings))
            return
        holds = asyncio.run(_perform(settings, json_output=json_output))
    except (KeyboardInterrupt, asyncio.CancelledError) as stop:
        typer.echo("execgraph: stopped; processes and files of the demo are gone", err=True)
        raise typer.Exit(130 if isinstance(stop, KeyboardInterrupt) else 143) from None
    if not holds:
        raise typer.Exit(1)


async def _converse(settings: Settings) -> None:
    """Let a person edit the files and run the task."""
    from rich.console import Console

    from .interactive import converse
    from .stage import set_up

    _end_on_sigterm()
    async with set_up(settings) as stage:
        await converse(stage, Console())


def _end_on_sigterm() -> None:
    """Cancel what is going on, so that processes and files are cleaned up."""
    this = asyncio.current_task()
    assert this is not None
    if sys.platform != "win32":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)


async def _perform(settings: Settings, *, json_output: bool) -> bool:
    """Play all acts and show them; whether all claims hold."""
    from rich.console import Console

    from .report import Screen

    _end_on_sigterm()
    console = Console(stderr=json_output)
    with Screen(console, quiet=json_output) as screen:
        return await _play(settings, screen, console, json_output=json_output)


async def _play(settings: Settings, screen: Screen, console: Console, *, json_output: bool) -> bool:
    from ...graphstore.urls import options_for
    from .play import play
    from .report import as_json, closing, summary
    from .stage import set_up

    async with set_up(settings) as stage:
        asked = "the real service" if stage.live else "a local server that speaks the Messages API"
        screen.says(f"A deployment agent, its model {asked}, its graph in {stage.store}")
        acts = [act async for act in play(stage, screen, settings.runs)]
        document = as_json(
            acts, store=stage.store, namespace=stage.engine.namespace, live=stage.live
        )
    if json_output:
        typer.echo(json.dumps(document, indent=2))
    else:
        console.print()
        console.print(summary(acts, live=settings.live))
        console.print(closing(acts), highlight=False)
        if settings.store is not None:
            options = options_for(stage.engine.session().store)
            screen.says(f"The graph stays there. Look at it: execgraph why{options}")
    failed = [claim.text for act in acts for claim in act.claims if not claim.holds]
    if failed:
        typer.echo(f"execgraph: {len(failed)} claim(s) failed: {'; '.join(failed)}", err=True)
    return not failed
