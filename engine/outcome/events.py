"""What happens in this process, as events for whoever subscribes.

    unsubscribe = engine.subscribe(print)

A subscriber is called in the event loop in which it happened, in order; it may be a coroutine
function, whose calls are then begun in that order and not waited for. What it raises is logged,
and never disturbs a run.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ...graphstore.model import ChangeEvent, Mode, StepKind
from .cause import Cause
from .result import Outcome

__all__ = [
    "Event",
    "Events",
    "OnEvent",
    "ResourceChanged",
    "RunEnded",
    "RunStarted",
    "RunWaits",
    "StepEnded",
]

_log = logging.getLogger("execgraph")


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run has begun.

    Attributes:
        execution_id: The run's id.
        task: The key of its task.
        name: The agent's or the program's name.
    """

    execution_id: str
    task: str
    name: str


@dataclass(frozen=True, slots=True)
class RunWaits:
    """A run is about to begin, and waits for an equal one that is asking the model.

    It begins when that one has ended, or has been waited for long enough.

    Attributes:
        task: The key of its task.
        name: The agent's or the program's name.
    """

    task: str
    name: str


@dataclass(frozen=True, slots=True)
class StepEnded:
    """A step has ended.

    A decision that is asked again because a fact moved right before its effect ends twice.

    Attributes:
        execution_id: The run's id.
        position: The step's place in the run, from 0.
        kind: A decision of the model or an action of a tool.
        name: The model's or the tool's name.
        outcome: What became of it.
        tokens: What it cost now, in tokens as billed.
        cause: Why it was not simply served; None if it was.
        error: The tool raised, or was not run; the model is told so.
    """

    execution_id: str
    position: int
    kind: StepKind
    name: str
    outcome: Outcome
    tokens: int
    cause: Cause | None
    error: bool = False


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A run has ended.

    Attributes:
        execution_id: The run's id.
        task: The key of its task.
        name: The agent's or the program's name.
        mode: As in ``Result``.
        failed: It ended without an answer.
        reason: Why it failed; None if it did not.
        recorded: As in ``Result``.
        steps: How many steps it had.
        tokens: What it cost, in tokens as billed.
        saved_tokens: As in ``Result``.
        cost: As in ``Result``, in US dollars.
        duration_ms: How long it took, in milliseconds.
        miss: As in ``Result``.
    """

    execution_id: str
    task: str
    name: str
    mode: Mode
    failed: bool
    reason: str | None
    recorded: bool
    steps: int
    tokens: int
    saved_tokens: int
    cost: float | None
    duration_ms: float
    miss: tuple[Cause, ...]


@dataclass(frozen=True, slots=True)
class ResourceChanged:
    """This process changed a fact, by ``observe``, ``withdraw`` or a source it watches.

    Attributes:
        event: The change event, as it is stored.
    """

    event: ChangeEvent


Event = RunWaits | RunStarted | StepEnded | RunEnded | ResourceChanged
OnEvent = Callable[[Event], Awaitable[None] | None]


class Events:
    """The subscribers of a run's events. ``listeners`` is empty while nobody subscribes."""

    def __init__(self) -> None:
        self.listeners: tuple[OnEvent, ...] = ()
        self._begun: set[asyncio.Task[None]] = set()

    def subscribe(self, on_event: OnEvent) -> Callable[[], None]:
        """Have ``on_event`` called from now on; gives what ends that."""
        entry = _Entry(on_event)
        self.listeners = (*self.listeners, entry)

        def unsubscribe() -> None:
            self.listeners = tuple(it for it in self.listeners if it is not entry)

        return unsubscribe

    def emit(self, event: Event) -> None:
        """Tell all of them."""
        for listener in self.listeners:
            try:
                returned = listener(event)
                if returned is not None and inspect.isawaitable(returned):
                    self._begin(returned)
            except (Exception, SystemExit):  # noqa: BLE001  (it must not disturb a run)
                _log.exception("a subscriber failed on %s", type(event).__name__)

    async def ended(self) -> None:
        """Wait for the subscribers' coroutines of this event loop."""
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(it for it in tuple(self._begun) if it.get_loop() is loop))

    def _begin(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(_logged(work))
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)


class _Entry:
    """One subscription: the same function may be subscribed twice."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event

    def __call__(self, event: Event) -> Awaitable[None] | None:
        return self._on_event(event)


async def _logged(work: Awaitable[None]) -> None:
    try:
        await work
    except (Exception, SystemExit):  # noqa: BLE001  (which would end everybody's event loop)
        _log.exception("a subscriber failed")
