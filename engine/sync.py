"""The engine for programs without an event loop: the same names, without ``await``.

What takes the same parameters is made of the method that it stands for, so that these are listed
once; type checkers and ``help`` show them here too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from ..graphstore.model import ChangeEvent
from ..invalidation.feed import now
from .agent import Agent
from .engine import Engine
from .loop_thread import LoopThread
from .options import AgentOptions
from .outcome.result import Result
from .parameters import takes
from .program import ProgramRun
from .run.inside import set_current
from .tools.tool import Tool
from .tools.toolbox import Toolbox

if TYPE_CHECKING:
    from ..invalidation.source import Source
    from ..invalidation.watching.watcher import Watcher

__all__ = ["SyncAgent", "SyncEngine", "SyncRun"]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_U = TypeVar("_U")


class _Face(Generic[_T]):
    """A face without ``await``: what ``asynchronous`` does is done in the loop of ``thread``."""

    def __init__(self, asynchronous: _T, thread: LoopThread) -> None:
        self.asynchronous = asynchronous
        self.thread = thread

    def wait(self, work: Coroutine[Any, Any, _U]) -> _U:
        """Do work of the engine in its event loop, and wait for it.

        Args:
            work: A coroutine that has not begun.

        Returns:
            What it comes to. What it raises is raised here.

        Raises:
            NotOpen: The engine is not open, or this is its own event loop.
        """
        return self.thread.wait(work)


def _waiting(
    method: Callable[Concatenate[_T, _P], Coroutine[Any, Any, _U]],
) -> Callable[Concatenate[_Face[_T], _P], _U]:
    """The method of a face that waits for what ``method`` comes to."""

    @wraps(method)
    def waiting(face: _Face[_T], /, *args: _P.args, **kwargs: _P.kwargs) -> _U:
        return face.wait(method(face.asynchronous, *args, **kwargs))

    return waiting


def _at_once(
    method: Callable[Concatenate[_T, _P], _U],
) -> Callable[Concatenate[_Face[_T], _P], _U]:
    """The method of a face for one that there is nothing to wait for."""

    @wraps(method)
    def at_once(face: _Face[_T], /, *args: _P.args, **kwargs: _P.kwargs) -> _U:
        return method(face.asynchronous, *args, **kwargs)

    return at_once


class SyncAgent(_Face[Agent]):
    """An agent without ``await``."""

    def __init__(self, engine: SyncEngine, agent: Agent) -> None:
        super().__init__(agent, engine.thread)

    @property
    def agent(self) -> Agent:
        """The agent itself."""
        return self.asynchronous

    execute = _waiting(Agent.execute)
    plan = _waiting(Agent.plan)


class SyncRun(_Face[ProgramRun]):
    """A program's run without ``await``; ``call`` of ``decide`` is an async function here too."""

    def __init__(self, engine: SyncEngine, run: ProgramRun) -> None:
        super().__init__(run, engine.thread)
        self._stack = ExitStack()

    def __enter__(self) -> SyncRun:
        self.wait(self.asynchronous.begin())
        self._stack.enter_context(set_current(self.asynchronous))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._stack.close()
        if self.asynchronous.finished:
            return self.asynchronous.is_left_by(error)
        self.wait(self.asynchronous.end(error))
        return None

    decide = _waiting(ProgramRun.decide)
    act = _waiting(ProgramRun.act)

    @property
    def execution_id(self) -> str:
        """As ``ProgramRun.execution_id``."""
        return self.asynchronous.execution_id

    @property
    def finished(self) -> bool:
        """As ``ProgramRun.finished``."""
        return self.asynchronous.finished

    @property
    def output(self) -> Any:
        return self.asynchronous.output

    @output.setter
    def output(self, value: Any) -> None:
        self.asynchronous.output = value

    @property
    def result(self) -> Result:
        return self.asynchronous.result


def _a_run(
    method: Callable[Concatenate[Engine, _P], ProgramRun],
) -> Callable[Concatenate[SyncEngine, _P], SyncRun]:
    """The method of the engine's face that gives a run's."""

    @wraps(method)
    def a_run(face: SyncEngine, /, *args: _P.args, **kwargs: _P.kwargs) -> SyncRun:
        return SyncRun(face, method(face.asynchronous, *args, **kwargs))

    return a_run


class SyncEngine(_Face[Engine], Toolbox):
    """An engine without ``await``: ``with engine.sync() as e``.

    It has the names of ``Engine``, and may be used from several threads inside the block. All work
    is done in one event loop, in a thread of its own. A fork has no such thread: a child process
    enters this, or another one, for itself.
    """

    def __init__(self, engine: Engine, tools: dict[str, Tool]) -> None:
        _Face.__init__(self, engine, LoopThread())
        Toolbox.__init__(self, tools)

    def __enter__(self) -> SyncEngine:
        self.thread.begin()
        try:
            self.wait(self.asynchronous.__aenter__())
        except BaseException:
            self.thread.end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.thread.disown():
            return
        try:
            self.wait(self.asynchronous.__aexit__(kind, error, traceback))
        finally:
            self.thread.end()

    @overload
    def agent(self, agent: Agent, /) -> SyncAgent: ...

    @overload
    @takes(AgentOptions)
    def agent(self, options: AgentOptions) -> SyncAgent: ...

    @wraps(Engine.agent)
    def agent(self, *given: Any, **declared: Any) -> SyncAgent:
        """Declare an agent as ``Engine.agent`` does, or give the sync face of one there is.

        Args:
            *given: The agent, or the name of one to declare.
            **declared: What ``Engine.agent`` takes.

        Returns:
            The agent without ``await``.

        Raises:
            AgentError: It cannot be declared so; the message says why.
        """
        [agent] = given if len(given) == 1 and isinstance(given[0], Agent) else [None]
        return SyncAgent(self, agent or self.asynchronous.agent(*given, **declared))

    run = _a_run(Engine.run)
    middleware = _at_once(Engine.middleware)
    subscribe = _at_once(Engine.subscribe)
    observe = _waiting(Engine.observe)
    withdraw = _waiting(Engine.withdraw)
    resolve = _waiting(Engine.resolve)
    approvals = _waiting(Engine.approvals)
    deny = _waiting(Engine.deny)
    current = _waiting(Engine.current)
    why = _waiting(Engine.why)
    runs = _waiting(Engine.runs)
    execution = _waiting(Engine.execution)
    payload = _waiting(Engine.payload)
    diff = _waiting(Engine.diff)
    graph = _waiting(Engine.graph)
    impact = _waiting(Engine.impact)
    impact_of = _waiting(Engine.impact_of)
    stats = _waiting(Engine.stats)
    generalise = _waiting(Engine.generalise)
    cypher = _waiting(Engine.cypher)
    settle = _waiting(Engine.settle)
    collect = _waiting(Engine.collect)
    approve = _waiting(Engine.approve)
    reject = _waiting(Engine.reject)

    @contextmanager
    def watch(self, sources: Sequence[Source]) -> Iterator[Watcher]:
        """Keep facts true inside: ``with e.watch([FileSource(...)]): ...``, as ``Engine.watch``
        does.

        Args:
            sources: What knows the resources.

        Yields:
            The watcher; its ``unreadable`` says which resources cannot be read, and why.
        """
        watching = self.asynchronous.watch(sources)
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
        """Follow what changes, by whatever process: ``for event in e.changes(): ...``.

        Args:
            since: From when on; None: from this call, whenever the first event is asked for.
            resource: Only this resource's changes, by its URI; None: those of all.

        Returns:
            Each change event, the oldest first, for ever.
        """
        engine = self.asynchronous

        async def begin() -> AsyncIterator[ChangeEvent]:
            began = since or await now(engine.session().store)
            return engine.changes(since=began, resource=resource)

        following = self.wait(begin())

        def following_events() -> Iterator[ChangeEvent]:
            while True:
                yield self.wait(_next(following))

        return following_events()


async def _next(following: AsyncIterator[ChangeEvent]) -> ChangeEvent:
    return await anext(following)
