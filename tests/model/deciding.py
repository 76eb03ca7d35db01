"""Programs that decide and act: which decisions chose a write, and what guards them then (I2, I5).

A program asks, opens what it was told, and acts. What it acts rests on ``r``. The model knows what
is in force when it is asked (``r.truth``); the engine knows only what it noted. An effect is stale
if r was something else when the decision was made that it follows from than when it was checked.

Places beside those of ``protocol``: ``r.1``: when version 1 was made, by the store's clock, and
what it holds; ``r.1.event``: that of its change. ``r.truth``: what may be in force, for whoever
looks from outside: while a change becomes visible, either. ``e.kept``: the run was published;
``e.truth``: what was so when its decision was made. ``e.guard.0``: what guards that of r,
``e.guard.1``: what it inherited of s.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from .checker import END, Again, Answer, Begin, Commit, Lock, Op, Passed, Process, Read, System

__all__ = [
    "Acted",
    "Choice",
    "asking_without_a_note",
    "hiding_an_effect",
    "noting_and_asking",
    "serving",
]

Steps = Generator[Op, Any, None]
_DOCUMENTS = "ABA"  # what each version holds
_VERSIONS = len(_DOCUMENTS)
_LATE = 2  # how much later than its moment a version may become visible, at most
_RESOURCES = ("r", "s")


@dataclass(frozen=True)
class Choice:
    """Each rule of which decisions chose a write. Each may be broken."""

    guards_what_was_opened: bool = True
    refuses_what_was_not_known: bool = True
    allows_for_late_versions: bool = True
    compares_with_what_was_noted: bool = True
    publishes_no_hidden_effect: bool = True
    checks_what_chose: bool = True


class Acted(NamedTuple):
    """An effect that was begun. ``decided``: what r and s may have been when the decision was made
    that it follows from; none of one that it does not rest on."""

    decided: tuple[frozenset[str], frozenset[str]]


Documents = frozenset[str]
_NONE: Documents = frozenset()


# What is done ------------------------------------------------------------------------------


def change(r: str, times: int) -> Steps:
    """``GraphStore.change``, which says when."""
    for document in _DOCUMENTS[1 : times + 1]:
        yield Lock("change", r)
        at = yield Read("change", "now")
        n = 1 + (yield Read("change", f"{r}.current"))
        made = [(f"{r}.current", n), (f"{r}.{n}", (at, document)), (f"{r}.{n}.event", True)]
        yield Commit("change", tuple(made))


def ticks() -> Steps:
    """Time passes."""
    yield Commit("clock", (("now", 2),))


def decide_and_act(rules: Choice, *, notes: bool, hides: bool) -> Steps:
    """A program's first run: it asks, opens the reply, acts, and is published."""
    noted = yield from _note("r")
    asked = yield Read("read_facts", "now")
    yield END
    newest = yield from _newest("r")
    truth: Documents = yield Read("model", "r.truth")
    yield Passed("the model thinks, and the program opens its reply")
    known = yield from _note("r")
    yield END
    decided = truth
    if notes:
        decided |= {noted.holds}
        known = noted if rules.compares_with_what_was_noted else known
    elif rules.refuses_what_was_not_known:
        since = yield from _current_at(rules, "r", asked)
        if not (yield from _unbroken(known, max(since, newest))):
            return  # PreconditionChanged
    yield from _begin(known.holds, (decided, _NONE), None)
    if hides:
        yield Passed("the program does not wait for its act, and ends")
        if rules.publishes_no_hidden_effect:
            return
    current = yield Read("write", "r.current")
    if not (yield from _unbroken(known, current)):
        return  # torn
    opened = rules.guards_what_was_opened and not hides
    parts = [("e.kept", True), ("e.guard.0", known.holds if opened else None), ("e.truth", truth)]
    yield Commit("publish", tuple(parts))
    yield Again(serve, (rules,))


class _Note(NamedTuple):
    resource: str
    version: int
    holds: str


def _note(r: str) -> Generator[Op, Any, _Note]:
    current = yield Read("read_facts", f"{r}.current")
    version = yield Read("read_facts", f"{r}.{current}")
    if version is None:  # not visible yet: read again, as other interleavings do
        yield Again(nothing, ())
    return _Note(r, current, version[1])


def _newest(r: str) -> Generator[Op, Any, int]:
    """``GraphStore.changes``: the newest version that can be seen."""
    newest = 1
    for n in range(2, _VERSIONS + 1):
        if (yield Read("changes", f"{r}.{n}.event")) is not None:
            newest = n
    yield END
    return newest


def _current_at(rules: Choice, r: str, asked: int) -> Generator[Op, Any, int]:
    """The version that was current when the decision was asked, as far as times tell."""
    at = asked - (_LATE if rules.allows_for_late_versions else 0)
    current = yield Read("current_at", f"{r}.current")
    for n in range(1, _VERSIONS + 1):
        version = yield Read("current_at", f"{r}.{n}")
        if version is not None and version[0] > at:
            yield END
            return n - 1
    yield END
    return int(current)


def _unbroken(note: _Note, other: int) -> Generator[Op, Any, bool]:
    """Whether all versions between the one noted and the other one hold what was noted."""
    first, last = sorted((note.version, other))
    for n in range(first, last + 1):
        version = yield Read("unbroken", f"{note.resource}.{n}")
        if version is None or version[1] != note.holds:
            yield END
            return False
    yield END
    return True


def _begin(r_holds: str, decided: tuple[Documents, Documents], s_holds: str | None) -> Steps:
    """``GraphStore.intend``: all that an effect rests on is compared, and it is begun."""
    yield Begin()
    for r, expected in (("r", r_holds), ("s", s_holds)):
        if expected is None:
            continue
        current = yield Read("intend", f"{r}.current")
        version = yield Read("intend", f"{r}.{current}")
        if version is None or version[1] != expected:
            yield END
            yield Again(nothing, ())
    yield Commit("intend", (("effect", True),))
    yield Answer(Acted(decided))


def nothing() -> Steps:
    """No more."""
    yield END


def serve(rules: Choice) -> Steps:
    """A later run: the decision is served if its guards hold; the same act follows from it."""
    kept = yield Read("lookup", "e.kept")
    guard = yield Read("lookup", "e.guard.0")
    inherited = yield Read("lookup", "e.guard.1")
    truth = yield Read("lookup", "e.truth")
    yield END
    if not kept:
        return
    for r, expected in (("r", guard), ("s", inherited)):
        if expected is None:
            continue
        found = yield from _note(r)
        yield END
        if found.holds != expected:
            return  # it is asked again
    yield Passed("a tool takes its time")
    now = yield from _note("r")
    yield END
    decided = (truth, frozenset([inherited]) if inherited else _NONE)
    checked = inherited if rules.checks_what_chose else None
    yield from _begin(now.holds if guard is None else guard, decided, checked)


# Where -------------------------------------------------------------------------------------


def store() -> dict[str, Hashable]:
    """Both resources at version 1, which is A."""
    found: dict[str, Hashable] = {"now": 1, "effect": None}
    for r in _RESOURCES:
        found |= {f"{r}.current": 1, f"{r}.truth": frozenset("A")}
        for n in range(1, _VERSIONS + 1):
            found |= {f"{r}.{n}": None, f"{r}.{n}.event": None}
        found |= {f"{r}.1": (0, "A"), f"{r}.1.event": True}
    return found | dict.fromkeys(("e.kept", "e.guard.0", "e.guard.1", "e.truth"))


def _system(initial: dict[str, Hashable], *processes: Process, **more: Any) -> System:
    return System(
        store=initial,
        processes=processes,
        moment=_moment,
        allowed=_allowed,
        immutable=frozenset(
            f"{r}.{n}{what}"
            for r in _RESOURCES
            for n in range(1, _VERSIONS + 1)
            for what in ("", ".event")
        ),
        ghost=_in_force,
        **more,
    )


def _moment(store: Mapping[str, Any]) -> Hashable:
    """What each resource may be."""
    return tuple(store[f"{r}.truth"] for r in _RESOURCES)


def _in_force(store: Mapping[str, Any], place: str, value: Any) -> Mapping[str, Hashable]:
    """A version is in force when all of it is visible; until then the one before may be, too."""
    r, _, name = place.partition(".")
    if r not in _RESOURCES or name == "truth":
        return {}
    now = {**store, place: value}
    numbers = range(1, _VERSIONS + 1)
    last = max(n for n in numbers if now[f"{r}.{n}"] or now[f"{r}.{n}.event"])
    last = max(last, now[f"{r}.current"])
    whole = (last, True) == (now[f"{r}.current"], now[f"{r}.{last}.event"])
    said = frozenset([_DOCUMENTS[last - 1]])
    if whole and now[f"{r}.{last}"]:
        return {f"{r}.truth": said}
    return {f"{r}.truth": store[f"{r}.truth"] | said}


def _allowed(answer: Any, seen: frozenset[Any], store: Mapping[str, Any]) -> str | None:
    """Why an effect must not have been begun: something that it follows from was decided under
    what was not so any more."""
    assert isinstance(answer, Acted)
    for at, decided in enumerate(answer.decided):
        if decided and not any(moment[at] & decided for moment in seen):
            told = " or ".join(sorted(decided))
            return f"{_RESOURCES[at]} was {told} when it was decided, and not when it was begun"
    return None


def _changer(r: str, times: int) -> Process:
    versions = [f"{r}.{n}{what}" for n in range(2, _VERSIONS + 1) for what in ("", ".event")]
    writes = frozenset([f"{r}.current", f"{r}.truth", *versions])
    return Process(f"changer of {r}", change, (r, times), writes, frozenset([r]))


def _time() -> Process:
    return Process("time", ticks, (), frozenset({"now"}))


_PUBLISHED = frozenset({"effect", "e.kept", "e.guard.0", "e.truth"})


def noting_and_asking(rules: Choice, **more: Any) -> System:
    """What the write rests on is noted before the decision, and changes there and back."""
    return _system(
        store(),
        Process("program", _noting, (rules,), _PUBLISHED),
        _changer("r", 2),
        **more,
    )


def asking_without_a_note(rules: Choice, **more: Any) -> System:
    """A requirement that is known only when the program acts; time passes."""
    return _system(
        store(),
        Process("program", _asking, (rules,), _PUBLISHED),
        _changer("r", 1),
        _time(),
        **more,
    )


def hiding_an_effect(rules: Choice, **more: Any) -> System:
    """A program begins an effect, and ends before that has come to anything."""
    return _system(
        store(),
        Process("program", _hiding, (rules,), _PUBLISHED),
        _changer("r", 2),
        **more,
    )


def serving(rules: Choice, **more: Any) -> System:
    """A served decision inherited s; what it chose rests on r alone."""
    kept = {"e.kept": True, "e.guard.0": "A", "e.guard.1": "A", "e.truth": frozenset("A")}
    return _system(
        store() | kept,
        Process("program", serve, (rules,), frozenset({"effect"})),
        _changer("r", 1),
        _changer("s", 2),
        **more,
    )


def _noting(rules: Choice) -> Steps:
    yield from decide_and_act(rules, notes=True, hides=False)


def _asking(rules: Choice) -> Steps:
    yield from decide_and_act(rules, notes=False, hides=False)


def _hiding(rules: Choice) -> Steps:
    yield from decide_and_act(rules, notes=True, hides=True)
