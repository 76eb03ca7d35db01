"""The engine for programs without an event loop: the same names, without ``await``."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from ..graphstore.canonical import Json
from ..graphstore.model import ChangeEvent
from ..invalidation.feed import now
from .errors import NotOpen
from .outcome.result import Result
from .program import Handle, ProgramRun, set_current

if TYPE_CHECKING:
    from networkx import MultiDiGraph

    from ..graphstore.retention import Collected, Retention
    from ..graphstore.store import Table
    from ..invalidation.impact import Impact
    from ..invalidation.source import Source
    from ..invalidation.watching.watcher import Watcher
    from .agent import Agent
    from .asking.stats import Stats
    from .asking.why import Why
    from .engine import Engine
    from .outcome.events import OnEvent
    from .tools.tool import Tool

__all__ = ["SyncAgent", "SyncEngine", "SyncRun"]

_T = TypeVar("_T")

_UNWIND_SECONDS = 5.0  # what an interrupted call waits for its work to end, and be kept as failed


class SyncEngine:
    """``with engine.sync() as e``: may be used from several threads inside the block.

    All work is done in one event loop in a thread of its own. A fork has no such thread: a child
    enters this, or another one, for itself.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ended = asyncio.Event()
        self._inherited: list[asyncio.AbstractEventLoop] = []
        self._pid = 0

    def __enter__(self) -> SyncEngine:
        self._disown()
        if self._loop is not None:
            raise NotOpen("this is entered already; 'with engine.sync() as e:' opens another")
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(
            target=_run, args=(self._loop, self._ended), name="execgraph", daemon=True
        )
        self._thread.start()
        try:
            self.wait(self._engine.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._disown():
            return
        try:
            self.wait(self._engine.__aexit__(kind, error, traceback))
        finally:
            self._stop()

    def wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The outcome of ``work``, done in the engine's event loop."""
        if self._loop is None:
            work.close()
            raise NotOpen("use it inside 'with engine.sync() as e:'")
        if self._pid != os.getpid():
            work.close()
            raise NotOpen(
                "this was entered before the process forked, and the thread that does its work is"
                " not in this one; write 'with engine.sync() as e:' in the child too"
            )
        if threading.current_thread() is self._thread:
            work.close()
            raise NotOpen("this is the engine's own event loop; await the engine itself here")
        return _outcome(work, self._loop)

    @property
    def tool(self) -> Any:
        """As ``Engine.tool``."""
        return self._engine.tool

    def agent(self, agent: Agent | str, **settings: Any) -> SyncAgent:
        """As ``Engine.agent``; or the sync face of an agent there is."""
        made = self._engine.agent(agent, **settings) if isinstance(agent, str) else agent
        return SyncAgent(self, made)

    def run(self, name: str, inputs: Any, **settings: Any) -> SyncRun:
        """As ``Engine.run``: ``with e.run("triage", inputs) as run``."""
        return SyncRun(self, self._engine.run(name, inputs, **settings))

    def middleware(self, **settings: Any) -> Any:
        """As ``Engine.middleware``."""
        return self._engine.middleware(**settings)

    def observe(
        self, resource: str, document: Json, *, until: datetime | timedelta | None = None
    ) -> ChangeEvent | None:
        """As ``Engine.observe``."""
        return self.wait(self._engine.observe(resource, document, until=until))

    def withdraw(self, resource: str) -> ChangeEvent | None:
        """As ``Engine.withdraw``."""
        return self.wait(self._engine.withdraw(resource))

    def current(self, resource: str) -> Json:
        """As ``Engine.current``."""
        return self.wait(self._engine.current(resource))

    @contextmanager
    def watch(self, sources: Sequence[Source]) -> Iterator[Watcher]:
        """As ``Engine.watch``: ``with e.watch([FileSource(...)]): ...``."""
        watching = self._engine.watch(sources)
        watcher = self.wait(watching.__aenter__())
        try:
            yield watcher
        except BaseException as error:
            self.wait(watching.__aexit__(type(error), error, error.__traceback__))
            raise
        self.wait(watching.__aexit__(None, None, None))

    def changes(
        self, *, since: datetime | None = None, resource: str | None = None
    ) -> Iterator[ChangeEvent]:
        """As ``Engine.changes``: ``for event in e.changes(): ...``, for ever. Changes from this
        call on are told, whenever the first is asked for."""

        async def begin() -> AsyncIterator[ChangeEvent]:
            began = since or await now(self._engine.session().store, self._engine.namespace)
            return self._engine.changes(since=began, resource=resource)

        following = self.wait(begin())

        def told() -> Iterator[ChangeEvent]:
            while True:
                yield self.wait(_next(following))

        return told()

    def why(self, execution_id: str | None = None, *, agent: str | None = None) -> Why:
        """As ``Engine.why``."""
        return self.wait(self._engine.why(execution_id, agent=agent))

    def graph(
        self,
        execution_id: str | None = None,
        *,
        agent: str | None = None,
        task: str | None = None,
        resource: str | None = None,
    ) -> MultiDiGraph:
        """As ``Engine.graph``."""
        asked = self._engine.graph(execution_id, agent=agent, task=task, resource=resource)
        return self.wait(asked)

    def impact(self, resource: str, document: Json) -> Impact:
        """As ``Engine.impact``."""
        return self.wait(self._engine.impact(resource, document))

    def impact_of(self, changes: Mapping[str, Json]) -> Impact:
        """As ``Engine.impact_of``."""
        return self.wait(self._engine.impact_of(changes))

    def stats(self, since: datetime | timedelta | None = None) -> Stats:
        """As ``Engine.stats``."""
        return self.wait(self._engine.stats(since))

    def cypher(
        self, query: str, parameters: Mapping[str, Any] | None = None, **settings: Any
    ) -> Table:
        """As ``Engine.cypher``."""
        return self.wait(self._engine.cypher(query, parameters, **settings))

    def subscribe(self, on_event: OnEvent) -> Callable[[], None]:
        """As ``Engine.subscribe``; it is called in the engine's own thread."""
        return self._engine.subscribe(on_event)

    def settle(self) -> None:
        """As ``Engine.settle``."""
        self.wait(self._engine.settle())

    def collect(self, retention: Retention | None = None, **settings: Any) -> Collected:
        """As ``Engine.collect``."""
        return self.wait(self._engine.collect(retention, **settings))

    def _disown(self) -> bool:
        """Forget what the process that this one forked from had open; whether it had.

        Its event loop is kept from the garbage collector: the parent shares the pipe that wakes it.
        """
        if self._loop is None or self._pid == os.getpid():
            return False
        self._inherited.append(self._loop)
        self._loop = self._thread = None
        return True

    def _stop(self) -> None:
        if self._loop is None or self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._loop = self._thread = None


def _outcome(work: Coroutine[Any, Any, _T], loop: asyncio.AbstractEventLoop) -> _T:
    """What comes of ``work`` in ``loop``, which runs in another thread."""
    ended: concurrent.futures.Future[_T] = concurrent.futures.Future()
    begun: list[asyncio.Task[_T]] = []

    def begin() -> None:
        begun.append(task := loop.create_task(work))
        task.add_done_callback(lambda it: _hand_over(it, ended))

    def give_up() -> None:
        for task in begun:
            task.cancel()

    loop.call_soon_threadsafe(begin)
    try:
        return ended.result()
    except BaseException:  # Ctrl-C: the work must not go on behind the caller, but end first
        if not ended.done():
            loop.call_soon_threadsafe(give_up)
            concurrent.futures.wait([ended], timeout=_UNWIND_SECONDS)
        raise


def _hand_over(task: asyncio.Task[_T], ended: concurrent.futures.Future[_T]) -> None:
    if task.cancelled():
        ended.cancel()
        ended.set_running_or_notify_cancel()
    elif (error := task.exception()) is not None:
        ended.set_exception(error)
    else:
        ended.set_result(task.result())


async def _next(following: AsyncIterator[ChangeEvent]) -> ChangeEvent:
    return await anext(following)


def _run(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    """Run ``loop`` until it is ``ended``, and clean up after it in its own thread."""
    try:
        _outlasting_exits(loop, ended.wait())
        _outlasting_exits(loop, _end_all())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def _outlasting_exits(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, object]) -> None:
    """Run ``loop`` until ``work`` has ended. An exit that a task raises stops the loop; it is for
    who waits for that task, and the others go on."""
    until = loop.create_task(work)
    while not until.done():
        with suppress(SystemExit, KeyboardInterrupt):
            loop.run_until_complete(until)


async def _end_all() -> None:
    """Cancel what is still under way: who waits for it in another thread would wait for ever."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class SyncAgent:
    """An agent without ``await``."""

    def __init__(self, engine: SyncEngine, agent: Agent) -> None:
        self._engine = engine
        self.agent = agent

    def execute(self, task: Any, **wishes: Any) -> Result:
        """As ``Agent.execute``."""
        return self._engine.wait(self.agent.execute(task, **wishes))


class SyncRun:
    """A program's run without ``await``."""

    def __init__(self, engine: SyncEngine, run: ProgramRun) -> None:
        self._engine = engine
        self._run = run
        self._stack = ExitStack()

    def __enter__(self) -> SyncRun:
        self._engine.wait(self._run.begin())
        self._stack.enter_context(set_current(self._run))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()
        self._engine.wait(self._run.end(error))

    def decide(self, request: Mapping[str, Json], **how: Any) -> Handle:
        """As ``ProgramRun.decide``; ``call`` is an async function here too."""
        return self._engine.wait(self._run.decide(request, **how))

    def act(self, tool: Tool, /, **arguments: Any) -> Handle:
        """As ``ProgramRun.act``."""
        return self._engine.wait(self._run.act(tool, **arguments))

    @property
    def execution_id(self) -> str:
        """As ``ProgramRun.execution_id``."""
        return self._run.execution_id

    @property
    def output(self) -> Json:
        return self._run.output

    @output.setter
    def output(self, value: Json) -> None:
        self._run.output = value

    @property
    def result(self) -> Result:
        return self._run.result
