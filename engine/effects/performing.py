"""The effect of an action: begun while its facts hold, at most once where its tool or a run id says
so, with an approval where it is to be confirmed, and ended with what is known of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ...graphstore.canonical import canonical, decode
from ...graphstore.model import (
    WITHIN_A_WISH,
    Effect,
    EffectState,
    ExecutionState,
    SideEffect,
    new_id,
)
from ..errors import EffectInDoubt, NotPerformed
from ..outcome.cause import Cause, MissKind
from ..run.begun_effects import known_by
from ..run.family import Chooser
from ..run.inside import through_a_call
from ..run.planned_actions import PlannedAction
from ..run.run import Run
from ..sessions.process import is_dead, this_process
from ..tools.at_work import is_at_work
from ..tools.output import Output, Rendering
from ..tools.tool import Tool
from . import once
from .confirming import confirm, confirm_all, not_confirmed
from .effect_gate import EffectGate, NotApproved

__all__ = ["Begun", "begin", "confirm_first", "end", "intent", "key_of_read"]

_TRIES = 5  # how often an approval is asked for that others use up, or that facts have left behind


class Begun(NamedTuple):
    """An effect that was begun; or what there is ``instead``. Without either facts moved.
    ``happened``: it has, before."""

    effect: SideEffect
    instead: Output | None = None
    refused: bool = False
    happened: bool = False


def key_of_read(run: Run, action: PlannedAction, tool: Tool) -> str:
    """The idempotency key of a tool that takes one and has no effects."""
    if action.parsed.arguments is None:
        return ""
    arguments = tool.fingerprint_of(action.parsed.arguments, action.parsed.dump)
    return run.wish.key(tool.name, arguments, action.occurrence)


def intent(run: Run, action: PlannedAction, tool: Tool) -> SideEffect:
    """The effect of an action, as it is about to begin. Raises ArgumentsInvalid."""
    assert action.parsed.arguments is not None
    now = time.time_ns() // 1_000_000
    arguments = tool.fingerprint_of(action.parsed.arguments, action.parsed.dump)
    begun = run.history.effect(action.decision, action.call)
    if begun is not None and begun.tool == tool.name:
        # It is that one, though the tool's code may read its arguments otherwise today.
        run.effects.claim(known_by(begun))
        key, once_by = begun.idempotency_key, begun.once
        arguments = begun.arguments_key or arguments
    elif tool.effect is Effect.ONCE:
        once_by = key = once.known_by(run, action, tool, arguments)
    else:
        key = _key(run, action, tool, arguments)
        once_by = None if run.wish.run_id is None else f"{WITHIN_A_WISH}{key}"
    return SideEffect(
        id=new_id(now),
        execution=run.id,
        tool=action.name,
        target=canonical(decode(action.parsed.dump)).decode()[:200],
        idempotency_key=key,
        state=EffectState.INTENDED,
        begun_at=now,
        once=once_by,
        arguments_key=None if once_by is None else arguments,
        process=this_process(),
        wish=run.wish.wish.key,
    )


def _key(run: Run, action: PlannedAction, tool: Tool, arguments: str) -> str:
    """The idempotency key of a write: the same for the same step of a wish."""
    fenced = run.wish.run_id is not None
    while True:
        key = run.wish.key(tool.name, arguments, action.equal)
        if run.effects.claim(f"{WITHIN_A_WISH}{key}" if fenced else key):
            return key
        action.equal += 1


async def confirm_first(
    run: Run, actions: Iterable[PlannedAction], chosen: Sequence[Chooser]
) -> None:
    """Have all of a reply confirmed that is to be, before anything of it begins: so a run that is
    to wait for a person ends with nothing half-done. What has happened before is not asked again.

    Raises Awaiting, EffectInDoubt, StoreError.
    """
    asking: list[tuple[PlannedAction, SideEffect]] = []
    answered = False
    try:
        for action in actions:
            tool = action.tool
            if tool is None or tool.effect is not Effect.CONFIRM or action.parsed.arguments is None:
                continue
            effect = action.intended = intent(run, action, tool)
            if not await _has_happened(run, action, effect):
                asking.append((action, effect))
        await confirm_all(run, [action for action, _ in asking], chosen)
        answered = True
    except EffectInDoubt as error:
        run.effects.meet(error.effect)
        raise
    finally:
        for action, effect in asking:
            if not answered or isinstance(action.answer, Output):
                run.effects.give_back(effect)  # who tries again is about the same effect


async def _has_happened(run: Run, action: PlannedAction, effect: SideEffect) -> bool:
    before = await _begun_before(run, action, effect)
    return before is not None and not before.is_in_doubt


async def begin(
    run: Run, action: PlannedAction, effect: SideEffect, gate: EffectGate, rendering: Rendering
) -> Begun:
    """Begin an effect, or give what there is instead; with its approval if it is to be confirmed,
    and with another one where that is not good any more. Raises EffectInDoubt, RunLost, Awaiting.
    """
    tool = action.tool
    assert tool is not None
    if tool.effect is not Effect.CONFIRM:
        return await _begin_once(run, action, effect, gate, rendering)
    for _ in range(_TRIES):
        if action.answer is None and not await _has_happened(run, action, effect):
            action.answer = await confirm(run, action, gate.chosen)
        answer, action.answer = action.answer, None
        if isinstance(answer, Output):
            run.effects.give_back(effect)
            return Begun(effect, answer)
        approved = {} if answer is None else {"approval": answer.id, "approved_by": answer.by}
        try:
            approved_effect = effect.model_copy(update=approved)
            return await _begin_once(run, action, approved_effect, gate, rendering)
        except NotApproved:
            run.effects.claim(known_by(effect))
    run.effects.give_back(effect)
    why = "each approval of it was used up or left behind"
    return Begun(effect, not_confirmed(tool.name, why))


async def _begin_once(
    run: Run, action: PlannedAction, effect: SideEffect, gate: EffectGate, rendering: Rendering
) -> Begun:
    tool = action.tool
    assert tool is not None
    doubtful = run.effects.in_doubt(effect) if tool.effect is Effect.ONCE else None
    if doubtful is not None:
        return Begun(effect, once.may_have_happened(run, tool, doubtful))
    found: _Found | None = None
    try:
        found = await _begun_or_found(run, gate, action, effect)
    except EffectInDoubt as error:
        run.effects.meet(error.effect)
        raise
    finally:
        if found is None:  # who tries again is about the same effect
            run.effects.give_back(effect)
    if found is None:
        return Begun(effect, refused=True)
    if not found.begun:
        made_by = run.history.code.get(found.effect.id, action.code_key)
        if made_by != action.code_key:
            cause = Cause(MissKind.CODE_CHANGED, action.name, made_by, action.code_key)
            run.account.do_not_publish(cause)
        return await _of_before(run, tool, effect, found.effect, rendering)
    run.effects.begin(found.effect)
    return Begun(found.effect)


class _Found(NamedTuple):
    """An effect that was begun now, or one of before."""

    effect: SideEffect
    begun: bool


async def _begun_or_found(
    run: Run, gate: EffectGate, action: PlannedAction, effect: SideEffect
) -> _Found | None:
    tool = action.tool
    assert tool is not None
    before = await _begun_before(run, action, effect)
    if before is not None and before.is_in_doubt:
        return await _begin_again(run, gate, action, effect, before)
    if before is not None:
        return _Found(before, begun=False)
    try:
        return await _begin(run, gate, action, effect)
    except EffectInDoubt as error:
        if tool.effect is not Effect.ONCE or not tool.can_look_up:
            raise
        ended = await _looked_up(run, action, tool, error.effect)
        if ended.state is EffectState.DONE:
            return _Found(ended, begun=False)
        return await _begin(run, gate, action, effect)


async def _begun_before(run: Run, action: PlannedAction, effect: SideEffect) -> SideEffect | None:
    """What this run, or an earlier one of the same id, has begun under the key of an effect, and
    may have happened. One in doubt is to be begun again under the same key: its tool cannot say
    whether it happened. Raises EffectInDoubt if it does not take the key either."""
    tool, key = action.tool, effect.idempotency_key
    assert tool is not None
    if tool.effect is Effect.ONCE or run.wish.run_id is None:
        return None
    before = [*run.wish.earlier(key), *run.effects.failed(key)]
    if not before or not before[-1].is_in_doubt:
        return before[-1] if before else None
    if tool.can_look_up:
        ended = await _looked_up(run, action, tool, before[-1])
        return ended if ended.state is EffectState.DONE else None
    if not tool.wants_key:
        raise EffectInDoubt(before[-1], run.store)
    return before[-1]


async def _begin(
    run: Run, gate: EffectGate, action: PlannedAction, effect: SideEffect
) -> _Found | None:
    found = await once.begin_or_find(run, gate, action, effect)
    return None if found is None else _Found(found, found.id == effect.id and found.is_in_doubt)


async def _begin_again(
    run: Run,
    gate: EffectGate,
    action: PlannedAction,
    effect: SideEffect,
    doubtful: SideEffect,
) -> _Found:
    """Begin an effect in doubt once more, under the same key. Raises EffectInDoubt if it may not
    begin."""
    now = time.time_ns() // 1_000_000
    anew = {"approval": effect.approval, "approved_by": effect.approved_by}
    again = doubtful.model_copy(update={"process": this_process(), "begun_at": now, **anew})
    begun = await gate.begin(again, action)
    if begun is None:  # facts moved, so it is not done again; and nobody knows whether it was
        raise EffectInDoubt(doubtful, run.store)
    return _Found(begun, begun.is_in_doubt)


async def _looked_up(
    run: Run, action: PlannedAction, tool: Tool, doubtful: SideEffect
) -> SideEffect:
    """An effect as its tool's ``lookup`` tells it. Raises EffectInDoubt.

    That it has not happened is no word of one whose tool is at it still: that is waited for.
    """
    assert action.parsed.arguments is not None
    pauses = iter(once.PAUSES)
    while True:
        may_happen = await _may_be_at_work(run, doubtful)  # what ends after this is found
        try:
            with through_a_call():
                output = await tool.look_up(action.parsed.arguments, doubtful.idempotency_key)
            kept = None if output is None else tool.whole(output)
        except NotPerformed:
            kept = None
        except Exception as error:
            raise EffectInDoubt(doubtful, run.store) from error
        if kept is not None or not may_happen:
            break
        if (pause := next(pauses, None)) is None:
            raise EffectInDoubt(doubtful, run.store)
        await asyncio.sleep(pause)
    ended = doubtful.not_performed() if kept is None else doubtful.ended(kept)
    await run.store.end_effect(ended)
    _settle(run, ended)
    return ended


async def _may_be_at_work(run: Run, effect: SideEffect) -> bool:
    """Whether the tool of an effect in doubt may be at it still: here, or in the process of
    another wish's run, which has not ended."""
    if is_at_work(effect.id):
        return True
    if effect.process in (None, this_process()) or is_dead(effect.process):
        return False
    if run.wish.run_id is not None and effect.wish == run.wish.wish.key:
        return False  # it was taken over from that process
    found = await run.session.store.execution(effect.execution)
    if found is None:
        return True
    execution = found.execution.at(await run.store.now(), is_dead=is_dead)
    return execution.state is ExecutionState.RUNNING


def _settle(run: Run, ended: SideEffect) -> None:
    run.effects.settle(ended)
    run.wish.settle(ended)


async def _of_before(
    run: Run, tool: Tool, effect: SideEffect, earlier: SideEffect, rendering: Rendering
) -> Begun:
    output = await once.output_of(run, tool, effect, earlier, rendering)
    if output.error is None:
        run.effects.meet(earlier)
    return Begun(effect, output, happened=output.error is None)


async def end(run: Run, tool: Tool, effect: SideEffect, output: Output) -> SideEffect:
    """Note how an effect has ended: done, not performed, or in doubt. That it was not performed is
    kept at once, and so is what one gave that happens once."""
    if output.returned:
        kept = tool.whole(output.value) if effect.once is not None and output.is_output else None
        ended = effect.ended(kept)
    elif isinstance(output.error, NotPerformed):
        ended = effect.not_performed()
        run.effects.give_back(effect)
    else:
        run.effects.fail(effect, tool)
        return effect
    run.effects.end(ended)
    if effect.once is not None or ended.state is EffectState.NOT_PERFORMED:
        await run.store.end_effect(ended)
    if output.returned and tool.wants_key and effect.once is None:
        await _settle_others(run, effect.idempotency_key)
    return ended


async def _settle_others(run: Run, key: str) -> None:
    """What was begun before under the same key is this effect: it has happened."""
    for other in (*run.effects.failed(key), *run.wish.earlier(key)):
        if other.is_in_doubt:
            ended = other.ended()
            await run.store.end_effect(ended)
            _settle(run, ended)
