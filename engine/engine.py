"""The engine: where tools and agents are declared, and runs are begun."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ..graphstore.canonical import Json, is_text
from ..graphstore.document import GONE, Document, Gone
from ..graphstore.model import ChangeEvent
from ..graphstore.retention import Collected, Retention
from ..invalidation.feed import follow
from ..invalidation.impact import Impact
from ..invalidation.resources import check_uri
from ..invalidation.source import Source
from ..invalidation.watching.watcher import Watcher
from .agent import Agent
from .asking.graph import graph_of_execution, graph_of_resource, graph_of_task
from .asking.impact import foresee
from .asking.stats import Stats, milliseconds_of
from .asking.why import Why, why
from .errors import ConfigurationError, ExecutionUnknown
from .host import Host
from .model.client import PlainDialect, load_adapter
from .options import AgentOptions, ProgramOptions
from .outcome.events import OnEvent, ResourceChanged
from .parameters import takes
from .program import ProgramRun
from .replay.current import current
from .replay.judging import Code
from .replay.subject import Subject
from .sessions.session import Session
from .task import Task
from .tools.toolbox import Toolbox

if TYPE_CHECKING:
    from neo4j import AsyncDriver
    from networkx import MultiDiGraph

    from ..graphstore.store import GraphStore, Progress, Table
    from .sync import SyncEngine

__all__ = ["Engine"]

_log = logging.getLogger("execgraph")

_T = TypeVar("_T")

_RETENTION = Retention()
_NAMESPACES = 20  # that are named where one is asked for that does not exist


class Engine(Toolbox):
    """Declares tools and agents, and keeps what they did in a store.

    ``url``: ``sqlite:///graph.db`` or ``neo4j://user:password@host:7687/database``; by default
    EXECGRAPH_STORE, else ``.execgraph/graph.db``. ``auth`` and ``driver`` go to Neo4j's driver.
    ``client`` is the model client of agents that name none. Constructing it does no I/O; it may
    be declared in a module, opened in several event loops, and used after a fork.

    ``on_store_error``: what becomes of runs while the store is away (StoreUnavailable). "raise":
    none is begun, StoreError; one that needs it in the middle ends with RunFailed, which tells
    its effects. "live": they go on as agents without execgraph would: nothing is served whose
    facts cannot be checked, the model is asked, and nothing is recorded; ``miss`` says ``store
    away``. Either way a run that has come to its end gives its answer, with ``recorded`` False if
    it could not be recorded; and ``observe``, ``withdraw``, ``settle`` and questions raise.

    ``retention``: what is kept, and what is deleted in the background (docs/retention.md); None:
    nothing is, until ``collect`` is called.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        namespace: str = "default",
        auth: Any = None,
        driver: AsyncDriver | None = None,
        client: object = None,
        on_store_error: Literal["live", "raise"] = "raise",
        retention: Retention | None = _RETENTION,
    ) -> None:
        if not namespace or not is_text(namespace):
            raise ConfigurationError(
                f"a namespace needs a name, a text, and not {namespace!r}; leave it out for"
                " 'default'"
            )
        super().__init__({})
        self.namespace = namespace
        self.client = client
        self._host = Host(
            url,
            namespace,
            on_store_error=on_store_error,
            retention=retention,
            auth=auth,
            driver=driver,
        )

    def __repr__(self) -> str:
        return f"<Engine {self._host.shown_url} namespace={self.namespace!r}>"

    # Declaring ----------------------------------------------------------------------------

    @takes(AgentOptions)
    def agent(self, options: AgentOptions) -> Agent:
        """Declare an agent. ``requires`` guards each of its decisions and writes. Raises
        AgentError, naming what is wrong."""
        return Agent(self._host, replace(options, client=self._client_or_own(options.client)))

    @takes(ProgramOptions)
    def run(self, options: ProgramOptions) -> ProgramRun:
        """A run of a program of this name: ``async with engine.run("triage", inputs) as run``.

        ``client`` is asked by ``run.decide``. The rest is as in ``Agent.execute``.
        """
        name = options.name
        task = Task.of(self.namespace, "program", name, options.inputs, options.context)
        subject = Subject(name, Code(self._tools, options.checked_requires(task)), PlainDialect())
        client = self._client_or_own(options.client)
        return ProgramRun(self._host, subject, options.wish(task), client)

    def _client_or_own(self, client: object) -> object:
        return client if client is not None else self.client

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
        """Tell what a resource is now (None: ``null``, which is a document). The change, or None
        if nothing changed; that a document may be believed again whose expiry was recorded is a
        change too.

        ``until``: how long that may be believed (a moment, or a time from now on); None: until
        it is replaced. Raises NotJson.
        """
        return self._told(
            await self.session().store.change(
                check_uri(resource), Document.of(document), until=_checked(until)
            )
        )

    async def withdraw(self, resource: str) -> ChangeEvent | None:
        """Tell that a resource is gone or unreadable: what rests on it is not replayed."""
        return self._told(await self.session().store.change(check_uri(resource), None))

    async def current(self, resource: str) -> Any:
        """The document that a resource is now; for a tool that has to see a rule itself.

        Asked by a tool while it runs, it counts as a read: the step of a pure or reading tool rests
        on it, as on what the tool requires (a write runs again, and asks again). Raises NotCurrent
        if the resource is absent, withdrawn or expired; and StoreError.
        """
        return await current(self.session(), check_uri(resource))

    def _told(self, event: ChangeEvent | None) -> ChangeEvent | None:
        if event is not None:
            self._changed(event)
        return event

    def _changed(self, event: ChangeEvent) -> None:
        self.session().walker.kick()
        self.session().keeper.kick()
        if self._host.events.listeners:
            self._host.events.emit(ResourceChanged(event))

    @asynccontextmanager
    async def watch(self, sources: Sequence[Source]) -> AsyncIterator[Watcher]:
        """Keep facts true while this is entered: ``async with engine.watch([FileSource(...)])``.

        All sources have been read once before it is entered; from then on what changes is
        committed, and what is still so is believed for another while. A lookup that meets a
        fact which has expired reads it again first. Raises StoreError.
        """
        session = self.session()
        watcher = Watcher(
            session.store,
            sources,
            on_change=self._changed,
            on_scan=session.walker.kick,
        )
        async with session.watching(watcher):
            yield watcher

    def changes(
        self, *, since: datetime | None = None, resource: str | None = None
    ) -> AsyncIterator[ChangeEvent]:
        """Each change event, by whatever process, oldest first, for ever.

        ``async for event in engine.changes(): ...``. ``since``: which to begin with; None: with
        those made after the first is asked for.
        """
        only = None if resource is None else check_uri(resource)
        return follow(self.session().store, since=since, resource=only)

    async def settle(self) -> None:
        """Wait until all that was done so far is in the store, and what changed until now is
        walked: until the marks on steps say what holds now."""
        session = self.session()
        await session.journal.flush()
        await session.walker.settle()

    async def collect(
        self,
        retention: Retention | None = None,
        *,
        dry_run: bool = False,
        progress: Callable[[Collected], None] | None = None,
    ) -> Collected:
        """Delete now what nobody needs, and tell what that was; ``dry_run``: only tell.

        By the engine's ``retention``, if none is given: docs/retention.md. ``progress`` is told
        after each batch what was taken away so far. Others may go on working meanwhile.
        """
        session = self.session()
        await session.journal.flush()
        if dry_run:
            return await session.keeper.collectable(retention)
        return await session.keeper.collect(retention, progress)

    # Asking -------------------------------------------------------------------------------

    async def why(self, execution_id: str | None = None, *, agent: str | None = None) -> Why:
        """What became of each step of a run: served, run again or asked; and the change that
        was behind it, as a path in the graph.

        ``execution_id`` None: of the newest run, of ``agent`` if it is given. Raises
        ExecutionUnknown.
        """
        return await self._asked_of(why, execution_id, agent)

    async def graph(
        self,
        execution_id: str | None = None,
        *,
        agent: str | None = None,
        task: str | None = None,
        resource: str | None = None,
    ) -> MultiDiGraph:
        """Part of the graph, for networkx: an execution, a task, or what rests on a resource.

        A node's attributes are its ``label`` and its properties, an edge's key and ``type`` is its
        type: docs/cypher.md has them all, docs/asking.md what is in which graph. Payloads are named
        by their digests. ``execution_id`` None: the newest run, of ``agent`` if it is given.
        ``task``: a task's key.

        Raises ExecutionUnknown, TaskUnknown, ResourceUnknown; and ConfigurationError if more than
        one of them is asked for.
        """
        session = self.session()
        asked = {"execution_id": execution_id, "agent": agent, "task": task, "resource": resource}
        given = [name for name, value in asked.items() if value is not None]
        if len(given) > 1:
            raise ConfigurationError(
                f"a graph is of one thing, and {' and '.join(given)} were given; ask for each"
            )
        if task is None and resource is None:
            return await self._asked_of(graph_of_execution, execution_id, agent)
        await session.journal.flush()
        if resource is not None:
            return await graph_of_resource(session.store, check_uri(resource))
        assert task is not None
        return await graph_of_task(session.store, task)

    async def _asked_of(
        self,
        question: Callable[[GraphStore, str], Awaitable[_T]],
        execution_id: str | None,
        agent: str | None,
    ) -> _T:
        """The answer to a question about an execution, by default the newest."""
        session = self.session()
        await session.journal.flush()
        if execution_id is None:
            newest = await session.store.executions(agent=agent, limit=1)
            if not newest:
                hint = await self._hint()
                raise ExecutionUnknown(None, self.namespace, agent=agent, hint=hint)
            execution_id = newest[0].id
        try:
            return await question(session.store, execution_id)
        except ExecutionUnknown as unknown:
            if (hint := await self._hint()) is None:
                raise
            raise ExecutionUnknown(execution_id, self.namespace, hint=hint) from unknown

    async def _hint(self) -> str | None:
        """Where there is something, if there is nothing in this namespace; else None."""
        known = await self.session().store.namespaces()
        if self.namespace in known or len(known) == _NAMESPACES:
            return None
        others = ", ".join(map(repr, known)) or "none"
        return f"there is nothing in the namespace {self.namespace!r}; in this store are: {others}"

    async def impact(self, resource: str, document: Json | Gone) -> Impact:
        """What it would cost if ``resource`` became ``document`` (GONE: were withdrawn; None is
        ``null``, as for ``observe``): which steps would be invalid or valid again, and the tokens
        of the next runs. Changes nothing.

        Raises NotJson.
        """
        return await self.impact_of({resource: document})

    async def impact_of(self, changes: Mapping[str, Json | Gone]) -> Impact:
        """``impact`` of several changes together: documents by resource (GONE: withdrawn)."""
        documents = {
            check_uri(uri): None if document is GONE else Document.of(document)
            for uri, document in changes.items()
        }
        return await foresee(self.session().store, documents)

    async def stats(self, since: datetime | timedelta | None = None) -> Stats:
        """What all runs came to that began at ``since`` (a moment, or a time ago) or later."""
        session = self.session()
        started = milliseconds_of(since)
        await session.journal.flush()
        found = Stats.of(await session.store.totals(since=started))
        return found if found.anything else replace(found, hint=await self._hint())

    async def cypher(
        self,
        query: str,
        parameters: Mapping[str, Json] | None = None,
        *,
        time_limit: timedelta = timedelta(seconds=30),
        limit: int = 100_000,
        progress: Progress | None = None,
    ) -> Table:
        """The answer to a Cypher query that only reads: docs/cypher.md has many.

        ``$namespace`` is this engine's, and is to be used: Cypher sees the whole store, all
        namespaces included. At most ``limit`` rows; ``Table.truncated`` says that there were
        more. ``progress``: told how much of the graph is loaded, where it must be first.
        Raises CypherRefused, CypherTimeout, CypherFailed.
        """
        session = self.session()
        await session.journal.flush()
        found = await session.store.cypher(
            query,
            parameters or {},
            time_limit=time_limit,
            limit=limit,
            progress=progress,
        )
        if not found.rows and (hint := await self._hint()) is not None:
            _log.warning("%s", hint)
        return found

    def subscribe(self, on_event: OnEvent) -> Callable[[], None]:
        """Have ``on_event`` told what happens in this process; gives what ends that.

        It is called in order, in the event loop where it happens, and may be a coroutine
        function. What it raises is logged. The engine need not be open.
        """
        return self._host.events.subscribe(on_event)

    # Opening ------------------------------------------------------------------------------

    async def __aenter__(self) -> Engine:
        await self._host.enter()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._host.leave()

    def sync(self) -> SyncEngine:
        """The same for programs without an event loop: ``with engine.sync() as e: ...``."""
        from .sync import SyncEngine

        return SyncEngine(self, self._tools)

    def session(self) -> Session:
        """The open engine of this event loop. Raises NotOpen."""
        return self._host.session()


def _checked(until: datetime | timedelta | None) -> datetime | timedelta | None:
    if isinstance(until, datetime) and until.tzinfo is None:
        raise ConfigurationError(
            f"until={until!r} has no time zone; give datetime.now(UTC) + ..., or a timedelta"
        )
    if not isinstance(until, datetime | timedelta | None):
        raise ConfigurationError(f"until={until!r} is no datetime and no timedelta")
    return until
