"""What an engine raises, beside the errors of the store.

ExecgraphError
├── ConfigurationError
│   ├── ToolError            a tool cannot be declared so
│   └── AgentError           an agent or a run cannot be declared so
├── ArgumentsInvalid         arguments that a tool does not take
├── PreconditionChanged      a fact moved before an effect: it was not executed
├── NotCurrent               nothing is known of a resource now
├── NotReplayable            a replay was required, and the lookup found none
├── ExecutionUnknown         an execution is asked about that is not in the store
├── TaskUnknown              a task is asked about that is not in the store
├── ResourceUnknown          a resource is asked about that nobody observed or requires
├── NotOpen                  the engine is used outside ``async with engine``
└── RunFailed                a run ended without an answer; says what it did to the world
"""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote
from typing import TYPE_CHECKING

from ..graphstore.errors import ConfigurationError, ExecgraphError

if TYPE_CHECKING:
    from ..graphstore.model import SideEffect
    from .outcome.cause import Cause

__all__ = [
    "AgentError",
    "ArgumentsInvalid",
    "ConfigurationError",
    "ExecgraphError",
    "ExecutionUnknown",
    "NotCurrent",
    "NotOpen",
    "NotReplayable",
    "PreconditionChanged",
    "ResourceUnknown",
    "RunFailed",
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


class NotReplayable(ExecgraphError):
    """A replay was required and no trace holds; no tool was run and no model called.

    Attributes:
        causes: Why not, one cause for each obstacle.
    """

    def __init__(self, causes: Sequence[Cause]) -> None:
        self.causes = tuple(causes)
        reasons = "; ".join(map(str, self.causes)) or "no trace"
        kinds = {cause.kind.value for cause in self.causes}
        remedy = next((text for kind, text in _BEFORE_RECORDING.items() if kind in kinds), _RECORD)
        super().__init__(
            "nothing was executed, because a replay is required and not possible:"
            f" {reasons}. {remedy}"
        )


class ExecutionUnknown(ExecgraphError):
    """An execution is asked about that is not in the store.

    Attributes:
        execution_id: The id that was asked for; None if any would have done.
    """

    def __init__(
        self,
        execution: str | None,
        namespace: str,
        *,
        agent: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.execution_id = execution
        if hint is not None:
            super().__init__(hint)
            return
        if execution is not None:
            what = f"execution {execution!r}"
        else:
            what = "execution at all" if agent is None else f"execution of the agent {agent!r}"
        super().__init__(
            f"there is no {what} in the namespace {namespace!r}. Ids are told by"
            f" Result.execution_id and by `execgraph cypher --namespace {quote(namespace)} 'MATCH"
            " (e:Execution {namespace: $namespace}) RETURN e.id, e.agent, e.started_at ORDER BY"
            " e.started_at DESC LIMIT 20'`; `execgraph why` without an id takes the newest."
        )


class TaskUnknown(ExecgraphError):
    """A task is asked about that is not in the store.

    Attributes:
        task: The task's key.
    """

    def __init__(self, task: str, namespace: str) -> None:
        self.task = task
        super().__init__(
            f"there is no task with the key {task!r} in the namespace {namespace!r}. The key of a"
            " run's task is the 'task' of `execgraph why --json`; it is a digest, and no name."
        )


class ResourceUnknown(ExecgraphError):
    """A resource is asked about that nobody observed and no recorded step requires.

    Attributes:
        resource: The resource's URI.
    """

    def __init__(self, resource: str, namespace: str) -> None:
        self.resource = resource
        super().__init__(
            f"nobody observed {resource}, and no recorded step requires it, in the namespace"
            f" {namespace!r}. `execgraph changes --namespace {quote(namespace)}` names what"
            " changed there."
        )


class NotOpen(ExecgraphError):
    """The engine is used outside ``async with engine`` or ``with engine.sync()``.

    So is a run whose block has not begun, or has ended.
    """


class RunFailed(ExecgraphError):
    """A run ended without an answer and was not published. The exception behind it is its cause.

    Attributes:
        execution_id: By which ``why`` and Cypher find the run.
        effects: What it did to the outside, in order.
        in_doubt: What it began to do, and may have done.
    """

    def __init__(
        self,
        message: str,
        *,
        execution_id: str,
        effects: Sequence[SideEffect] = (),
        in_doubt: Sequence[SideEffect] = (),
    ) -> None:
        self.execution_id = execution_id
        self.effects = tuple(effects)
        self.in_doubt = tuple(in_doubt)
        super().__init__(f"{message} (execution {execution_id}{self._damage})")

    @property
    def safe_to_retry(self) -> bool:
        """Whether it began no effect, so that a new run repeats none."""
        return not self.effects and not self.in_doubt

    @property
    def _damage(self) -> str:
        done = f"; effects done: {len(self.effects)}" if self.effects else ""
        doubt = f"; effects in doubt: {len(self.in_doubt)}" if self.in_doubt else ""
        return f"{done}{doubt}" or "; no effect was begun"
