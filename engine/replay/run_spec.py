"""What the caller of a run specifies: a task, and how it may be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..outcome.cause import Cause
from ..sessions.session import Session
from ..task import Task

__all__ = ["MustNotAsk", "RunSpec"]


@dataclass(frozen=True)
class RunSpec:
    """A task to be done, and whether recordings may, or must, serve it."""

    task: Task
    labels: Mapping[str, str] = field(default_factory=dict)
    may_serve: bool = True
    must_serve: bool = False

    def within(self, session: Session) -> RunSpec:
        """This specification, as far as EXECGRAPH_MODE allows it."""
        if session.may_serve and not session.must_serve:
            return self
        return replace(
            self,
            may_serve=self.may_serve and session.may_serve,
            must_serve=self.must_serve or session.must_serve,
        )


class MustNotAsk(Exception):
    """The model would have to be asked, where a replay is required."""

    def __init__(self, cause: Cause) -> None:
        self.cause = cause
        super().__init__(f"a replay is required, and the model would have to be asked: {cause}")
