"""Taking what stands of earlier runs into a run of the same id (I8)."""

from __future__ import annotations

from collections.abc import Sequence

from ...graphstore.canonical import decode
from ...graphstore.facts import Span
from ...graphstore.model import Step, StepKind
from ..errors import EffectInDoubt
from ..lookup.plan import Decision
from ..outcome.cause import Cause, MissKind
from ..run.begun_effects import known_by
from ..run.refusals import AskAgain
from ..run.run import Run
from ..steps.kept_steps import KeptStep
from ..steps.run_step import RunStep
from ..tools.output import Output, Rendering, output_again
from ..tools.tool import Tool

__all__ = ["look_again", "stand", "stand_action", "stand_decision", "what_it_gave"]


def stand(run: Run, kept: KeptStep, step: Step | None = None) -> RunStep:
    """A step that stands, as one of this run: what guards it is looked after to the end. ``step``:
    as this run would record it, if its place is another one."""
    ticket = run.notes.ticket()
    run.notes.ended(ticket, kept.notes)
    return kept.run_step(step or kept.step, kept.output, ticket=ticket)


def stand_decision(run: Run) -> Decision | None:
    """The next decision of an agent's run, if it stands."""
    if (kept := run.history.next_decision(len(run.path.run_steps))) is None:
        return None
    run_step, dialect = stand(run, kept), run.definition.dialect
    run.take(run_step)
    reply = decode(run_step.output)
    run_step.terms = dialect.terms(reply)
    run.transcripts.add_reply(run_step.step, dialect.reply_id(reply), served=True)
    position = run_step.step.position
    return Decision(position, reply, dialect.calls(reply), run_step.noted)


async def stand_action(run: Run, kept: KeptStep, rendering: Rendering) -> RunStep:
    """An action of an agent's decision that stands."""
    run_step = stand(run, kept)
    if kept.whole is not None:  # its marked values are known again
        await what_it_gave(run.definition.code.tools.get(kept.step.name), kept, rendering)
    effect = run.history.effect(kept.step.decision, kept.step.call)
    if effect is not None:
        run_step.known_by = known_by(effect)
        run.effects.meet(effect)
    run.take(run_step)
    return run_step


async def what_it_gave(tool: Tool | None, kept: KeptStep, rendering: Rendering) -> Output:
    """What a call gave that stands; its marked values are known again."""
    if tool is not None and kept.whole is not None:
        return await output_again(tool, kept.whole, rendering)
    value = None if tool is None else tool.load(kept.output)
    return Output(kept.output, value, key=kept.step.output_key)


async def look_again(run: Run) -> None:
    """Find out whether what stands of a run would stand by itself: the guards of its steps, and
    their code. If not, the run goes on, and is no trace; what is decided from now on knows why.
    Raises EffectInDoubt for what cannot be settled any more, as its tool is gone."""
    history, code = run.history, run.definition.code
    for place, effect in history.effects.items():
        if place.call in history.actions(place.decision):
            run.effects.claim(known_by(effect))
        elif effect.tool not in code.tools:
            raise EffectInDoubt(effect, run.store)
    for kept in history.steps:
        decided = kept.step.kind is StepKind.DECISION
        now = code.decision if decided else code.of_action(kept.step.name)
        if now is not None and now != kept.step.code_key:
            cause = Cause(MissKind.CODE_CHANGED, kept.step.name, kept.step.code_key, now)
            run.account.do_not_publish(cause)
    if history.steps:
        run.search.let_time_pass()
        await _check_guards(run, history.steps)


async def _check_guards(run: Run, steps: Sequence[KeptStep]) -> None:
    notes = list({it.guard.id: it for kept in steps for it in kept.notes}.values())
    now = await run.notes.take(note.guard.ref for note in notes)
    moved = [note for note in notes if not note.holds_in(now)]
    spans = [
        Span(note.guard.id, note.resource, note.version, now[note.guard.ref].version)
        for note in notes
        if note not in moved and note.version < now[note.guard.ref].version
    ]
    whole = await run.store.unbroken(spans) if spans else []
    torn = next((it for it, ok in zip(spans, whole, strict=True) if not ok), None)
    if moved:
        guard = moved[0].guard
        cause = Cause(
            MissKind.PRECONDITION_CHANGED, str(guard.ref), guard.fingerprint, facet=guard.ref
        )
        run.account.do_not_publish(cause)
        run.refusals.refuse(
            AskAgain(cause, moved, [now[note.guard.ref] for note in moved]), len(steps)
        )
    elif torn is not None:
        run.account.do_not_publish(Cause(MissKind.TORN, torn.resource))
