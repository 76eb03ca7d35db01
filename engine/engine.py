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
from .replay.definition import Definition
from .replay.judging import Code
from .sessions.session import Session
from .task import Task
from .tools.marks import Marks
from .tools.toolbox import Toolbox

if TYPE_CHECKING:
    from neo4j import AsyncDriver
    from networkx import MultiDiGraph

    from ..graphstore.cypher import Progress, Table
    from ..graphstore.store import GraphStore
    from .sync import SyncEngine

__all__ = ["Engine"]

_log = logging.getLogger("execgraph")

_T = TypeVar("_T")

_RETENTION = Retention()
_NAMESPACES = 20  # that are named where one is asked for that does not exist


class Engine(Toolbox):
    """Declares tools and agents, and keeps what they did in a store.

    To make one does no I/O. It may be declared in a module, opened in several event loops with
    ``async with engine:``, and used after a fork.

    Args:
        url: Where the graph is kept: ``sqlite:///graph.db`` or
            ``neo4j://user:password@host:7687/database``. None: what the environment variable
            EXECGRAPH_STORE says, else ``.execgraph/graph.db``.
        namespace: Whose graph it is; nothing is served across namespaces.
        auth: What Neo4j's driver takes as ``auth``.
        driver: A driver of Neo4j that is open already; who opened it closes it.
        client: The model's client of agents and programs that name none; None: Anthropic's, as
            the environment configures it.
        on_store_error: What becomes of runs while the store cannot be reached. "raise": none is
            begun, and one that needs the store in the middle ends with RunFailed. "live": they go
            on without it; the model is asked, nothing is recorded, and ``Result.miss`` says
            ``store away``. Either way a run that has come to its end gives its answer.
        retention: What is kept, and what is deleted in the background (docs/retention.md). None:
            nothing is deleted until ``collect`` is called.

    Raises:
        ConfigurationError: The URL, the namespace or a setting cannot work.
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
        """Declare an agent: a model that is asked in a loop, and the tools it may call.

        Args:
            name: By which its recordings are found again.
            model: The model's name, as its provider knows it.
            client: The model's client; None: the engine's.
            system: The system prompt.
            tools: What it may call.
            requires: What each of its decisions and writes rests on.
            max_tokens: How many tokens a reply may have at most.
            params: Other parameters of each request, as the provider names them.
            max_turns: How many replies a run may take at most.
            opaque: Selectors of what in a task differs on every run, as in ``["$.incident"]``: the
                model is shown stand-ins, and one recording serves every value.

        Returns:
            The agent, which ``execute`` gives tasks.

        Raises:
            AgentError: It cannot be declared so; the message says why.
        """
        return Agent(self._host, replace(options, client=self._client_or_own(options.client)))

    @takes(ProgramOptions)
    def run(self, options: ProgramOptions) -> ProgramRun:
        """Begin a run of a program: ``async with engine.run("triage", inputs) as run``.

        Args:
            name: The program's name, by which its recordings are found again.
            inputs: What the run is about. Other inputs are another task.
            context: More that belongs to the task, as JSON.
            labels: Texts by name, kept with the run for queries; no part of the task.
            replay: False: nothing is served, and the run is recorded beside the others.
            require: "replay": ask no model, and raise where one would have to be asked.
            requires: What each of its decisions and writes rests on.
            client: Whom ``run.decide`` asks; None: the engine's client.
            opaque: Selectors of what in the inputs differs on every run, as in ``["$.incident"]``:
                one recording serves every value.

        Returns:
            The run, to be entered with ``async with``. That raises NotReplayable if a replay is
            required and not possible, and StoreError if the store is away.

        Raises:
            AgentError: The run cannot be declared so; the message says why.
            NotJson: The inputs or the context cannot be recorded.
            ConfigurationError: A requirement names an input that is not given.
        """
        name = options.name
        marks = Marks(f"the run {name}", options.opaque)
        task = Task.of(
            self.namespace, "program", name, options.inputs, options.context, marks=marks
        )
        definition = Definition(
            name, Code(self._tools, options.checked_requires(task)), PlainDialect()
        )
        client = self._client_or_own(options.client)
        return ProgramRun(self._host, definition, options.spec(task), client)

    def _client_or_own(self, client: object) -> object:
        return client if client is not None else self.client

    def middleware(self, *, outside: Literal["pass", "raise"] = "pass", pace: float = 0.0) -> Any:
        """Make a middleware for the Anthropic SDK: ``AsyncAnthropic(middleware=[...])``.

        Calls of that client inside a run are decisions of the run.

        Args:
            outside: What becomes of calls outside any run: "pass" lets them be, "raise" refuses
                them.
            pace: The pause before each event of a stream that is served, in seconds.

        Returns:
            What the SDK takes as a middleware.

        Raises:
            AgentError: ``outside`` is neither, or ``pace`` is no pause.
        """
        return load_adapter("anthropic").middleware(outside=outside, pace=pace)

    # Facts --------------------------------------------------------------------------------

    async def observe(
        self, resource: str, document: Json, *, until: datetime | timedelta | None = None
    ) -> ChangeEvent | None:
        """Tell what a resource is now.

        Args:
            resource: The resource's URI, ``kind:name``.
            document: What it says. None is the document ``null``; for a resource that is gone there
                is ``withdraw``.
            until: How long that may be believed: a moment, or a time from now on. None: until it is
                replaced.

        Returns:
            The change; None if nothing changed. It is a change, too, if an equal document had
            expired
            and may be believed again.

        Raises:
            NotJson: The document cannot be written as JSON.
            ConfigurationError: The URI names no resource, or ``until`` no moment.
            StoreError: The store cannot be reached, or refuses.
        """
        return self._follow_up(
            await self.session().store.change(
                check_uri(resource), Document.of(document), until=_checked(until)
            )
        )

    async def withdraw(self, resource: str) -> ChangeEvent | None:
        """Tell that a resource is gone or unreadable: what rests on it is no longer replayed.

        Args:
            resource: The resource's URI.

        Returns:
            The change; None if nothing changed.

        Raises:
            StoreError: The store cannot be reached, or refuses.
        """
        return self._follow_up(await self.session().store.change(check_uri(resource), None))

    async def current(self, resource: str) -> Any:
        """Read what a resource is now, as a tool does that has to see a rule itself.

        If a tool asks while it runs, this counts as a read: the step of a pure or reading tool
        rests
        on it, as on what the tool requires. A write runs again, and asks again.

        Args:
            resource: The resource's URI.

        Returns:
            Its document, as JSON.

        Raises:
            NotCurrent: The resource is absent, withdrawn or expired.
            StoreError: The store cannot be reached.
        """
        return await current(self.session(), check_uri(resource))

    def _follow_up(self, event: ChangeEvent | None) -> ChangeEvent | None:
        if event is not None:
            self._changed(event)
        return event

    def _changed(self, event: ChangeEvent) -> None:
        self.session().walker.kick()
        self.session().collector.kick()
        if self._host.events.listeners:
            self._host.events.emit(ResourceChanged(event))

    @asynccontextmanager
    async def watch(self, sources: Sequence[Source]) -> AsyncIterator[Watcher]:
        """Keep facts true while this is entered: ``async with engine.watch([FileSource(...)])``.

        All sources are read once before it is entered. From then on what changes is committed, and
        what is still so is believed for another while. A lookup that meets a fact which has expired
        reads it again first.

        Args:
            sources: What knows the resources.

        Yields:
            The watcher; its ``unreadable`` says which resources cannot be read, and why.

        Raises:
            StoreError: The store cannot be reached.
            ConfigurationError: ``sources`` is no list of sources.
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
        """Follow what changes, by whatever process: ``async for event in engine.changes()``.

        Args:
            since: From when on; None: from when the first event is asked for.
            resource: Only this resource's changes, by its URI; None: those of all.

        Returns:
            Each change event, the oldest first, for ever.
        """
        only = None if resource is None else check_uri(resource)
        return follow(self.session().store, since=since, resource=only)

    async def settle(self) -> None:
        """Wait until the marks on steps say what holds now.

        All that was done so far is in the store then, and all changes until now are walked.

        Raises:
            StoreError: The store cannot be reached.
        """
        session = self.session()
        await session.replay_writer.flush()
        await session.walker.settle()

    async def collect(
        self,
        retention: Retention | None = None,
        *,
        dry_run: bool = False,
        progress: Callable[[Collected], None] | None = None,
    ) -> Collected:
        """Delete now what nobody needs. Others may go on working meanwhile.

        Args:
            retention: What is kept; None: as the engine was told.
            dry_run: Delete nothing, and only tell what would be deleted.
            progress: Told after each batch what was deleted so far.

        Returns:
            What was deleted, or would be.

        Raises:
            StoreError: The store cannot be reached.
        """
        session = self.session()
        await session.replay_writer.flush()
        if dry_run:
            return await session.collector.collectable(retention)
        return await session.collector.collect(retention, progress)

    # Asking -------------------------------------------------------------------------------

    async def why(self, execution_id: str | None = None, *, agent: str | None = None) -> Why:
        """Explain a run: what became of each step, and the change that was behind it.

        Args:
            execution_id: Which run; None: the newest one.
            agent: The newest run of this agent or program; None: of all.

        Returns:
            The run's steps and causes, each with its path in the graph.

        Raises:
            ExecutionUnknown: There is no such run.
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
        """Give a part of the graph to networkx: an execution, a task, or what rests on a resource.

        A node's attributes are its ``label`` and its properties, an edge's key and ``type`` is its
        type: docs/cypher.md has them all, docs/asking.md what is in which part. Payloads are named
            by
        their digests. Without arguments it is the newest run.

        Args:
            execution_id: A run.
            agent: The newest run of this agent or program.
            task: A task with all its traces, by its key.
            resource: A resource with all that rests on it, by its URI.

        Returns:
            A ``networkx.MultiDiGraph`` of its own, which may be changed.

        Raises:
            ExecutionUnknown: There is no such run.
            TaskUnknown: There is no such task.
            ResourceUnknown: Nobody observed the resource, and no recorded step requires it.
            ConfigurationError: More than one of them is asked for.
        """
        session = self.session()
        asked = {"execution_id": execution_id, "agent": agent, "task": task, "resource": resource}
        passed = [name for name, value in asked.items() if value is not None]
        if len(passed) > 1:
            raise ConfigurationError(
                f"a graph is of one thing, and {' and '.join(passed)} were given; ask for each"
            )
        if task is None and resource is None:
            return await self._asked_of(graph_of_execution, execution_id, agent)
        await session.replay_writer.flush()
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
        await session.replay_writer.flush()
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
        """Tell what a change would cost, and change nothing.

        Args:
            resource: The resource's URI.
            document: What it would say; None is ``null``. ``GONE``, of
                ``execgraph.graphstore.document``: it would be withdrawn.

        Returns:
            The steps that would be invalid or valid again, and the tokens of the next runs.

        Raises:
            NotJson: The document cannot be written as JSON.
            StoreError: The store cannot be reached.
        """
        return await self.impact_of({resource: document})

    async def impact_of(self, changes: Mapping[str, Json | Gone]) -> Impact:
        """Tell what several changes would cost together, and change nothing.

        Args:
            changes: Documents by resource, as for ``impact``.

        Returns:
            The same as ``impact``.

        Raises:
            NotJson: A document cannot be written as JSON.
            StoreError: The store cannot be reached.
        """
        documents = {
            check_uri(uri): None if document is GONE else Document.of(document)
            for uri, document in changes.items()
        }
        return await foresee(self.session().store, documents)

    async def stats(self, since: datetime | timedelta | None = None) -> Stats:
        """Tell what all runs came to: how often a model was asked, what was paid and saved.

        Args:
            since: Only runs that began then or later: a moment, or a time ago. None: all runs.

        Returns:
            The totals, and the same for each agent or program.

        Raises:
            StoreError: The store cannot be reached.
        """
        session = self.session()
        started = milliseconds_of(since)
        await session.replay_writer.flush()
        stats = Stats.of(await session.store.totals(since=started))
        return stats if stats.anything else replace(stats, hint=await self._hint())

    async def cypher(
        self,
        query: str,
        parameters: Mapping[str, Json] | None = None,
        *,
        time_limit: timedelta = timedelta(seconds=30),
        limit: int = 100_000,
        progress: Progress | None = None,
    ) -> Table:
        """Ask the graph in Cypher, which only reads: docs/cypher.md has many questions.

        Cypher sees the whole store. A query that is about this namespace says so with
        ``$namespace``,
        which is filled in.

        Args:
            query: The query.
            parameters: What stands for the query's other parameters, by name.
            time_limit: How long it may take.
            limit: How many rows are given at most; ``Table.truncated`` says that there were more.
            progress: Told how many rows of the graph are loaded, and of how many, where it must be
                loaded first.

        Returns:
            The rows.

        Raises:
            CypherRefused: The query does not parse, or would do more than read.
            CypherTimeout: It took longer than ``time_limit``.
            CypherFailed: It met what it cannot compute, or took more memory than it may.
            StoreError: The store cannot be reached.
        """
        session = self.session()
        await session.replay_writer.flush()
        table = await session.store.cypher(
            query,
            parameters or {},
            time_limit=time_limit,
            limit=limit,
            progress=progress,
        )
        if not table.rows and (hint := await self._hint()) is not None:
            _log.warning("%s", hint)
        return table

    def subscribe(self, on_event: OnEvent) -> Callable[[], None]:
        """Have a function told what happens in this process. The engine need not be open.

        Args:
            on_event: Called with each event in order, in the event loop where it happens. It may be
                a coroutine function. What it raises is logged, and disturbs no run.

        Returns:
            A function that ends the subscription.
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
        """Give the same for programs without an event loop: ``with engine.sync() as e: ...``.

        Returns:
            The sync face, with the same names and without ``await``.
        """
        from .sync import SyncEngine

        return SyncEngine(self, self._tools)

    def session(self) -> Session:
        """Give the open engine of this event loop, for adapters.

        Returns:
            What outlives a run in one event loop: the store, the walker, what is written later.

        Raises:
            NotOpen: The engine is not open here.
        """
        return self._host.session()


def _checked(until: datetime | timedelta | None) -> datetime | timedelta | None:
    if isinstance(until, datetime) and until.tzinfo is None:
        raise ConfigurationError(
            f"until={until!r} has no time zone; give datetime.now(UTC) + ..., or a timedelta"
        )
    if not isinstance(until, datetime | timedelta | None):
        raise ConfigurationError(f"until={until!r} is no datetime and no timedelta")
    return until
