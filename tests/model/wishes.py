"""Runs of one run id, statement by statement: each takes the others for dead, rightly or wrongly.

Statements have the names that they have in ``graphstore/neo4j``. Places of the store:

- ``wish.holder``: the run that holds the wish; ``wish.done``: the run whose result it has;
- ``effect.k``: the effect with the idempotency key ``k``: the run that began it.

All runs are about the same step, but the model may say something else each time, so that each has
a key of its own. Facts are left out: ``protocol.py`` has what ``intend`` makes of them.

``WishRules`` are what makes it sound: each may be broken, to see that the checker finds out.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from .checker import END, Again, Answer, Begin, Commit, Lock, Op, Passed, Process, Read, System

__all__ = ["Began", "Lost", "WishRules", "calling_again", "calling_at_once"]

_Steps = Generator[Op, Any, None]
_KEYS = ("k", "l", "m")
_WISH = "wish"  # its lock


@dataclass(frozen=True)
class WishRules:
    """Each rule on which it rests that no step of a wish is done twice."""

    claims_under_lock: bool = True
    takes_over_under_lock: bool = True
    reads_attempts: bool = True
    looks_at_wish: bool = True
    locks_wish: bool = True
    ends_what_it_holds: bool = True


@dataclass(frozen=True)
class Began:
    """An effect that was let begin."""

    run: str


@dataclass(frozen=True)
class Lost:
    """An effect that was not: another run holds the wish."""

    run: str


def claim(rules: WishRules, me: str, key: str) -> _Steps:
    """``GraphStore.claim``: hold a wish that is not there yet; else take it over."""
    if rules.claims_under_lock:
        yield Lock("claim", _WISH)
    holder = yield Read("claim", "wish.holder")
    yield Commit("claim", (("wish.holder", me),) if holder is None else ())
    if holder is None:
        yield Again(intend, (rules, me, key))
    yield Again(take_over, (rules, me, key, holder))


def take_over(rules: WishRules, me: str, key: str, over: str) -> _Steps:
    """``GraphStore.claim`` of a wish whose run seems to be dead, and what that has begun."""
    yield Passed(f"nothing is heard of {over}")
    if rules.takes_over_under_lock:
        yield Lock("take_over", _WISH)
    holder = yield Read("take_over", "wish.holder")
    done = yield Read("take_over", "wish.done")
    takes = holder == over and done is None
    yield Commit("take_over", (("wish.holder", me),) if takes else ())
    if not takes:
        return
    begun = []
    for other in _KEYS if rules.reads_attempts else ():
        begun.append((yield Read("attempts", f"effect.{other}")))  # noqa: PERF401
    yield END
    yield Again(end if any(begun) else intend, (rules, me, key))


def intend(rules: WishRules, me: str, key: str) -> _Steps:
    """``GraphStore.intend`` of a run with an id: it looks at the wish under the wish's lock."""
    yield Passed("the model thinks")
    yield Begin()
    if rules.locks_wish:
        yield Lock("intend", _WISH)
    if rules.looks_at_wish and (yield Read("intend", "wish.holder")) != me:
        yield Commit("intend", ())
        yield Answer(Lost(me))
        return
    begun = yield Read("intend", f"effect.{key}")
    yield Commit("intend", ((f"effect.{key}", me),) if begun is None else ())
    yield Answer(Began(me))
    yield Again(end, (rules, me, key))


def end(rules: WishRules, me: str, key: str) -> _Steps:
    """``GraphStore.end_wish``: keep what the run came to, if it still holds the wish."""
    del key
    yield Passed("the run comes to its end")
    yield Lock("end_wish", _WISH)
    holder = yield Read("end_wish", "wish.holder")
    ends = holder == me or not rules.ends_what_it_holds
    yield Commit("end_wish", (("wish.done", me),) if ends else ())


# What must hold ----------------------------------------------------------------------------


def _allowed(answer: Any, seen: frozenset[Any], store: Mapping[str, Any]) -> str | None:
    """Who begins an effect held the wish at some moment of the statement; who lost it did not."""
    del store
    if isinstance(answer, Began) and answer.run not in seen:
        return f"{answer.run} began an effect, and never held the wish meanwhile"
    if isinstance(answer, Lost) and seen == {answer.run}:
        return f"{answer.run} was told that it lost the wish, and held it all the time"
    return None


def _written(store: Mapping[str, Any], place: str, value: Any) -> str | None:
    if place == "wish.holder" and store["wish.done"] is not None:
        return f"{value} took over what {store['wish.done']} had done"
    if place == "wish.done" and store["wish.holder"] != value:
        return f"{value} ended what {store['wish.holder']} holds"
    return None


def _ended(store: Mapping[str, Any]) -> str | None:
    begun = {store[f"effect.{key}"] for key in _KEYS} - {None}
    return f"one step was begun by {sorted(begun)}" if len(begun) > 1 else None


# Systems -----------------------------------------------------------------------------------


def _system(rules: WishRules, keys: Mapping[str, str], holder: str | None, **more: Any) -> System:
    """Runs by name, with the key that each has for the step."""
    store: dict[str, Hashable] = {"wish.holder": holder, "wish.done": None}
    return System(
        store=store | {f"effect.{key}": None for key in _KEYS},
        processes=[
            Process(
                run,
                intend if run == holder else claim,
                (rules, run, key),
                writes=frozenset({"wish.holder", "wish.done", f"effect.{key}"}),
                locks=frozenset({_WISH}),
                crashes=True,
            )
            for run, key in keys.items()
        ],
        moment=lambda store: store["wish.holder"],
        allowed=_allowed,
        immutable=frozenset(f"effect.{key}" for key in _KEYS),
        written=_written,
        ended=_ended,
        **more,
    )


def calling_again(rules: WishRules, **more: Any) -> System:
    """A run is at work, or was, and is called again twice; each time the model says otherwise."""
    return _system(rules, {"first": "k", "second": "l", "third": "m"}, "first", **more)


def calling_at_once(rules: WishRules, **more: Any) -> System:
    """Two are the first to call at the same time, and are told the same by the model, or not."""
    return _system(rules, {"first": "k", "second": "l"}, None, **more)
