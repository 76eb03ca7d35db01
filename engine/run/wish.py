"""What a run is about: its wish, under which it may be called again.

A wish is known by the run id, else by the ``idempotency=`` of the call, else by the first run that
was begun for it: if that did not come to its end, the next run of the task takes the wish up. The
idempotency keys of a run's effects are made of its wish, so that they are the same each time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import InitVar, dataclass, field

from ...graphstore.canonical import hash_of
from ...graphstore.model import Attempts, EffectState, SideEffect, Unfinished, Wish, WishState
from ...graphstore.store import RunStore
from ..errors import RunIdReused, RunInProgress, RunLost
from ..outcome.cause import Cause, MissKind
from ..outcome.hiding import shown_target
from ..sessions.process import this_process
from ..sessions.session import Session
from ..task import Task
from .inner_wishes import InnerWishes, Place
from .spec import RunSpec

__all__ = [
    "Returned",
    "RunWish",
    "end_inner",
    "fresh",
    "hold",
    "hold_inside",
    "left_wishes",
    "let_go",
    "take_up",
]

_log = logging.getLogger("execgraph")

_PAUSE_SECONDS = 0.1
_NOTHING = Attempts()


class Returned(Exception):
    """The run of this id has come to its end before. ``wish`` has its result."""

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        super().__init__(f"the run {wish.run_id!r} has ended")


@dataclass
class RunWish:
    """The wish of one run. ``attempts``: what earlier runs have done for it. ``unfinished``: what
    there is of the task's unfinished runs, if it was read. ``told``: what they have begun.
    ``inner``: the wishes of the runs inside the outermost one; ``place``: its own among them, if it
    is inside another one. ``beside``: those that are there already."""

    wish: Wish
    attempts: Attempts = _NOTHING
    unfinished: Unfinished | None = None
    told: Sequence[Cause] = ()
    is_kept: bool = False  # in the store
    place: Place | None = None
    inner: InnerWishes = field(init=False)
    beside: InitVar[InnerWishes | None] = None
    _by_key: Mapping[str, list[SideEffect]] = field(init=False)

    def __post_init__(self, beside: InnerWishes | None) -> None:
        self.inner = beside or InnerWishes(self.wish)
        by_key: dict[str, list[SideEffect]] = {}
        for effect in self.attempts.effects:
            by_key.setdefault(effect.idempotency_key, []).append(effect)
        self._by_key = by_key

    @property
    def execution(self) -> str:
        """The id of the run."""
        return self.wish.execution

    @property
    def run_id(self) -> str | None:
        """What the caller knows the run by; then an effect of it is not begun twice."""
        return self.wish.run_id

    def key(self, tool: str, arguments: str, equal: int) -> str:
        """The idempotency key of a call. ``equal``: how many equal ones came before."""
        return hash_of("idempotency", self.wish.key, tool, arguments, equal)

    def earlier(self, key: str) -> Sequence[SideEffect]:
        """The effects that earlier runs have begun under an idempotency key, and that may have
        happened."""
        begun = self._by_key.get(key, ())
        return [it for it in begun if it.state is not EffectState.NOT_PERFORMED]

    @property
    def begun(self) -> Sequence[SideEffect]:
        """All effects that earlier runs have begun, and that may have happened."""
        return [it for key in self._by_key for it in self.earlier(key)]

    def give_back(self) -> None:
        """The run has failed: if it is about a part of what an outer one is about, the next equal
        one inside that is about the same."""
        if self.place is not None:
            self.inner.give_back(self.place, self.execution)

    def settle(self, ended: SideEffect) -> None:
        """Note what became of an effect that was in doubt."""
        begun = self._by_key.get(ended.idempotency_key, [])
        begun[:] = [ended if it.id == ended.id else it for it in begun]

    def to_keep(self) -> Wish | None:
        """What is to be kept, or checked, with the next effect."""
        return None if self.is_kept and self.run_id is None else self.wish


async def hold(
    session: Session, store: RunStore, spec: RunSpec, run_id: str, execution: str
) -> RunWish:
    """Hold the wish of the run ``execution`` that has a run id.

    Raises Returned if it has come to its end, RunInProgress and RunIdReused.
    """
    wish = _wish(spec, execution, hash_of("run", run_id))
    until = time.monotonic() + spec.wait
    while True:
        kept = await store.claim(wish)
        if kept.task != wish.task:
            raise RunIdReused(run_id, kept.execution)
        if kept.execution == wish.execution:
            return RunWish(wish, is_kept=True)
        if kept.state is WishState.DONE:
            raise Returned(kept)
        if not session.at_work.is_alive(kept):
            kept = await store.claim(wish, over=kept.execution)
            if kept.execution == wish.execution:
                return RunWish(wish, await store.attempts(wish.key), is_kept=True)
        elif time.monotonic() >= until:
            raise RunInProgress(run_id, kept.execution, kept.process)
        else:
            await asyncio.sleep(_PAUSE_SECONDS)


async def hold_inside(
    session: Session, store: RunStore, spec: RunSpec, outer: RunWish, execution: str
) -> RunWish:
    """Hold the wish of the run ``execution`` that is about a part of what the outer one is about.
    Whoever has held it is dead, or has lost the outer one. Raises RunLost if this process has."""
    inner = outer.inner
    if outer.place is not None and inner.has_lost(outer.place, outer.execution):
        raise RunLost(outer.run_id or "")
    place = inner.take(outer.wish.key, spec.task.exact, execution)
    wish = _wish(spec, execution, place.key)
    try:
        attempts = await _take_over(store, wish, inner.outermost)
    except BaseException:
        inner.give_back(place, execution)
        raise
    if inner.ended is None:
        session.at_work.keep(execution)
        inner.hold(wish)
    return RunWish(wish, attempts, is_kept=True, place=place, beside=inner)


async def _take_over(store: RunStore, wish: Wish, outermost: Wish) -> Attempts:
    """Hold a wish inside the outermost one; what runs before have done for it."""
    kept = await store.claim(wish)
    if kept.execution == wish.execution:
        return _NOTHING
    if (await store.claim(outermost)).execution == outermost.execution:
        kept = await store.claim(wish, over=kept.execution)
    if kept.execution != wish.execution:
        raise RunLost(wish.run_id or "")
    return await store.attempts(wish.key)


async def end_inner(
    session: Session, store: RunStore, outermost: RunWish, state: WishState
) -> None:
    """The outermost run has ended, and with it those inside. Raises StoreError."""
    let_go(session, outermost, state)
    for wish in outermost.inner.wishes:
        await store.end_wish(wish._replace(state=state))


def let_go(session: Session, outermost: RunWish, state: WishState) -> None:
    """The runs inside the outermost one are not at work any more, whatever is kept of that."""
    outermost.inner.ended = outermost.inner.ended or state
    for wish in outermost.inner.wishes:
        session.at_work.release(wish.execution)


async def take_up(
    session: Session,
    store: RunStore,
    spec: RunSpec,
    execution: str,
    was_left: Callable[[Wish], bool],
) -> RunWish:
    """The wish of a run without an id. Where a run of the task has not come to its end, its wish is
    taken up, if it ``was_left`` when this one was called, and what was begun for it is told."""
    wish = _wish(spec, execution, _named(spec))
    unfinished, over = await _unfinished(session, store, spec.task)
    attempts = {it.key: await store.attempts(it.key) for it in over}
    told = [cause for it in over for cause in _told(it, attempts[it.key])]
    for it in over:
        named = it.run_id is not None or it.idempotency is not None
        other = named or spec.idempotency is not None or not was_left(it)
        if it.key != wish.key and other:
            continue
        held = wish._replace(key=it.key)
        if (await store.claim(held, over=it.execution)).execution == wish.execution:
            return RunWish(held, attempts[it.key], unfinished, told, is_kept=True)
    return RunWish(wish, unfinished=unfinished, told=told)


async def left_wishes(
    session: Session, store: RunStore, spec: RunSpec
) -> Collection[tuple[str, str]]:
    """The keys of the task's wishes on which nobody is at work, each with the run that was."""
    _, over = await _unfinished(session, store, spec.task)
    return {(it.key, it.execution) for it in over}


async def _unfinished(
    session: Session, store: RunStore, task: Task
) -> tuple[Unfinished, list[Wish]]:
    """What unfinished runs of a task have done, and the wishes of those that are not at work.

    Who is at work is asked after what is kept was read, and it may have come to its end in between:
    then it is not kept any more.
    """
    unfinished = await store.unfinished(task.key, exact=task.exact)
    silent = {
        (it.key, it.execution) for it in unfinished.wishes if not session.at_work.is_alive(it)
    }
    if not silent:
        return unfinished, []
    unfinished = await store.unfinished(task.key, exact=task.exact)
    return unfinished, [it for it in unfinished.wishes if (it.key, it.execution) in silent]


def fresh(spec: RunSpec, execution: str) -> RunWish:
    """The wish of a run of a task of which no other is unfinished."""
    return RunWish(_wish(spec, execution, _named(spec)))


def _named(spec: RunSpec) -> str | None:
    return None if spec.idempotency is None else hash_of("wish", spec.idempotency)


def _wish(spec: RunSpec, execution: str, key: str | None) -> Wish:
    return Wish(
        key=key or execution,
        task=spec.task.exact,
        execution=execution,
        process=this_process(),
        run_id=spec.run_id,
        idempotency=spec.idempotency,
    )


def _told(wish: Wish, attempts: Attempts) -> list[Cause]:
    """What runs that did not come to their end may have done for a wish."""
    begun: dict[str, SideEffect] = {}
    for effect in attempts.effects:  # of those with one key, one that is done if there is one
        known = begun.get(effect.idempotency_key)
        if effect.state is not EffectState.NOT_PERFORMED and (known is None or known.is_in_doubt):
            begun[effect.idempotency_key] = effect
    if not begun:
        return []
    done = "; ".join(
        f"{it.tool} {shown_target(it.target)}"
        f" {'may have been done' if it.is_in_doubt else 'was done'} ({it.id})"
        for it in begun.values()
    )
    named = f", with the run id {wish.run_id!r}," if wish.run_id else ""
    cause = Cause(
        MissKind.UNFINISHED_RUN, f"{wish.execution}{named} did not come to its end: {done}"
    )
    _log.warning("%s. To do: %s", cause, cause.remedy)
    return [cause]
