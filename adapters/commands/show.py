"""``execgraph show``: one run as it is recorded, and payloads of any length."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

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
    opened,
    print_json,
    run,
    say,
    styled,
    working,
)

if TYPE_CHECKING:
    from rich.tree import Tree

    from ...engine.asking.recorded import RecordedRun, RecordedStep, RestsOn
    from ...graphstore.model import SideEffect

__all__ = ["show"]

_FEW, _MANY = 400, 10_000  # characters that are shown of a payload: of all steps, of one
_LINE = 100  # characters of JSON that stands in one line


_HOLDS = {True: "holds", False: "holds no more", None: "nobody looked since it changed"}


class Part(StrEnum):
    """What of a step, or of a run, can be written as it is."""

    OUTPUT = "output"
    ARGUMENTS = "arguments"
    REQUEST = "request"
    INPUTS = "inputs"
    CONTEXT = "context"


def show(
    execution_id: ExecutionArgument = None,
    *,
    agent: AgentOption = None,
    step: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Only this step, with all of its request."),
    ] = None,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="Write one payload, whole, as JSON, and nothing else."),
    ] = False,
    part: Annotated[
        Part | None,
        typer.Option(
            help="With --raw: which. Of a step its output, its arguments or its request; without"
            " --step the output, the inputs or the context of the run. [default: output]",
            show_default=False,
        ),
    ] = None,
    json_output: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = "default",
) -> None:
    """Show what a run did: prompts, arguments, outputs, facts, effects and times, step by step.

    Without an id it is the newest run. Long payloads are shortened; --raw writes one of any length
    as it is recorded. What is named as a secret is hidden.

    Example: execgraph show 0192f3a1 --step 3 --raw > output.json
    """
    check_one(execution_id, agent)
    if raw and json_output:
        raise typer.BadParameter("--raw is JSON already; give one", param_hint="--json")
    if part is not None and not raw:
        raise typer.BadParameter("it says what --raw writes; give both", param_hint="--part")
    if raw:
        _write(_Asked(execution_id, agent, step, part or Part.OUTPUT), store, namespace)
        return

    async def ask() -> tuple[RecordedRun, str]:
        async with opened(store, namespace) as engine:
            with working("reading the run"):
                recorded = await engine.execution(execution_id, agent=agent, step=step)
            return recorded, options_for(engine.session().store)

    recorded, options = run(ask)
    if json_output:
        print_json(recorded.as_json())
    else:
        console().print(_Shown(recorded, options, is_one_step=step is not None).tree())


class _Asked(NamedTuple):
    """One payload: of which run and step, and what of it."""

    execution_id: str | None
    agent: str | None
    step: int | None
    part: Part


def _write(asked: _Asked, store: str | None, namespace: str) -> None:
    async def ask() -> tuple[bytes, bool]:
        async with opened(store, namespace) as engine:
            return await engine.payload(
                asked.execution_id, agent=asked.agent, step=asked.step, part=asked.part.value
            )

    data, hidden = run(ask)
    if hidden:
        say("fields that are named as secrets are hidden", err=True)
    typer.echo(data, nl=sys.stdout.isatty())


# A run as people see it -------------------------------------------------------------------


@dataclass(frozen=True)
class _Shown:
    """A run, or one step of it, of whose payloads more is shown.

    ``options``: what the commands that it names need to ask the same store.
    """

    recorded: RecordedRun
    options: str
    is_one_step: bool

    def tree(self) -> Tree:
        from rich.tree import Tree

        recorded = self.recorded
        root = Tree(styled(*_heading(recorded)), guide_style="dim")
        for name in ("inputs", "context", "output"):
            self._add(root, name, getattr(recorded, name), f"--raw --part {name}")
        request = None
        for step in recorded.steps:
            self._add_step(root, step, request)
            request = step.request or request
        of_steps = {effect.id for step in recorded.steps for effect in step.effects}
        for effect in recorded.effects:
            if effect.id not in of_steps and not self.is_one_step:
                root.add(styled(*_effect(effect, self.options)))
        return root

    def _add_step(self, root: Tree, step: RecordedStep, request: Any) -> None:
        branch = root.add(styled(*_line(step)))
        raw = f"--step {step.position} --raw"
        if step.request is not None and step.request == request:
            branch.add(styled(("request  ", "dim"), ("as before, but for its messages", "")))
        else:
            self._add(branch, "request", step.request, f"{raw} --part request")
        if step.shared:
            branch.add(styled(("messages  ", "dim"), (f"{step.shared} as before", "")))
        for message in step.messages:
            self._add(branch, "message", message, f"{raw} --part request")
        self._add(branch, "arguments", step.arguments, f"{raw} --part arguments")
        self._add(branch, "output", step.output, raw)
        for fact in step.facts:
            branch.add(styled(*_fact(fact)))
        for effect in step.effects:
            branch.add(styled(*_effect(effect, self.options)))
        if step.cause is not None:
            branch.add(styled(("cause  ", "dim"), (str(step.cause), "")))

    def _add(self, branch: Tree, name: str, value: Any, whole: str) -> None:
        """A payload, or its beginning and the command that writes the ``whole``."""
        from ...engine.outcome.hiding import without_secrets

        if value is None:
            return
        text = _text(without_secrets(value))
        most = _MANY if self.is_one_step else _FEW
        parts = [(f"{name}  ", "dim"), (text[:most], "")]
        if (more := len(text) - most) > 0:
            command = f"execgraph show {self.recorded.execution.id} {whole}{self.options}"
            parts.append((f"\n... {more:,} more characters: {command}", "dim"))
        branch.add(styled(*parts))


def _heading(recorded: RecordedRun) -> Iterator[tuple[str, str]]:
    from ...engine.asking.as_json import became

    execution = recorded.execution
    cost = "" if execution.cost is None else f", ${execution.cost:,.4f}"
    yield execution.agent or "a run", "bold"
    yield f" {execution.id}", ""
    yield f"\n{became(execution)}, {at(execution.started_at)}", ""
    yield f", {execution.duration_ms:,.0f} ms", ""
    yield f"\n{count(execution.usage.total, 'token')}", "yellow"
    yield f", {execution.saved_tokens:,} saved{cost}", ""
    if execution.task:
        yield f"\ntask {execution.task}", "dim"
    if execution.labels:
        yield "\nlabels", "dim"
        for name, text in execution.labels.items():
            yield f" {name}={text}", ""
    if recorded.recorded_with is not None:
        yield f"\nits steps are those of {recorded.recorded_with}", "cyan"
    for note in (execution.reason, recorded.hint):
        if note is not None:
            yield f"\n{note}", "red"


def _fact(fact: RestsOn) -> Iterator[tuple[str, str]]:
    yield "fact  ", "dim"
    yield f"{fact.facet} {fact.fingerprint[:12]}  ", ""
    yield _HOLDS[fact.holds], "red" if fact.holds is False else ""


def _line(step: RecordedStep) -> Iterator[tuple[str, str]]:
    yield f"{step.position:>3} ", "dim"
    yield f"{step.kind} ", "dim"
    yield step.name, "bold"
    yield f"  {step.fate}", "green" if step.fate.value == "served" else "cyan"
    if step.effect is not None:
        yield f"  {step.effect}", ""
    if step.started_at is not None and step.duration_ms is not None:
        yield f"  {at(step.started_at)}, {step.duration_ms:,.1f} ms", ""
    if step.tokens:
        yield f"  {count(step.tokens, 'token')}", "yellow"
    if step.saved_tokens:
        yield f"  {step.saved_tokens:,} saved", "green"
    if step.error:
        yield "  error", "red"


def _effect(effect: SideEffect, options: str) -> Iterator[tuple[str, str]]:
    from ...engine.outcome.hiding import shown_target

    yield "effect  ", "dim"
    yield f"{effect.tool} {shown_target(effect.target)}  ", ""
    in_doubt = effect.state.value == "intended"
    yield effect.state.value, "red" if in_doubt else ""
    yield f"  {at(effect.begun_at)}  ", ""
    yield effect.id, "dim"
    if in_doubt:
        command = f"execgraph resolve {effect.id} --done{options}"
        yield f"  (it is not known to have ended: {command}, or --not-done)", "dim"


def _text(value: Any) -> str:
    """A payload for people: a text as it is, a message as what it says, all else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and {"role", "content"} <= value.keys():
        content = value["content"]
        blocks = content if isinstance(content, list) else [content]
        return "\n".join([f"{value['role']}:", *map(_block, blocks)])
    line = json.dumps(value, ensure_ascii=False)
    return line if len(line) <= _LINE else json.dumps(value, indent=2, ensure_ascii=False)


def _block(block: Any) -> str:
    if isinstance(block, str):
        return block
    if isinstance(block, Mapping) and isinstance(text := block.get("text"), str):
        return text
    return json.dumps(block, ensure_ascii=False)
