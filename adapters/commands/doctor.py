"""``execgraph doctor``: what is wrong with a store, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from .common import (
    JsonOption,
    NamespaceOption,
    StoreOption,
    console,
    existing,
    print_json,
    run,
    working,
)

if TYPE_CHECKING:
    from ...engine.asking.examine import Look
    from ...graphstore.finding import Finding

__all__ = ["doctor"]


def doctor(
    *,
    json_output: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = "default",
) -> None:
    """Examine a store: the file or server, every trace, payload and fact, and what is left open.

    Reads all of the namespace, and changes nothing but what opening a store and looking a task up
    do. Exit code 1: something is damaged or cannot be done; what to do is said. Warnings alone
    are exit code 0.

    Example: execgraph doctor --store sqlite:///graph.db
    """
    url = existing(store)

    async def look() -> list[Finding]:
        with _progress() as show:
            return await _examined(url, namespace, show)

    findings = run(look)
    if json_output:
        print_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)


async def _examined(url: str, namespace: str, show: Look) -> list[Finding]:
    from ...engine.asking.elsewhere import elsewhere
    from ...engine.asking.examine import examine
    from ...graphstore.connect import connect
    from ...graphstore.errors import StoreError
    from ...graphstore.finding import Finding, Level

    store = connect(url, namespace=namespace)
    try:
        await store.open()
    except StoreError as error:
        return [Finding(Level.ERROR, "store", f"it cannot be opened: {error}", "as it says")]
    try:
        findings = [finding async for finding in examine(store, show)]
        if (nothing := await elsewhere(store)) is not None:
            remedy = "nothing if it is new; else name the one that is meant with --namespace"
            findings.append(Finding(Level.WARNING, "namespace", nothing, remedy))
        return findings
    finally:
        await store.close()


def _print(findings: list[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    styles = {"good": "green", "warning": "yellow", "error": "red"}
    for finding in findings:
        remedy = f"\nTo do: {finding.remedy}." if finding.remedy else ""
        level = Text(str(finding.level), style=styles[finding.level])
        table.add_row(level, finding.about, Text(f"{finding.says}{remedy}"))  # may hold brackets
    console().print(table)


@contextmanager
def _progress() -> Iterator[Look]:
    """Shows what is being looked at."""
    with working("opening the store") as show:
        yield lambda what, done: show(f"{what}: {done:,}")
