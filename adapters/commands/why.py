"""``execgraph why``: what became of each step of a run, and the change that was behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ...graphstore.urls import options_for
from .common import (
    AgentOption,
    ExecutionArgument,
    JsonOption,
    NamespaceOption,
    StoreOption,
    at,
    check_one,
    console,
    count,
    diff_text,
    opened,
    print_json,
    run,
    say,
    styled,
)

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from ...engine.asking.why import Why, WhyMiss, WhyStep
    from ...engine.outcome.cause import Cause
    from ...graphstore.model import ChangeEvent

__all__ = ["tree", "why"]

_STYLES = {
    "served": "green",
    "run again": "cyan",
    "asked": "bold yellow",
    "executed": "yellow",
    "refused": "bold red",
    "unknown": "dim",
}


def why(
    execution_id: ExecutionArgument = None,
    *,
    agent: AgentOption = None,
    diff: Annotated[
        bool,
        typer.Option(
            "--diff",
            help="Show what differs in full: the two documents of a changed fact, outputs"
            ", requests, tasks.",
        ),
    ] = False,
    json_output: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = "default",
) -> None:
    """Tell why a run asked the model: what became of each step, and which change was behind it.

    Of each step it says whether it was served from the graph, run again, or asked; and if it was
    not simply served, the path from the change over the facet to the step. What is named as a
    secret is hidden.

    Example: execgraph why --agent deployer --diff
    """
    check_one(execution_id, agent)

    async def ask() -> tuple[Why, str]:
        async with opened(store, namespace) as engine:
            explained = await engine.why(execution_id, agent=agent, diff=diff)
            return explained, options_for(engine.session().store)

    explained, options = run(ask)
    if json_output:
        print_json(explained.as_json())
    else:
        console().print(tree(explained, options))
        if explained.proposal is not None:  # in one line, however long, so that it can be copied
            say(f"The evidence for the marks: execgraph generalise{options}")


def tree(why: Why, options: str) -> Tree:
    """A run as a tree: its steps, and below each what was behind it.

    ``options``: what the commands that it names need to ask the same store.
    """
    from rich.tree import Tree

    root = Tree(_heading(why), guide_style="dim")
    numbers: dict[Cause, int] = {}  # where each cause is told in full
    for miss in why.misses:
        if not any(step.why is not None and step.why.cause == miss.cause for step in why.steps):
            _add_cause(root, miss, None, options)
    for step in why.steps:
        branch = root.add(_line(step))
        if step.why is not None and step.follows is not None:
            branch.add(styled(("follows from step ", "dim"), (str(step.follows), "bold")))
        elif step.why is not None and step.why.cause in numbers:
            cause, first = step.why.cause, numbers[step.why.cause]
            branch.add(styled((cause.kind.value, "red"), (f": as of step {first}", "")))
        elif step.why is not None:
            numbers[step.why.cause] = step.position
            _add_cause(branch, step.why, step.step, options)
    return root


def _heading(why: Why) -> Text:
    from ...engine.asking.as_json import became

    execution = why.execution
    header = styled(
        (execution.agent or "a run", "bold"),
        (f" {execution.id}", ""),
        (f"\n{became(execution)}, {at(execution.started_at)}, {execution.duration_ms:.0f} ms", ""),
        (
            f"\n{count(execution.usage.total, 'token')}",
            "bold yellow" if execution.usage.total else "bold green",
        ),
        (f", {execution.saved_tokens:,} saved", "green" if execution.saved_tokens else ""),
    )
    if execution.replayed is not None:
        header.append(f"\nfollowed {execution.replayed}")
    if why.proposal is not None:
        header.append(f"\nmarks  {why.proposal.advice}", "cyan")
    for note in (execution.reason, why.hint):
        if note is not None:
            header.append(f"\n{note}", "red")
    return header


def _line(step: WhyStep) -> Text:
    line = styled(
        (f"{step.position:>3} ", "dim"),
        (f"{step.kind.value} ", "dim"),
        (step.name, "bold"),
        (f"  {step.fate.value}", _STYLES[step.fate.value]),
    )
    if step.outcome is not None and step.outcome.value in ("diverged", "reused"):
        line.append(f" ({step.outcome.value})", _STYLES[step.fate.value])
    if step.tokens:
        line.append(f"  {count(step.tokens, 'token')}", "yellow")
    if step.saved_tokens:
        line.append(f"  {step.saved_tokens:,} saved", "green")
    if step.error:
        line.append("  error", "red")
    return line


def _add_cause(branch: Tree, why: WhyMiss, step: str | None, options: str) -> None:
    from ...engine.outcome.cause import remedy_of

    cause = why.cause
    below = branch.add(styled((cause.kind.value, "red"), (f": {cause.node}", "")))
    if why.change is not None:
        below.add(_change(why.change))
    if cause.facet is not None:
        below.add(styled(("facet  ", "dim"), (str(cause.facet), "")))
    if cause.kind.value == "new task" and cause.before is not None:
        below.add(styled(("nearest  ", "dim"), (cause.before, "")))
    elif cause.before is not None or cause.after is not None:
        change = f"{_short(cause.before)} -> {_short(cause.after)}"
        below.add(styled(("fingerprint  ", "dim"), (change, "")))
    for difference in cause.differences:
        below.add(styled(("differs  ", "dim"), (str(difference), "bold")))
    if step is not None:
        below.add(styled(("step  ", "dim"), (step, "")))
    below.add(styled(("remedy  ", "dim"), (remedy_of(cause, options), "dim")))
    if why.diff is not None:
        below.add(diff_text(why.diff))


def _change(event: ChangeEvent) -> Text:
    return styled(
        ("change  ", "dim"),
        (event.kind.value, "magenta"),
        (f" by {event.source}, {at(event.at)}, version {event.from_version}", ""),
        (f" -> {event.to_version}  ", ""),
        (event.id, "dim"),
    )


def _short(fingerprint: str | None) -> str:
    return "none" if fingerprint is None else fingerprint[:12]
