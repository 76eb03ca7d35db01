"""One run as it is recorded: what was asked, called, given and done, step by step."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ...graphstore.canonical import Json, decode, encode
from ...graphstore.errors import ConfigurationError, PayloadCorrupted
from ...graphstore.facts import Facts, wanted_by
from ...graphstore.model import (
    Effect,
    EffectState,
    Execution,
    FacetRef,
    Precondition,
    SideEffect,
    Step,
    StepKind,
    Task,
    Trace,
    Value,
    step_id,
)
from ...graphstore.store import GraphStore
from ..errors import ExecutionUnknown
from ..outcome.cause import Cause
from ..outcome.fate import Fate, fate_of
from ..outcome.hiding import may_name_secrets, shown_target, without_secrets
from ..outcome.html import Html, page, table
from ..outcome.report import Report, ReportedStep
from ..outcome.result import Outcome
from ..transcript import references, request_messages, text_of, with_values
from .as_json import became, iso
from .asked import asked_of
from .diff import request_of
from .runs import as_of_now, execution_as_json
from .why import kept_report

__all__ = [
    "GONE_PAYLOAD",
    "Part",
    "Read",
    "RecordedRun",
    "RecordedStep",
    "RestsOn",
    "effects_table",
    "exact",
    "recorded_run",
]

#: What can be read of a run or of one of its steps as exact text.
Part = Literal["output", "arguments", "request", "inputs", "context"]

#: What stands in place of a payload that is damaged, or not in the store.
GONE_PAYLOAD = "<gone: the stored payload is damaged or missing>"


@dataclass(frozen=True, slots=True)
class RestsOn:
    """A fact that a step rests on.

    Attributes:
        facet: The resource, and which part of it.
        fingerprint: What the part was when the step was recorded.
        holds: Whether the part is still so, and to be believed; None: nobody has looked since it
            changed.
    """

    facet: FacetRef
    fingerprint: str
    holds: bool | None

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            "resource": self.facet.resource,
            "selector": self.facet.selector,
            "fingerprint": self.fingerprint,
            "holds": self.holds,
        }


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """One step of a run, with what it was given and gave. A payload is JSON, as it was recorded.

    Attributes:
        position: Its place in the run, from 0 on.
        kind: A decision of the model or an action of a tool.
        name: The model's or the tool's name.
        fate: What became of it in this run.
        outcome: The same in more detail; None: the run kept no report.
        step: The id of the recorded Step; None: it is not recorded, and has no payloads.
        code_key: The version of all that produced it: of a model and what it is offered, or of a
            tool.
        started_at: When the model was asked or the tool began, in milliseconds since 1970. Of what
            was served, when it was recorded. None: not known.
        duration_ms: How long that took, in milliseconds.
        tokens: What it cost in this run, in tokens as billed.
        saved_tokens: What it had cost when it was recorded, in tokens; 0 if it was asked now.
        cost: What it cost when it was asked, in US dollars; None: not known.
        error: The tool raised, or could not be run.
        cause: Why it was not simply served; None if it was.
        request: Of a decision, all of its request but the messages.
        messages: Of a decision, the messages of its request: those that are new in it, or all if
            it was asked for alone.
        shared: How many messages come before those: they stand in an earlier request.
        effect: Of an action, its effect class.
        arguments: Of an action, what the tool was called with, as the model said it.
        output: What the model answered, or the tool gave.
        facts: What it rests on.
        effects: What it did to the outside in this run.
    """

    position: int
    kind: StepKind
    name: str
    fate: Fate
    outcome: Outcome | None
    step: str | None
    code_key: str | None
    started_at: int | None
    duration_ms: float | None
    tokens: int
    saved_tokens: int
    cost: float | None
    error: bool
    cause: Cause | None
    request: Json
    messages: tuple[Json, ...]
    shared: int
    effect: Effect | None
    arguments: Json
    output: Json
    facts: tuple[RestsOn, ...]
    effects: tuple[SideEffect, ...]

    def as_json(self) -> dict[str, Any]:
        """Give all of it as JSON; what is named as a secret is hidden.

        Returns:
            What ``execgraph show --json`` prints of it.
        """
        payloads = {
            name: without_secrets(getattr(self, name))
            for name in ("request", "arguments", "output")
        }
        return {
            "position": self.position,
            "kind": self.kind.value,
            "name": self.name,
            "fate": self.fate.value,
            "outcome": None if self.outcome is None else self.outcome.value,
            "step": self.step,
            "code_key": self.code_key,
            "started_at": None if self.started_at is None else iso(self.started_at),
            "duration_ms": self.duration_ms,
            "tokens": self.tokens,
            "saved_tokens": self.saved_tokens,
            "cost": self.cost,
            "error": self.error,
            "cause": None if self.cause is None else str(self.cause),
            **payloads,
            "messages": [without_secrets(it) for it in self.messages],
            "shared": self.shared,
            "effect": None if self.effect is None else self.effect.value,
            "facts": [it.as_json() for it in self.facts],
            "effects": [_effect_as_json(it) for it in self.effects],
        }


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """One run as it is recorded.

    Attributes:
        execution: The run, as it is stored.
        inputs: What it was asked to do, as JSON.
        context: What else it was told; None if there was nothing.
        output: What it came to; None if it came to nothing.
        steps: Its steps, in order; only the one that was asked for, if one was.
        effects: All that it did to the outside, in order.
        recorded_with: The id of the run that its steps are recorded with, if that is another one:
            a replay keeps none of its own.
        hint: What cannot be told, and why; None if nothing is missing.
    """

    execution: Execution
    inputs: Json
    context: Json
    output: Json
    steps: tuple[RecordedStep, ...]
    effects: tuple[SideEffect, ...]
    recorded_with: str | None
    hint: str | None

    def as_json(self) -> dict[str, Any]:
        """Give all of it as JSON; what is named as a secret is hidden.

        Returns:
            What ``execgraph show --json`` prints.
        """
        return {
            **execution_as_json(self.execution),
            "steps": [it.as_json() for it in self.steps],
            "inputs": without_secrets(self.inputs),
            "context": without_secrets(self.context),
            "output": without_secrets(self.output),
            "effects": [_effect_as_json(it) for it in self.effects],
            "recorded_with": self.recorded_with,
            "hint": self.hint,
        }

    def _repr_html_(self) -> str:
        execution = self.execution
        head = ("", "step", "", "started", "gave", "ms", "tokens", "saved")
        rows = [
            (
                *(it.position, f"{it.kind} {it.name}", it.fate),
                "" if it.started_at is None else iso(it.started_at),
                _text(without_secrets(it.output)),
                "" if it.duration_ms is None else f"{it.duration_ms:,.0f}",
                *(f"{it.tokens:,}", f"{it.saved_tokens:,}"),
            )
            for it in self.steps
        ]
        told = [
            f"{became(execution)}, {iso(execution.started_at)}",
            f"{execution.usage.total:,} tokens, {execution.saved_tokens:,} saved",
            f"asked: {_text(without_secrets(self.inputs))}",
            f"gave: {_text(without_secrets(self.output))}",
        ]
        effects: list[object] = [effects_table(self.effects)] if self.effects else []
        hints = [it for it in (execution.reason, self.hint) if it is not None]
        title = f"{execution.agent or 'a run'} {execution.id}"
        return page(title, *told, table(head, rows, numbers=3), *effects, *hints)


def effects_table(effects: Collection[SideEffect]) -> Html:
    """What was done to the outside."""
    head = ("effect", "tool", "target", "state")
    return table(head, [(it.id, it.tool, shown_target(it.target), it.state) for it in effects])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else encode(value).decode()


def _effect_as_json(effect: SideEffect) -> dict[str, Any]:
    return {
        "id": effect.id,
        "tool": effect.tool,
        "target": shown_target(effect.target),
        "idempotency_key": effect.idempotency_key,
        "state": effect.state.value,
        "in_doubt": effect.state is EffectState.INTENDED,
        "begun_at": iso(effect.begun_at),
    }


# From the store ---------------------------------------------------------------------------


async def recorded_run(store: GraphStore, execution: str, step: int | None = None) -> RecordedRun:
    """A run with all its steps, or with one of them. Raises ExecutionUnknown, and
    ConfigurationError for a step that it does not have."""
    read = await Read.of(store, execution)
    if step is None:
        return await told(store, read, range(len(read.recorded)))
    return await told(store, read, [read.checked(step)], whole=True)


async def told(
    store: GraphStore, read: Read, positions: Collection[int], *, whole: bool = False
) -> RecordedRun:
    """A run that is read already, with some of its steps and their payloads; ``whole``: with all
    messages of each request."""
    run, task, of = read.run.execution, read.task, read.of_trace
    messages = {it: read.messages(it, whole=whole) for it in positions}
    wanted = {run.output, *(() if task is None else (task.inputs, task.context))}
    for position, of_request in messages.items():
        wanted |= {*of_request, *_payloads_of(read.recorded[position])}
    values = {**await _values(store, wanted - read.own.keys()), **read.own}
    kept = _Kept(values, await _facts(store, of), await store.effects(run.id))
    return RecordedRun(
        execution=run,
        inputs=None if task is None else _json(values, task.inputs),
        context=None if task is None else _json(values, task.context),
        output=_json(values, run.output),
        steps=tuple(_step(read, it, messages[it], kept, whole=whole) for it in positions),
        effects=tuple(kept.effects),
        recorded_with=None if of.id == run.id else of.id,
        hint=read.hint,
    )


async def exact(
    store: GraphStore, execution: str, step: int | None = None, part: Part = "output"
) -> tuple[bytes, bool]:
    """One payload of a run, or of a step of it, as exact JSON text of any length; and whether
    something in it was hidden, since it is named as a secret.

    Raises ExecutionUnknown, ConfigurationError for what the step or the run does not have, and
    PayloadCorrupted for what is damaged.
    """
    read = await Read.of(store, execution)
    where = f"the run {read.run.id}" if step is None else f"step {step}"
    recorded = None if step is None else read.recorded[read.checked(step)]
    if part == "request" and step is not None and recorded is not None and recorded.head:
        head, messages = await request_of(store, read.of_trace.steps, recorded)
        data = encode(
            {**(head if isinstance(head, dict) else {"head": head}), "messages": messages}
        )
    else:
        digest = read.digest(recorded, part) if step is not None else read.digest_of_run(part)
        if digest is None:
            of_a_step = step is None and part in {"arguments", "request"}
            more = "; its steps have: name one (step=, --step N)" if of_a_step else ""
            raise ConfigurationError(f"{where} has no {part} in the store{more}")
        data = read.own.get(digest) or (await store.values([digest]))[digest]
    if not may_name_secrets(data.decode()):
        return data, False
    document = decode(data)
    hidden = encode(without_secrets(document))
    return (data, False) if hidden == encode(document) else (hidden, True)


class Read(NamedTuple):
    """A run, what became of its steps, and the trace that these are recorded with: ``recorded``
    has for each of them the Step there, if there is one, and ``own`` the payloads by which that
    and the ``task`` are other ones than are stored."""

    run: Trace
    report: Report
    of_trace: Trace
    recorded: tuple[Step | None, ...]
    task: Task | None
    hint: str | None
    own: Mapping[str, bytes]

    @classmethod
    async def of(cls, store: GraphStore, execution: str) -> Read:
        if (run := await store.execution(execution)) is None:
            raise ExecutionUnknown(execution, store)
        run = as_of_now(run)
        report, of, hint = await kept_report(store, run)
        is_whole = hint is None
        task, own, why_not = await asked_of(store, run.execution.task, report, is_whole=is_whole)
        hint = "; ".join(filter(None, (hint, why_not))) or None
        by_id = {step_id(of.id, it.position): it for it in of.steps}
        recorded = tuple(_as_called(by_id.get(it.step or ""), it, own) for it in report.steps)
        return cls(run, report, of, recorded, task, hint, own)

    def checked(self, position: int) -> int:
        """The position of a step. Raises ConfigurationError if there is none."""
        many = len(self.recorded)
        if not 0 <= position < many:
            has = f"steps 0 to {many - 1}" if many else "no recorded steps"
            raise ConfigurationError(
                f"there is no step {position} in the run {self.run.id}: it has {has}"
            )
        return position

    def messages(self, position: int, *, whole: bool) -> tuple[str, ...]:
        """The digests of the messages of a decision: those that are new in it, or all."""
        step = self.recorded[position]
        if step is None or step.kind is not StepKind.DECISION:
            return ()
        return request_messages(self.of_trace.steps, step.position) if whole else step.messages

    def digest(self, step: Step | None, part: Part) -> str | None:
        parts = {} if step is None else {"output": step.output, "arguments": step.arguments}
        return parts.get(part)

    def digest_of_run(self, part: Part) -> str | None:
        parts = {"output": self.run.execution.output}
        if self.task is not None:
            parts |= {"inputs": self.task.inputs, "context": self.task.context}
        return parts.get(part)


def _as_called(step: Step | None, reported: ReportedStep, own: dict[str, bytes]) -> Step | None:
    """A recorded step with the arguments that it had in the run, which come to be in ``own``."""
    if step is None or reported.arguments is None:
        return step
    arguments = Value.of(reported.arguments.encode())
    own[arguments.digest] = arguments.data
    return step.model_copy(update={"arguments": arguments.digest})


def _payloads_of(step: Step | None) -> set[str | None]:
    return set() if step is None else {step.head, step.arguments, step.output}


def _step(
    read: Read,
    position: int,
    messages: Sequence[str],
    kept: _Kept,
    *,
    whole: bool,
) -> RecordedStep:
    reported, step = read.report.steps[position], read.recorded[position]
    values, facts, effects = kept
    texts = _Texts(values)
    return RecordedStep(
        position=position,
        kind=reported.kind,
        name=reported.name,
        fate=fate_of(reported.kind, reported.outcome),
        outcome=reported.outcome,
        step=reported.step,
        code_key=None if step is None else step.code_key,
        started_at=None if step is None else step.started_at,
        duration_ms=None if step is None else step.duration_ms,
        tokens=reported.tokens,
        saved_tokens=reported.saved_tokens,
        cost=None if step is None else step.cost,
        error=reported.error,
        cause=reported.cause,
        request=None if step is None else _json(values, step.head),
        messages=tuple(with_values(_json(values, it), texts) for it in messages),
        shared=0 if step is None or whole else step.shared,
        effect=None if step is None else step.effect,
        arguments=None if step is None else _json(values, step.arguments),
        output=None if step is None else _json(values, step.output),
        facts=() if step is None else tuple(facts[it] for it in step.guards if it in facts),
        effects=tuple(it for it in effects if it.step is not None and it.step == reported.step),
    )


class _Kept(NamedTuple):
    """Payloads by digest, what steps rest on by the ids of preconditions, and effects."""

    values: Mapping[str, bytes]
    facts: Mapping[str, RestsOn]
    effects: Sequence[SideEffect]


class _Texts(Mapping[str, str]):
    """Outputs as messages tell them, by digest."""

    def __init__(self, values: Mapping[str, bytes]) -> None:
        self._values = values

    def __getitem__(self, digest: str) -> str:
        return text_of(self._values[digest])

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


async def _values(store: GraphStore, digests: Collection[str | None]) -> dict[str, bytes]:
    """Payloads, and those that they name, as far as they are whole."""
    wanted = {it for it in digests if it is not None}
    found = await _whole(store, wanted)
    named = {it for data in found.values() if b'"$value"' in data for it in _references(data)}
    return found | await _whole(store, named - wanted)


async def _whole(store: GraphStore, digests: Collection[str]) -> dict[str, bytes]:
    try:
        return await store.values(digests)
    except PayloadCorrupted as error:
        return await _whole(store, set(digests) - set(error.digests))


def _references(data: bytes) -> list[str]:
    return list(references(decode(data)))


def _json(values: Mapping[str, bytes], digest: str | None) -> Any:
    """A payload; of one that is gone, a text that says so."""
    if digest is None:
        return None
    try:
        return decode(values[digest])
    except (KeyError, ValueError):
        return GONE_PAYLOAD


async def _facts(store: GraphStore, trace: Trace) -> dict[str, RestsOn]:
    """What the steps of a trace rest on, by the ids of preconditions."""
    now = await store.read_facts(wanted_by([trace]))
    return {key: _rests_on(it, now) for key, it in trace.preconditions.items()}


def _rests_on(guard: Precondition, now: Facts) -> RestsOn:
    fact = now.of(guard.resource)
    found = fact.fingerprints.get(guard.selector)
    unknown = fact.believed(now.now) and found is None
    holds = None if unknown else fact.believed(now.now) and found == guard.fingerprint
    return RestsOn(guard.ref, guard.fingerprint, holds)
