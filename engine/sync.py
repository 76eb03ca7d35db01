"""The engine for programs without an event loop: the same names, without ``await``."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from contextlib import ExitStack
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from ..graphstore.canonical import Json
from ..graphstore.model import ChangeEvent
from .errors import NotOpen
from .program import Handle, ProgramRun, set_current
from .result import Result

if TYPE_CHECKING:
    from .agent import Agent
    from .engine import Engine
    from .tool import Tool

__all__ = ["SyncAgent", "SyncEngine", "SyncRun"]

_T = TypeVar("_T")


class SyncEngine:
    """``with engine.sync() as e``: may be used from several threads inside the block.

    All work is done in one event loop in a thread of its own.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> SyncEngine:
        if self._loop is not None:
            raise NotOpen("this is entered already; 'with engine.sync() as e:' opens another")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=_run, args=(self._loop,), name="execgraph", daemon=True
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
        try:
            self.wait(self._engine.__aexit__(kind, error, traceback))
        finally:
            self._stop()

    def wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The outcome of ``work``, done in the engine's event loop."""
        if self._loop is None:
            work.close()
            raise NotOpen("use it inside 'with engine.sync() as e:'")
        if threading.current_thread() is self._thread:
            work.close()
            raise NotOpen("this is the engine's own event loop; await the engine itself here")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:  # Ctrl-C included: the work must not go on behind the caller
            future.cancel()
            raise

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

    def settle(self) -> None:
        """As ``Engine.settle``."""
        self.wait(self._engine.settle())

    def _stop(self) -> None:
        if self._loop is None or self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop = self._thread = None


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Run ``loop`` until it is stopped, and clean up after it in its own thread."""
    try:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


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
        """As ``ProgramRun.decide``."""
        return self._engine.wait(self._run.decide(request, **how))

    def act(self, tool: Tool, /, **arguments: Any) -> Handle:
        """As ``ProgramRun.act``."""
        return self._engine.wait(self._run.act(tool, **arguments))

    @property
    def output(self) -> Json:
        return self._run.output

    @output.setter
    def output(self, value: Json) -> None:
        self._run.output = value

    @property
    def result(self) -> Result:
        return self._run.result
