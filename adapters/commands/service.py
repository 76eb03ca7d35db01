"""The service behind ``execgraph watch``: one instance leads, the others stand by."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import typer

from ...graphstore.errors import ConfigurationError, StoreError, StoreUnavailable
from .changes import as_json_line, as_line
from .common import MOST_WALKS, opened, say
from .health import Address, serving

if TYPE_CHECKING:
    from ...engine.sessions.session import Session
    from ...graphstore.model import ChangeEvent
    from ...graphstore.store import GraphStore
    from ...invalidation.watching.watcher import Watcher
    from .config import Config

__all__ = ["Service", "look_once"]

_log = logging.getLogger("execgraph")

_RETRY_SECONDS = 5.0  # after the store was away
_HEALTH_SECONDS = 2.0  # what the store may take to answer a health request
_WALK_SECONDS = 2.0  # how often it is asked whether there is something to be marked


async def look_once(config: Config, *, json_output: bool) -> bool:
    """Scan all sources once, mark steps, and print changes. Whether all could be read."""
    from ...invalidation.watching.watcher import Watcher

    with _logging():
        async with opened(config.store, config.namespace, new=True) as engine:
            store = engine.session().store
            watcher = Watcher(store, config.sources, on_change=_printer(json_output=json_output))
            await watcher.scan()
            await engine.settle()
        return not watcher.unreadable and watcher.scanned_at is not None


class Service:
    """Watches the files of a configuration until a signal stops it."""

    def __init__(
        self, config: Config, *, json_output: bool, health: Address | None, lease: timedelta
    ) -> None:
        self._config = config
        self._json_output = json_output
        self._health = health
        self._lease = lease
        self._owner = _owner()
        self._store: GraphStore | None = None  # while it answers
        self._watcher: Watcher | None = None  # while this instance leads
        self._since: datetime | None = None

    async def run(self) -> int:
        """Watch until SIGTERM (exit code 0) or SIGINT (130). Raises StoreError, except for a
        store that is away."""
        stop: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        with _logging():
            async with contextlib.AsyncExitStack() as stack:
                stack.enter_context(_stopped_by(stop))
                await self._answer(stack)
                work = asyncio.create_task(self._work())
                try:
                    await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    work.cancel()
                    await asyncio.wait((work,))
            if stop.done():
                _log.info("stopped")
                return stop.result()
        work.result()
        raise AssertionError("watching ended by itself")

    # Leading ------------------------------------------------------------------------------

    async def _work(self) -> None:
        """Lead or stand by, for ever, with a store that may come and go."""
        while True:
            try:
                config = self._config
                async with opened(config.store, config.namespace, new=True) as engine:
                    session = engine.session()
                    self._store = session.store
                    await self._take_turns(session)
            except StoreUnavailable as error:
                _log.warning("the store is away: %s", error)
            finally:
                self._store = None
            await asyncio.sleep(_RETRY_SECONDS)

    async def _take_turns(self, session: Session) -> None:
        standing_by, store = False, session.store
        while True:
            if await self._hold(store):
                standing_by = False
                try:
                    await self._lead(session)
                finally:
                    self._watcher = self._since = None
                    with contextlib.suppress(StoreError):
                        await store.release(self._name, self._owner)
            elif not standing_by:
                standing_by = True
                _log.info("another instance leads; standing by")
            await asyncio.sleep(self._beat)

    async def _lead(self, session: Session) -> None:
        """Watch until the lease is lost. Raises StoreError."""
        _log.info("leading: watching %s", "; ".join(it.name for it in self._config.sources))
        self._since = datetime.now(UTC)
        work = asyncio.ensure_future(self._watch(session))
        clock = asyncio.get_running_loop().time
        until = clock() + self._lease.total_seconds()
        try:
            while not (await asyncio.wait([work], timeout=self._beat))[0]:
                try:
                    if not await self._hold(session.store):
                        _log.warning("another instance leads now; standing by")
                        return
                    until = clock() + self._lease.total_seconds()
                except StoreUnavailable as error:
                    if clock() > until:
                        raise
                    _log.warning("the lease could not be extended: %s", error)
            work.result()
        finally:
            work.cancel()
            await asyncio.wait([work])

    async def _watch(self, session: Session) -> None:
        from ...invalidation.watching.watcher import Watcher

        tell = _printer(json_output=self._json_output)

        def changed(event: ChangeEvent) -> None:
            tell(event)
            session.walker.kick()

        config = self._config
        self._watcher = Watcher(session.store, config.sources, on_change=changed)
        async with self._watcher:
            while True:  # expiries and publications of other processes kick nobody here
                session.walker.kick()
                await asyncio.sleep(_WALK_SECONDS)

    @property
    def _name(self) -> str:
        return f"watch:{self._config.digest}"

    @property
    def _beat(self) -> float:
        return self._lease.total_seconds() / 3

    async def _hold(self, store: GraphStore) -> bool:
        return await store.lease(self._name, self._owner, self._lease)

    # Health -------------------------------------------------------------------------------

    async def _answer(self, stack: contextlib.AsyncExitStack) -> None:
        """Answer health requests until the stack is left. Raises ConfigurationError."""
        if self._health is None:
            return
        try:
            url = await stack.enter_async_context(serving(self._health, self.health))
        except OSError as error:
            host, port = self._health
            raise ConfigurationError(
                f"health cannot be served at {host}:{port}: {error.strerror}; name another port"
            ) from None
        _log.info("health at %s", url)

    async def health(self) -> tuple[bool, Mapping[str, Any]]:
        """Whether all is well, and what there is to say: see docs/watching.md."""
        walks = await self._pending_walks()
        watcher = self._watcher
        scanned = None if watcher is None else watcher.scanned_at
        document = {
            "leader": watcher is not None,
            "since": None if self._since is None else self._since.isoformat(),
            "last_scan": None if scanned is None else scanned.isoformat(),
            "resources": 0 if watcher is None else len(watcher.resources),
            "unreadable": {} if watcher is None else dict(watcher.unreadable),
            "pending_walks": walks,
            "store": "away" if walks is None else "reachable",
        }
        return walks is not None and (watcher is None or _fresh(watcher)), document

    async def _pending_walks(self) -> int | None:
        """How many walks have not ended (1000: at least so many); None if the store is away."""
        if (store := self._store) is None:
            return None
        try:
            async with asyncio.timeout(_HEALTH_SECONDS):
                return len(await store.walks(limit=MOST_WALKS))
        except (StoreError, TimeoutError):
            return None


def _fresh(watcher: Watcher) -> bool:
    """Whether each source was scanned within its ``max_age``."""
    now = datetime.now(UTC)
    return all(
        watched.scanned_at is not None
        and (watched.source.max_age is None or now - watched.scanned_at < watched.source.max_age)
        for watched in watcher.sources
    )


def _owner() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"


def _printer(*, json_output: bool) -> Callable[[ChangeEvent], None]:
    def tell(event: ChangeEvent) -> None:
        if json_output:
            typer.echo(as_json_line(event))
        else:
            say(as_line(event))

    return tell


@contextlib.contextmanager
def _logging() -> Iterator[None]:
    """Write what the library logs to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    others = logging.getLogger("watchdog")  # of which only warnings are for its users
    before = _log.level
    for logger in (_log, others):
        logger.addHandler(handler)
    _log.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger in (_log, others):
            logger.removeHandler(handler)
        _log.setLevel(before)


@contextlib.contextmanager
def _stopped_by(stop: asyncio.Future[int]) -> Iterator[None]:
    """Set ``stop`` to the exit code on SIGTERM or SIGINT; a second signal ends the process."""
    loop = asyncio.get_running_loop()
    codes = {signal.SIGTERM: 0, signal.SIGINT: 130}

    def end(number: signal.Signals) -> None:
        if not stop.done():
            stop.set_result(codes[number])
        for one in codes:
            signal.signal(one, signal.SIG_DFL)

    before = {number: signal.getsignal(number) for number in codes}
    for number in codes:
        signal.signal(
            number, lambda given, _: loop.call_soon_threadsafe(end, signal.Signals(given))
        )
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
