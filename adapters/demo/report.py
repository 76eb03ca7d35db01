"""How the demo is shown: progress, a tree per act, a table of all; or one JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from ...engine.outcome.cause import MissKind
from ...engine.outcome.result import Outcome
from ...graphstore.model import Mode, StepKind
from ..commands.common import count
from ..commands.cypher import rendered

if TYPE_CHECKING:
    from types import TracebackType

    from ...engine.asking.why import Why
    from ...engine.outcome.result import Result, StepReport
    from ...invalidation.impact import Impact
    from .acts import Act, Answer
    from .world import Effects

__all__ = ["Screen", "as_json", "closing", "one_run", "summary"]

_LOOKS = {
    Outcome.REPLAYED: "cyan",
    Outcome.REUSED: "green",
    Outcome.EXECUTED: "blue",
    Outcome.ASKED: "yellow",
    Outcome.DIVERGED: "magenta",
    Outcome.REFUSED: "red",
}
_ACTION_WORDS = {
    Outcome.REPLAYED: "run again, same output",
    Outcome.EXECUTED: "run for the first time",
    Outcome.DIVERGED: "run again, another output",
    Outcome.REUSED: "output reused, not run",
    Outcome.REFUSED: "not run",
}


class Screen:
    """Shows the acts as they end, and how far they are meanwhile. An Audience.

    `quiet`: progress only, for those who print something else.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._number = 0
        self._task = TaskID(0)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Screen:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def says(self, words: str) -> None:
        """A line for the reader."""
        if not self._quiet:
            self._console.print(words, highlight=False)

    def begins(self, act: Act, runs: int) -> None:
        """An act of so many runs begins."""
        self._number += 1
        self._task = self._progress.add_task(f"{self._number}. {act.title}", total=runs)

    def ran(self, act: Act) -> None:  # noqa: ARG002 - every Audience is given it
        """One more run of the act is over."""
        self._progress.advance(self._task)

    def ends(self, act: Act) -> None:
        """The act is over, and checked."""
        self._progress.remove_task(self._task)
        if not self._quiet:
            self._console.print(_shown(act, self._number), highlight=False)


def _shown(act: Act, number: int) -> RenderableType:
    assert act.result is not None
    parts: list[RenderableType] = [Text(act.about, style="dim")]
    if act.impact is not None:
        parts.append(Text(_foreseen(act.impact), style="magenta"))
    if act.answer is not None:
        parts.append(_asked_of_the_graph(act.answer))
    text = Text(_in_short(act))
    parts.append(text if act.result.mode is Mode.REPLAY else _tree(act.result, text))
    if act.why is not None:
        parts.append(Text(_why(act.why), style="magenta"))
    if act.naive is not None:
        parts.append(Text(_naively(act.naive), style="red"))
    if held := "; ".join(claim.text for claim in act.claims if claim.holds):
        parts.append(Text(f"✓ {held}", style="green"))
    parts += [
        Text(
            f"✗ {claim.text}: expected {claim.expected!r}, found {claim.found!r}", style="bold red"
        )
        for claim in act.claims
        if not claim.holds
    ]
    indented = Padding(Group(*parts), (0, 0, 0, 3), expand=False)
    return Group("", Text(f"{number}. {act.title}", style="bold"), indented)


def _foreseen(impact: Impact) -> str:
    """What a change would cost, in a sentence."""
    tasks = count(len(impact.tasks), "task")
    if not impact.tasks:
        return "`impact` before the change: nothing that is recorded rests on it."
    cost = f"{impact.tokens:,}"
    if impact.tokens_at_most > impact.tokens:
        cost += f" to {impact.tokens_at_most:,}"
    return (
        f"`impact` before the change: {count(len(impact.invalid), 'step')} of {tasks} would be"
        f" invalid; the next run costs {cost} tokens."
    )


def _asked_of_the_graph(answer: Answer) -> RenderableType:
    words = Text(f"{answer.question} In Cypher:", style="magenta")
    query = Padding(Text(answer.query, style="dim"), (0, 0, 0, 2))
    return Group(words, query, rendered(answer.table))


def _why(why: Why) -> str:
    """The path from the first change to the step that it reached."""
    for step in why.steps:
        if step.why is None or (change := step.why.change) is None:
            continue
        cause = step.why.cause
        return (
            f"`why`: {change.resource} {change.kind} from version {change.from_version} to"
            f" {change.to_version}, told by {change.source}; its fingerprint went from"
            f" {(cause.before or 'none')[:8]} to {(cause.after or 'none')[:8]}, on which step"
            f" {step.position} ({step.name}) rested."
        )
    return "`why`: no change is known."


def _naively(effects: Effects) -> str:
    return (
        "Beside it, a cache keyed by the text of the request did the same again, against the rule:"
        f" {count(effects.builds, 'build')} and {count(effects.starts, 'deployment')}."
    )


def _in_short(act: Act) -> str:
    assert act.result is not None
    whole, own = act.median(lambda run: run.total_ms), act.median(lambda run: run.engine_ms)
    counted = f"{act.result.mode}: {act.tokens:,} tokens, {count(act.requests, 'request')}"
    if len(act.runs) > 1:
        return (
            f"{counted}; {_ms(whole)} ms at the median ({_ms(own)} ms of it the engine's),"
            f" {_ms(act.runs[-1].total_ms)} ms the last time"
        )
    tools, model = act.median(lambda run: run.tools_ms), act.median(lambda run: run.model_ms)
    return f"{counted}; {_ms(whole)} ms (tools {_ms(tools)}, model {_ms(model)}, engine {_ms(own)})"


def one_run(result: Result) -> Tree:
    """A run by itself: what it cost, and its steps."""
    summary = f"{result.mode}: {result.tokens:,} tokens, {result.saved_tokens:,} saved;"
    return _tree(result, Text(f"{summary} {_ms(result.duration_ms)} ms"))


def _tree(result: Result, title: Text) -> Tree:
    """A decision's actions hang below it; each step with what became of it, and why."""
    tree = Tree(title, guide_style="dim")
    decision = tree
    for step in result.steps:
        node = (tree if step.kind is StepKind.DECISION else decision).add(_line(step))
        if step.cause is not None and step.cause.kind is not MissKind.NEW_TASK:
            node.add(Text(f"because {step.cause}", style="dim"))
        if step.kind is StepKind.DECISION:
            decision = node
    decision.add(Text(f"“{result.output}”", style="italic"))
    return tree


def _line(step: StepReport) -> Text:
    look, time = _LOOKS[step.outcome], (f"  {_ms(step.duration_ms)} ms", "dim")
    if step.kind is StepKind.ACTION:
        return Text.assemble((f"{step.name}: {_ACTION_WORDS[step.outcome]}", look), time)
    if step.outcome is Outcome.ASKED:
        return Text.assemble((f"decision: asked, {step.tokens:,} tokens", look), time)
    return Text(f"decision: served, {step.saved_tokens:,} tokens saved", style="green")


def summary(acts: Sequence[Act], *, live: bool) -> Table:
    """All acts side by side, 80 columns wide."""
    counted = "at the transport" if live else "by the server"
    table = Table(
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        caption=f"requests: calls of the model, counted {counted}; effects: releases built and"
        " processes started, counted by the machine; ms: of one run, the median where there are"
        " several",
        caption_justify="left",
    )
    table.add_column("act", no_wrap=True)
    for name in ("runs", "requests", "effects", "tokens", "US$"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("tools\nms", "model\nms", "engine\nms", "total\nms"):
        table.add_column(name, justify="right", no_wrap=True)
    for number, act in enumerate(acts, 1):
        table.add_row(
            f"{number} {act.title}",
            str(len(act.runs)),
            str(act.requests),
            str(act.effects.total),
            f"{act.tokens:,}",
            _money(act.cost),
            _ms(act.median(lambda run: run.tools_ms)),
            _ms(act.median(lambda run: run.model_ms)),
            _ms(act.median(lambda run: run.engine_ms)),
            _ms(act.median(lambda run: run.total_ms)),
            style="" if act.holds else "red",
        )
    return table


def closing(acts: Sequence[Act]) -> str:
    """What it comes to, in two sentences."""
    runs = [run for act in acts for run in act.runs]
    paid, saved = sum(run.tokens for run in runs), sum(run.saved_tokens for run in runs)
    first, many = acts[0], acts[2]
    live = first.runs[0]
    own, whole = many.median(lambda run: run.engine_ms), many.median(lambda run: run.total_ms)
    without_tools = (live.total_ms - live.tools_ms) / own if own > 0 else float("inf")
    return (
        f"{len(runs)} runs cost {paid:,} tokens; without the graph they would have cost"
        f" {paid + saved:,}. A replay takes {_ms(whole)} ms instead of {_ms(live.total_ms)} ms,"
        f" {live.total_ms / whole:,.0f} times faster; without the tools' own time, which both"
        f" spend, {without_tools:,.0f} times."
    )


def as_json(acts: Sequence[Act], *, store: str, namespace: str, live: bool) -> dict[str, Any]:
    """The whole performance as one document. Times are milliseconds, medians per run."""
    return {
        "ok": all(act.holds for act in acts),
        "store": store,
        "namespace": namespace,
        "live": live,
        "acts": [_act_as_json(act) for act in acts],
    }


def _act_as_json(act: Act) -> dict[str, Any]:
    assert act.result is not None
    return {
        "act": act.key,
        "title": act.title,
        "ok": act.holds,
        "claims": [
            {
                "claim": claim.text,
                "holds": claim.holds,
                "expected": _plain(claim.expected),
                "found": _plain(claim.found),
            }
            for claim in act.claims
        ],
        "runs": len(act.runs),
        "mode": act.result.mode,
        "model_requests": act.requests,
        "billed_tokens": act.billed_tokens,
        "tokens": act.tokens,
        "saved_tokens": sum(run.saved_tokens for run in act.runs),
        "cost_usd": act.cost,
        "effects": act.effects._asdict(),
        "ms": {
            "total": act.median(lambda run: run.total_ms),
            "last": act.runs[-1].total_ms,
            "tools": act.median(lambda run: run.tools_ms),
            "model": act.median(lambda run: run.model_ms),
            "engine": act.median(lambda run: run.engine_ms),
        },
        "output": act.result.output,
        "impact": None if act.impact is None else act.impact.as_json(),
        "why": None if act.why is None else act.why.as_json(),
        "naive_cache": None if act.naive is None else act.naive._asdict(),
        "cypher": None if act.answer is None else _answer_as_json(act.answer),
        "steps": [
            {
                "kind": step.kind,
                "name": step.name,
                "outcome": step.outcome,
                "tokens": step.tokens,
                "saved_tokens": step.saved_tokens,
                "cause": None if step.cause is None else str(step.cause),
            }
            for step in act.result.steps
        ],
    }


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else value


def _answer_as_json(answer: Answer) -> dict[str, Any]:
    return {"question": answer.question, "query": answer.query, "rows": list(answer.table)}


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:.1f}"


def _money(dollars: float | None) -> str:
    return "?" if dollars is None else f"{dollars:.4f}"
