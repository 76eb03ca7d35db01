"""What an engine raises, beside the errors of the store.

ExecgraphError
├── ConfigurationError
│   ├── ToolError            a tool cannot be declared so
│   └── AgentError           an agent or a run cannot be declared so
├── ArgumentsInvalid         arguments that a tool does not take
├── ApprovalUnknown          an approval is answered that is not in the store
├── ApprovalClosed           an approval is answered that somebody answered otherwise, or too late
├── EffectInDoubt            what is to happen once was begun, and nobody knows whether it did
├── PreconditionChanged      a fact moved before an effect: it was not executed
├── NotConfirmed             an effect was denied, or nobody confirmed it: it was not executed
├── NotCurrent               nothing is known of a resource now
├── NotPerformed             a tool has not done what it was called for: it raises this itself
├── NotReplayable            a replay was required, and the lookup found none
├── NotApprovable            a run cannot be approved as it is
├── NotRejectable            a run cannot be rejected as it is
├── ExecutionUnknown         an execution is asked about that is not in the store
├── EffectUnknown            an effect is asked about that is not in the store
├── TaskUnknown              a task is asked about that is not in the store
├── ResourceUnknown          a resource is asked about that nobody observed or requires
├── RunInProgress            a run of this id is at work
├── RunIdReused              a run id belongs to another task
├── RunLost                  another process has taken over a run of this id
├── NotOpen                  the engine is used outside ``async with engine``
└── RunFailed                a run ended without an answer; says what it did to the world
    └── AwaitingApproval     it ended before an effect that a person is to approve
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..graphstore.errors import ConfigurationError, ExecgraphError
from ..graphstore.urls import options_for
from .outcome.hiding import shown_target

if TYPE_CHECKING:
    from ..graphstore.model import Approval, SideEffect
    from ..graphstore.roles.presence import Presence
    from .outcome.cause import Cause

__all__ = [
    "AgentError",
    "ApprovalClosed",
    "ApprovalUnknown",
    "ArgumentsInvalid",
    "AwaitingApproval",
    "ConfigurationError",
    "EffectInDoubt",
    "EffectUnknown",
    "ExecgraphError",
    "ExecutionUnknown",
    "NotApprovable",
    "NotConfirmed",
    "NotCurrent",
    "NotOpen",
    "NotPerformed",
    "NotRejectable",
    "NotReplayable",
    "PreconditionChanged",
    "ResourceUnknown",
    "RunFailed",
    "RunIdReused",
    "RunInProgress",
    "RunLost",
    "TaskUnknown",
    "ToolError",
]


class ToolError(ConfigurationError):
    """A function cannot be declared as a tool; the message names what is missing."""


class AgentError(ConfigurationError):
    """An agent or a run cannot be declared so; the message names what is wrong."""


class ArgumentsInvalid(ExecgraphError):
    """A tool was called with arguments that it does not take.

    In an agent's run the model is told so, and the run goes on.
    """


class PreconditionChanged(ExecgraphError):
    """A fact moved between the choice of a write and the write, which was not carried out.

    A program may decide again and go on; an agent's model is asked again by itself.
    """


class NotConfirmed(ExecgraphError):
    """An effect was denied, or nobody confirmed it; its tool was not called.

    In an agent's run the model is told so, and the run goes on.

    Attributes:
        approval: What was asked, and the answer; None if it is not kept.
    """

    def __init__(self, problem: str, approval: Approval | None = None) -> None:
        self.approval = approval
        super().__init__(problem)


class NotCurrent(ExecgraphError):
    """Nothing is known of a resource now: it is absent, withdrawn or expired.

    Attributes:
        resource: The resource's URI.
    """

    def __init__(self, resource: str, why: str) -> None:
        self.resource = resource
        super().__init__(
            f"nothing is known of {resource} now: it {why}. Observe it with engine.observe, or look"
            " after the source that should have."
        )


_RECORD = "Run it once without require='replay' to record it as things are now."
_BEFORE_RECORDING = {
    "replay off": "Leave replay=False out, and do not set EXECGRAPH_MODE=record.",
    "store away": "See that the store can be reached.",
}


_IN_PART = "Leave on_partial= out, or give 'continue' or 'live', to have the model asked."


class NotReplayable(ExecgraphError):
    """A replay was required and no trace holds; no tool was run and no model called.

    Likewise where a run would be served in part only, and on_partial= stops it.

    Attributes:
        causes: Why not, one cause for each obstacle.
    """

    def __init__(self, causes: Sequence[Cause], *, partial: bool = False) -> None:
        self.causes = tuple(causes)
        reasons = "; ".join(map(str, self.causes)) or "no trace"
        if partial:
            super().__init__(
                "nothing was executed, because on_partial= stops a run that would be served in part"
                f" only: {reasons}. {_IN_PART}"
            )
            return
        kinds = {cause.kind.value for cause in self.causes}
        remedy = next((text for kind, text in _BEFORE_RECORDING.items() if kind in kinds), _RECORD)
        super().__init__(
            "nothing was executed, because a replay is required and not possible:"
            f" {reasons}. {remedy}"
        )


class NotApprovable(ExecgraphError):
    """A run cannot be approved: it does not wait for it, or nothing of it may be replayed.

    Attributes:
        execution_id: The run's id.
    """

    def __init__(self, execution: str, why: str) -> None:
        self.execution_id = execution
        super().__init__(f"the run {execution} cannot be approved: {why}")


class NotRejectable(ExecgraphError):
    """A run cannot be rejected: it has given no answer.

    Attributes:
        execution_id: The run's id.
    """

    def __init__(self, execution: str, why: str) -> None:
        self.execution_id = execution
        super().__init__(f"the run {execution} cannot be rejected: {why}")


class ExecutionUnknown(ExecgraphError):
    """An execution is asked about that is not in the store.

    Attributes:
        execution_id: The id that was asked for; None if any would have done.
    """

    def __init__(
        self,
        execution: str | None,
        store: Presence,
        *,
        agent: str | None = None,
        hint: str | None = None,
        may_be_approval: bool = False,
    ) -> None:
        self.execution_id = execution
        if hint is not None:
            super().__init__(hint)
            return
        if execution is not None:
            what = f"execution {execution!r}"
        else:
            what = "execution at all" if agent is None else f"execution of the agent {agent!r}"
        options = options_for(store)
        approvals = (
            f" If an approval is meant, `execgraph approvals{options}` lists those that are pending"
        )
        super().__init__(
            f"there is no {what} in the namespace {store.namespace!r}, or no longer"
            f" (docs/retention.md). `execgraph runs{options}` lists those there are;"
            f" Result.execution_id tells a run's.{f'{approvals}.' if may_be_approval else ''}"
        )


class EffectUnknown(ExecgraphError):
    """An effect is asked about that is not in the store.

    Attributes:
        effect_id: The id that was asked for.
    """

    def __init__(self, effect: str, store: Presence) -> None:
        self.effect_id = effect
        super().__init__(
            f"there is no effect {effect!r} in the namespace {store.namespace!r}. `execgraph"
            f" doctor{options_for(store)}` lists those in doubt; Result.effects and"
            " RunFailed.in_doubt have the ids of a run's."
        )


class ApprovalUnknown(ExecgraphError):
    """An approval is answered that is not in the store.

    Attributes:
        approval_id: The id that was given.
    """

    def __init__(self, approval: str, store: Presence) -> None:
        self.approval_id = approval
        super().__init__(
            f"there is no approval {approval!r} in the namespace {store.namespace!r}. `execgraph"
            f" approvals{options_for(store)}` lists those that are pending;"
            " AwaitingApproval has the id of a run's."
        )


class ApprovalClosed(ExecgraphError):
    """An approval is answered that somebody has answered otherwise, or that has expired.

    Attributes:
        approval: As it is kept: who answered what, and when.
    """

    def __init__(self, approval: Approval) -> None:
        self.approval = approval
        of = f"the approval {approval.id} of {approval.tool}"
        if approval.answered_at is None:
            since = _moment(approval.expires_at)
            super().__init__(
                f"{of} has expired at {since}. Do the task again, so that it is asked anew."
            )
            return
        answer = "denied" if approval.state == "denied" else "approved"
        because = f" ({approval.reason})" if approval.reason else ""
        then = {"used": ", and has been used", "expired": ", and has expired since"}
        super().__init__(
            f"{of} was {answer} by {approval.by or 'somebody'} at {_moment(approval.answered_at)}"
            f"{because}{then.get(approval.state, '')}. The first answer stays."
        )


def _moment(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


class TaskUnknown(ExecgraphError):
    """A task is asked about that is not in the store.

    Attributes:
        task: The task's key.
    """

    def __init__(self, task: str, store: Presence) -> None:
        self.task = task
        super().__init__(
            f"there is no task with the key {task!r} in the namespace {store.namespace!r}. The key"
            f" of a run's task is the 'task' of `execgraph runs --json{options_for(store)}`; it is"
            " a digest, and no name."
        )


class ResourceUnknown(ExecgraphError):
    """A resource is asked about that nobody observed and no recorded step requires.

    Attributes:
        resource: The resource's URI.
    """

    def __init__(self, resource: str, store: Presence) -> None:
        self.resource = resource
        super().__init__(
            f"nobody observed {resource}, and no recorded step requires it, in the namespace"
            f" {store.namespace!r}. `execgraph changes{options_for(store)}` names what changed"
            " there."
        )


class NotOpen(ExecgraphError):
    """The engine is used outside ``async with engine`` or ``with engine.sync()``.

    So is a run whose block has not begun, or has ended.
    """


class RunInProgress(ExecgraphError):
    """A run of this run id is at work.

    Attributes:
        run_id: The id.
        execution_id: By which ``why`` and Cypher find it.
    """

    def __init__(self, run_id: str, execution: str, process: str | None) -> None:
        self.run_id, self.execution_id = run_id, execution
        pid = "" if process is None else f", in the process {process.split('/')[-2]}"
        super().__init__(
            f"the run {run_id!r} is at work (execution {execution}{pid}). Give wait=30 to wait 30"
            " seconds for it, or try again later."
        )


class RunIdReused(ExecgraphError):
    """A run id was given that belongs to another task; nothing was done.

    Attributes:
        run_id: The id.
    """

    def __init__(self, run_id: str, execution: str) -> None:
        self.run_id = run_id
        super().__init__(
            f"the run id {run_id!r} belongs to another task (execution {execution}): the agent or"
            " program, the inputs or the context are others. Give each thing to be done an id of"
            " its own."
        )


class RunLost(ExecgraphError):
    """Another process has taken over the run, as nothing was heard of this one.

    It begins no more effects, and has no result.

    Attributes:
        run_id: The id.
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(
            f"another process has taken over the run {run_id!r}, so this one has stopped. Call it"
            " again under its run_id to get what it comes to."
        )


class NotPerformed(ExecgraphError):
    """A tool raises it to say that it has not done what it was called for.

    Without it an effect whose tool raised may have happened, and is in doubt. The model is told
    what the tool says.
    """


class EffectInDoubt(ExecgraphError):
    """An effect that is not to happen twice was begun before, and nobody knows whether it happened.

    Attributes:
        effect: It: its id, tool, target, idempotency key, and the execution that began it.
    """

    def __init__(self, effect: SideEffect, store: Presence) -> None:
        self.effect = effect
        began = _moment(effect.begun_at)
        super().__init__(
            f"{effect.tool} was begun at {began} by the execution {effect.execution} and is not"
            " known to have ended; it is not to happen twice, so it was not begun again. It was"
            f" called with {shown_target(effect.target)}. Look whether it happened (idempotency key"
            f" {effect.idempotency_key}), and say so: `execgraph resolve {effect.id} --done"
            f"{options_for(store)}`, with --output what it gave, or with --not-done in place of"
            " --done; or engine.resolve."
        )


class RunFailed(ExecgraphError):
    """A run ended without an answer and was not published. The exception behind it is its cause.

    Attributes:
        execution_id: By which ``why`` and Cypher find the run.
        effects: What it did to the outside, in order.
        in_doubt: What it began to do, and may have done.
        run_id: The id that it was called with. Called again with it, it goes on where it was.
    """

    def __init__(
        self,
        message: str,
        *,
        execution_id: str,
        effects: Sequence[SideEffect] = (),
        in_doubt: Sequence[SideEffect] = (),
        run_id: str | None = None,
        can_settle: bool = False,
    ) -> None:
        self.execution_id = execution_id
        self.run_id = run_id
        self._can_settle = can_settle
        self.effects = tuple(effects)
        self.in_doubt = tuple(in_doubt)
        super().__init__(f"{message} (execution {execution_id}{self._damage})")

    @property
    def safe_to_retry(self) -> bool:
        """Whether calling again repeats no effect: none was begun; or the run has a ``run_id``
        under which it is called again, and what is in doubt can be settled then."""
        if self.run_id is not None:
            return not self.in_doubt or self._can_settle
        return not self.effects and not self.in_doubt

    @property
    def _damage(self) -> str:
        done = f"; effects done: {len(self.effects)}" if self.effects else ""
        doubt = f"; effects in doubt: {len(self.in_doubt)}" if self.in_doubt else ""
        return f"{done}{doubt}" or "; no effect was begun"


class AwaitingApproval(RunFailed):
    """A run ended before an effect (``effect="confirm"``) that a person is to approve first.

    Approve it, and do the task again: equal arguments under equal facts find the approval.

    Attributes:
        approvals: What is to be approved: of several calls of one reply, each.
    """

    def __init__(
        self,
        message: str,
        *,
        approvals: Sequence[Approval],
        execution_id: str,
        effects: Sequence[SideEffect] = (),
        in_doubt: Sequence[SideEffect] = (),
        run_id: str | None = None,
        can_settle: bool = False,
    ) -> None:
        self.approvals = tuple(approvals)
        super().__init__(
            message,
            execution_id=execution_id,
            effects=effects,
            in_doubt=in_doubt,
            run_id=run_id,
            can_settle=can_settle,
        )

    @property
    def approval_id(self) -> str:
        """The id of the first approval, by which it is answered."""
        return self.approvals[0].id

    @property
    def digest(self) -> str:
        """What the first approval is bound to: the tool, its arguments, and the facts."""
        return self.approvals[0].digest
