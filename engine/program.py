"""Runs of programs: an agent written as plain Python, in a ``run`` context."""

from __future__ import annotations

import asyncio
import inspect
import logging
import operator
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any, NoReturn
from weakref import WeakSet

from ..graphstore.canonical import Json, encode
from ..graphstore.errors import NotJson, StoreError
from ..graphstore.model import SideEffect
from .effects.confirming import Awaiting
from .ending.finish import finish, is_store_away
from .ending.results import failure, returned_result
from .errors import AgentError, NotOpen, RunLost, ToolError
from .exits import is_exit
from .host import Host
from .keys.caller import caller_name
from .keys.standins import MangledStandIn, StandIns
from .lookup.definition import Definition
from .model.client import Dialect, PlainDialect
from .outcome.result import Result
from .replay.actions import act
from .replay.decisions import Ask, at_once, decide
from .run import inside
from .run.family import Family, Place
from .run.inside import set_current, through_a_call
from .run.run import Run
from .run.spec import MustNotAsk, RunSpec
from .run.wish import Returned
from .steps.stopwatch import Stopwatch
from .task import Payload, check_requirement
from .tools.tool import Tool

__all__ = ["Handle", "ProgramRun", "current_run", "open_runs"]

_log = logging.getLogger("execgraph")

_open: WeakSet[ProgramRun] = WeakSet()


def current_run() -> ProgramRun | None:
    """The run in whose context the caller is; None once it has ended."""
    run: ProgramRun | None = inside.current.get()
    return run if run is not None and run.is_open else None


def open_runs() -> tuple[ProgramRun, ...]:
    """The runs of programs that are open in this process."""
    return tuple(run for run in tuple(_open) if run.is_open)


class Handle:
    """What a step of a program gave: pass it on as it is, or open it with ``.value``.

    What a program does after a value was opened may follow from it. So from then on the decision
    behind it counts as one that led to each write; the same holds once the handle was passed to a
    step. Where the value itself is meant (in a condition, a comparison, an f-string) a handle
    raises TypeError. A copy of a handle is the handle; it cannot be pickled.
    """

    __slots__ = ("_family", "_value", "decisions", "position")

    def __init__(
        self, value: Any, position: int, decisions: frozenset[Place], family: Family
    ) -> None:
        self._value = value
        self._family = family
        self.position = position
        self.decisions = decisions  # those whose word is in the value

    def __repr__(self) -> str:
        return f"<Handle of step {self.position}>"

    def __copy__(self) -> Handle:
        return self

    def __deepcopy__(self, memo: object) -> Handle:
        return self  # a copy of what is opened would tell the run nothing

    def __reduce__(self) -> NoReturn:
        raise TypeError("a handle belongs to its run; pickle its .value")

    def __bool__(self) -> bool:
        raise self._unopened()

    def __format__(self, spec: str) -> str:
        raise self._unopened()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Handle):
            return self is other
        raise self._unopened()

    __hash__ = object.__hash__

    def _unopened(self) -> TypeError:
        return TypeError(f"{self!r} is not the value that the step gave; open it with .value")

    @property
    def value(self) -> Any:
        """The value itself; what the run does from now on may follow from it."""
        self._family.open(self.decisions)
        return self._value

    def following(self, decisions: Iterable[Place]) -> Handle:
        """This handle, but made from the word of these decisions too."""
        known = self.decisions.union(decisions)
        return Handle(self._value, self.position, known, self._family)

    def showing(self, show: Callable[[Any], Any]) -> Handle:
        """This handle, but on what ``show`` makes of its value."""
        return Handle(show(self._value), self.position, self.decisions, self._family)

    def passed_on(self) -> Any:
        """The value for a step that it is passed to."""
        return self._value


class _Finished(Exception):
    """Leaves the block of a run that had come to its end before."""

    def __init__(self, run: ProgramRun) -> None:
        self.run = run
        super().__init__("this run has come to its end before: its result is run.result")


class ProgramRun:
    """A run of a program: ``async with engine.run(...) as run``.

    A block that raises publishes nothing: the run is kept as failed, and a note on the exception
    names the effects that were begun.

    Attributes:
        output: What the run comes to, as JSON; set it inside the block. Handles in it are opened.
    """

    def __init__(self, host: Host, definition: Definition, spec: RunSpec, client: object) -> None:
        self._host = host
        self._definition = definition
        self._spec = spec
        self._client = client
        self._run: Run | None = None
        self._result: Result | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = False
        self._failed = False
        self._returned: str | None = None
        self._context = ExitStack()
        self._before_end: list[Callable[[], Awaitable[None]]] = []
        self.output: Any = None

    @property
    def result(self) -> Result:
        """What the run came to, once its block has ended without an exception; before, NotOpen is
        raised."""
        if self._result is None:
            raise NotOpen("a run has its result when its block has ended without an exception")
        return self._result

    @property
    def execution_id(self) -> str:
        """The run's id, also after its end; before its block, NotOpen is raised."""
        if self._returned is not None:
            return self._returned
        if self._run is None:
            raise NotOpen("a run has its id when its block has begun")
        return self._run.id

    @property
    def finished(self) -> bool:
        """Whether the run of its run id had come to its end before: then ``result`` is what it came
        to, and its block is left at its first step."""
        return self._returned is not None

    @property
    def is_open(self) -> bool:
        """Whether its block has begun and not ended."""
        return self._run is not None and not self._ended

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop this run belongs to."""
        assert self._loop is not None
        return self._loop

    async def decide(
        self,
        request: Mapping[str, Any],
        *,
        call: Callable[[Mapping[str, Json]], Awaitable[Json]] | None = None,
        version: str | None = None,
    ) -> Handle:
        """Ask the model, or use its recorded reply if that stands.

        Args:
            request: The body of the Messages API, or with ``call`` any JSON. Handles in it are
                opened.
            call: An async function that takes the request and gives the reply as JSON, for any
                other
                provider; None: the run's client is asked. Its name is part of what the reply is
                found
                by, so what changes an answer belongs into the name, the request or ``version``.
            version: What stands for ``call`` instead of its name.

        Returns:
            A handle on the reply, as JSON.

        Raises:
            AgentError: The request is no mapping, or ``call`` no async function.
            NotJson: The request or the reply cannot be recorded.
            RunFailed: The store failed, or a replay is required and the model would have to be
                asked.
        """
        if not isinstance(request, Mapping):
            raise AgentError(
                f"the request {request!r} is no mapping; give the body of the Messages API,"
                " {'model': ..., 'max_tokens': ..., 'messages': [...]}, or with call= any other one"
            )
        opened, passed = _given(self._running, dict(request))
        return (await self._ask(opened, call, version)).following(passed)

    async def _ask(
        self,
        request: Mapping[str, Json],
        call: Callable[[Mapping[str, Json]], Awaitable[Json]] | None,
        version: str | None,
    ) -> Handle:
        if call is None:
            if version is not None:
                raise AgentError("version= says who call= asks; give call=, or leave version= out")
            client = self._running.session.client(self._client)
            sent, dialect = client.as_sent(request), client.dialect
            return (await self.ask(sent, at_once(client.ask), dialect)).showing(dialect.said)

        async def ask(body: Mapping[str, Json]) -> bytes:
            with through_a_call():
                reply = call(body)
                if not inspect.isawaitable(reply):
                    raise AgentError("call= gave its reply at once; make it an async function")
                return encode(await reply)

        who = caller_name(call) if version is None else f"version {version}"
        return await self.ask(request, at_once(ask), PlainDialect(who))

    async def ask(self, request: Mapping[str, Json], ask: Ask, dialect: Dialect) -> Handle:
        """Do what ``decide`` does, for adapters. ``ask`` gives the exact body of the reply, and
        calls what it is given as soon as the program may know something of that.

        Raises RunFailed where a replay is required and the model would have to be asked, and
        where the store fails.
        """
        run = self._running
        if run.session.pace.due:
            await run.session.pace.rest()
        hidden = dialect.with_standins(request, run.standins) if run.standins else request
        try:
            decision = await decide(run, lambda: hidden, ask, dialect)
        except MustNotAsk as unknown:
            raise failure(run, str(unknown)) from None
        except StoreError as error:
            raise failure(run, str(error)) from error
        position = decision.position
        here = frozenset({Place(run, position)})
        reply = decision.reply
        if run.standins:
            reply = dialect.read_back(decision.reply, partial(_real, run.standins))
            run.standins.remember_said(dialect.parts(reply), dialect.parts(decision.reply))
        return Handle(reply, position, here, run.family)

    async def act(self, tool: Tool, /, **arguments: Any) -> Handle:
        """Call a tool, or use its recorded output if it is pure and stands.

        Args:
            tool: A tool of the run's engine.
            **arguments: What the tool takes, by name. Handles in them are opened for it.

        Returns:
            A handle on what the tool gave.

        Raises:
            ArgumentsInvalid: The tool does not take these arguments.
            PreconditionChanged: A fact moved right before the write, which was not carried out. The
                program may decide again.
            NotConfirmed: The tool is to be confirmed, and that was denied, or nobody did.
            AwaitingApproval: It is to be confirmed, and nobody has answered yet.
            ToolError: The tool is none of this engine, or requires what an opaque argument names.
            ConfigurationError: The tool requires what a marked input names.
            RunFailed: The store failed.
            Exception: What the tool raised, as it is.
        """
        known = self._definition.code.tools.get(getattr(tool, "name", ""))
        if known is None or known is not tool:
            raise ToolError(f"{tool!r} is no tool of this engine; declare it with @engine.tool")
        for requirement in tool.requires if self._spec.task.inputs.marks else ():
            check_requirement(requirement, self._spec.task)
        run = self._running
        if run.session.pace.due:
            await run.session.pace.rest()
        opened, passed = _given(run, arguments)
        try:
            result = await act(run, tool, opened, passed)
        except (StoreError, Awaiting) as error:
            raise failure(run, str(error), error) from error
        except asyncio.CancelledError:
            run.journal.tool_failed()
            raise
        if result.error is not None:
            run.journal.tool_failed()
            raise result.error
        return Handle(result.value, result.position, passed, run.family)

    async def begin(self) -> None:
        """Look up what may be replayed; ``async with`` does it."""
        if self._run is not None:
            raise AgentError("a run is entered once; call engine.run(...) for another")
        self._loop = asyncio.get_running_loop()
        # It may have ended, if this is a task that it has begun.
        outer: ProgramRun | None = inside.current.get()
        stopwatch = Stopwatch()
        try:
            self._run = await self._host.start(self._definition, self._spec)
        except Returned as returned:
            self._returned = returned.wish.execution
            self._result = returned_result(returned.wish, stopwatch.elapsed_ms)
            self.output = self._result.output
            return
        if outer is not None and outer.begun is not None:
            self._run.join(outer.begun)
        _open.add(self)

    def before_end(self, work: Callable[[], Awaitable[None]]) -> None:
        """Have ``work`` done when the block has ended, for adapters: what is under way then comes
        to its end."""
        self._before_end.append(work)

    async def end(self, error: BaseException | None = None) -> None:
        """Record what is new; after an ``error``, keep the failed run for people."""
        if self.finished:
            return
        run = self._running
        try:
            for under_way in self._before_end:
                await under_way()
        except BaseException as trouble:
            self._ended = True
            await self._fail(run, error or trouble)
            if error is None or not isinstance(trouble, Exception):
                raise
            return
        self._ended = True
        if error is not None:
            await self._fail(run, error)
            return
        try:
            output = Payload.of(_given(run, self.output)[0], "the output", shown=False)
        except (NotJson, AgentError) as wrong:
            await self._fail(run, wrong)
            raise
        try:
            self._result = await finish(run, output)
        except (StoreError, RunLost) as trouble:
            await self._fail(run, trouble)
            raise failure(run, str(trouble)) from trouble
        except asyncio.CancelledError as cancelled:
            await self._fail(run, cancelled)
            raise

    async def __aenter__(self) -> ProgramRun:
        await self.begin()
        self._context.enter_context(set_current(self))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._context.close()
        if self.finished:
            return self.is_left_by(error)
        await self.end(error)
        return None

    def is_left_by(self, error: BaseException | None) -> bool:
        """Whether a block has ended because its run had come to its end before."""
        if isinstance(error, BaseExceptionGroup):
            return all(map(self.is_left_by, error.exceptions))
        return isinstance(error, _Finished) and error.run is self

    async def _fail(self, run: Run, error: BaseException) -> None:
        self._failed = True
        run.lead.end()
        run.wish.give_back()  # at once: the next equal run may begin before this is kept
        effects = run.effects.begun
        error.add_note(f"execgraph: {_damage(run, effects)}")
        kept = self._host.keep_failure(run, error)
        if (isinstance(error, Exception) or is_exit(error)) and not is_store_away(error):
            await kept

    @property
    def may_go_on(self) -> bool:
        """Whether it is open, or has failed: then it may be called again, and what its own code
        begins late is still a part of it."""
        return self.is_open or self._failed

    @property
    def begun(self) -> Run | None:
        """The run itself, also once it has ended; None before its block has begun."""
        return self._run

    @property
    def running(self) -> Run:
        """The run itself, for adapters."""
        return self._running

    @property
    def _running(self) -> Run:
        if self._returned is not None:
            raise _Finished(self)
        if self._run is None or self._ended:
            raise NotOpen("use the run inside 'async with engine.run(...) as run:'")
        return self._run


def _real(standins: StandIns, reply: Any) -> Any:
    """What a model said, as a program gets it. What it mangled stays as it is: it is nobody's
    value, and the program sees so."""
    try:
        return standins.real(reply)
    except MangledStandIn as mangled:
        _log.warning("a model's reply is given as it is: %s", mangled)
        return reply


def _given(run: Run, value: Any) -> tuple[Any, frozenset[Place]]:
    """``value`` as a step of ``run`` is given it, and the decisions whose word is in it. They count
    as opened from now on: what the step does, and whether it ends, tells of them."""
    passed = set[Place]()
    opened = _passed_on(value, passed)
    if not all(run.is_beside(place.run) for place in passed):
        raise AgentError(
            "a handle was given that belongs to a run on another store or namespace, whose facts"
            " are not known here; open it with .value"
        )
    run.family.open(passed)
    return opened, frozenset(passed)


def _passed_on(value: Any, decisions: set[Place]) -> Any:
    """``value`` with the handles in it opened for one step; the decisions behind them are added
    to ``decisions``. What holds no handle stays the object that it is."""
    match value:
        case Handle():
            decisions.update(value.decisions)
            return value.passed_on()
        case dict():
            parts: list[Any] = [part for item in value.items() for part in item]
            opened = [_passed_on(part, decisions) for part in parts]
            made: Any = dict(zip(opened[::2], opened[1::2], strict=True))
        case list() | tuple() | set() | frozenset():
            parts = list(value)
            opened = [_passed_on(part, decisions) for part in parts]
            made = _like(value, opened)
        case _:
            return value
    return value if all(map(operator.is_, parts, opened)) else made


def _like(value: Any, items: list[Any]) -> Any:
    """``items`` as a collection of the kind of ``value``."""
    if hasattr(value, "_fields"):  # a named tuple
        return type(value)(*items)
    return next(kind for kind in (list, tuple, set, frozenset) if isinstance(value, kind))(items)


def _damage(run: Run, effects: list[SideEffect]) -> str:
    done = ", ".join(f"{effect.tool} ({effect.state})" for effect in effects)
    return f"execution {run.id} was not published; effects begun: {done or 'none'}"
