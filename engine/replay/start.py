"""The start of a run: what it finds recorded, whether it leads or has waited for an equal run, and
what its caller makes of that."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import replace
from functools import partial

from ...graphstore.model import Mode, Wish
from ...graphstore.store import RunStore
from ..errors import NotReplayable
from ..lookup.definition import Definition
from ..lookup.lookup import find_plan
from ..lookup.nearest_task import new_task
from ..lookup.plan import Plan, no_plan
from ..outcome.cause import Cause, MissKind
from ..outcome.events import RunWaits
from ..outcome.run_plan import RunPlan
from ..run.run import Run
from ..run.spec import OnPartial, RunSpec
from ..run.wish import RunWish, fresh, hold, hold_inside, left_wishes, take_up
from ..sessions.outage import store_away
from ..sessions.session import Session
from ..sessions.single_flight import Lead, is_led_here, lease_name
from .foreseen import foreseen
from .partial import choice
from .standing import look_again

__all__ = ["begin", "foresee"]

_log = logging.getLogger("execgraph")


async def begin(session: Session, definition: Definition, spec: RunSpec, patience: float) -> Run:
    """Begin a run. ``patience``: how many seconds it waits at most for an equal one, unless the
    specification says so itself.

    Raises NotReplayable; Returned, RunInProgress and RunIdReused of one with an id.
    """
    if spec.outer is None:  # else it is known by its place
        await session.at_work.failures_kept(spec.task.key)
    execution = session.at_work.begin()  # before anybody can ask whether it is
    start = _Start(session, definition, spec, execution)
    try:
        await start.hold()
        await start.look_up()
        if spec.patience is not None:
            patience = spec.patience
        if patience and start.may_share:
            await start.share(patience)
        await start.explain()
        await start.choose()
        return await start.run()
    except BaseException:
        start.give_up()
        raise


async def foresee(session: Session, definition: Definition, spec: RunSpec) -> RunPlan:
    """What a run would do now; nothing is done."""
    start = _Start(session, definition, spec)
    await start.look_up()
    await start.explain()
    return start.foreseen()


class _Start:
    """A run that has not begun. ``execution``: its id, if it is to begin."""

    def __init__(
        self, session: Session, definition: Definition, spec: RunSpec, execution: str = ""
    ) -> None:
        self._session = session
        self._definition = definition
        self._spec = spec
        self._store: RunStore
        self._plan: Plan
        self._waits_since: float | None = None
        self._lead = Lead()
        self._wish: RunWish | None = None
        self._execution = execution
        self._beside = session.at_work.here()
        self._left: Collection[tuple[str, str]] | None = None

    async def hold(self) -> None:
        """Hold the wish of a run that has an id."""
        session, spec, execution = self._session, self._spec, self._execution
        if spec.outer is not None:
            self._wish = await hold_inside(session, session.lent(), spec, spec.outer, execution)
        elif spec.run_id is not None:
            self._wish = await hold(session, session.lent(), spec, spec.run_id, execution)

    def give_up(self) -> None:
        """Let go of all that is held: the run does not begin."""
        self._lead.end()
        self._session.at_work.end(self._execution)
        if self._wish is not None:
            self._wish.give_back()

    async def look_up(self) -> None:
        """Find what may be replayed, as things are now."""
        session, definition, spec = self._session, self._definition, self._spec
        self._store = store = session.lent()
        find = partial(find_plan, store, spec.task, definition, session.memory)
        if spec.may_serve:
            alive = session.at_work.alive(spec.task.key)
            plan = await find(alive)
            if plan.expired and await session.refresh(plan.expired):
                plan = await find(alive)
            if plan.expired:
                session.walker.kick()  # which has the expiry recorded
        else:
            await store.ping()  # nothing is done if it is away
            plan = no_plan(Cause(MissKind.REPLAY_OFF, definition.name))
        self._plan = no_plan(store_away(store)) if store.away else plan

    async def explain(self) -> None:
        """Say of a new task which recorded one is nearest. No earlier: looking up may be repeated,
        and serves most runs without that."""
        if [it.kind for it in self._plan.causes] == [MissKind.NEW_TASK] and not self._store.away:
            found = await new_task(self._store, self._spec.task, self._definition)
            self._plan = no_plan(found)

    # Equal runs ---------------------------------------------------------------------------

    @property
    def may_share(self) -> bool:
        """Whether the run would ask the model what another run may be asking just now, or what
        others will want to know."""
        spec = self._spec
        asks = spec.may_serve and not spec.must_serve and not self._plan.complete
        return asks and not spec.shadow and not spec.trust.manual and not self._store.away

    async def share(self, patience: float) -> None:
        """Lead equal runs, or wait for who does; then look up what has come meanwhile."""
        code = self._definition.code.identity
        name = lease_name(self._definition.name, self._spec.task.key, code)
        if is_led_here(name):
            return
        single_flight = self._session.single_flight
        lead = await single_flight.join(self._store, name, patience, self._waits)
        self._lead = lead or self._lead
        await self.look_up()
        if not self.may_share:
            self._lead.end()

    async def _waits(self) -> None:
        if self._waits_since is not None:
            return
        self._waits_since = time.perf_counter()
        name, task = self._definition.name, self._spec.task.key
        _log.debug("a run of %s waits for an equal one: task %s", name, task)
        if self._session.events.listeners:
            self._session.events.emit(RunWaits(task, name))
        if self._wish is None:
            self._left = await left_wishes(self._session, self._store, self._spec)

    # What its caller makes of it ----------------------------------------------------------

    async def choose(self) -> None:
        """Go by what the caller asks for, where not all can be served. Raises NotReplayable."""
        if self._spec.must_serve and not self._plan.complete:
            raise NotReplayable(self._plan.causes)
        if self._spec.on_partial is not None and not self._spec.shadow:
            await self._choose(self._spec.on_partial)

    async def _choose(self, on_partial: OnPartial) -> None:
        expected = self.foreseen()
        if expected.mode is not Mode.PARTIAL:
            return
        match await choice(on_partial, expected):
            case "live":
                self._spec = replace(self._spec, resume=False)
                self._plan = no_plan(*expected.causes)
            case "stop":
                raise NotReplayable(expected.causes, partial=True)
        self._spec = replace(self._spec, on_partial=None)

    def foreseen(self) -> RunPlan:
        """What the run would do now."""
        return foreseen(self._plan, self._definition, self._spec.task.key, self._session.reads)

    async def run(self) -> Run:
        """The run itself, which begins now."""
        store, spec, since = self._store, self._spec, self._waits_since
        run = Run(
            self._session,
            store,
            self._definition,
            spec,
            plan=self._plan,
            wish=self._wish or await self._wish_of_none(),
            lead=self._lead,
            waited_ms=0.0 if since is None else (time.perf_counter() - since) * 1000,
        )
        await look_again(run)
        return run

    async def _wish_of_none(self) -> RunWish:
        """The wish of a run that has no id."""
        if self._plan.from_memory or self._store.away:  # then no run of the task is unfinished
            return fresh(self._spec, self._execution)
        session, store, spec = self._session, self._store, self._spec
        return await take_up(session, store, spec, self._execution, self._was_left)

    def _was_left(self, wish: Wish) -> bool:
        """Whether the run that holds a wish was at work no more when this one was called: else they
        are about two wishes, whatever has become of that one since."""
        if wish.execution in self._beside:
            return False
        return self._left is None or (wish.key, wish.execution) in self._left
