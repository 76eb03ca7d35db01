"""Where runs live: the store, opened once per event loop and process, and what they share."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from ..graphstore.connect import connect
from ..graphstore.null_store import NullStore
from ..graphstore.retention import Retention
from ..graphstore.store import GraphStore
from ..graphstore.urls import DEFAULT_FILE, absolute, chosen, redacted
from ..invalidation.walker import Walker
from .ending.finish import forsake, write_failure
from .errors import ConfigurationError, NotOpen
from .lookup.definition import Definition
from .outcome.events import Events, RunStarted
from .outcome.run_plan import RunPlan
from .replay.start import begin, foresee
from .run.inside import directly
from .run.lot import why_no_share
from .run.run import Run
from .run.spec import RunSpec
from .sessions.at_work import AtWork
from .sessions.collector import Collector
from .sessions.confirming import Confirming
from .sessions.journal import Journal
from .sessions.memory import Memory
from .sessions.outage import Outage
from .sessions.replay_writer import ReplayWriter
from .sessions.session import Session
from .sessions.single_flight import SingleFlight, patience_of

__all__ = ["Host"]

_log = logging.getLogger("execgraph")

_MODES = ("off", "record", "replay", "shadow")
_ON_STORE_ERROR = ("live", "raise")


class Host:
    """The sessions of one engine, by process and event loop. No I/O before ``enter``."""

    def __init__(
        self,
        url: str | None,
        namespace: str,
        *,
        on_store_error: str = "raise",
        retention: Retention | None = None,
        single_flight: bool | timedelta = True,
        shadow: float = 0.0,
        confirming: Confirming | None = None,
        **connection: Any,
    ) -> None:
        if on_store_error not in _ON_STORE_ERROR:
            raise ConfigurationError(
                f"on_store_error={on_store_error!r} is unknown; use one of"
                f" {', '.join(_ON_STORE_ERROR)}"
            )
        if not isinstance(retention, Retention | None):
            raise ConfigurationError(
                f"retention={retention!r} is no Retention; write for example"
                " Retention(max_age=timedelta(days=90)), or None to delete nothing"
            )
        if (why := why_no_share(shadow)) is not None:
            raise ConfigurationError(f"shadow={shadow!r} {why}")
        self._shadow = shadow
        self.namespace = namespace
        self._url = url
        self._folder = _working_folder()
        self._connection = connection
        self._retention = retention
        self._confirming = confirming or Confirming()
        self._goes_on = on_store_error == "live"
        self._patience = patience_of(single_flight)
        self.events = Events()
        self._memory = Memory()
        self._open: dict[tuple[int, asyncio.AbstractEventLoop], _Opened] = {}
        self._inherited: list[_Opened] = []
        self._path_logged = False
        if url is not None:
            self._connect(url)  # a wrong one is told where it is written

    def __repr__(self) -> str:
        return f"<Host {self.shown_url}>"

    @property
    def shown_url(self) -> str:
        """The store's address without credentials."""
        return redacted(chosen(self._url) or DEFAULT_FILE)

    def session(self) -> Session:
        """The open engine of this event loop. Raises NotOpen."""
        opened = self._open.get(_here())
        if opened is None or not opened.session.done():
            raise NotOpen(
                "the engine is not open in this event loop; write 'async with engine:' around"
                " this, or 'with engine.sync() as e:' in a program without asyncio"
            )
        return opened.session.result()

    async def start(self, definition: Definition, spec: RunSpec) -> Run:
        """Begin a run: look up what may be replayed of its task. Raises NotReplayable; Returned,
        RunInProgress and RunIdReused of one with an id."""
        session = self.session()
        if session.pace.due:  # before the lookup, which is to see what changes meanwhile
            await session.pace.rest()
        spec = _inside(session, spec.within(session))
        run = await begin(session, definition, spec, self._patience)
        if session.events.listeners:
            session.events.emit(RunStarted(run.id, spec.task.key, definition.name))
        return run

    async def foresee(self, definition: Definition, spec: RunSpec) -> RunPlan:
        """What a run would do now; nothing is done."""
        session = self.session()
        spec = replace(spec, may_serve=session.may_serve and not session.in_shadow)
        return await foresee(session, definition, spec)

    def keep_failure(self, run: Run, error: BaseException) -> asyncio.Future[None]:
        """Have it kept that a run failed by ``error``, before its session closes; what goes wrong
        with that is logged.

        It is not cancelled with who waits for what this gives.
        """
        opened = self._open.get(_here())
        if opened is not None and opened.is_of(run.session):
            run.session.at_work.fail(run.id, run.spec.task.key)
            keeping = opened.add(write_failure(run, error))
            keeping.add_done_callback(lambda it: forsake(run) if it.cancelled() else None)
            return asyncio.shield(keeping)
        forsake(run)
        _log.warning("the engine is closed already: how the run %s ended is not kept", run.id)
        nothing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        nothing.set_result(None)
        return nothing

    async def enter(self) -> None:
        """Open the store for this event loop, or use it once more. Raises StoreError."""
        key = _here()
        if (opened := self._open.get(key)) is None:
            self._disown(key[0])
            opened = self._open[key] = _Opened(asyncio.ensure_future(self._session()))
        opened.users += 1
        try:
            await asyncio.shield(opened.session)
        except BaseException:
            opened.users -= 1
            if opened.users == 0 and self._open.get(key) is opened:
                del self._open[key]
                opened.session.cancel()  # if it was the caller who lost patience
            raise

    async def leave(self) -> None:
        """Undo one ``enter``; the last one writes what waits, and closes the store."""
        key = _here()
        opened = self._open[key]
        opened.users -= 1
        if opened.users == 0:
            del self._open[key]
            await opened.close()

    def _disown(self, pid: int) -> None:
        """Forget sessions of loops that have ended, and of the process this one forked from.

        What a parent had open is kept from the garbage collector: closing its connections here
        would disturb the parent, which still uses them.
        """
        for key in list(self._open):  # a copy: other threads open and close theirs meanwhile
            if key[0] == pid and not key[1].is_closed():
                continue
            opened = self._open.pop(key, None)
            if opened is not None and key[0] != pid:
                self._inherited.append(opened)

    async def _session(self) -> Session:
        mode = os.environ.get("EXECGRAPH_MODE") or None
        if mode not in (None, *_MODES):
            raise ConfigurationError(
                f"EXECGRAPH_MODE={mode!r} is unknown; use one of {', '.join(_MODES)}, or unset it"
            )
        store = NullStore(self.namespace) if mode == "off" else self._store()
        at_work = AtWork(store)
        session = Session(
            store=store,
            replay_writer=ReplayWriter(store, at_work),
            walker=Walker(store, uuid4().hex),
            collector=Collector(store, self._retention, uuid4().hex),
            memory=self._memory,
            single_flight=SingleFlight(store),
            journal=Journal(store),
            at_work=at_work,
            may_serve=mode not in ("off", "record"),
            must_serve=mode == "replay",
            in_shadow=mode == "shadow",
            shadow=self._shadow,
            outage=Outage(store) if self._goes_on else None,
            events=self.events,
            confirming=self._confirming,
        )
        await session.open()
        return session

    def _store(self) -> GraphStore:
        url = chosen(self._url)
        if url is None and self._connection.get("driver") is None:
            path = absolute(Path(self._folder, DEFAULT_FILE))
            if not self._path_logged:
                _log.info("the graph is kept in %s", path)
                self._path_logged = True
            url = f"sqlite:///{quote(str(path))}"
        return self._connect(url)

    def _connect(self, url: str | None) -> GraphStore:
        return connect(url, namespace=self.namespace, folder=self._folder, **self._connection)


class _Opened:
    """A session in one event loop, and what uses it."""

    def __init__(self, session: asyncio.Future[Session]) -> None:
        self.session = session
        self.users = 0
        self._work: set[asyncio.Task[None]] = set()

    def is_of(self, session: Session) -> bool:
        """Whether a run of ``session`` may still use it."""
        return self.session.done() and self.session.result() is session

    def add(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(_logged(work))
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        task.add_done_callback(lambda _: work.close())  # of one that was cancelled before it began
        return task

    async def close(self) -> None:
        session = self.session.result()
        try:
            await asyncio.gather(*self._work)
            await session.replay_writer.close()
            await session.journal.close()
        finally:
            await session.close()


def _inside(session: Session, spec: RunSpec) -> RunSpec:
    """The specification of a run, inside the one whose own code begins it. Leaves the block of one
    that had come to its end before."""
    outer = directly.get()
    if outer is None or not (outer.may_go_on or outer.finished):
        return spec
    running: Run = outer.begun or outer.running
    return spec.inside(running.wish) if running.session is session else spec


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:  # noqa: BLE001  (nobody waits for it, so nobody else would learn of it)
        _log.exception("work in the background failed")


def _working_folder() -> str:
    """Where relative paths begin, for good: a service may go elsewhere before it opens."""
    try:
        return os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        return ""  # deleted; whoever names a relative path is told so


def _here() -> tuple[int, asyncio.AbstractEventLoop]:
    try:
        return os.getpid(), asyncio.get_running_loop()
    except RuntimeError:
        raise NotOpen(
            "there is no event loop here; write 'with engine.sync() as e:' and use e"
        ) from None
