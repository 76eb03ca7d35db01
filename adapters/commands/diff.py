"""``execgraph diff``: the first step at which two runs differ, field by field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .common import (
    JsonOption,
    NamespaceOption,
    StoreOption,
    at,
    console,
    diff_text,
    opened,
    print_json,
    run,
    styled,
)

if TYPE_CHECKING:
    from rich.tree import Tree

    from ...engine.asking.run_diff import RunDiff
    from ...graphstore.model import Execution

__all__ = ["diff"]


def diff(
    before: Annotated[
        str, typer.Argument(metavar="A", help="A run; the beginning of its id is enough.")
    ],
    after: Annotated[str, typer.Argument(metavar="B", help="Another run, likewise.")],
    *,
    json_output: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = "default",
) -> None:
    """Compare two runs: what differs in their tasks, and the first step that differs.

    A step is the same if it was asked or called alike, gave the same, and rests on the same facts.
    What is named as a secret is hidden.

    Example: execgraph diff 0192f3a1 0192f3b7
    """

    async def ask() -> RunDiff:
        async with opened(store, namespace) as engine:
            return await engine.diff(before, after)

    found = run(ask)
    if json_output:
        print_json(found.as_json())
    else:
        console().print(_tree(found))


def _tree(found: RunDiff) -> Tree:
    from rich.tree import Tree

    root = Tree(
        styled(("before  ", "dim"), _run(found.before), ("\nafter   ", "dim"), _run(found.after)),
        guide_style="dim",
    )
    if found.task is not None:
        root.add(diff_text(found.task))
    if found.step is None:
        many = found.steps[0]
        root.add(styled((f"no step differs, of {many}" if many else "neither has steps", "green")))
    else:
        branch = root.add(styled(*_step(found)))
        for field in found.fields:
            branch.add(diff_text(field))
    for hint in found.hints:
        root.add(styled((hint, "red")))
    return root


def _run(execution: Execution) -> tuple[str, str]:
    told = f"{execution.id} {execution.agent} {execution.mode}, {execution.state}"
    return f"{told}, {at(execution.started_at)}", ""


def _step(found: RunDiff) -> list[tuple[str, str]]:
    before, after = found.names
    line = [(f"step {found.step} differs first: ", "bold")]
    if before == after:
        return [*line, (before or "", "")]
    one, other = (
        name or f"no step (it has {many})"
        for name, many in zip(found.names, found.steps, strict=True)
    )
    return [*line, (f"{one} -> {other}", "")]
