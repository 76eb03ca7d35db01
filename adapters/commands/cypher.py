"""``execgraph cypher``: asks the graph."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...graphstore.errors import CypherRefused
from .common import (
    JsonOption,
    NamespaceOption,
    StoreOption,
    console,
    count,
    opened,
    print_json,
    run,
    say,
)

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from ...graphstore.cypher import Progress, Table

__all__ = ["cypher", "rendered"]


def cypher(
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="The query; '-' reads it from standard input.")
    ],
    *,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            "-p",
            metavar="NAME=JSON",
            help="What $NAME is: uri='\"acl:prod/deploy\"' or days=7. What is no JSON is taken as"
            " a string.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many rows.")] = 1000,
    timeout: Annotated[
        float, typer.Option(min=0.001, metavar="SECONDS", help="How long it may take.")
    ] = 30.0,
    json_output: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = "default",
) -> None:
    """Ask the graph in Cypher, which only reads here.

    $namespace is what --namespace says; a query that does not use it sees all namespaces.
    docs/cypher.md has many questions with their queries, and all labels, types and properties.

    Example: execgraph cypher "MATCH (s:Step {namespace: $namespace, state: 'invalid'}) RETURN
    s.execution AS execution, count(*) AS steps"
    """
    text = sys.stdin.read() if query == "-" else query
    parameters = _parameters(param or ())

    async def ask() -> Table:
        async with opened(store, namespace) as engine:
            with _loading() as progress:
                return await engine.cypher(
                    text,
                    parameters,
                    time_limit=timedelta(seconds=timeout),
                    limit=limit,
                    progress=progress,
                )

    try:
        table = run(ask)
    except CypherRefused as refused:
        problem = " ".join(str(refused).split()) + _to_be_given(text, parameters)
        say(f"execgraph: refused: {problem}", err=True)
        raise typer.Exit(2) from None
    if json_output:
        rows = [list(row) for row in table.rows]
        print_json({"columns": list(table.columns), "rows": rows, "truncated": table.truncated})
    else:
        _print(table)


def _parameters(assignments: Sequence[str]) -> dict[str, Any]:
    values = {}
    for item in assignments:
        name, sign, value = item.partition("=")
        if not sign or not name:
            raise typer.BadParameter(f"{item!r} is no NAME=JSON", param_hint="--param")
        try:
            values[name.removeprefix("$")] = json.loads(value)
        except ValueError:
            values[name.removeprefix("$")] = value
    return values


def _to_be_given(query: str, parameters: Mapping[str, Any]) -> str:
    """How to give the parameters that a refused query uses, and that were not given."""
    used = re.findall(r"\$(\w+)", query)
    lacking = [name for name in dict.fromkeys(used) if name not in {"namespace", *parameters}]
    if not lacking:
        return ""
    return f"; give what is not given yet: {' '.join(f'-p {name}=...' for name in lacking)}"


@contextmanager
def _loading() -> Iterator[Progress]:
    """Shows how the view is loaded, if that takes a while."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("loading the graph"), BarColumn(), TimeRemainingColumn()
    out = console(stderr=True)
    shown = Progress(*columns, console=out, transient=True, disable=not out.is_terminal)
    task = shown.add_task("loading", total=None)

    def tell(done: int, total: int) -> None:
        if done < total:
            shown.start()
        shown.update(task, completed=done, total=total)

    try:
        yield tell
    finally:
        shown.stop()


def rendered(table: Table) -> RichTable:
    """An answer as people see it."""
    from rich import box
    from rich.table import Table as Shown
    from rich.text import Text

    shown = Shown(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(table.columns):
        numbers = all(_is_number(row[index]) for row in table.rows)
        shown.add_column(
            Text(column), justify="right" if table.rows and numbers else "left", overflow="fold"
        )
    for row in table.rows:
        shown.add_row(*[Text(_cell(value)) for value in row])
    return shown


def _print(table: Table) -> None:
    console().print(rendered(table))
    many = count(len(table), "row")
    if table.truncated:
        many = f"the first {many}; there are more: raise --limit, or aggregate"
    say(many, err=True)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
