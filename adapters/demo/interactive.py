"""``execgraph demo --interactive``: a person edits the files, and runs the task when they like."""

from __future__ import annotations

import asyncio
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from rich.text import Text

from ...engine.outcome.events import ResourceChanged
from ...graphstore.errors import ExecgraphError
from ...graphstore.urls import options_for
from ..commands.cypher import rendered
from ..commands.stats import table as stats_table
from ..commands.why import tree as why_tree
from .agent import TASK
from .report import one_run

if TYPE_CHECKING:
    from rich.console import Console

    from .stage import Stage

__all__ = ["converse"]

_HELP = """\
Enter         run the task
why           what became of each step of the last run, and which change was behind it
cypher QUERY  ask the graph
stats         what all runs came to
help, quit"""


async def converse(stage: Stage, console: Console) -> None:
    """Read commands from standard input until it ends, or says quit."""
    console.print(f"The configuration is in {stage.world.config}:", soft_wrap=True)
    for path in sorted(stage.world.config.rglob("*.json")):
        console.print(f"  {path.relative_to(stage.world.config)}", highlight=False)
    console.print("Edit it with whatever you like, between the runs or during one.")
    console.print(Text(_HELP, style="dim"))

    def show(event: object) -> None:
        if isinstance(event, ResourceChanged):
            change = event.event
            line = f"{change.resource}: {change.kind}, version {change.to_version}"
            console.print(Text(line, style="magenta"))

    unsubscribe = stage.engine.subscribe(show)
    lines = _Lines()
    try:
        while (line := await lines.next(console)) is not None:
            try:
                if not await _obey(line, stage, console):
                    return
            except ExecgraphError as error:
                console.print(Text(str(error), style="red"))
    finally:
        unsubscribe()


class _Lines:
    """Standard input, line by line, read by a thread that nobody has to wait for."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[str] = asyncio.Queue()
        threading.Thread(target=self._read, name="execgraph-demo-input", daemon=True).start()

    async def next(self, console: Console) -> str | None:
        """The next line; None at the end."""
        console.print("[bold]> [/bold]", end="")
        sys.stdout.flush()
        line = await self._lines.get()
        return line.strip() if line else None

    def _read(self) -> None:
        while True:
            line = sys.stdin.readline()
            with suppress(RuntimeError):  # the loop was closed meanwhile
                self._loop.call_soon_threadsafe(self._lines.put_nowait, line)
            if not line:
                return


async def _obey(line: str, stage: Stage, console: Console) -> bool:
    """Do what the line says; False if that is to stop."""
    word, _, rest = line.partition(" ")
    match word.lower():
        case "" | "run":
            console.print(one_run(await stage.agent.execute(TASK)), highlight=False)
        case "why":
            options = options_for(stage.engine.session().store)
            console.print(why_tree(await stage.engine.why(), options), highlight=False)
        case "cypher":
            console.print(rendered(await stage.engine.cypher(rest)), highlight=False)
        case "stats":
            console.print(stats_table(await stage.engine.stats()), highlight=False)
        case "quit" | "exit" | "q":
            return False
        case _:
            console.print(Text(_HELP, style="dim"))
    return True
