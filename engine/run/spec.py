"""What the caller of a run specifies: a task, and how it may be done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..outcome.cause import Cause
from ..outcome.confirmation import Confirm
from ..outcome.result import Result
from ..outcome.run_plan import RunPlan
from ..sessions.session import Session
from ..task import Task
from .lot import drawn

if TYPE_CHECKING:
    from .wish import RunWish

__all__ = ["Accept", "MustNotAsk", "OnPartial", "RunSpec", "Trust"]

#: Whether a run may be published, by its result as it would be returned. Sync or async.
Accept = Callable[[Result], bool | Awaitable[bool]]

_Choice = Literal["continue", "live", "stop"]
#: What becomes of a run that would be served in part only, or what says so, shown what is foreseen.
OnPartial = _Choice | Callable[[RunPlan], _Choice | Awaitable[_Choice]]


class Trust(NamedTuple):
    """What a run that has ended well needs to become a trace: that ``accept`` says so (None: nobody
    is asked), and then, if it is ``manual``, that somebody approves it. ``shadow``: the share of
    runs that are shadow runs; None: as the engine says."""

    accept: Accept | None = None
    manual: bool = False
    shadow: float | None = None


@dataclass(frozen=True)
class RunSpec:
    """A task to be done, whether recordings may, or must, serve it, and who is to confirm.

    ``patience``: how many seconds it waits at most for an equal run; None: as the engine says.
    ``shadow``: recordings are only compared with what is done.
    ``run_id`` and ``idempotency``: what the caller knows it by, as far as it does. ``resume``:
    whether what unfinished runs have decided may serve it. ``wait``: how long another run of the
    same id is waited for, in seconds. ``outer``: the wish of the run that it is inside of, if it is
    about a part of that.
    """

    task: Task
    labels: Mapping[str, str] = field(default_factory=dict)
    may_serve: bool = True
    must_serve: bool = False
    patience: float | None = None
    trust: Trust = field(default_factory=Trust)
    on_partial: OnPartial | None = None
    shadow: bool = False
    run_id: str | None = None
    idempotency: str | None = None
    resume: bool = True
    wait: float = 0.0
    confirm: Confirm | None = None
    wait_for_approval: timedelta | None = None
    outer: RunWish | None = None

    def inside(self, outer: RunWish) -> RunSpec:
        """This specification of a run that is about a part of what the outer one is about, if its
        caller has given it no name of its own."""
        if self.run_id is not None or self.idempotency is not None or outer.run_id is None:
            return self
        return replace(self, run_id=outer.run_id, outer=outer)

    def within(self, session: Session) -> RunSpec:
        """This specification, as far as EXECGRAPH_MODE allows it, and as the lot falls."""
        may_serve = self.may_serve and session.may_serve
        must_serve = self.must_serve or session.must_serve
        share = session.shadow if self.trust.shadow is None else self.trust.shadow
        shadow = may_serve and not must_serve and (session.in_shadow or drawn(share))
        if (may_serve, must_serve, shadow) == (self.may_serve, self.must_serve, self.shadow):
            return self
        return replace(self, may_serve=may_serve, must_serve=must_serve, shadow=shadow)


class MustNotAsk(Exception):
    """The model would have to be asked, and must not be."""

    why = "a replay is required"

    def __init__(self, cause: Cause) -> None:
        self.cause = cause
        super().__init__(f"{self.why}, and the model would have to be asked: {cause}")
