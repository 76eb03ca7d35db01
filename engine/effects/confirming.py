"""Asking whether an effect may begin, and waiting for the answer.

What is asked is kept before anybody is asked, so that whoever answers first has answered. The
answer of a callback that approves is kept by the intent that uses it up, so that a confirmed effect
costs one store call more than a write.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from ...graphstore.canonical import Json, decode, encode, hash_of
from ...graphstore.document import GONE
from ...graphstore.errors import PayloadCorrupted, StoreUnavailable
from ...graphstore.model import Approval, ApprovalState, EffectState, FacetRef, new_id
from ...graphstore.roles.approvals import Precedent
from ...graphstore.roles.facts import FactReading
from ...graphstore.roles.presence import Presence
from ...graphstore.threads import in_thread
from ...graphstore.urls import options_for
from ..errors import ExecgraphError, NotConfirmed
from ..exits import is_ended, outlived
from ..outcome.cause import Cause, MissKind
from ..outcome.confirmation import (
    Approved,
    Confirm,
    ConfirmationRequest,
    Denied,
    RequiredFact,
)
from ..outcome.hiding import without_secrets
from ..run.callers import answer_of
from ..run.family import Chooser
from ..run.inside import set_current
from ..run.planned_actions import PlannedAction
from ..run.run import Run
from ..sessions.single_flight import let_go
from ..spelling import sentence_of, spelled
from ..tools.output import Output

__all__ = [
    "APPROVAL",
    "Awaiting",
    "confirm",
    "confirm_all",
    "doubts_of",
    "facts_of",
    "not_confirmed",
    "request_of",
    "text_of",
]

_log = logging.getLogger("execgraph")

#: What the ids of approvals begin with, and no others.
APPROVAL = "approval-"

#: For how long equal runs still wait for one that asks a person, in seconds.
_HELD_SECONDS = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0  # seconds between two looks for an answer


class Awaiting(ExecgraphError):
    """Nobody has answered yet, so the run ends before the effects of its last reply."""

    def __init__(
        self, approvals: Sequence[Approval], store: Presence, remarks: Sequence[str] = ()
    ) -> None:
        self.approvals = tuple(approvals)
        self.remarks = tuple(remarks)
        awaited = [_awaited(approval, options_for(store)) for approval in self.approvals]
        super().__init__(". ".join([*awaited, *(it for it in remarks if it)]))


def _awaited(approval: Approval, options: str) -> str:
    until = datetime.fromtimestamp(approval.expires_at / 1000, UTC).isoformat(timespec="seconds")
    return (
        f"awaiting approval: {approval.tool} with {approval.arguments[:200]} was not called."
        f" Approve it until {until}, for one use, by `execgraph approve {approval.id}{options}`"
        " or engine.approve, and do the task again"
    )


def not_confirmed(tool: str, why: str, approval: Approval | None = None) -> Output:
    """What stands for the output of a tool that was not confirmed, and so not called."""
    problem = f"{tool} was not called: {why}"
    return Output(encode(problem), error=NotConfirmed(problem, approval), returned=False)


async def confirm_all(run: Run, asking: Sequence[PlannedAction], chosen: Sequence[Chooser]) -> None:
    """Ask whether actions may be carried out, all at once. Raises Awaiting, and StoreError."""
    answers = await asyncio.gather(
        *(outlived(confirm(run, action, chosen)) for action in asking), return_exceptions=True
    )
    awaiting = [it for it in answers if isinstance(it, Awaiting)]
    errors = [it for it in answers if isinstance(it, BaseException) and it not in awaiting]
    for action, answer in zip(asking, answers, strict=True):
        if isinstance(answer, Approval | Output):
            action.answer = answer
    if errors:
        raise errors[0]
    if awaiting:
        approvals = [approval for it in awaiting for approval in it.approvals]
        raise Awaiting(approvals, run.store, [remark for it in awaiting for remark in it.remarks])


async def confirm(run: Run, action: PlannedAction, chosen: Sequence[Chooser]) -> Approval | Output:
    """Ask whether an action may be carried out: its approval, or what stands for its output.

    Raises Awaiting, and StoreError.
    """
    asked = _asked(run, action, chosen)
    letting_go = asyncio.get_running_loop().call_later(_HELD_SECONDS, let_go)
    try:
        return await _Confirmation(run, action, asked).answer()
    except Awaiting:
        run.journal.awaits_a_person()
        run.account.do_not_publish(Cause(MissKind.AWAITING_APPROVAL, asked.tool))
        raise
    finally:
        letting_go.cancel()


def _asked(run: Run, action: PlannedAction, chosen: Sequence[Chooser]) -> Approval:
    """What is asked. It is bound to the tool with its code, the real arguments, the facts, and how
    many equal effects this run has begun before."""
    tool, parsed = action.tool, action.parsed.arguments
    assert tool is not None
    assert parsed is not None
    arguments_key = tool.fingerprint_of(parsed, action.parsed.dump)
    guards = sorted({note.guard.id for note in action.notes})
    digest = hash_of("approval", tool.name, action.code_key, arguments_key, action.equal, *guards)
    facts = [
        {
            "resource": note.resource,
            "selector": note.guard.selector,
            "version": note.version,
            "fingerprint": note.guard.fingerprint if note.believed else None,
        }
        for note in action.notes
    ]
    return Approval(
        id=_new_id(),
        digest=digest,
        execution=run.id,
        agent=run.definition.name,
        task=run.spec.task.key,
        tool=tool.name,
        code_key=action.code_key,
        arguments=encode(without_secrets(decode(action.parsed.dump))).decode(),
        arguments_key=arguments_key,
        facts=json.dumps(facts),
        why=_why(run, chosen),
    )


def _new_id() -> str:
    return f"{APPROVAL}{new_id(time.time_ns() // 1_000_000)}"


def _why(run: Run, chosen: Sequence[Chooser]) -> str:
    """Whose decision it is, and of when."""
    if not chosen:
        return f"the program {run.definition.name} does it by itself, without a decision before it"
    served = [it for it in chosen if it.decision.served]
    if not served:
        return "the model decided it just now, knowing these facts"
    asked = "" if len(served) == len(chosen) else "; other decisions before it were made just now"
    if not (traces := ", ".join(sorted({it.decision.trace or "" for it in served} - {""}))):
        return f"the model decided it in an earlier run of the same run id, which goes on{asked}"
    return (
        f"the model decided it when it was recorded: it is served from the recording {traces}, and"
        f" all facts that the decision rests on are as they were then{asked}"
    )


@dataclass(frozen=True)
class _Confirmation:
    """One action that is to be confirmed."""

    run: Run
    action: PlannedAction
    asked: Approval

    async def answer(self) -> Approval | Output:
        """Ask, and wait as long as the settings say."""
        confirming = self.run.confirming
        approval, request = await self._request(confirming.callback)
        if approval.state is ApprovalState.PENDING and request is not None:
            assert confirming.callback is not None
            seconds = confirming.timeout.total_seconds()
            said = await _ask(confirming.callback, request, seconds)
            if isinstance(said, Approved):
                approved = {"state": ApprovalState.APPROVED, "by": text_of(said.by)}
                return approval.model_copy(update=approved)
            if isinstance(said, Denied | str):
                return await self._deny(approval, said)
        if approval.state is ApprovalState.PENDING:
            approval = await self._from_elsewhere(approval, confirming.wait.total_seconds())
        return self._answered(approval)

    async def _request(
        self, callback: Confirm | None
    ) -> tuple[Approval, ConfirmationRequest | None]:
        """Keep what is asked, or find the answer there is; what a callback is told is read at the
        same time."""
        store = self.run.store
        if callback is None:
            return await self._kept(self.asked), None
        approval, facts, precedents = await asyncio.gather(
            self._kept(self.asked),
            facts_of(store, self.asked),
            store.precedents(self.asked.task, self.asked.tool),
        )
        inputs = without_secrets(self.run.inputs)
        return approval, request_of(approval, inputs, facts, doubts_of(self.asked, precedents))

    async def _kept(self, asked: Approval) -> Approval:
        """What is asked, as it is kept, or the answer there is. A denial is told each run of the
        wish."""
        expiry, wish = self.run.confirming.expiry, self.run.wish.wish.key
        return await self.run.store.request(asked, expiry, hearer=wish)

    async def _deny(self, approval: Approval, said: Denied | str) -> Approval | Output:
        """Keep that it is denied. A ``str`` says why nobody did confirm it."""
        by, reason = (None, said) if isinstance(said, str) else (said.by, said.reason)
        by, reason = text_of(by), text_of(reason)
        kept = await self.run.store.answer(
            approval.id, ApprovalState.DENIED, by=by, reason=reason, heard_by=self.run.wish.wish.key
        )
        if kept is not None and kept.state is ApprovalState.APPROVED:
            _log.warning(
                "%s was approved by %s before the confirm callback answered: it is done",
                self.asked.tool,
                kept.by or "somebody",
            )
            return kept
        if isinstance(said, str):
            return self._not_confirmed(f"nobody confirmed it: {reason}", kept)
        return self._not_confirmed(_denied(by or "the confirm callback", reason), kept)

    async def _from_elsewhere(self, approval: Approval, seconds: float) -> Approval:
        """Wait until somebody answers. Raises Awaiting."""
        store, deadline, pause = self.run.store, time.monotonic() + seconds, _FIRST_PAUSE
        while True:
            found = await store.approval(approval.id)
            if found is None:
                raise StoreUnavailable(
                    f"{approval.tool} waits for an approval, and none can come: it is not kept"
                    " (nothing is while EXECGRAPH_MODE=off). Give a confirm= callback that answers"
                )
            if found.state is not ApprovalState.PENDING:  # as who asks is told, or asked anew
                anew = self.asked.model_copy(update={"id": _new_id()})
                approval = await self._kept(anew)
                if approval.state is not ApprovalState.PENDING:
                    return approval
            if (left := deadline - time.monotonic()) <= 0:
                raise Awaiting([approval], store, [await self._remark()])
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _remark(self) -> str:
        """What else is to be known of what waits: why an earlier approval does not count, and what
        is in doubt."""
        precedents = await self.run.store.precedents(self.asked.task, self.asked.tool)
        remarks = [_not_counting(self.asked, precedents)]
        if doubts := doubts_of(self.asked, precedents):
            remarks.append(
                "An equal call was begun with an approval that is used up, and is not known to have"
                f" ended: look whether it happened (effect {', '.join(doubts)})"
            )
        return ". ".join(filter(None, remarks))

    def _answered(self, approval: Approval) -> Approval | Output:
        if approval.state is ApprovalState.DENIED:
            return self._not_confirmed(_denied(approval.by, approval.reason), approval)
        return approval

    def _not_confirmed(self, why: str, approval: Approval | None) -> Output:
        return not_confirmed(self.asked.tool, self.run.standins.hidden(why), approval)


def text_of(said: object) -> str | None:
    """A name or a reason, as every store can keep it."""
    return None if said is None else spelled(said)


def _denied(by: str | None, reason: str | None) -> str:
    who = f"{by} denied it" if by else "it was denied"
    return f"{who}: {reason}" if reason else who


async def _ask(callback: Confirm, request: ConfirmationRequest, seconds: float) -> object:
    """What a callback answers: Approved, Denied or None; a text that says what went wrong."""
    task, limit = asyncio.current_task(), asyncio.timeout(seconds)
    try:
        async with limit:
            with set_current(None):  # what it asks of a model is no decision of the run
                answer: object = await answer_of(callback, request)
    except (Exception, asyncio.CancelledError, GeneratorExit) as error:
        if is_ended(task, error):
            raise
        if limit.expired():
            return f"the confirm callback did not answer within {seconds:g} s"
        _log.warning("the confirm callback failed for %s", request.tool, exc_info=error)
        return f"the confirm callback raised {sentence_of(error)}"
    match answer:
        case True:
            return Approved()
        case False:
            return Denied()
        case Approved() | Denied() | None:
            return answer
    return f"the confirm callback gave {spelled(answer)}, which is no answer"


# What is told of a request ----------------------------------------------------------------


def request_of(
    approval: Approval,
    inputs: Json,
    facts: Sequence[RequiredFact],
    in_doubt: Sequence[str] = (),
) -> ConfirmationRequest:
    """What a person is told of an approval."""
    return ConfirmationRequest(
        id=approval.id,
        digest=approval.digest,
        agent=approval.agent,
        task=inputs,
        tool=approval.tool,
        arguments=json.loads(approval.arguments),
        facts=tuple(facts),
        why=approval.why,
        execution_id=approval.execution,
        expires_at=datetime.fromtimestamp(approval.expires_at / 1000, UTC),
        in_doubt=tuple(in_doubt),
    )


async def facts_of(store: FactReading, approval: Approval) -> list[RequiredFact]:
    """The facts that an approval is bound to, with what they say."""
    facts = [RequiredFact(**fact) for fact in json.loads(approval.facts)]
    says = await asyncio.gather(*(_says(store, fact) for fact in facts))
    return [
        RequiredFact(it.resource, it.selector, it.version, it.fingerprint, said)
        for it, said in zip(facts, says, strict=True)
    ]


async def _says(store: FactReading, fact: RequiredFact) -> Json:
    if fact.fingerprint is None:
        return None
    try:
        found = await store.document(fact.resource, fact.version)
    except PayloadCorrupted:
        return None
    if found is None:
        return None
    part = await in_thread(partial(found[1].part, fact.selector))
    said: Json = None if part is GONE else without_secrets(part)
    return said


def doubts_of(asked: Approval, precedents: Iterable[Precedent]) -> list[str]:
    """The effects of equal calls that were begun and are not known to have ended."""
    doubts = [
        it.approval.effect
        for it in precedents
        if it.effect is EffectState.INTENDED
        and it.approval.effect is not None
        and it.approval.arguments_key == asked.arguments_key
    ]
    return list(dict.fromkeys(doubts))  # one that was begun again has used up several


def _not_counting(asked: Approval, precedents: Iterable[Precedent]) -> str | None:
    """Why the newest approval of an earlier run that was not used does not count here."""
    unused = (ApprovalState.PENDING, ApprovalState.APPROVED, ApprovalState.EXPIRED)
    for earlier in (it.approval for it in precedents):
        if earlier.execution == asked.execution or earlier.state not in unused:
            continue
        if earlier.digest == asked.digest:
            if earlier.state is ApprovalState.EXPIRED:
                return f"{earlier.id} has expired"
            continue
        return f"{earlier.id} does not count: {_difference(earlier, asked)}"
    return None


def _difference(earlier: Approval, asked: Approval) -> str:
    if earlier.arguments_key != asked.arguments_key:
        return f"the arguments are others (they were {earlier.arguments[:200]})"
    if earlier.code_key != asked.code_key:
        return "the tool is another one, by its code or by what it requires"
    before, now = _fingerprints(earlier), _fingerprints(asked)
    changed = [ref for ref in now if before.get(ref) != now[ref]] or list(before.keys() - now)
    if changed:
        return f"{', '.join(sorted(map(str, changed)))} has changed since it was asked"
    return "it is for another one of several equal calls"


def _fingerprints(approval: Approval) -> dict[FacetRef, str | None]:
    facts = (RequiredFact(**fact) for fact in json.loads(approval.facts))
    return {FacetRef(it.resource, it.selector): it.fingerprint for it in facts}
