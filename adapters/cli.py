"""The command line. Each group of commands is a module of its own, registered below.

Exit codes: 0 done, 1 failed, 2 used wrongly. Errors of execgraph are one line on standard error.
A command's module imports nothing slow; what the command needs is imported when it runs.
"""

from __future__ import annotations

import io
import logging
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand
from typing_extensions import override

from .. import __version__
from ..graphstore.errors import ConfigurationError, ExecgraphError
from .commands.approvals import approvals
from .commands.changes import changes
from .commands.cypher import cypher
from .commands.diff import diff
from .commands.doctor import doctor
from .commands.gc import gc
from .commands.generalise import generalise
from .commands.graph import graph
from .commands.impact import impact
from .commands.resolve import resolve
from .commands.runs import runs
from .commands.show import show
from .commands.stats import stats
from .commands.verdicts import approve, deny, reject
from .commands.walk import walk
from .commands.watch import watch
from .commands.why import why
from .demo.command import demo

__all__ = ["app", "main"]


class _Command(TyperCommand):
    """Required arguments stand in the usage without typer's braces."""

    @override
    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]


app = typer.Typer(
    name="execgraph",
    help="Record what an LLM agent did as a graph, and replay it without the model while its"
    " preconditions hold.",
    epilog="Example: execgraph demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(short_help="List what waits for the approval of a person.")(approvals)
app.command(cls=_Command, short_help="Approve an effect or a run that waits for it.")(approve)
app.command(short_help="Show how resources changed.")(changes)
app.command(cls=_Command, short_help="Ask the graph in Cypher.")(cypher)
app.command(short_help="Watch an agent being recorded, replayed, and asked again.")(demo)
app.command(cls=_Command, short_help="Deny an effect that waits.")(deny)
app.command(cls=_Command, short_help="Show the first step at which two runs differ.")(diff)
app.command(short_help="Examine a store, and say what to do.")(doctor)
app.command(short_help="Delete what nobody needs.")(gc)
app.command(short_help="Propose what to mark, so that one recording serves more.")(generalise)
app.command(short_help="Print a part of the graph, to draw it or read it elsewhere.")(graph)
app.command(short_help="Tell what a change would cost before it is made.")(impact)
app.command(cls=_Command, short_help="Have a run, and its answer, serve nobody again.")(reject)
app.command(cls=_Command, short_help="Say whether an effect in doubt happened.")(resolve)
app.command(short_help="List runs, newest first.")(runs)
app.command(cls=_Command, short_help="Show what a run did, step by step.")(show)
app.command(short_help="Show what all runs came to: tokens paid and saved.")(stats)
app.command(short_help="Bring the marks on steps up to date.")(walk)
app.command(short_help="Keep the facts of files true, as a service.")(watch)
app.command(short_help="Tell why a run asked the model.")(why)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer's interface
    if wanted:
        typer.echo(f"execgraph {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """What stands before any command."""


def main() -> None:
    """The console script."""
    # The driver logs what it also raises; told twice, an error is no clear line any more.
    logging.getLogger("neo4j").addHandler(logging.NullHandler())
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ✓ gets a ? instead
    try:
        app()
    except ConfigurationError as error:
        _fail(error, 2)
    except ExecgraphError as error:
        _fail(error, 1)


def _fail(error: ExecgraphError, code: int) -> None:
    message = " ".join(str(error).split())
    typer.echo(f"execgraph: {message}", err=True)
    sys.exit(code)
