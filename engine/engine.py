"""The engine: where tools and agents are declared, and runs are begun."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ..graphstore.canonical import Json, is_text
from ..graphstore.document import GONE, Document, Gone
from ..graphstore.model import (
    Approval,
    ApprovalState,
    ChangeEvent,
    ExecutionState,
    Mode,
    SideEffect,
)
from ..graphstore.retention import Collected, Retention
from ..graphstore.roles.history import ENDED, Executions
from ..invalidation.feed import follow
from ..invalidation.impact import Impact
from ..invalidation.resources import check_uri
from ..invalidation.source import Source
from ..invalidation.watching.watcher import Watcher
from .agent import Agent
from .asking.approvals import pending
from .asking.elsewhere import elsewhere
from .asking.generalise import MARKS_MAY_HELP, Generalised, Look, generalise
from .asking.graph import graph_of_execution, graph_of_resource, graph_of_task
from .asking.impact import foresee
from .asking.recorded import Part, Read, RecordedRun, exact, recorded_run
from .asking.run_diff import RunDiff, run_diff
from .asking.runs import (
    Runs,
    Sought,
    killed_processes,
    one_of,
    place_of,
    recorded_mode,
    runs_of,
    several,
    whole_id,
    whole_key,
)
from .asking.stats import Stats, milliseconds_of
from .asking.why import Why, why
from .effects.confirming import APPROVAL
from .ending.answering import answer
from .ending.resolving import resolve
from .ending.verdicts import approve, reject
from .errors import ConfigurationError, ExecutionUnknown
from .host import Host
from .lookup.definition import Definition
from .lookup.judging import Code
from .model.client import PlainDialect, load_adapter
from .options import AgentOptions, ProgramOptions
from .outcome.confirmation import Confirm, ConfirmationRequest
from .outcome.events import OnEvent, ResourceChanged
from .parameters import takes
from .program import ProgramRun
from .replay.current import current
from .sessions.confirming import Confirming
from .sessions.session import Session
from .task import Task, checked_labels
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
_RUNS_BEHIND = 20  # of an agent, that are compared to explain one
_ALIKE = 5  # runs that are named where the beginning of an id is that of several


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
        single_flight: Whether a run that would ask the model waits while an equal one is doing so,
            in any process, to be served from it then. True: for 5 minutes at most; a timedelta: for
            that long at most; False: it does not wait, and none waits for it.
        shadow: The share of runs that are shadow runs, from 0 to 1, of agents and programs that
            declare none (docs/trust.md).
        confirm: Who is asked before a tool with ``effect="confirm"`` is called: a function, sync or
            async, that takes a ``ConfirmationRequest`` and gives True or ``Approved(by=...)``,
            False or ``Denied(by=..., reason=...)``, or None: the answer comes later, by
            ``approve`` or ``deny``. None: all answers do.
        confirm_timeout: How long it is waited for; then nobody has confirmed.
        wait_for_approval: How long a run waits for an answer that comes later. Then, by default at
            once, it ends with AwaitingApproval.
        approval_expiry: How long a request can be answered, and its approval used.

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
        single_flight: bool | timedelta = True,
        shadow: float = 0.0,
        confirm: Confirm | None = None,
        confirm_timeout: timedelta = timedelta(minutes=10),
        wait_for_approval: timedelta = timedelta(0),
        approval_expiry: timedelta = timedelta(days=1),
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
            single_flight=single_flight,
            shadow=shadow,
            confirming=Confirming(confirm, confirm_timeout, wait_for_approval, approval_expiry),
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
            accept: A function of the Result, sync or async, that says whether a run may be
                published; it is asked when a run that would be has ended. None: nobody is asked.
            publish: "manual": a run waits until it is approved (``approve``), and serves nobody
                before; "auto": it does not.
            max_age: How old a reply may be that is served, from when the model was asked; None:
                however old.
            shadow: The share of runs that are shadow runs, from 0 to 1: nothing serves them, and
                what the model says is compared with what is recorded. None: as the engine says.
            confirm: Who is asked before a tool with ``effect="confirm"`` is called; None: whom the
                engine names.

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
            single_flight: Whether to wait for an equal run that is asking the model, and for how
                long at most, as for ``Engine``; None: as the engine was told.
            run_id: What the run is known by, a text of your own. Called again with it, a run that
                has come to its end gives its result and runs nothing; one that failed or was killed
                goes on where it was, and repeats no effect.
            idempotency: What the idempotency keys of its effects are made of, where there is no
                run_id: equal texts, equal keys.
            resume: "off": what a run of this task has decided that failed or was killed is asked
                again.
            wait: How long another run of this id is waited for, in seconds.
            confirm: Who is asked before a tool with ``effect="confirm"`` is called; None: whom the
                engine names.
            wait_for_approval: How long the run waits for an answer that comes later and from
                elsewhere; None: as the engine says.
            requires: What each of its decisions and writes rests on.
            client: Whom ``run.decide`` asks; None: the engine's client.
            opaque: Selectors of what in the inputs differs on every run, as in ``["$.incident"]``:
                one recording serves every value.
            accept: A function of the Result, sync or async, that says whether a run may be
                published; it is asked when a run that would be has ended. None: nobody is asked.
            publish: "manual": a run waits until it is approved (``approve``), and serves nobody
                before; "auto": it does not.
            max_age: How old a reply may be that is served, from when the model was asked; None:
                however old.
            shadow: The share of runs that are shadow runs, from 0 to 1: nothing serves them, and
                what the model says is compared with what is recorded. None: as the engine says.

        Returns:
            The run, to be entered with ``async with``. That raises NotReplayable if a replay is
            required and not possible, RunInProgress and RunIdReused for its run id, and StoreError
            if the store is away. The block of a run that has come to its end before is left at its
            first step; ``run.result`` is what it came to.

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
            name,
            Code(self._tools, options.checked_requires(task)),
            PlainDialect(),
            max_age=options.max_age,
        )
        client = self._client_or_own(options.client)
        return ProgramRun(self._host, definition, options.spec(task, options.trust), client)

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

    async def resolve(self, effect_id: str, *, done: bool, output: Json = None) -> SideEffect:
        """Say whether an effect happened that was begun and is not known to have ended.

        One that is to happen once (``effect="once"``) does not happen again if it is done, and may
        if it is not.

        Args:
            effect_id: The effect's id, as ``EffectInDoubt`` and ``execgraph doctor`` tell it; the
                beginning of it, if no other begins so.
            done: Whether it happened.
            output: If it did, what its tool would have given, which later runs are given.

        Returns:
            The effect, as it is kept now.

        Raises:
            EffectUnknown: There is no such effect.
            ConfigurationError: The effect is known to have ended otherwise, or several begin so.
            NotJson: The output cannot be written as JSON.
            StoreError: The store cannot be reached, or refuses.
        """
        store = self.session().store
        whole = await whole_id(store.effect_ids, effect_id)
        return await resolve(store, whole, done=done, output=output)

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

    # Trust --------------------------------------------------------------------------------

    async def approvals(self) -> list[ConfirmationRequest]:
        """Tell what waits for an answer before a tool with ``effect="confirm"`` may be called.

        Returns:
            What is pending and has not expired, oldest first; the first 100.

        Raises:
            StoreError: The store cannot be reached.
        """
        return await pending(self.session().store)

    async def approve(
        self, id_: str, *, by: str | None = None, overrule: bool = False
    ) -> Approval | None:
        """Approve an effect that waits for it, or a run declared with ``publish="manual"``.

        An id that begins with ``approval-`` is an effect's: one effect may begin then, with those
        arguments under those facts. Any other is a run's, which may serve later ones then: what of
        it no change tore becomes a trace, after a look whether all of that is as it was written.
        Approving twice is harmless.

        Args:
            id_: The approval's id, as ``AwaitingApproval`` and ``approvals`` tell it; or the run's.
                The beginning of it is enough, if no other begins so.
            by: Of an effect: who says so. It is kept with the effect.
            overrule: Of a run: also if it was rejected; the rejection of its answer is lifted then.

        Returns:
            The approval of an effect, as it is kept now; None for a run.

        Raises:
            ApprovalUnknown: There is no such approval.
            ApprovalClosed: Somebody has denied it, or it has expired.
            ConfigurationError: Several approvals begin so.
            NotApprovable: The run does not wait for it; the message says why, and what to do.
            ExecutionUnknown: There is no such run.
            StoreError: The store cannot be reached, or refuses, or what it kept of the run is
                damaged.
        """
        session = self.session()
        if id_.startswith(APPROVAL):
            whole = await whole_id(session.store.approval_ids, id_, after=APPROVAL)
            return await answer(session.store, whole, ApprovalState.APPROVED, by=by)
        approving = partial(approve, keep=session.collector.traces, overrule=overrule)
        if await self._asked_of(approving, id_, None):
            session.walker.kick()
        return None

    async def deny(
        self, approval_id: str, *, by: str | None = None, reason: str | None = None
    ) -> Approval:
        """Deny what was asked, for good. The run that asked, or asks next, is told.

        Args:
            approval_id: The approval's id, as ``AwaitingApproval`` and ``approvals`` tell it; the
                beginning of it, if no other begins so.
            by: Who says so.
            reason: Why. The model is told.

        Returns:
            The approval, as it is kept now.

        Raises:
            ApprovalUnknown: There is no such approval.
            ApprovalClosed: Somebody has approved it, or it has expired.
            ConfigurationError: Several approvals begin so.
            StoreError: The store cannot be reached, or refuses.
        """
        store = self.session().store
        whole = await whole_id(store.approval_ids, approval_id, after=APPROVAL)
        return await answer(store, whole, ApprovalState.DENIED, by=by, reason=reason)

    async def reject(self, execution_id: str, *, reason: str) -> tuple[str, ...]:
        """Have a run never serve anybody again, in no process, whatever facts come back.

        Nor does any other run with its answer: what its last decision said to what it was asked.
        Traces that have it are rejected too, and a run that gives it again is not published. A run
        under way that was served from one of them begins no effect any more.

        Args:
            execution_id: Which run; the beginning of its id, if no other begins so. Of a replay,
                what it replayed is rejected.
            reason: What is wrong with its answer, for those who find it again.

        Returns:
            The ids of the runs that are rejected by that, the named one first.

        Raises:
            NotRejectable: It has given no answer, or no reason is given.
            ExecutionUnknown: There is no such run.
            StoreError: The store cannot be reached.
        """
        return await self._asked_of(partial(reject, reason=reason), execution_id, None)

    # Asking -------------------------------------------------------------------------------

    async def why(
        self, execution_id: str | None = None, *, agent: str | None = None, diff: bool = False
    ) -> Why:
        """Explain a run: what became of each step, and the change that was behind it.

        Args:
            execution_id: Which run; None: the newest one.
            agent: The newest run of this agent or program; None: of all.
            diff: Tell for each cause what stood before and what stands after, in full: the two
                documents of a fact, outputs, requests, tasks. Secrets are hidden by their names.

        Returns:
            The run's steps and causes, each with its path in the graph.

        Raises:
            ExecutionUnknown: There is no such run.
        """
        explained = await self._asked_of(partial(why, diff=diff), execution_id, agent)
        kinds = {miss.cause.kind for miss in explained.misses}
        if kinds.isdisjoint(MARKS_MAY_HELP):
            return explained
        execution = explained.execution
        found = await self._generalised(execution.agent, runs=_RUNS_BEHIND)
        proposals = (it for it in found.proposals if it.is_about(execution.id))
        return replace(explained, proposal=next(proposals, None))

    async def runs(
        self,
        *,
        agent: str | None = None,
        task: str | None = None,
        mode: Mode | str | None = None,
        state: ExecutionState | str | None = None,
        labels: Mapping[str, str] | None = None,
        since: datetime | timedelta | None = None,
        before: str | None = None,
        limit: int = 20,
    ) -> Runs:
        """List runs, newest first, those that have not ended included.

        Args:
            agent: Only those of this agent or program.
            task: Only those of the task with this key, of which a beginning is enough.
            mode: Only those of this mode: ``live``, ``partial``, ``replay``.
            state: Only those in this state: ``running``, ``killed``, ``published``,
                ``unapproved``, ``unpublished``, ``rejected``, ``failed``.
            labels: Only those that have these labels, and it may be others.
            since: Only those that began then or later: a moment, or a time ago.
            before: Only those that are older than this run, by its id: ``Runs.older`` of an answer
                gives those that come after it.
            limit: How many are given at most.

        Returns:
            The runs. What is asked for together is looked for among the newest 10,000 runs that may
            be meant; ``hint`` says that there are more, or what of it does not exist.

        Raises:
            ExecutionUnknown: There is no run ``before``.
            ConfigurationError: There is no such mode or state, or several tasks begin so.
            StoreError: The store cannot be reached.
        """
        if limit < 1:
            raise ConfigurationError(f"limit={limit!r} is no number of runs; give 1 or more")
        session = self.session()
        sought = Sought(
            agent=agent,
            mode=recorded_mode(mode),
            state=one_of(ExecutionState, state, "state"),
            labels=checked_labels(labels),
            since=milliseconds_of(since),
        )
        await session.replay_writer.flush()
        if task is not None:
            sought = replace(sought, task=await whole_key(session.store, task))
        if before is not None:
            sought = replace(sought, before=await self._asked_of(place_of, before, None))
        found = await runs_of(session.store, sought, limit)
        return found or replace(found, hint=await self._hint() or found.hint)

    async def execution(
        self,
        execution_id: str | None = None,
        *,
        agent: str | None = None,
        step: int | None = None,
    ) -> RecordedRun:
        """Read one run as it is recorded: what was asked, called, given and done, and when.

        Args:
            execution_id: Which run; the beginning of its id, if no other begins so. None: the
                newest one.
            agent: The newest run of this agent or program; None: of all.
            step: Only this step, by its position, with all messages of its request; None: all
                steps, each with the messages that are new in it.

        Returns:
            The run with its payloads, whole. Values that were redacted are as they are stored.

        Raises:
            ExecutionUnknown: There is no such run, or several begin so.
            ConfigurationError: The run has no such step.
            StoreError: The store cannot be reached.
        """
        return await self._asked_of(partial(recorded_run, step=step), execution_id, agent)

    async def payload(
        self,
        execution_id: str | None = None,
        *,
        agent: str | None = None,
        step: int | None = None,
        part: Part = "output",
    ) -> tuple[bytes, bool]:
        """Read one payload of a run as exact JSON text, of whatever length.

        Args:
            execution_id: Which run; the beginning of its id, if no other begins so. None: the
                newest one.
            agent: The newest run of this agent or program; None: of all.
            step: Of which step, by its position; None: of the run.
            part: Of a step its ``output``, its ``arguments`` or its ``request``; of the run its
                ``output``, its ``inputs`` or its ``context``.

        Returns:
            The text, and whether something in it is hidden, since it is named as a secret.

        Raises:
            ExecutionUnknown: There is no such run, or several begin so.
            ConfigurationError: There is no such step or part.
            StoreError: The store cannot be reached, or the payload is damaged.
        """
        return await self._asked_of(partial(exact, step=step, part=part), execution_id, agent)

    async def diff(self, before: str, after: str) -> RunDiff:
        """Compare two runs: the first step that differs, field by field.

        Args:
            before: One run; the beginning of its id, if no other begins so.
            after: The other run, likewise.

        Returns:
            What differs in their tasks, and in the first step that is not the same.

        Raises:
            ExecutionUnknown: There is no such run, or several begin so.
            StoreError: The store cannot be reached.
        """
        session = self.session()
        one, other = [await self._asked_of(Read.of, it, None) for it in (before, after)]
        return await run_diff(session.store, one, other, session.client(self.client).dialect)

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
            of = ENDED if agent is None else Executions("agent", agent)
            newest = await session.store.executions(of, limit=1)
            if not newest:
                hint = await self._hint()
                raise ExecutionUnknown(None, session.store, agent=agent, hint=hint)
            execution_id = newest[0].id
        try:
            return await question(session.store, execution_id)
        except ExecutionUnknown as unknown:
            some = partial(session.store.execution_ids, execution_id, limit=_ALIKE)
            known = await some() if execution_id else []
            if len(known) == 1 and known[0] != execution_id:
                return await question(session.store, known[0])
            hint = several(execution_id, known) if len(known) > 1 else await self._hint()
            if hint is None:
                raise
            raise ExecutionUnknown(execution_id, session.store, hint=hint) from unknown

    async def _hint(self) -> str | None:
        """Where there is something, if there is nothing in this namespace; else None."""
        return await elsewhere(self.session().store)

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
        dead = await killed_processes(session.store)
        stats = Stats.of(await session.store.totals(since=started, dead=dead))
        return stats if stats.anything else replace(stats, hint=await self._hint())

    async def generalise(
        self,
        agent: str | None = None,
        *,
        runs: int = 200,
        progress: Look = lambda _what, _done: None,
    ) -> Generalised:
        """Find what could be marked, so that one recording serves other inputs and outputs, too.

        It looks for recordings that differ only in values which a model carries or never mentions,
        derives what each run would have asked with marks on them, and proposes those by which
        nothing would have been served that is not the run's own. Nothing is marked by it:
        docs/changing-values.md says what to think of first.

        Args:
            agent: Only what this agent or program recorded; None: what each did.
            runs: How many of the newest runs of each are looked at, at most.
            progress: Told what is looked at, and how much of it was.

        Returns:
            What it proposes, with the runs and tokens that it rests on.

        Raises:
            ExecutionUnknown: There is no run of that agent.
            ConfigurationError: ``runs`` is no number of runs.
            StoreError: The store cannot be reached.
        """
        session = self.session()
        if runs < 1:
            raise ConfigurationError(f"runs={runs!r} is no number of runs; give 1 or more")
        await session.replay_writer.flush()
        found = await self._generalised(agent, runs=runs, progress=progress)
        if found.agents:
            return found
        hint = await self._hint()
        if agent is not None:
            raise ExecutionUnknown(None, session.store, agent=agent, hint=hint)
        return replace(found, hint=hint)

    async def _generalised(
        self, agent: str | None, *, runs: int, progress: Look = lambda _what, _done: None
    ) -> Generalised:
        session = self.session()
        return await generalise(
            session.store,
            session.client(self.client),
            agent,
            runs=runs,
            named=frozenset().union(*(tool.named_inputs for tool in self._tools.values())),
            look=progress,
        )

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
