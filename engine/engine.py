"""The engine: where tools and agents are declared, and runs are begun."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel

from ..graphstore.canonical import Json
from ..graphstore.connect import connect, redacted
from ..graphstore.document import Document
from ..graphstore.model import ChangeEvent, Effect
from ..graphstore.nowhere import Nowhere
from ..graphstore.store import GraphStore
from ..invalidation.resources import Resource, check_uri
from .agent import Agent
from .cause import Cause, MissKind
from .client import PlainDialect, load_adapter
from .errors import AgentError, ConfigurationError, NotOpen, ToolError
from .journal import Journal
from .lookup import Memory, find_plan, no_plan
from .program import ProgramRun
from .run import Run, Wish
from .session import Session
from .subject import Subject
from .task import as_json, task_key
from .tool import Tool, checked_requirements
from .verdict import Code

if TYPE_CHECKING:
    from neo4j import AsyncDriver

    from .sync import SyncEngine

__all__ = ["Engine"]

_log = logging.getLogger("execgraph")
_T = TypeVar("_T")

_DEFAULT_STORE = ".execgraph/graph.db"
_MODES = ("off", "record", "replay")


class Engine:
    """Declares tools and agents, and keeps what they did in a store.

    ``url``: ``sqlite:///graph.db`` or ``neo4j://user:password@host:7687/database``; by default
    EXECGRAPH_STORE, else ``.execgraph/graph.db``. ``auth`` and ``driver`` go to Neo4j's driver.
    ``client`` is the model client of agents that name none. Constructing it does no I/O; it may
    be declared in a module, opened in several event loops, and used after a fork.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        namespace: str = "default",
        auth: Any = None,
        driver: AsyncDriver | None = None,
        client: object = None,
    ) -> None:
        if not namespace:
            raise ConfigurationError("a namespace needs a name; leave it out for 'default'")
        self.namespace = namespace
        self.client = client
        self._url = url
        self._connection = {"auth": auth, "driver": driver}
        self._tools: dict[str, Tool] = {}
        self._memory = Memory()
        self._open: dict[tuple[int, asyncio.AbstractEventLoop], _Opened] = {}
        self._inherited: list[_Opened] = []
        self._told = False
        if url is not None:
            connect(url, **self._connection)  # a wrong URL is told where it is written

    def __repr__(self) -> str:
        return f"<Engine {redacted(self._url or 'default store')} namespace={self.namespace!r}>"

    @property
    def tools(self) -> Mapping[str, Tool]:
        """The tools declared so far, by name."""
        return MappingProxyType(self._tools)

    # Declaring ----------------------------------------------------------------------------

    def tool(
        self,
        function: Callable[..., Any] | None = None,
        *,
        effect: Literal["pure", "read", "write"] | Effect | None = None,
        requires: Sequence[Resource] | None = None,
        name: str | None = None,
        version: str | None = None,
        uses: Iterable[Callable[..., Any]] = (),
    ) -> Any:
        """Declare a function as a tool. Raises ToolError, naming what is missing.

        ``effect``: ``pure`` (its output may be reused), ``read`` (runs again, is compared) or
        ``write`` (the default; must state ``requires``). ``uses``: helpers whose source is part
        of this tool's; ``version`` stands for the source where that cannot be read.
        """

        def declare(function: Callable[..., Any]) -> Tool:
            tool = Tool(
                function, effect=effect, requires=requires, name=name, version=version, uses=uses
            )
            if tool.name in self._tools:
                raise ToolError(
                    f"the engine has a tool named {tool.name} already; name this one otherwise:"
                    " @engine.tool(name=...)"
                )
            self._tools[tool.name] = tool
            return tool

        return declare if function is None else declare(function)

    def agent(
        self,
        name: str,
        *,
        model: str,
        client: object = None,
        system: str | None = None,
        tools: Sequence[Tool] = (),
        requires: Sequence[Resource] = (),
        max_tokens: int = 4096,
        params: Mapping[str, Json] | None = None,
        max_turns: int = 20,
    ) -> Agent:
        """Declare an agent. ``requires`` guards each of its decisions and writes. Raises
        AgentError, naming what is wrong."""
        return Agent(
            self,
            name,
            client=client,
            model=model,
            system=system,
            tools=tools,
            requires=requires,
            max_tokens=max_tokens,
            params=params,
            max_turns=max_turns,
        )

    def run(
        self,
        name: str,
        inputs: str | Mapping[str, Json] | BaseModel,
        *,
        context: Json | BaseModel = None,
        requires: Sequence[Resource] = (),
        client: object = None,
        labels: Mapping[str, str] | None = None,
        replay: bool = True,
        require: Literal["replay"] | None = None,
    ) -> ProgramRun:
        """A run of a program of this name: ``async with engine.run("triage", inputs) as run``.

        ``client`` is asked by ``run.decide``. The rest is as in ``Agent.execute``.
        """
        if not name:
            raise AgentError("a run needs a name: it is part of what its task is known by")
        json = as_json(inputs, "the inputs")
        told = None if context is None else as_json(context, "the context")
        rests_on = checked_requirements(requires, f"the run {name}")
        for requirement in rests_on:
            requirement.check((), f"the run {name}")
            requirement.resolve(json)

        def wish() -> Wish:
            session = self.session()
            return Wish(
                task=task_key(session.namespace, name, json, told),
                inputs=json,
                context=told,
                labels=labels or {},
                may_serve=replay and session.may_serve,
                must_serve=require == "replay" or session.must_serve,
            )

        subject = Subject(name, Code(self._tools, rests_on), PlainDialect(), follows=False)
        return ProgramRun(self, subject, wish, client if client is not None else self.client)

    def middleware(self, *, outside: Literal["pass", "raise"] = "pass") -> Any:
        """Middleware for the Anthropic SDK: calls inside a run are decisions of that run.

        ``AsyncAnthropic(middleware=[engine.middleware()])``. ``outside``: what becomes of calls
        outside any run.
        """
        return load_adapter("anthropic").middleware(outside=outside)

    # Facts --------------------------------------------------------------------------------

    async def observe(
        self, resource: str, document: Json, *, until: datetime | timedelta | None = None
    ) -> ChangeEvent | None:
        """Tell what a resource is now. The change, or None if nothing changed.

        ``until``: how long that may be believed (a moment, or a time from now on); None: until
        it is replaced. Raises NotJson.
        """
        return await self.session().store.change(
            self.namespace, check_uri(resource), Document.of(document), until=_checked(until)
        )

    async def withdraw(self, resource: str) -> ChangeEvent | None:
        """Tell that a resource is gone or unreadable: what rests on it is not replayed."""
        return await self.session().store.change(self.namespace, check_uri(resource), None)

    async def settle(self) -> None:
        """Wait until all that was done so far is in the store."""
        await self.session().journal.flush()

    # Opening ------------------------------------------------------------------------------

    async def __aenter__(self) -> Engine:
        key = _here()
        if (opened := self._open.get(key)) is None:
            for stale in [
                other for other in self._open if other[0] != key[0] or other[1].is_closed()
            ]:
                del self._open[stale]  # of another process, or of a loop that has ended
            opened = self._open[key] = _Opened(asyncio.ensure_future(self._session()))
        opened.users += 1
        try:
            await asyncio.shield(opened.session)
        except BaseException:
            opened.users -= 1
            if opened.users == 0 and self._open.get(key) is opened:
                del self._open[key]
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        key = _here()
        opened = self._open[key]
        opened.users -= 1
        if opened.users == 0:
            del self._open[key]
            await opened.close()

    def sync(self) -> SyncEngine:
        """The same for programs without an event loop: ``with engine.sync() as e: ...``."""
        from .sync import SyncEngine

        return SyncEngine(self)

    def session(self) -> Session:
        """The open engine of this event loop. Raises NotOpen."""
        opened = self._open.get(_here())
        if opened is None or not opened.session.done():
            raise NotOpen(
                "the engine is not open in this event loop; write 'async with engine:' around"
                " this, or 'with engine.sync() as e:' in a program without asyncio"
            )
        return opened.session.result()

    async def start(self, subject: Subject, wish: Wish) -> Run:
        """Begin a run: look up what may be replayed of its task."""
        session = self.session()
        if wish.may_serve:
            plan = await find_plan(
                session.store,
                session.namespace,
                wish.task,
                subject,
                session.memory,
            )
        else:
            plan = no_plan(Cause(MissKind.REPLAY_OFF, subject.name))
        return Run(session, subject, wish, plan)

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Have ``work`` done before the engine closes in this loop; its errors are logged."""
        self._open[_here()].add(work)

    def _disown(self, pid: int) -> None:
        """Forget sessions of loops that have ended, and of the process this one forked from.

        What a parent had open is kept from the garbage collector: closing its connections here
        would disturb the parent, which still uses them.
        """
        for key in [key for key in self._open if key[0] != pid or key[1].is_closed()]:
            opened = self._open.pop(key)
            if key[0] != pid:
                self._inherited.append(opened)

    async def _session(self) -> Session:
        mode = os.environ.get("EXECGRAPH_MODE") or None
        if mode not in (None, *_MODES):
            raise ConfigurationError(
                f"EXECGRAPH_MODE={mode!r} is unknown; use one of {', '.join(_MODES)}, or unset it"
            )
        store = Nowhere() if mode == "off" else self._store()
        await store.open()
        return Session(
            store=store,
            namespace=self.namespace,
            journal=Journal(store, self.namespace),
            memory=self._memory,
            may_serve=mode not in ("off", "record"),
            must_serve=mode == "replay",
        )

    def _store(self) -> GraphStore:
        url = self._url or os.environ.get("EXECGRAPH_STORE")
        if url is None and self._connection["driver"] is None:
            path = Path(_DEFAULT_STORE).absolute()
            if not self._told:
                _log.info("the graph is kept in %s", path)
                self._told = True
            url = f"sqlite:///{path}"
        return connect(url or "neo4j://given-driver", **self._connection)


class _Opened:
    """An engine's session in one event loop, and what uses it."""

    def __init__(self, session: asyncio.Future[Session]) -> None:
        self.session = session
        self.users = 0
        self._work: set[asyncio.Task[None]] = set()

    def add(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(_logged(work))
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def close(self) -> None:
        session = self.session.result()
        await asyncio.gather(*self._work)
        await session.journal.close()
        await session.store.close()


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:  # noqa: BLE001  (nobody waits for it, so nobody else would learn of it)
        _log.exception("work in the background failed")


def _here() -> tuple[int, asyncio.AbstractEventLoop]:
    try:
        return os.getpid(), asyncio.get_running_loop()
    except RuntimeError:
        raise NotOpen(
            "there is no event loop here; write 'with engine.sync() as e:' and use e"
        ) from None


def _checked(until: datetime | timedelta | None) -> datetime | timedelta | None:
    if isinstance(until, datetime) and until.tzinfo is None:
        raise ConfigurationError(
            f"until={until!r} has no time zone; give datetime.now(UTC) + ..., or a timedelta"
        )
    if not isinstance(until, datetime | timedelta | None):
        raise ConfigurationError(f"until={until!r} is no datetime and no timedelta")
    return until
