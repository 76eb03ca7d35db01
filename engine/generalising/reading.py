"""Reading recorded runs from the store, as many as there is room for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...graphstore.canonical import decode, encode
from ...graphstore.errors import PayloadCorrupted
from ...graphstore.model import Execution, ExecutionState, Mode, Step, StepKind, Trace
from ...graphstore.model import Task as StoredTask
from ...graphstore.roles.history import Executions
from ...graphstore.store import GraphStore
from ...graphstore.threads import in_thread
from ..model.client import ChatClient
from ..outcome.report import Report
from ..outcome.result import Outcome
from ..task import kind_of
from ..transcript import request_messages
from .past_run import PastRun

__all__ = ["PastRuns", "past_runs"]

_AT_ONCE = 16  # executions read at the same time
_MOST_BYTES = 64_000_000  # of payloads that are held at once

#: Told how many runs were read.
Read = Callable[[int], None]


@dataclass(frozen=True)
class PastRuns:
    """The recorded runs of an agent, the oldest first. ``unreadable``: how many have damaged
    payloads, or requests that cannot be derived again. ``is_all``: none was left out for room."""

    runs: tuple[PastRun, ...]
    unreadable: int = 0
    is_all: bool = True


async def past_runs(
    store: GraphStore,
    client: ChatClient,
    agent: str,
    *,
    limit: int,
    read: Read = lambda _done: None,
) -> PastRuns:
    """Read what was published among the newest ``limit`` executions of ``agent``. Raises
    StoreError."""
    executions = [
        it
        for it in await store.executions(Executions("agent", agent), limit=limit)
        if it.state is ExecutionState.PUBLISHED and it.published_steps
    ]
    found: list[PastRun] = []
    unreadable = size = 0
    for start in range(0, len(executions), _AT_ONCE):
        if size > _MOST_BYTES:
            return PastRuns(tuple(reversed(found)), unreadable, is_all=False)
        some = executions[start : start + _AT_ONCE]
        runs = await asyncio.gather(*(_run(store, client, it) for it in some))
        sound = await in_thread(partial(_sound, runs))
        unreadable += len(some) - len(sound)
        size += sum(len(data) for run in sound for data in run.values.values())
        found += sound
        read(start + len(some))
    return PastRuns(tuple(reversed(found)), unreadable)


def _sound(runs: Sequence[PastRun | None]) -> list[PastRun]:
    return [it for it in runs if it is not None and it.is_sound]


async def _run(store: GraphStore, client: ChatClient, execution: Execution) -> PastRun | None:
    """One run; None if it is damaged, or was deleted meanwhile."""
    trace, task = await asyncio.gather(store.execution(execution.id), store.task(execution.task))
    if trace is None or task is None:
        return None
    try:
        return await _Reading(store, client, trace, task).run()
    except (PayloadCorrupted, LookupError, TypeError, ValueError):  # what is damaged reads as this
        return None


class _Reading:
    """One run that is being read."""

    def __init__(
        self, store: GraphStore, client: ChatClient, trace: Trace, task: StoredTask
    ) -> None:
        self._store = store
        self._client = client
        self._trace = trace
        self._task = task
        self._execution = trace.execution
        self._steps: Sequence[Step] = trace.steps[: trace.execution.published_steps]

    async def run(self) -> PastRun:
        report = self._execution.report
        named = [it for it in (self._task.inputs, self._task.context, report) if it is not None]
        given = await self._store.values(named)
        inputs = decode(given[self._task.inputs])
        context = None if self._task.context is None else decode(given[self._task.context])
        kind = kind_of(self._store.namespace, self._task, inputs, context)
        is_agent = kind == "agent" or (kind is None and self._acts_in_replies())
        values = await self._store.values(self._wanted(is_agent=is_agent))
        is_marked = kind is None
        if is_marked and is_agent:
            inputs, context = self._shown(values, inputs, context)
            is_marked = False
        return PastRun(
            execution=self._execution,
            namespace=self._store.namespace,
            task=self._task.key,
            kind="agent" if is_agent else "program",
            inputs=inputs,
            context=context,
            is_marked=is_marked,
            steps=self._steps,
            values=values,
            asked=self._asked(None if report is None else given[report]),
            facets={it.id: it.ref for it in self._trace.preconditions.values()},
            client=self._client,
        )

    def _acts_in_replies(self) -> bool:
        """Whether calls are carried out as they stand in replies, which agents alone do."""
        return any(it.decision is not None for it in self._steps)

    def _wanted(self, *, is_agent: bool) -> set[str]:
        """The payloads of which requests are derived."""
        wanted = {step.output for step in self._steps}
        if is_agent:
            return wanted | {self._opening}
        named = ((it.head, it.arguments, *it.messages) for it in self._steps)
        return wanted | {it for digests in named for it in digests if it is not None}

    @property
    def _opening(self) -> str:
        """The digest of the message with which the first request begins."""
        first = next((it.position for it in self._steps if it.kind is StepKind.DECISION), None)
        if first is None or not (messages := request_messages(self._steps, first)):
            raise ValueError("no model was asked")
        return messages[0]

    def _shown(self, values: dict[str, bytes], inputs: Any, context: Any) -> tuple[Any, Any]:
        """The inputs and the context as the model was shown them. Raises ValueError."""
        message = decode(values[self._opening])
        around = set(_texts(self._client.opening([""])))
        texts = [it for it in _texts(message) if it not in around]
        if self._client.opening(texts) != message or len(texts) != 1 + (context is not None):
            raise ValueError("it opens with something else than its task")
        more = None if context is None else _read(texts[1].removeprefix("Context:\n"), context)
        return _read(texts[0], inputs), more

    def _asked(self, report: bytes | None) -> frozenset[int]:
        """The positions of the decisions that the run paid for, as far as it is known."""
        decisions = {it.position for it in self._steps if it.kind is StepKind.DECISION}
        if self._execution.mode is Mode.LIVE:
            return frozenset(decisions)
        if report is None:
            return frozenset()
        steps = Report.of_value(report).steps
        asked = {n for n, it in enumerate(steps) if it.outcome is Outcome.ASKED}
        return frozenset(decisions & asked)


def _texts(message: Any) -> Iterator[str]:
    """The texts in a message, in their order."""
    match message:
        case str():
            yield message
        case dict():
            for item in message.values():
                yield from _texts(item)
        case list():
            for item in message:
                yield from _texts(item)


def _read(text: str, given: Any) -> Any:
    """What a text shows of what was ``given``: a text as it is, everything else as JSON."""
    if isinstance(given, str):
        return text
    shown = decode(text.encode())
    if encode(shown).decode() != text:
        raise ValueError("it is not written as tasks are")
    return shown
