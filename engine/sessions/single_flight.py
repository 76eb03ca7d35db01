"""Single flight: of equal runs at the same time one leads, and the others wait until it has ended.

That spares calls of a model and decides nothing: who has waited looks up again, as anybody does,
and who leads does what it would do alone. So whatever becomes of a lease, only exclusivity ends.

Who leads holds a lease by the store's clock, which is extended while its run goes on. A leader that
died is replaced: by a waiter, when the lease has run out, or at once where it can be seen that the
process has ended (``process``). The leader and who replaces it are one *flight*: the others wait
on. A flight that has ended, whatever came of it, is waited for no longer.

In one event loop only one waiter of a task looks at the store; the others wait for that one.

Runs inside runs may come to wait for each other in a circle. So a lease tells what is waited for
inside its run, and who waits inside a run that leads follows these. Who finds itself at the end
waits no longer.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any
from uuid import uuid4
from weakref import WeakSet

from ...graphstore.canonical import fingerprint
from ...graphstore.errors import StoreError
from ...graphstore.roles.leases import Held, Leases
from ..errors import ConfigurationError
from .process import is_dead, this_process

__all__ = [
    "LEASE_SECONDS",
    "Lead",
    "SingleFlight",
    "is_led_here",
    "leading",
    "lease_name",
    "let_go",
    "patience_of",
]

_log = logging.getLogger("execgraph")

#: For how long a lead is taken at a time. It is extended three times as often.
LEASE_SECONDS = 10.0
_CLOSE_SECONDS = 2.0
_SHOWN = 80  # characters of an agent's name

# A waiter looks again after a tenth of what it has waited, within these bounds, in seconds: so it
# is late by a tenth, and the store is asked at most twice a second by each event loop.
_SHARE, _SOONEST, _LATEST = 0.1, 0.01, 0.5

#: How long a waiter waits at most, in seconds, unless it is told otherwise.
_PATIENCE_SECONDS = 300.0

_led: contextvars.ContextVar[tuple[Lead, ...]] = contextvars.ContextVar("execgraph_led", default=())


def patience_of(single_flight: object) -> float:
    """How many seconds a run waits at most for an equal one; 0: it does not, and leads nothing.

    Raises ConfigurationError.
    """
    if isinstance(single_flight, bool):
        return _PATIENCE_SECONDS if single_flight else 0.0
    if isinstance(single_flight, timedelta) and single_flight >= timedelta(0):
        return single_flight.total_seconds()
    raise ConfigurationError(
        f"single_flight={single_flight!r} is no choice; give True, False, or how long a run waits"
        " for an equal one at most, as timedelta(minutes=2)"
    )


def lease_name(agent: str, task: str, code: str) -> str:
    """The name of the lease of those who would ask the same: of one task's key and the identity
    of one code."""
    return f"run of {agent[:_SHOWN]} {fingerprint([task, code])}"


def is_led_here(name: str) -> bool:
    """Whether this is called inside a run that leads ``name``, which must not wait for itself."""
    return any(lead.name == name for lead in _led.get())


def let_go() -> None:
    """End all leads inside which this is called: what they do may take as long as a person does."""
    for lead in _led.get():
        lead.end()


class Lead:
    """What a run leads until it ends. ``owner``: by whom the lease ``name`` is held.

    One that was given neither leads nothing. ``waits_for``: what runs inside it wait for just now.
    """

    def __init__(self, name: str = "", owner: str = "", end: Callable[[Lead], None] | None = None):
        self.name = name
        self.owner = owner
        self.waits_for: list[str] = []
        self._end = end

    @property
    def is_over(self) -> bool:
        """Whether nothing is led any more."""
        return self._end is None

    def end(self) -> None:
        """Let all go who wait. They look up what there is now, and do not wait again."""
        end, self._end = self._end, None
        if end is not None:
            end(self)


@contextmanager
def leading(lead: Lead) -> Iterator[None]:
    """Runs that begin in this block belong to ``lead``, and do not wait for it."""
    if not lead.name:
        yield
        return
    token = _led.set((*_led.get(), lead))
    try:
        yield
    finally:
        with suppress(ValueError):  # left in another context, which has not been changed
            _led.reset(token)


class _Ahead:
    """A run of this event loop that leads, or watches who does. ``flight``: which, once known.

    ``ended``: True once the flight has ended; False if nobody of this loop watches it any more.
    """

    def __init__(self, flight: str | None) -> None:
        self.flight = flight
        self.ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()


class SingleFlight:
    """Who leads, and who waits, in one event loop. ``store``: where leads are extended and given
    up."""

    def __init__(self, store: Leases) -> None:
        self._store = store
        self._ahead: dict[str, _Ahead] = {}
        self._leads: WeakSet[Lead] = WeakSet()  # that of a run which is never ended runs out
        self._work: set[asyncio.Task[Any]] = set()
        self._beat: asyncio.Task[None] | None = None

    async def join(
        self, store: Leases, name: str, patience: float, waits: Callable[[], Awaitable[None]]
    ) -> Lead | None:
        """Lead ``name``, or wait until who does has ended, for ``patience`` seconds at most.

        ``waits`` is awaited when that begins. None: it has ended, or was waited for long enough.
        Whatever this gives, what was looked up before is old. Raises StoreError.
        """
        limit = asyncio.timeout(patience)
        leads = [lead for lead in _led.get() if not lead.is_over]
        looking: list[asyncio.Task[None]] = []

        async def begins() -> None:
            if leads and not looking:
                circle = self._until_in_a_circle(store, name, leads, limit)
                looking.append(asyncio.ensure_future(circle))
            await waits()

        try:
            async with limit:
                try:
                    return await self._join(store, name, begins)
                finally:
                    for task in looking:
                        task.cancel()
        except TimeoutError:
            if not limit.expired():
                raise
            _log.debug("%s is waited for no longer", name)
            return None

    async def _until_in_a_circle(
        self, store: Leases, name: str, leads: Sequence[Lead], limit: asyncio.Timeout
    ) -> None:
        """Let ``limit`` be reached as soon as who leads ``name`` waits for one of ``leads``, which
        go on only when ``name`` is waited for no longer."""
        own = {lead.name for lead in leads}
        for lead in leads:
            lead.waits_for.append(name)
        try:
            for lead in leads:  # told before it is looked: so who closes a circle sees it
                await self._extend(store, lead)
            while not await _waits_for(store, name, own):  # noqa: ASYNC110  (it is elsewhere)
                await asyncio.sleep(LEASE_SECONDS / 3)
            limit.reschedule(asyncio.get_running_loop().time())
        except StoreError as error:
            _log.debug("whether %s is waited for in a circle is not known: %s", name, error)
        finally:
            for lead in leads:  # the next extension tells it
                lead.waits_for.remove(name)

    async def _join(
        self, store: Leases, name: str, waits: Callable[[], Awaitable[None]]
    ) -> Lead | None:
        flight: str | None = None
        while (ahead := self._ahead.get(name)) is not None:
            await waits()
            if await asyncio.shield(ahead.ended):
                return None
            flight = ahead.flight
        ahead = self._ahead[name] = _Ahead(flight)
        owner: str | None = None
        try:
            owner = await self._take_or_watch(store, name, ahead, waits)
        except BaseException as error:
            # Where the store fails, each of the others is to find that out for itself, at once.
            self._leave(name, ahead, ended=isinstance(error, Exception))
            raise
        if owner is None:
            self._leave(name, ahead, ended=True)
            return None
        return self._lead(name, owner, ahead)

    async def _take_or_watch(
        self, store: Leases, name: str, ahead: _Ahead, waits: Callable[[], Awaitable[None]]
    ) -> str | None:
        """The owner as which the lease was taken; None once the flight has ended that held it."""
        if ahead.flight is None:
            owner = _owner(uuid4().hex)
            if await self._take(store, name, owner):
                return owner
            if (held := await store.holder(name)) is None:
                return None
            ahead.flight = _flight(held)
        await waits()
        began = time.monotonic()
        while (held := await store.holder(name)) is not None and _flight(held) == ahead.flight:
            if _is_over(held):
                owner = _owner(ahead.flight)
                if await self._take(store, name, owner, instead_of=held.owner):
                    _log.info("%s is led anew: who did was not heard of any more", name)
                    return owner
            waited = time.monotonic() - began
            await asyncio.sleep(min(max(waited * _SHARE, _SOONEST), _LATEST))
        return None

    async def _take(
        self, store: Leases, name: str, owner: str, *, instead_of: str | None = None
    ) -> bool:
        """Take the lease. If this is cancelled meanwhile, it is nobody's in the end."""
        lasts = timedelta(seconds=LEASE_SECONDS)
        taking = asyncio.ensure_future(store.lease(name, owner, lasts, instead_of=instead_of))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            self._beside(self._give_up(name, owner, after=taking))
            raise

    # Leading ------------------------------------------------------------------------------

    def _lead(self, name: str, owner: str, ahead: _Ahead) -> Lead:
        def end(lead: Lead) -> None:
            self._leads.discard(lead)
            self._leave(name, ahead, ended=True)
            self._beside(self._give_up(name, owner))

        lead = Lead(name, owner, end)
        self._leads.add(lead)
        if self._beat is None or self._beat.done():
            self._beat = asyncio.ensure_future(self._extend_all())
        return lead

    def _leave(self, name: str, ahead: _Ahead, *, ended: bool) -> None:
        if self._ahead.get(name) is ahead:
            del self._ahead[name]
        if not ahead.ended.done():
            ahead.ended.set_result(ended)

    async def _extend_all(self) -> None:
        """Extend what is led, as long as anything is."""
        while self._leads:
            await asyncio.sleep(LEASE_SECONDS / 3)
            await self._extend_each()

    async def _extend_each(self) -> None:
        for lead in tuple(self._leads):
            try:
                if not await self._extend(self._store, lead):
                    self._leads.discard(lead)
                    _log.info("%s is led by another one, which did not hear of this", lead.name)
            except StoreError as error:
                _log.debug("the lease of %s is not extended: %s", lead.name, error)

    async def _extend(self, store: Leases, lead: Lead) -> bool:
        """Extend a lease, and tell what is waited for inside; False if it is another one's."""
        lasts, waits_for = timedelta(seconds=LEASE_SECONDS), tuple(lead.waits_for)
        extended = await store.lease(lead.name, lead.owner, lasts, waits_for=waits_for)
        if extended and lead.is_over:  # it has ended meanwhile
            await self._give_up(lead.name, lead.owner)
        return extended

    async def _give_up(
        self, name: str, owner: str, *, after: asyncio.Future[bool] | None = None
    ) -> None:
        try:
            if after is not None:
                await asyncio.wait({after})
                after.exception()  # nobody else asks
            await self._store.release(name, owner)
        except StoreError as error:
            _log.debug("the lease of %s is left to run out: %s", name, error)

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            task = asyncio.ensure_future(work)
        except RuntimeError:  # the loop has ended; the lease runs out
            work.close()
            return
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def close(self) -> None:
        """Give up all that is led; what the store does not take in 2 seconds runs out."""
        for lead in tuple(self._leads):
            lead.end()
        tasks = {*self._work, *([] if self._beat is None else [self._beat])}
        if self._beat is not None:
            self._beat.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_CLOSE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _waits_for(store: Leases, name: str, own: Set[str]) -> bool:
    """Whether who leads ``name`` waits for one of ``own``, or for somebody who does."""
    ahead, known = [name], {name}
    while ahead:
        held = await store.holder(ahead.pop())
        waits_for = held.waits_for if held is not None and held.lasts else ()
        if not own.isdisjoint(waits_for):
            return True
        ahead += [it for it in waits_for if it not in known]
        known.update(waits_for)
    return False


def _owner(flight: str) -> str:
    """Somebody new who leads a flight, and in which process: others may see that one end."""
    return f"{flight} {uuid4().hex} {this_process() or ''}"


def _flight(held: Held) -> str:
    return held.owner.partition(" ")[0]


def _is_over(held: Held) -> bool:
    """Whether who holds a lease is heard of no more."""
    return not held.lasts or is_dead(held.owner.rpartition(" ")[2] or None)
