"""From a call to an action: what is to be carried out, and what is recorded of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...graphstore.canonical import as_text, hash_of
from ...graphstore.model import Approval, Effect, FacetRef, SideEffect, Step, StepKind, Value
from ..lookup.changed_code import changed_action, not_required_then
from ..lookup.judging import Recorded
from ..lookup.plan import Decision, Prepared
from ..lookup.required_facets import needed_facets
from ..model.client import Call
from ..outcome.cause import Cause, MissKind
from ..steps.noted_facts import Note, guards_of
from ..tools.known_output import KnownOutput
from ..tools.output import Output
from ..tools.parsed_call import ParsedCall, parse_act, parse_call, parse_served
from ..tools.tool import Tool
from .run import Run

__all__ = ["PlannedAction", "plan_act", "plan_call", "plan_on_path"]


@dataclass(slots=True)
class PlannedAction:
    """One call about to be carried out, under the facts in ``notes``.

    ``recorded`` is what is recorded of it. ``followed``: it is what comes next on this path.
    ``effect``: how a recording of it may be used, which is the tool's, or less. ``its_own``: facets
    that it rests on, and the decisions that chose it do not. ``equal``: how many equal calls have
    begun an effect before. ``intended``: its effect, if whether that may begin was asked first;
    ``answer``: what the answer was.
    """

    tool: Tool | None
    name: str
    code_key: str
    key: str
    occurrence: int
    parsed: ParsedCall
    facets: tuple[FacetRef, ...]
    recorded: Recorded | None
    followed: Prepared | None = None
    decision: int | None = None
    call: int | None = None
    notes: tuple[Note, ...] = ()
    for_program: bool = False
    effect: Effect | None = None
    its_own: frozenset[FacetRef] = frozenset()
    equal: int = 0
    intended: SideEffect | None = None
    answer: Approval | Output | None = None

    def __post_init__(self) -> None:
        self.effect = None if self.tool is None else self.tool.effect

    @property
    def expected(self) -> KnownOutput | None:
        """The output that it has on this path."""
        if self.followed is None or self.recorded is None:
            return None
        return self.followed.known(self.recorded.step)

    @property
    def stands(self) -> bool:
        """Whether a recording of it stands."""
        return self.recorded is not None and self.recorded.cause is None

    @property
    def guards_hold(self) -> bool:
        """Whether all that guards its recording is as it is noted now."""
        noted = {note.guard.id for note in self.notes if note.believed}
        return self.recorded is not None and noted.issuperset(self.recorded.step.guards)

    @property
    def chosen_under(self) -> list[Note]:
        """The facts that the decisions that chose it have to have known."""
        return [note for note in self.notes if note.guard.ref not in self.its_own]

    def note_again(self, now: Iterable[Note]) -> bool:
        """Take what has moved of the facts that are its own as it is now; whether any has."""
        moved = {it.guard.ref: it for it in now if it.guard.ref in self.its_own}
        before, self.notes = (
            self.notes,
            tuple([moved.get(it.guard.ref, it) for it in self.notes]),
        )
        return self.notes != before

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
            effect=self.effect,
            arguments=Value.of(self.parsed.dump).digest,
            decision=self.decision,
            call=self.call,
        )


async def plan_call(run: Run, decision: Decision, number: int) -> PlannedAction:
    """Plan the action of one call of a reply."""
    call = decision.calls[number]
    recorded, followed = run.path.action(decision.position, number), run.path.followed
    if recorded is not None and followed is not None:
        recorded = _as_its_tool_is_now(run, recorded)
        return plan_on_path(run, followed, recorded, _on_path(run, recorded, call))
    tools, inputs = run.definition.code.tools, run.inputs
    parsed_calls = decision.parsed_calls
    parsed = parsed_calls[number] if parsed_calls else parse_call(tools, inputs, call, run.standins)
    action = await _by_key(run, as_text(call.tool), tools.get(call.tool), parsed)
    action.decision, action.call = decision.position, number
    return action


async def plan_act(run: Run, tool: Tool, arguments: Mapping[str, Any]) -> PlannedAction:
    """Plan an action of a program. Raises ArgumentsInvalid, NotJson, ToolError."""
    parsed = parse_act(tool, run.inputs, arguments, run.standins)
    action = await _by_key(run, tool.name, tool, parsed)
    action.for_program = True
    return action


def _as_its_tool_is_now(run: Run, recorded: Recorded) -> Recorded:
    """What a pure tool depends on may have become something else since the lookup."""
    step = recorded.step
    if step.effect is not Effect.PURE or recorded.cause is not None:
        return recorded
    code = run.definition.code
    now = code.of_action(step.name)
    if now == step.code_key:
        return recorded
    where = changed_action(step, recorded.facets, code.tools.get(step.name), code.requires)
    cause = Cause(MissKind.CODE_CHANGED, step.name, step.code_key, now, differences=where)
    return replace(recorded, cause=cause)


def _on_path(run: Run, recorded: Recorded, call: Call) -> ParsedCall:
    """A call of a decision that stands, and so does the recorded action, or it is read whole."""
    tools, step = run.definition.code.tools, recorded.step
    tool, followed = tools.get(step.name), run.path.followed
    # An error may say that the arguments named nothing to rest on: that is found out anew.
    if tool is None or followed is None or recorded.cause is not None or step.error:
        return parse_call(tools, run.inputs, call, run.standins)
    return parse_served(tool, call, followed.arguments(step), run.standins)


def plan_on_path(
    run: Run, followed: Prepared, recorded: Recorded, parsed: ParsedCall
) -> PlannedAction:
    """Plan what the recorded graph has next."""
    step = recorded.step
    code = run.definition.code
    tool = code.tools.get(step.name)
    code_key = step.code_key if recorded.cause is None else code.of_action(step.name)
    return PlannedAction(
        tool=tool,
        name=step.name,
        code_key=code_key,
        key=step.key if code_key == step.code_key else _key(step.name, code_key, parsed),
        occurrence=step.occurrence,
        parsed=parsed,
        facets=(facets := _facets(run, tool, parsed) if parsed.exact else recorded.facets),
        recorded=recorded,
        followed=followed,
        decision=step.decision,
        call=step.call,
        its_own=_its_own(run, tool, facets),
    )


async def _by_key(run: Run, name: str, tool: Tool | None, parsed: ParsedCall) -> PlannedAction:
    code_key = run.definition.code.of_action(name)
    key = _key(name, code_key, parsed)
    occurrence = run.occurrences.next(key)
    recorded = await run.search.find(key, occurrence)
    facets = _facets(run, tool, parsed)
    if recorded is not None and not set(facets) <= set(recorded.facets):
        # Recorded under fewer requirements than are declared today.
        where = tuple(not_required_then(facets, recorded.facets))
        recorded = replace(recorded, cause=Cause(MissKind.CODE_CHANGED, name, differences=where))
    return PlannedAction(
        tool,
        name,
        code_key,
        key,
        occurrence,
        parsed,
        facets,
        recorded,
        its_own=_its_own(run, tool, facets),
    )


def _facets(run: Run, tool: Tool | None, parsed: ParsedCall) -> tuple[FacetRef, ...]:
    """What an action rests on: an agent's own requirements guard each of its writes."""
    if tool is None or not tool.is_write or parsed.arguments is None:
        return parsed.required
    own = needed_facets(run.definition.code.requires, run.inputs)
    return tuple(dict.fromkeys((*parsed.required, *own)))


def _its_own(run: Run, tool: Tool | None, facets: Sequence[FacetRef]) -> frozenset[FacetRef]:
    """The facets that guard an action, and not the decisions that chose it."""
    if tool is None or not tool.reruns:
        return frozenset()
    return frozenset(facets).difference(needed_facets(run.definition.code.requires, run.inputs))


def _key(name: str, code_key: str, parsed: ParsedCall) -> str:
    return hash_of("step", StepKind.ACTION, name, code_key, parsed.exact)
