"""From a call to a job: what is to be carried out, and what is recorded of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..graphstore.canonical import decode, encode, fingerprint, hash_of
from ..graphstore.errors import NotJson
from ..graphstore.model import FacetRef, Step, StepKind, Value
from .cause import Cause, MissKind
from .client import Call
from .errors import ArgumentsInvalid
from .lookup import Decision, Prepared
from .needs import needed_facets
from .notes import Note, guards_of
from .run import Run
from .tool import Tool
from .verdict import Recorded

__all__ = ["Job", "job_of_act", "job_of_call", "job_on_path"]


@dataclass(frozen=True, slots=True)
class Reading:
    """A call as its tool takes it. ``parsed`` None: it cannot take it, for this ``problem``."""

    arguments: bytes  # exact JSON text
    parsed: Mapping[str, Any] | None
    facets: tuple[FacetRef, ...] = ()
    problem: str = ""


@dataclass(slots=True)
class Job:
    """One call about to be carried out, under the facts in ``notes``.

    ``recorded`` is what is recorded of it. ``followed``: it is what comes next on this path.
    """

    tool: Tool | None
    name: str
    code_key: str
    key: str
    occurrence: int
    reading: Reading
    recorded: Recorded | None
    followed: Prepared | None = None
    decision: int | None = None
    call: int | None = None
    notes: tuple[Note, ...] = ()

    @property
    def stands(self) -> bool:
        """Whether a recording of it stands."""
        return self.recorded is not None and self.recorded.cause is None

    def step(self, feeds: tuple[int, ...], output: Value, output_key: str, *, error: bool) -> Step:
        """The step it becomes; its position is given when it has ended."""
        in_reply = self.followed is not None
        return Step(
            position=-1,
            kind=StepKind.ACTION,
            name=self.name,
            key=self.key,
            occurrence=self.occurrence,
            code_key=self.code_key,
            output=output.digest,
            output_key=output_key,
            error=error,
            guards=guards_of(self.notes),
            feeds=(self.decision,) if in_reply and self.decision is not None else feeds,
            effect=None if self.tool is None else self.tool.effect,
            arguments=Value.of(self.reading.arguments).digest,
            decision=self.decision,
            call=self.call,
        )


async def job_of_call(run: Run, decision: Decision, number: int) -> Job:
    """The job of one call of a reply."""
    if run.on_path and run.followed is not None:
        recorded = run.followed.actions.get((decision.position, number))
        if recorded is not None:
            return job_on_path(run, run.followed, recorded)
    call = decision.calls[number]
    tool = run.subject.code.tools.get(call.tool)
    job = await _by_key(run, call.tool, tool, _read(run, tool, call))
    job.decision, job.call = decision.position, number
    return job


async def job_of_act(run: Run, tool: Tool, arguments: Mapping[str, Any]) -> Job:
    """The job of an action of a program. Raises ArgumentsInvalid, NotJson."""
    return await _by_key(run, tool.name, tool, _parsed(run, tool, tool.parse(arguments)))


def _read(run: Run, tool: Tool | None, call: Call) -> Reading:
    given = encode(call.arguments)
    if tool is None:
        known = ", ".join(sorted(run.subject.code.tools)) or "none"
        return Reading(given, None, problem=f"there is no tool {call.tool}; the tools are: {known}")
    try:
        return _parsed(run, tool, tool.parse(given))
    except (ArgumentsInvalid, NotJson) as error:
        return Reading(given, None, problem=str(error))


def _parsed(run: Run, tool: Tool, parsed: Mapping[str, Any]) -> Reading:
    arguments = tool.arguments_of(parsed)
    # An agent's own requirements guard each of its writes.
    own = needed_facets(run.subject.code.requires, run.wish.inputs) if tool.is_write else ()
    facets = dict.fromkeys((*tool.facets(arguments, run.wish.inputs), *own))
    return Reading(encode(arguments), parsed, tuple(facets))


def job_on_path(run: Run, followed: Prepared, recorded: Recorded) -> Job:
    """What the recorded graph has next; its arguments come from a decision that stands."""
    step = recorded.step
    tool = run.subject.code.tools.get(step.name)
    code_key = run.subject.code.of_action(step.name)
    arguments = followed.arguments(step)
    # An error may say that the arguments named nothing to rest on: that is found out anew.
    if tool is None or recorded.cause is not None or step.error:
        reading = _read(run, tool, Call("", step.name, decode(arguments)))
    else:
        try:
            reading = Reading(arguments, tool.parse(arguments))
        except ArgumentsInvalid as error:
            reading = Reading(arguments, None, problem=str(error))
    return Job(
        tool=tool,
        name=step.name,
        code_key=code_key,
        key=step.key if code_key == step.code_key else _key(step.name, code_key, reading),
        occurrence=step.occurrence,
        reading=reading,
        recorded=recorded,
        followed=followed,
        decision=step.decision,
        call=step.call,
    )


async def _by_key(run: Run, name: str, tool: Tool | None, reading: Reading) -> Job:
    code_key = run.subject.code.of_action(name)
    key = _key(name, code_key, reading)
    occurrence = run.occurrence(key)
    recorded = await run.find(key, occurrence)
    if recorded is not None and not set(reading.facets) <= set(recorded.facets):
        # Recorded under fewer requirements than are declared today.
        recorded = replace(recorded, cause=Cause(MissKind.CODE_CHANGED, name))
    return Job(tool, name, code_key, key, occurrence, reading, recorded)


def _key(name: str, code_key: str, reading: Reading) -> str:
    arguments = fingerprint(decode(reading.arguments))
    return hash_of("step", StepKind.ACTION, name, code_key, arguments)
