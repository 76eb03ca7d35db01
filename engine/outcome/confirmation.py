"""What a person is asked before an effect begins, and how it can be answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from ...graphstore.canonical import Json

__all__ = ["Answer", "Approved", "Confirm", "ConfirmationRequest", "Denied", "RequiredFact"]


@dataclass(frozen=True, slots=True)
class RequiredFact:
    """A fact that an effect rests on, as it is when that is to be approved.

    Attributes:
        resource: The resource's URI.
        selector: The part of it; None: the whole.
        version: Its version.
        fingerprint: The fingerprint of that part; None: the resource is absent, withdrawn or
            expired, so that nothing is known of it.
        says: What the part says, as JSON; what is named as a secret is hidden. None: nothing, or
            it is not kept any more.
    """

    resource: str
    selector: str | None
    version: int
    fingerprint: str | None
    says: Json = None

    def __str__(self) -> str:
        return self.resource if self.selector is None else f"{self.resource} {self.selector}"


@dataclass(frozen=True, slots=True)
class ConfirmationRequest:
    """What is to be done, and on what word: a tool with ``effect="confirm"`` is to be called.

    Attributes:
        id: The id of the approval, by which it can be answered later and from elsewhere.
        digest: What the answer is bound to: the tool, its real arguments, and the facts.
        agent: The agent's or program's name.
        task: The inputs of the run that asks, as JSON; None where they are not known, as those
            with marked values are not to ``engine.approvals`` before the run has ended.
        tool: The tool's name.
        arguments: What it is to be called with, as JSON; secrets are masked.
        facts: What it rests on.
        why: Why the call is believed to be right: whose decision it is, and of when.
        execution_id: The run that asks.
        expires_at: Until when it can be answered and used.
        in_doubt: The ids of effects of equal calls that were begun and are not known to have
            ended. Look whether they happened before approving another one.
    """

    id: str
    digest: str
    agent: str
    task: Json
    tool: str
    arguments: Json
    facts: tuple[RequiredFact, ...]
    why: str
    execution_id: str
    expires_at: datetime
    in_doubt: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Approved:
    """The answer that an effect may begin.

    Attributes:
        by: Who says so. It is kept with the effect.
    """

    by: str | None = None


@dataclass(frozen=True, slots=True)
class Denied:
    """The answer that it may not.

    Attributes:
        by: Who says so.
        reason: Why. The model is told.
    """

    by: str | None = None
    reason: str | None = None


#: True and False say the same as ``Approved()`` and ``Denied()``; None: the answer comes later.
Answer = bool | Approved | Denied | None
#: Who is asked: a function, sync (it is called in a thread) or async.
Confirm = Callable[[ConfirmationRequest], Answer | Awaitable[Answer]]
