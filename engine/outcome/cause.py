"""Why a step was not simply replayed: an enumerated kind, the node, and what to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import assert_never

from ...graphstore.model import FacetRef
from ...invalidation.validity import Broken, GuardState
from .differences import Difference

__all__ = ["Cause", "MissKind", "cause_of"]


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
    INCOMPLETE = "incomplete answer"
    UNRECORDED = "unrecorded call"
    PAYLOAD_DAMAGED = "payload damaged"
    UNFINISHED_EFFECT = "unfinished effect"
    REPLAY_OFF = "replay off"
    STORE_AWAY = "store away"


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
    MissKind.TORN: "nothing: the next run records what this one could not",
    MissKind.INCOMPLETE: "raise max_tokens, or look at the stop reason; read a stream to its end",
    MissKind.UNRECORDED: "start threads with asyncio.to_thread or contextvars.copy_context().run,"
    " and call messages.create, or stream, inside a run",
    MissKind.PAYLOAD_DAMAGED: "check the disk, and who else writes to the store",
    MissKind.UNFINISHED_EFFECT: "await run.act(...) inside the run's block, and let no time limit"
    " cut a write short: whether it happened is in doubt then",
    MissKind.REPLAY_OFF: "nothing: the caller or EXECGRAPH_MODE asked for it",
    MissKind.STORE_AWAY: "see that the store can be reached; runs use it again by themselves",
}


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a step was not simply served.

    Attributes:
        kind: Which kind of cause it is.
        node: What it is about: a resource and its part, a tool, an agent, a trace or a store.
        before: The fingerprint that was recorded; None if there is none.
        after: The fingerprint that was found; None if there is none.
        facet: The part of a resource, if it is about one.
        differences: Where an output, or a request, differs from the recorded one: the first
            places.
    """

    kind: MissKind
    node: str
    before: str | None = None
    after: str | None = None
    facet: FacetRef | None = field(default=None, repr=False)
    differences: tuple[Difference, ...] = field(default=(), repr=False)

    @property
    def remedy(self) -> str:
        """What to do about it, in a sentence."""
        marks = ", ".join(repr(it.path) for it in self.differences)
        if marks and self.kind is MissKind.REQUEST_CHANGED:
            return f"nothing if the conversation differs; else make {marks} the same on every run"
        if marks:
            return (
                "nothing if the world changed; what differs on every run is marked:"
                f" opaque=[{marks}] if a model carries it, unseen=[...] if none is to see it"
            )
        return _REMEDY[self.kind]

    def __str__(self) -> str:
        if self.differences:
            return f"{self.kind}: {self.node} ({'; '.join(map(str, self.differences))})"
        if self.before is None and self.after is None:
            return f"{self.kind}: {self.node}"
        return f"{self.kind}: {self.node} ({_short(self.before)} -> {_short(self.after)})"


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
