"""The domain model: the nodes of the graph, and what identifies them.

    (:Task)-[:HAS_EXECUTION]->(:Execution)-[:HAS_STEP {position}]->(:Step:Decision | :Step:Action)
    (:Resource)-[:HAS_VERSION]->(:Version)-[:HOLDS]->(:Precondition)-[:GUARDS]->(:Step)
    (:Step)-[:FEEDS {fingerprint}]->(:Step)
    (:Resource)-[:HAS_FACET]->(:Facet)-[:HAS_VALUE]->(:Precondition)
    (:ChangeEvent)-[:CHANGED]->(:Facet)   (:ChangeEvent)-[:FROM|TO]->(:Version)
    (:Step)-[:CAUSED]->(:SideEffect)<-[:PERFORMED]-(:Execution)-[:REPLAYED]->(:Execution)

Dependencies point downstream, so that one walk from a precondition finds all that rests on it.
Everything is immutable. Payloads are Values, named by the digest of their exact bytes; a step
names its payloads by digest and carries no edge to them, since a Value that 100,000 steps share
would be a hub. Times are milliseconds since 1970 by the store's clock. Every node belongs to one
namespace, which is part of every key.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, TypeAdapter

from .canonical import digest, fingerprint, hash_of

__all__ = [
    "KILLED_AFTER_MS",
    "NEVER",
    "WITHIN_A_WISH",
    "Approval",
    "ApprovalState",
    "Attempts",
    "ChangeEvent",
    "ChangeKind",
    "Effect",
    "EffectState",
    "Execution",
    "ExecutionState",
    "FacetChange",
    "FacetRef",
    "JournalEntry",
    "Mode",
    "Outline",
    "OutlineStep",
    "Precondition",
    "Recording",
    "Replay",
    "SideEffect",
    "Step",
    "StepKind",
    "Task",
    "Trace",
    "Unfinished",
    "Usage",
    "Value",
    "Walk",
    "Wish",
    "WishState",
    "manifest",
    "new_id",
    "signature",
    "step_id",
    "steps_of",
]


class _Node(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StepKind(StrEnum):
    """Decision = one model call; Action = one tool call."""

    DECISION = "decision"
    ACTION = "action"


class Effect(StrEnum):
    """What an action does to the world, and so what its replay does.

    ``pure`` reuses the recorded output, ``read`` runs again and is compared, ``write`` runs
    again with an idempotency key, after its facts were checked once more, and is compared.
    ``once`` is a write that is performed at most once, and gives what it gave then. ``confirm``
    is a write that begins only with an approval of its own.
    """

    PURE = "pure"
    READ = "read"
    WRITE = "write"
    ONCE = "once"
    CONFIRM = "confirm"

    @property
    def writes(self) -> bool:
        """Whether it may change something."""
        return self in (Effect.WRITE, Effect.ONCE, Effect.CONFIRM)


class Mode(StrEnum):
    """How a run came about.

    Attributes:
        LIVE: Nothing was served.
        PARTIAL: Something was served, and something was asked.
        REPLAY: Recordings were of use, and no model was asked.
        RETURNED: The run of this id had come to its end before, and nothing was run.
    """

    LIVE = "live"
    PARTIAL = "partial"
    REPLAY = "replay"
    RETURNED = "returned"


class ExecutionState(StrEnum):
    """Only a ``published`` execution is a trace, which may be replayed.

    One that is ``running`` has begun an effect or paid for a reply, and not ended. ``killed``: so
    it is, and its process is known to be dead, or nothing was heard of it for longer than
    ``KILLED_AFTER_MS``. ``unapproved``: it ended well, and becomes a trace when somebody approves
    it. ``rejected``: somebody rejected it, or another one with its answer, so that it is never a
    trace.
    """

    RUNNING = "running"
    KILLED = "killed"
    PUBLISHED = "published"
    UNAPPROVED = "unapproved"
    UNPUBLISHED = "unpublished"
    REJECTED = "rejected"
    FAILED = "failed"


class EffectState(StrEnum):
    """How far an effect has come. ``intended``: begun, and not known to have ended. ``not
    performed``: its tool said so, or a person did."""

    INTENDED = "intended"
    DONE = "done"
    NOT_PERFORMED = "not performed"


def new_id(milliseconds: int) -> str:
    """A fresh id that sorts by time: 12 digits of milliseconds, 20 random ones, hexadecimal."""
    return f"{milliseconds:012x}{os.urandom(10).hex()}"


class Value(_Node):
    """A payload: exact bytes, stored once under their digest."""

    digest: str
    data: bytes

    @classmethod
    def of(cls, data: bytes) -> Value:
        return cls.model_construct(digest=digest(data), data=data)


class Task(_Node):
    """What is asked. ``key`` = H(namespace, agent, canonical inputs, canonical context)."""

    key: str
    agent: str
    inputs: str  # digest of a Value
    context: str | None = None  # digest of a Value


class Usage(_Node):
    """What is billed. ``input_tokens`` excludes what was written to or read from a cache;
    ``cache_creation_1h_input_tokens`` is the part of the written ones that is kept for an hour.
    ``web_search_requests``: searches that the service made, billed beside the tokens."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_1h_input_tokens: int = 0
    web_search_requests: int = 0

    @cached_property
    def total(self) -> int:
        """All tokens."""
        return (
            self.input_tokens
            + self.output_tokens
            + self.cache_creation_input_tokens
            + self.cache_read_input_tokens
        )

    def __add__(self, other: Usage) -> Usage:
        return Usage(**{it: getattr(self, it) + getattr(other, it) for it in Usage.model_fields})


class FacetRef(NamedTuple):
    """A part of a resource, as a requirement names it. ``selector`` None is the whole."""

    resource: str
    selector: str | None

    def key(self, namespace: str) -> str:
        return hash_of("facet", namespace, self.resource, self.selector)

    def __str__(self) -> str:
        return self.resource if self.selector is None else f"{self.resource} {self.selector}"


#: The fingerprint of a precondition that no version will ever hold: of a step recorded while
#: its resource was absent, withdrawn or no longer to be believed.
NEVER = "never"


class Precondition(_Node):
    """A facet at a fingerprint: immutable, shared by all steps that rest on it."""

    id: str
    facet: str  # key of the Facet
    resource: str
    selector: str | None
    fingerprint: str

    @classmethod
    def of(cls, namespace: str, facet: FacetRef, at: str) -> Precondition:
        key = facet.key(namespace)
        return cls(
            id=hash_of("precondition", key, at),
            facet=key,
            resource=facet.resource,
            selector=facet.selector,
            fingerprint=at,
        )

    @property
    def ref(self) -> FacetRef:
        return FacetRef(self.resource, self.selector)

    def intact(self, namespace: str) -> bool:
        """Whether its keys are those of what it says."""
        return self.facet == self.ref.key(namespace) and self.id == hash_of(
            "precondition", self.facet, self.fingerprint
        )


class Step(_Node):
    """One decision or one action of one execution. Payload fields are digests of Values.

    ``key`` = H(kind, name, code key, canonical inputs) finds a step again, ``occurrence`` tells
    equal ones apart (0 is the first). ``output_key`` is the fingerprint of the output's
    canonical form; ``output`` the digest of its exact bytes.

    A decision's request is ``head`` (all but the messages) and its messages: the first
    ``shared`` ones of the decision at position ``extends``, then ``messages``; so a conversation
    of n turns takes O(n). An action was called by the decision at position ``decision`` (None:
    by the program itself) as its call number ``call``. ``asked_at``: when a program's decision
    was asked, in milliseconds of the store's clock; ``seen``: of what its writes could require, the
    versions that were new then.

    ``started_at``: when the model was asked, or the tool began, in milliseconds since 1970 by the
    clock of that process; ``duration_ms``: how long that took. A decision that was served keeps
    those of the day it was asked, as an action does whose output was reused. None: the step is
    older than version 5 of the schema, or its tool never began.
    """

    position: int
    kind: StepKind
    name: str
    key: str
    occurrence: int
    code_key: str
    output: str
    output_key: str
    error: bool = False
    started_at: int | None = None
    duration_ms: float = 0.0
    guards: tuple[str, ...] = ()  # ids of Preconditions, sorted
    feeds: tuple[int, ...] = ()  # positions of the steps that feed this one, sorted

    head: str | None = None
    extends: int | None = None
    shared: int = 0
    messages: tuple[str, ...] = ()
    usage: Usage | None = None
    asked_at: int | None = None
    seen: Mapping[str, int] = {}
    cost: float | None = None  # US dollars, when it was asked; None: not known

    effect: Effect | None = None
    arguments: str | None = None
    decision: int | None = None
    call: int | None = None

    @cached_property
    def payloads(self) -> tuple[str, ...]:
        """The digests of all Values that this step names."""
        named = (self.head, *self.messages, self.arguments, self.output)
        return tuple(item for item in named if item is not None)

    @cached_property
    def tokens(self) -> int:
        """All tokens that the step cost, of whatever kind."""
        return 0 if self.usage is None else self.usage.total


def step_id(execution: str, position: int) -> str:
    """The id of a Step node."""
    return f"{execution}/{position}"


def steps_of(fields: Sequence[Mapping[str, Any]]) -> tuple[Step, ...]:
    """Steps from their fields, all at once. Raises ValueError for what is no step."""
    return _STEPS.validate_python(fields)


def manifest(steps: Sequence[Step]) -> str:
    """What an Execution says its trace is: only a read equal to it is accepted.

    The digest covers every field of every step, guards and edges included; fields at their
    default are left out, so that a field added later leaves older manifests true.
    """
    fields = _STEPS.dump_python(tuple(steps), mode="json", exclude_defaults=True)
    return digest(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode())


_STEPS: TypeAdapter[tuple[Step, ...]] = TypeAdapter(tuple[Step, ...])


def signature(steps: Sequence[Step]) -> str:
    """A digest that two traces share iff they take the same steps under the same guards, whatever
    their payloads' exact bytes: then one of them is enough."""
    return fingerprint([[s.key, s.occurrence, s.output_key, s.error, *s.guards] for s in steps])


#: A run that has not ended is told as killed when nothing was heard of it for so long, also where
#: nothing is known of its process.
KILLED_AFTER_MS = 3_600_000


class Execution(_Node):
    """One run. ``steps`` counts what was recorded; of a trace the first ``published_steps``
    may be replayed, as ``manifest`` says. Of one that waits to be approved they will be."""

    id: str
    task: str
    agent: str
    mode: Mode
    state: ExecutionState
    started_at: int
    duration_ms: float = 0.0
    steps: int = 0
    published_steps: int = 0
    manifest: str | None = None
    signature: str | None = None
    replayed: str | None = None  # id of the trace that served it
    output: str | None = None  # digest of a Value
    usage: Usage = Usage()
    saved_tokens: int = 0
    cost: float | None = None  # US dollars; None: no price known
    labels: Mapping[str, str] = {}
    reason: str | None = None  # why it failed or was not published
    miss: tuple[str, ...] = ()  # the kinds of causes for which a model was asked, each once
    report: str | None = None  # digest of a Value: what became of each step, and why
    asked: int = 0  # calls to a model that were paid, replaced and unrecorded ones included
    served: int = 0  # decisions that were not asked
    saved_cost: float | None = None  # what the served ones had cost; None: not known
    miss_asked: tuple[int, ...] = ()  # of each kind in ``miss``: the calls
    miss_tokens: tuple[int, ...] = ()  # of each kind in ``miss``: the tokens
    process: str | None = None  # that carries out one that has not ended, if its system tells

    @property
    def complete(self) -> bool:
        """Whether the whole run is published, to its end; False for a prefix up to a tear."""
        return self.published_steps == self.steps

    @property
    def is_plain_replay(self) -> bool:
        """Whether its steps are those of the trace that it replayed: it has none of its own, and is
        never published."""
        unpublished = self.state is ExecutionState.UNPUBLISHED
        return self.mode is Mode.REPLAY and unpublished and self.steps == 0

    def at(self, now: int, *, is_dead: Callable[[str | None], bool]) -> Execution:
        """The execution as of ``now``: one whose process ``is_dead``, or that has long not been
        heard of, was killed."""
        if self.state is not ExecutionState.RUNNING:
            return self
        silent = now - self.started_at - self.duration_ms > KILLED_AFTER_MS
        if not silent and not is_dead(self.process):
            return self
        return self.model_copy(update={"state": ExecutionState.KILLED})


#: How the ``once`` of an effect begins that is known by its idempotency key, as its run has an id.
WITHIN_A_WISH = "wish:"


class SideEffect(_Node):
    """What an action does to the outside in one execution; it outlives traces.

    ``step`` is the id of the recorded Step it belongs to; None while that is not yet written.
    ``once``: by which an effect is known that is performed at most once; no two have the same.
    Such a one also keeps the fingerprint of its real arguments, and the JSON text that it gave.
    ``process``: the one that began it, if its system tells which. ``wish``: the key of the wish
    that its run was about. ``approval``: the id of the one that it has used up, and
    ``approved_by`` who gave that, if it was said.
    """

    id: str
    execution: str
    tool: str
    target: str  # what it was done to: the action's canonical arguments, cut at 200 characters
    idempotency_key: str
    state: EffectState
    begun_at: int
    step: str | None = None
    once: str | None = None
    arguments_key: str | None = None
    output_text: str | None = None
    process: str | None = None
    wish: str | None = None
    approval: str | None = None
    approved_by: str | None = None

    @property
    def is_in_doubt(self) -> bool:
        """Whether it was begun, and is not known to have ended."""
        return self.state is EffectState.INTENDED

    @property
    def is_within_a_wish(self) -> bool:
        """Whether it happens once for a run id, so that calling that again settles it."""
        return self.once is not None and self.once.startswith(WITHIN_A_WISH)

    def ended(self, output: bytes | None = None) -> SideEffect:
        """This effect, known to have happened. ``output``: what one gave that happens once."""
        text = None if output is None or self.once is None else output.decode()
        return self.model_copy(update={"state": EffectState.DONE, "output_text": text})

    def not_performed(self) -> SideEffect:
        """This effect, known not to have happened: another one may take its place."""
        return self.model_copy(update={"state": EffectState.NOT_PERFORMED, "once": None})


class JournalEntry(NamedTuple):
    """What a run that has not ended did, as the engine writes it. ``number``: the entries of an
    execution are numbered from 0. ``at``: milliseconds since 1970. ``wish``: the key of the wish
    that the run is about, if it has a run id."""

    task: str
    execution: str
    number: int
    at: int
    entry: bytes
    wish: str | None = None


class WishState(StrEnum):
    """How far a wish is. One whose run was killed stays running."""

    RUNNING = "running"
    FAILED = "failed"
    DONE = "done"


class Wish(NamedTuple):
    """What a caller wants done, by one run or, if that does not come to its end, by several.

    ``task``: the exact one, that is, the key of the task and of the real values of what is opaque
    in it: a recording may serve others, but what was done for one was not done for them.
    ``execution`` holds it: the last run that was begun for it, by ``process``. ``idle_ms``: how
    long nothing was heard of that, by the store's clock. ``run_id`` and ``idempotency``: what the
    caller named it by. ``result``: what it came to, of one with a run id.
    """

    key: str
    task: str
    execution: str
    process: str | None
    run_id: str | None = None
    idempotency: str | None = None
    state: WishState = WishState.RUNNING
    result: str | None = None
    idle_ms: int = 0


class Unfinished(NamedTuple):
    """What is left of a task's runs that have not come to their end: their wishes, and what they
    have decided, the newest first."""

    wishes: tuple[Wish, ...] = ()
    entries: tuple[JournalEntry, ...] = ()


class Attempts(NamedTuple):
    """What the runs of one wish have begun, and what is kept of their steps, oldest first."""

    effects: tuple[SideEffect, ...] = ()
    entries: tuple[JournalEntry, ...] = ()


class ApprovalState(StrEnum):
    """How an approval stands.

    Attributes:
        PENDING: Nobody has answered.
        APPROVED: One effect may begin.
        DENIED: It was answered with no, for good.
        USED: An effect has begun with it, and no other one can.
        EXPIRED: Nobody answered in time, or no effect began in time.
    """

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    USED = "used"
    EXPIRED = "expired"


class Approval(_Node):
    """Whether one effect may begin (``effect="confirm"``): what was asked, and the answer.

    Attributes:
        id: By which it is answered; ids of nothing else begin with ``approval-``.
        digest: What it is bound to: the tool, its real arguments, and the facts.
        execution: The run that asked first.
        agent: The agent's or program's name.
        task: The task's key.
        tool: The tool's name.
        code_key: The version of the tool.
        arguments: What it is to be called with, as JSON text; secrets are masked.
        arguments_key: The fingerprint of the real arguments.
        facts: What it rests on, as JSON text: of each fact the resource, selector, version and
            fingerprint, and whether it is believed.
        why: Why the call is believed to be right.
        state: How it stands. That one has expired is not stored, but told when it is read.
        requested_at: When it was asked, in milliseconds since 1970 by the store's clock.
        expires_at: Until when it may be answered and used.
        answered_at: When it was answered.
        by: Who answered, if that was said.
        reason: Why it was denied.
        heard_by: Of a denial, the wish whose run was told.
        effect: The id of the effect that has used it up.
    """

    id: str
    digest: str
    execution: str
    agent: str
    task: str
    tool: str
    code_key: str
    arguments: str
    arguments_key: str
    facts: str
    why: str
    state: ApprovalState = ApprovalState.PENDING
    requested_at: int = 0
    expires_at: int = 0
    answered_at: int | None = None
    by: str | None = None
    reason: str | None = None
    heard_by: str | None = None
    effect: str | None = None

    def at(self, now: int) -> Approval:
        """Tell how it stands at a moment.

        What was asked in the future, by a clock that was set back since, has expired.

        Args:
            now: The moment, in milliseconds since 1970.

        Returns:
            The approval as of then.
        """
        is_open = self.state in (ApprovalState.PENDING, ApprovalState.APPROVED)
        in_time = now < self.expires_at and self.requested_at <= now + 1000
        if not is_open or in_time:
            return self
        return self.model_copy(update={"state": ApprovalState.EXPIRED})


class FacetChange(_Node):
    """One facet in a change. A fingerprint is None where no readable version was."""

    facet: str
    resource: str
    selector: str | None
    before: str | None
    after: str | None


class ChangeKind(StrEnum):
    """What happened to a resource.

    Attributes:
        CHANGED: It has another document, or its first one.
        WITHDRAWN: It is gone or unreadable.
        EXPIRED: Its document may no longer be believed.
        RENEWED: A document that had expired may be believed again.
    """

    CHANGED = "changed"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    RENEWED = "renewed"


class ChangeEvent(_Node):
    """The durable record that a resource changed.

    Attributes:
        id: The event's id.
        resource: The resource's URI.
        kind: What happened.
        from_version: The version before; 0 if the resource was never observed.
        to_version: The version since. An expiry or a renewal is of one version: it is both.
        source: Who said so: a source's name, or ``push`` for ``engine.observe``; of an expiry
            that nobody said, ``expiry``.
        at: When, in milliseconds since 1970 (UTC), by the store's clock.
        changed: The facets whose fingerprint differs, with both fingerprints.
    """

    id: str
    resource: str
    kind: ChangeKind
    from_version: int
    to_version: int
    source: str
    at: int
    changed: tuple[FacetChange, ...] = ()


class Walk(_Node):
    """Marks to be looked at again, because of a change event or of a late publication.

    ``id`` is that of the ChangeEvent, or of the Execution, whose ``resource`` is None. ``cursor``:
    the execution up to which it has come. ``marked``: steps that it found invalid, ``cleared``:
    valid; ``visited``: the edges it went along.
    """

    id: str
    resource: str | None = None
    at: int
    cursor: str | None = None
    marked: int = 0
    cleared: int = 0
    visited: int = 0
    ended_at: int | None = None


class OutlineStep(NamedTuple):
    """The fields of a Step that say what it would cost to lose it."""

    position: int
    kind: StepKind
    name: str
    key: str
    occurrence: int
    tokens: int
    guards: tuple[str, ...]  # ids of Preconditions
    feeds: tuple[int, ...]  # positions


class Outline(NamedTuple):
    """The fields of a published trace that say what it would cost to lose some of it."""

    execution: str
    task: str
    agent: str
    started_at: int
    complete: bool
    steps: tuple[OutlineStep, ...]
    preconditions: Mapping[str, Precondition]  # at least those that guard its steps


class Trace(_Node):
    """A published execution as it may be replayed: its steps, and what guards them."""

    execution: Execution
    steps: tuple[Step, ...]
    preconditions: Mapping[str, Precondition]

    @property
    def id(self) -> str:
        return self.execution.id

    @cached_property
    def resources(self) -> frozenset[str]:
        return frozenset(guard.resource for guard in self.preconditions.values())

    @cached_property
    def payloads(self) -> frozenset[str]:
        return frozenset(digest for step in self.steps for digest in step.payloads)

    def intact(self, namespace: str) -> bool:
        """Whether what was read is what was published, every guard included."""
        return (
            self.execution.manifest == manifest(self.steps)
            and all(guard in self.preconditions for step in self.steps for guard in step.guards)
            and all(key == it.id and it.intact(namespace) for key, it in self.preconditions.items())
        )


class Recording(_Node):
    """What one finished run writes in one transaction. Its execution is not yet a trace."""

    task: Task
    execution: Execution
    steps: tuple[Step, ...]
    preconditions: tuple[Precondition, ...]
    values: tuple[Value, ...]
    effects: tuple[SideEffect, ...] = ()


class Replay(_Node):
    """A run that equals a trace: only its Execution, REPLAYED and its effects are written.

    ``values``: its report, if it was no plain replay or has marked values, and its output, if that
    is not the trace's.
    """

    execution: Execution
    effects: tuple[SideEffect, ...] = ()
    values: tuple[Value, ...] = ()
