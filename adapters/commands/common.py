"""What the commands share: options, an open engine, and how results are printed."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ...graphstore.errors import ConfigurationError, StoreUnavailable
from ...graphstore.urls import DEFAULT_FILE, chosen

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, ConsoleRenderable
    from rich.segment import Segment
    from rich.table import Table
    from rich.text import Text

    from ...engine.asking.diff import Diff
    from ...engine.engine import Engine

__all__ = [
    "MOST_WALKS",
    "AgentOption",
    "ExecutionArgument",
    "JsonOption",
    "NamespaceOption",
    "StoreOption",
    "ago",
    "at",
    "check_one",
    "console",
    "count",
    "diff_text",
    "duration",
    "existing",
    "headed",
    "opened",
    "print_json",
    "printable",
    "run",
    "say",
    "span",
    "styled",
    "working",
]

_T = TypeVar("_T")

#: How many open walks are listed at most.
MOST_WALKS = 1000

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="Where the graph is kept: sqlite:///graph.db or neo4j://user:password@host:7687."
        " By default EXECGRAPH_STORE, else .execgraph/graph.db.",
    ),
]
NamespaceOption = Annotated[
    str, typer.Option("--namespace", metavar="NAME", help="Whose graph it is.")
]
ExecutionArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="EXECUTION_ID",
        help="The run; the beginning of its id is enough. By default the newest one.",
    ),
]
AgentOption = Annotated[
    str | None,
    typer.Option("--agent", metavar="NAME", help="Without an id: the newest run of this agent."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

_DIFF_STYLES = {"-": "red", "+": "green", "@": "cyan"}
_WIDE = 200  # columns, where the reader is no terminal
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_UNITS = {
    "ms": "milliseconds",
    "s": "seconds",
    "m": "minutes",
    "h": "hours",
    "d": "days",
}


# What is given ----------------------------------------------------------------------------


def duration(text: object) -> timedelta:
    """``30`` (seconds), or ``"30s"``, ``"200ms"``, ``"5m"``, ``"1h"``, ``"2d"``.

    Raises ValueError.
    """
    with suppress(OverflowError):
        if isinstance(text, int | float) and not isinstance(text, bool) and text >= 0:
            return timedelta(seconds=text)
        if isinstance(text, str) and (match := _DURATION.fullmatch(text.strip())):
            return timedelta(**{_UNITS[match[2]]: float(match[1])})
    raise ValueError(
        "is no duration; write seconds, or for example '30s', '200ms', '5m', '1h' or '2d'"
    )


def span(text: str, option: str) -> timedelta:
    """What a command's option says: seconds, or 30s, 5m, 1h, 2d. Raises BadParameter."""
    try:
        return duration(float(text) if text.replace(".", "", 1).isdecimal() else text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} {error}", param_hint=option) from None


def ago(since: str) -> timedelta:
    """The span before now that ``--since`` names. Raises BadParameter."""
    found = span(since, "--since")
    try:
        _ = datetime.now(UTC) - found
    except OverflowError:
        raise typer.BadParameter(
            f"{since!r} is before the year 1; for all there is leave --since out",
            param_hint="--since",
        ) from None
    return found


def check_one(execution_id: str | None, agent: str | None) -> None:
    """Raises BadParameter if a run is asked for in two ways."""
    if execution_id is not None and agent is not None:
        raise typer.BadParameter(
            "give an execution's id or --agent, not both", param_hint="--agent"
        )


# The engine -------------------------------------------------------------------------------


def run(work: Callable[[], Awaitable[_T]]) -> _T:
    """What ``work`` gives; Ctrl-C ends with exit code 130 and no traceback."""

    async def main() -> _T:
        return await work()

    try:
        return asyncio.run(main())
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@asynccontextmanager
async def opened(store: str | None, namespace: str, *, new: bool = False) -> AsyncIterator[Engine]:
    """An open engine on the store that the options name.

    ``new``: it may be made. Raises ConfigurationError under EXECGRAPH_MODE=off, and without
    ``new`` StoreUnavailable for a file that is not there.
    """
    from ...engine.engine import Engine

    if os.environ.get("EXECGRAPH_MODE") == "off":
        raise ConfigurationError(
            "EXECGRAPH_MODE=off keeps execgraph from its store, which this command is about;"
            " unset it for this command"
        )
    async with Engine(store if new else existing(store), namespace=namespace) as engine:
        yield engine


def existing(store: str | None) -> str:
    """The URL of the store that the option names, which must exist: a misspelt name should not
    look like an empty store.

    Raises StoreUnavailable for a file that is not there.
    """
    from ...graphstore.connect import file_of

    named = chosen(store) or f"sqlite:///{DEFAULT_FILE}"
    if (file := file_of(named)) is None:
        return named
    path = Path(file)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise StoreUnavailable(
            f"there is no store at {path.absolute()}; name it with --store"
        ) from None
    except OSError:
        pass  # there, and opening it says what is wrong
    return named


# Printing ---------------------------------------------------------------------------------


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def say(text: str, *, err: bool = False) -> None:
    """One text for people, on standard output or, with ``err``, on standard error."""
    typer.echo(printable(text), err=err)


def console(*, stderr: bool = False) -> Console:
    """Where tables and trees are printed: as wide as the terminal, or wide enough for files."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False, emoji=False)
    made.push_render_hook(_EverythingPrintable())  # type: ignore[arg-type]
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = _WIDE
    return made


class _EverythingPrintable:
    """Makes what a console prints printable, whatever a store kept in it."""

    def process_renderables(self, shown: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Printable(it) for it in shown]


class _Printable:
    def __init__(self, shown: ConsoleRenderable) -> None:
        self._shown = shown

    def __rich_console__(self, to: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in to.render(self._shown, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


@contextmanager
def working(on: str) -> Iterator[Callable[[str], None]]:
    """Shows on standard error, where that is a terminal, what is being done, until it is done."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    out = console(stderr=True)
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task(on)
        yield lambda what: bar.update(task, description=printable(what))


def headed(*texts: str, numbers: Sequence[str] = ()) -> Table:
    """An empty table with a bold heading: columns of texts, then columns of numbers."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in texts:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def styled(*parts: tuple[str, str]) -> Text:
    """Texts with their styles; nothing in them is read as markup."""
    from rich.text import Text

    return Text.assemble(*parts)


def printable(text: str) -> str:
    """A text of which a terminal takes nothing but line ends for a command."""
    return "".join(it if it.isprintable() or it == "\n" else repr(it)[1:-1] for it in text)


def diff_text(diff: Diff) -> Text:
    """The lines of a diff, as they are read by people."""
    lines = [(f"\n{it}", _DIFF_STYLES.get(it[:1], "")) for it in diff.lines]
    hint = () if diff.hint is None else ((f"\n{diff.hint}", "red"),)
    return styled(("diff  ", "dim"), (diff.about, "bold"), *lines, *hint)


def at(milliseconds: int) -> str:
    """A moment for people, in their time zone."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone()
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def count(number: int, of: str) -> str:
    """``1 step``, ``2 steps``, ``1,000 steps``."""
    return f"{number:,} {of}{'' if number == 1 else 's'}"
