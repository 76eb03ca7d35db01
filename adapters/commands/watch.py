"""``execgraph watch``. What is slow to import is imported once the command runs."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from .common import JsonOption, run
from .health import address

__all__ = ["watch"]


def watch(
    config: Annotated[
        Path, typer.Argument(metavar="FILE", help="What to watch: docs/watching.md.")
    ] = Path("execgraph.toml"),
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Look once, mark what follows, and end: for cron and CI.")
    ] = False,
    json_output: JsonOption = False,
    health: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT",
            help="Answer GET /health there; only locally if no host is named.",
        ),
    ] = None,
    lease: Annotated[
        float,
        typer.Option(
            min=0.5,
            hidden=True,
            envvar="EXECGRAPH_WATCH_LEASE",
            help="Seconds after which another instance takes over from one that died.",
        ),
    ] = 15.0,
) -> None:
    """Keep the facts of files true: a service that reads what changes and tells the store.

    Prints a line for each change (--json: a JSON object). Of several instances with the same
    file one leads and the others stand by. SIGTERM ends it cleanly. A store that is away is
    waited for. With --once: exit code 1 if something could not be read.

    Example: execgraph watch execgraph.toml --health 8080
    """
    from .config import read_config
    from .service import Service, look_once

    if once and health is not None:
        raise typer.BadParameter(
            "--once ends before anyone could ask for its health: leave one of them out",
            param_hint="--health",
        )
    settings = read_config(config)
    if once:
        read = run(lambda: look_once(settings, json_output=json_output))
        raise typer.Exit(0 if read else 1)
    service = Service(
        settings,
        json_output=json_output,
        health=None if health is None else address(health),
        lease=timedelta(seconds=lease),
    )
    raise typer.Exit(asyncio.run(service.run()))
