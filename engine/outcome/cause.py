"""Why a step was not simply replayed: an enumerated kind, the node, and what to do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import assert_never

from ...graphstore.model import FacetRef
from ...invalidation.validity import Broken, GuardState
from .differences import Difference

__all__ = ["Cause", "MissKind", "Recurring", "cause_of", "remedy_of"]


class MissKind(StrEnum):
    """Why a step was not simply served. Kinds are added over time, and never renamed.

    docs/not-replayed.md has an entry for each, with what to do.
    """

    NEW_TASK = "new task"
    PRECONDITION_CHANGED = "precondition changed"
    PRECONDITION_EXPIRED = "precondition expired"
    PRECONDITION_NEVER_OBSERVED = "precondition never observed"
    PRECONDITION_WITHDRAWN = "precondition withdrawn"
    CODE_CHANGED = "code changed"
    OUTPUT_DIVERGED = "output diverged"
    REQUEST_CHANGED = "request changed"
    RECORDING_ENDS = "recording ends"
    TORN = "torn"
    TOO_OLD = "too old"
    NOT_ACCEPTED = "not accepted"
    NOT_APPROVED = "not approved"
    REJECTED = "rejected"
    INCOMPLETE = "incomplete answer"
    UNRECORDED = "unrecorded call"
    PAYLOAD_DAMAGED = "payload damaged"
    UNFINISHED_EFFECT = "unfinished effect"
    SHADOW_SAME = "shadow same"
    SHADOW_DIFFERS = "shadow differs"
    SHADOW_FOLLOWS = "shadow follows"
    REPLAY_OFF = "replay off"
    AWAITING_APPROVAL = "awaiting approval"
    STORE_AWAY = "store away"
    UNFINISHED_RUN = "unfinished run"


_REMEDY = {
    MissKind.NEW_TASK: "nothing: this run records it",
    MissKind.PRECONDITION_CHANGED: "nothing if the change is meant: this run records it as it is"
    " now, and the old recording serves again if the change is reverted",
    MissKind.PRECONDITION_EXPIRED: "observe it again, or look after the watcher that should have",
    MissKind.PRECONDITION_NEVER_OBSERVED: "observe it: engine.observe(uri, document)",
    MissKind.PRECONDITION_WITHDRAWN: "observe it again once it can be read",
    MissKind.CODE_CHANGED: "nothing if the change is meant: this run records it",
    MissKind.OUTPUT_DIVERGED: "nothing if the world changed; what differs on every run is marked as"
    " opaque or unseen",
    MissKind.REQUEST_CHANGED: "nothing if the conversation differs; look for times, random ids or"
    " unordered data in the request otherwise",
    MissKind.RECORDING_ENDS: "nothing: this run records the rest",
    MissKind.TOO_OLD: "nothing: this run records it anew; raise max_age= if older replies are good"
    " enough",
    MissKind.TORN: "nothing: the next run records what this one could not",
    MissKind.NOT_ACCEPTED: "nothing if accept= is right: this run serves nobody, and the next one"
    " asks the model",
    MissKind.NOT_APPROVED: "look at the run, and approve it (`execgraph approve ID{options}`)"
    " or reject it",
    MissKind.REJECTED: "change the prompt, the tools or the model if the answer comes again; one"
    " that was rejected by mistake: `execgraph approve ID --overrule{options}`",
    MissKind.INCOMPLETE: "raise max_tokens, or look at the stop reason; read a stream to its end",
    MissKind.UNRECORDED: "start threads with asyncio.to_thread or contextvars.copy_context().run,"
    " and call messages.create, or stream, inside a run",
    MissKind.PAYLOAD_DAMAGED: "check the disk, and who else writes to the store",
    MissKind.UNFINISHED_EFFECT: "await run.act(...) inside the run's block, and let no time limit"
    " cut a write short: whether it happened is in doubt then",
    MissKind.SHADOW_SAME: "nothing: the model was asked in shadow, and says what is recorded",
    MissKind.SHADOW_DIFFERS: "look at what differs; if the recording is wrong, reject the trace"
    " (`execgraph reject ID --reason TEXT{options}`), and if it may not be old, give max_age=",
    MissKind.SHADOW_FOLLOWS: "nothing: look at the earlier reply that was another one",
    MissKind.REPLAY_OFF: "nothing: the caller or EXECGRAPH_MODE asked for it",
    MissKind.UNFINISHED_RUN: "nothing if its tools take an IdempotencyKey: this run gives them the"
    " same ones. Else look whether it happened; a run_id keeps it from being done again",
    MissKind.STORE_AWAY: "see that the store can be reached; runs use it again by themselves",
    MissKind.AWAITING_APPROVAL: "approve what `execgraph approvals{options}` lists, and do the"
    " task again",
}


@dataclass(frozen=True, slots=True)
class Recurring:
    """Fields that had another value in each of the last runs, and the marks that would help.

    Attributes:
        opaque: The selectors of those that a model may carry.
        unseen: The selectors of those that no model has mentioned.
        runs: How many runs that was, this one included.
        alone: Whether nothing else differs, so that with these marks the recording would serve.
        tokens: What the run has paid because of them; 0 if they are not alone, or while it runs.
    """

    opaque: tuple[str, ...]
    unseen: tuple[str, ...]
    runs: int
    alone: bool
    tokens: int = 0

    @property
    def declaration(self) -> str:
        """What is to be declared, as in ``opaque=["$.id"]``."""
        marks = {"opaque": self.opaque, "unseen": self.unseen}
        return ", ".join(
            f"{mark}=[{', '.join(json.dumps(it, ensure_ascii=False) for it in selectors)}]"
            for mark, selectors in marks.items()
            if selectors
        )

    def __str__(self) -> str:
        fields = " and ".join((*self.opaque, *self.unseen))
        return f"another {fields} in each of the last {self.runs} runs"


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a step was not simply served.

    Attributes:
        kind: Which kind of cause it is.
        node: What it is about: a resource and its part, a tool, an agent, a trace or a store.
        before: The fingerprint that was recorded; None if there is none. Of a new task: the key of
            the recorded task that is nearest.
        after: The fingerprint that was found; None if there is none.
        facet: The part of a resource, if it is about one.
        differences: Where something differs from what is recorded (an output, a request, the code,
            a task): the first places.
        recurring: Which fields differ on every run; None: none is known to.
    """

    kind: MissKind
    node: str
    before: str | None = None
    after: str | None = None
    facet: FacetRef | None = field(default=None, repr=False)
    differences: tuple[Difference, ...] = field(default=(), repr=False)
    recurring: Recurring | None = field(default=None, repr=False, compare=False)

    @property
    def remedy(self) -> str:
        """What to do about it, in a sentence."""
        return remedy_of(self)

    def __str__(self) -> str:
        told = "; ".join(map(str, self.differences))
        if self.kind is MissKind.NEW_TASK and self.before is not None:
            told = f"nearest recorded task {_short(self.before)}: {told or 'no input differs'}"
        elif not told and (self.before is not None or self.after is not None):
            told = f"{_short(self.before)} -> {_short(self.after)}"
        if self.recurring is not None:
            told = f"{told}; {self.recurring}"
        return f"{self.kind}: {self.node} ({told})" if told else f"{self.kind}: {self.node}"


def remedy_of(cause: Cause, options: str = "") -> str:
    """What to do about a cause. ``options``: what the commands that are named need."""
    return _remedy_of_places(cause) or _REMEDY[cause.kind].replace("{options}", options)


# What to do about a place -----------------------------------------------------------------


def _remedy_of_places(cause: Cause) -> str | None:
    """What to do about the places at which something differs; None if they say nothing."""
    if cause.recurring is not None:
        return _of_recurring(cause, cause.recurring)
    match cause.kind:
        case MissKind.NEW_TASK if cause.before is not None:
            return _of_new_task(cause.differences)
        case MissKind.OUTPUT_DIVERGED if cause.differences:
            return f"nothing if the world changed; {_of_output(cause.differences)}"
        case MissKind.REQUEST_CHANGED if cause.differences:
            paths = _paths(cause.differences)
            return f"nothing if the conversation differs; else make {paths} the same on every run"
        case MissKind.CODE_CHANGED if cause.differences:
            return (
                "nothing if the change is meant: this run records it; what nobody changed"
                f" ({_paths(cause.differences)}) must be the same in every process"
            )
    return None


def _of_recurring(cause: Cause, recurring: Recurring) -> str:
    is_task = cause.kind is MissKind.NEW_TASK
    where = "task" if is_task else f"tool {cause.node}"
    conditions = [
        *(["a model only carries what is opaque"] if recurring.opaque else []),
        *(["no model need see what is unseen"] if recurring.unseen else []),
    ]
    if recurring.tokens:
        more = f"; that would have saved this run up to {recurring.tokens:,} tokens"
    else:
        more = "" if recurring.alone else "; more than that differs this time"
    advice = f"declare {recurring.declaration} for the {where} if {' and '.join(conditions)}{more}"
    return f"nothing if another task is meant; else {advice}" if is_task else advice


def _of_new_task(differences: Sequence[Difference]) -> str:
    if not differences:
        return (
            "nothing: a recorded task has equal inputs, and other marks, or it is one of an agent"
            " or program that has the same name"
        )
    inputs = [it for it in differences if not it.of]
    advice = []
    if fields := _markable(inputs):
        advice.append(f"opaque=[{_paths(fields)}] if a model only carries it")
    if any(it.path == "$" for it in inputs):
        advice.append("give the task as fields ({'id': ...}), which can be marked as opaque")
    if any(it.may_be_opaque for it in differences if it.of):
        advice.append(
            "give the context as a pydantic model, with Annotated[..., Opaque] for what a model"
            " only carries of it"
        )
    return "nothing if another task is meant; else " + "; ".join(
        [*advice, "labels={...} for what belongs to the run"]
    )


def _of_output(differences: Sequence[Difference]) -> str:
    if fields := _markable(differences):
        return (
            f"what differs on every run is marked: opaque=[{_paths(fields)}] if a model carries"
            " it, unseen=[...] if none is to see it"
        )
    if any(it.before is None for it in differences) and any(it.after is None for it in differences):
        return (
            "a name that is another one on every run is given as the value of a field, which can be"
            " marked as opaque"
        )
    if differences[0].path == "$":
        return (
            "what differs on every run is given as a field ({'id': ...}), which can be marked as"
            " opaque or unseen"
        )
    return f"what no model is to see is marked: unseen=[{_paths(differences)}]"


def _markable(differences: Sequence[Difference]) -> list[Difference]:
    return [it for it in differences if it.path != "$" and it.may_be_opaque]


def _paths(differences: Sequence[Difference]) -> str:
    return ", ".join(repr(it.path) for it in differences)


def _short(fingerprint: str | None) -> str:
    return "none" if fingerprint is None else fingerprint[:8]


def cause_of(broken: Broken) -> Cause:
    """The cause that a broken guard is."""
    guard = broken.guard
    return Cause(_kind(broken.state), str(guard.ref), guard.fingerprint, broken.found, guard.ref)


def _kind(state: GuardState) -> MissKind:
    match state:
        case GuardState.CHANGED | GuardState.MISSING | GuardState.UNKNOWN_THEN:
            return MissKind.PRECONDITION_CHANGED
        case GuardState.EXPIRED:
            return MissKind.PRECONDITION_EXPIRED
        case GuardState.NEVER_OBSERVED:
            return MissKind.PRECONDITION_NEVER_OBSERVED
        case GuardState.WITHDRAWN:
            return MissKind.PRECONDITION_WITHDRAWN
        case _:
            assert_never(state)
