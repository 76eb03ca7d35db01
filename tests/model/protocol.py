"""What the stores do, statement by statement, as processes for the model checker.

Statements have the names that they have in ``graphstore/neo4j/*.cypher``; on SQLite each
transaction is one step, whatever statements it is made of. Places of the store:

- ``now``: the store's clock, 0 or 1;
- ``r.current``, ``r.until``: of the resource ``r``; ``r.facet``: its only facet is there;
- ``r.1``: version 1 of it is visible: its document. ``r.1.holds``: the fingerprint that it HOLDS;
- ``e.state``, ``e.manifest``, ``e.decided``, ``e.mark``: of the execution; ``e.step.0``: a step,
  ``e.guard.0``: what guards it. ``e.payload``: what a step names. ``x.state``: of another
  execution of the task, which has the same answer.

A document is a letter, and more: the letter is the fingerprint of its facet.

``NEO4J`` says which of them each method of ``GraphStore`` runs; ``wishes.py`` has those about who
holds a wish.

Left out, because they decide nothing: ``r.state`` and ``v.withdrawn`` (a version tells whether it
is withdrawn, and what is withdrawn holds nothing); properties of the same node of which the
reader needs both (a version that lacks one is not there yet, a trace that lacks one is damaged).

``Rules`` are what makes it sound: each may be broken, to see that the checker finds out.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, NamedTuple

from .checker import END, Again, Answer, Begin, Commit, Lock, Op, Passed, Read

__all__ = [
    "ALWAYS",
    "MANIFEST",
    "NEO4J",
    "NOT_MODELLED",
    "WITHDRAWN",
    "Accepted",
    "Fact",
    "Facts",
    "Intended",
    "Published",
    "Rules",
    "Search",
    "approve",
    "changes",
    "clock",
    "collect",
    "facts",
    "intend",
    "lookup",
    "record",
    "reject",
    "renew",
    "retry_publish",
    "still",
    "unpublish",
    "walk",
    "write_trace",
]

Steps = Generator[Op, Any, None]

WITHDRAWN = "withdrawn"
ALWAYS = 9  # later than any moment of the model
LAST_VERSION = 4
TRIES = 2

#: What a trace is: each step, with its guard. Its execution says so in one property.
MANIFEST = (("r", "A"), ("s", "A"))


#: By method, the statements of ``graphstore/neo4j`` that it runs.
NEO4J: dict[str, frozenset[str]] = {
    "change": frozenset({"before_change", "change", "document", "hold", "renew"}),
    "renew": frozenset({"renew"}),
    "read_facts": frozenset({"read_facts"}),
    "facts": frozenset({"read_facts", "document", "hold"}),
    "hold": frozenset({"hold"}),
    "lookup": frozenset({"lookup", "confirm", "document", "hold"}),
    "still": frozenset({"still"}),
    "intend": frozenset({"intend"}),
    "write": frozenset({"write"}),
    "unbroken": frozenset({"unbroken"}),
    "publish": frozenset({"publish"}),
    "approve": frozenset({"publish"}),
    "reject": frozenset({"reject"}),
    "unpublish": frozenset({"unpublish"}),
    "claim": frozenset({"claim", "take_over"}),
    "attempts": frozenset({"attempts"}),
    "end_wish": frozenset({"end_wish"}),
}

#: Those that the model leaves out, and why.
NOT_MODELLED: dict[str, str] = {
    "event": "tells whether a change whose answer was lost was made: its number is its own",
    "due": "lists what expire looks at again, under the lock",
    "expire": "records an expiry, for people and marks; facts expire by the clock",
    "changes": "tells people and watchers",
    "changes_of_resource": "tells people and watchers",
    "current_at": "tells of an earlier version; what held since is counted by `unbroken`",
    "resources_of_source": "tells a watcher what to look for",
    "selectors": "tells a forecast which facets there are",
    "lease": "what a lease protects is right without",
    "holder": "what a lease protects is right without",
    "release": "what a lease protects is right without",
    "values": "payloads are compared with their digests",
    "rejected": "tells people why an effect did not begin",
    "execution": "tells people, and the walker, what was recorded",
    "effects": "tells people",
    "effect": "tells people",
    "end_effect": "keeps what an effect gave; that it began is kept by `intend`",
    "task": "tells people",
    "journal": "keeps what was decided until its run ends; a lookup's rules say what is served",
    "unfinished": "a decision in it is judged by `read_facts` and `unbroken`, as one of a trace is",
    "wish": "tells why an effect did not begin",
    "renew_wishes": "tells who is at work; what that protects is checked by `intend`",
    "age_wishes": "what is dropped is another wish when it is called again",
    "forget_journal": "what is dropped is asked again",
    "age_journal": "what is dropped is asked again",
    "write_replays": "what is written of a replay is never looked up",
    "note_running": "tells what runs have paid that have not ended; they are no traces",
}


@dataclass(frozen=True)
class Rules:
    """Each rule on which soundness rests."""

    reads_twice: bool = True
    pairs_by_own_number: bool = True
    current_version_only: bool = True
    decides_by_facts: bool = True
    publishes_apart: bool = True
    compares_manifest: bool = True
    unpublishes_first: bool = True
    decides_once: bool = True
    holds_under_lock: bool = True
    asks_still: bool = True
    changes_under_lock: bool = True
    checks_current: bool = True
    compares_every_version: bool = True
    confirms_every_version: bool = True
    notes_before: bool = True
    intends_by_facts: bool = True
    rejects_under_lock: bool = True
    unpublishes_under_lock: bool = True


# What calls give ---------------------------------------------------------------------------


class Fact(NamedTuple):
    """A resource's version, what that holds, and whether it may be believed."""

    resource: str
    version: int
    holds: str | None
    present: bool
    believed: bool


class Accepted(NamedTuple):
    """A trace, and the facts by which it was judged. ``trace`` None: as it was remembered."""

    facts: tuple[Fact, ...]
    trace: tuple[Any, ...] | None


class Facts(NamedTuple):
    """What ``GraphStore.facts`` gives of one resource."""

    fact: Fact


class Intended(NamedTuple):
    """An effect that was let begin, because these versions were expected and found."""

    facts: tuple[Fact, ...]


class Published(NamedTuple):
    """A step that was published, guarded by what was noted before it."""

    fact: Fact


def fingerprint(document: str) -> str:
    """What a document says of the facet."""
    return document[0]


# Facts -------------------------------------------------------------------------------------


def changes(rules: Rules, r: str, documents: tuple[str, ...], until: int | None = None) -> Steps:
    """``GraphStore.change``, with one document after another.

    ``until``: how long they may be believed; None: it is as it was, and is not written.
    """
    if not documents:
        return
    document, *later = documents
    again = Again(changes, (rules, r, documents, until))
    current = yield Read("before_change", f"{r}.current")
    before = yield Read("before_change", f"{r}.{current}")
    facet = yield Read("before_change", f"{r}.facet")
    held = yield Read("before_change", f"{r}.{current}.holds")
    yield END
    if before is None:
        yield again
    if facet and held is None and before != WITHDRAWN:
        yield from _hold(rules, r, current, before)
        yield again
    if before == document:
        yield Again(changes, (rules, r, tuple(later), until))
    if rules.changes_under_lock:
        yield Lock("change", r)
    now = yield Read("change", f"{r}.current")
    facet_now = yield Read("change", f"{r}.facet")
    if rules.checks_current and (now, facet_now) != (current, facet):
        yield Commit("change", ())
        yield again
    n = current + 1
    parts: list[tuple[str, Any]] = [(f"{r}.{n}", document), (f"{r}.current", n)]
    if until is not None:
        parts.append((f"{r}.until", until))
    if facet and document != WITHDRAWN:
        parts.append((f"{r}.{n}.holds", fingerprint(document)))
    yield Commit("change", tuple(parts))
    yield Again(changes, (rules, r, tuple(later), until))


def renew(rules: Rules, r: str, noted: int, until: int) -> Steps:
    """``GraphStore.renew``: believe the version that was noted for another while."""
    yield Lock("renew", r)
    current = yield Read("renew", f"{r}.current")
    yield Commit("renew", ((f"{r}.until", until),) if current == noted else ())


def clock(rules: Rules) -> Steps:
    """Time passes: what is believed until 1 has expired."""
    yield Commit("clock", (("now", 1),))


def _hold(rules: Rules, r: str, version: int, document: str) -> Steps:
    """``GraphStore.hold``: a facet added late, and what this version holds of it."""
    if rules.holds_under_lock:
        yield Lock("hold", r)
    there = yield Read("hold", f"{r}.{version}")
    facet = yield Read("hold", f"{r}.facet")
    held = yield Read("hold", f"{r}.{version}.holds")
    parts: list[tuple[str, Any]] = [] if facet else [(f"{r}.facet", True)]
    if there not in (None, WITHDRAWN) and held is None:
        parts.append((f"{r}.{version}.holds", fingerprint(document)))
    yield Commit("hold", tuple(parts))


def _compute(rules: Rules, r: str) -> Steps:
    """``GraphStore._compute``: the facet of the current version, which nobody required before."""
    current = yield Read("document", f"{r}.current")
    document = yield Read("document", f"{r}.{current}")
    yield END
    if document not in (None, WITHDRAWN):
        yield from _hold(rules, r, current, document)


def _read_fact(
    rules: Rules, statement: str, r: str, now: int
) -> Generator[Op, Any, tuple[Fact, bool] | None]:
    """A resource's fact, and whether its facet is to be computed; None: not visible yet."""
    current = yield Read(statement, f"{r}.current")
    document = yield Read(statement, f"{r}.{current}")
    until = yield Read(statement, f"{r}.until")
    if document is None:
        return None
    held = yield Read(statement, f"{r}.{current}.holds")
    if not rules.pairs_by_own_number:
        current = yield Read(statement, f"{r}.current")
    present = document != WITHDRAWN
    return Fact(r, current, held, present, present and now < until), present and held is None


def facts(rules: Rules, r: str) -> Steps:
    """``GraphStore.facts``: read, and compute what is missing."""
    yield Begin()
    now = yield Read("read_facts", "now")
    found = yield from _read_fact(rules, "read_facts", r, now)
    yield END
    if found is None:
        yield Again(facts, (rules, r))
    assert found is not None
    fact, missing = found
    if missing:
        yield from _compute(rules, r)
        yield Again(facts, (rules, r))
    yield Answer(Facts(fact))


# Looking up --------------------------------------------------------------------------------


class Search(NamedTuple):
    """What a lookup has learned from its earlier tries.

    ``suspect``: a trace was seen in part; ``asked``: facets that it has had computed.
    ``remembers``: goes on with ``still``, if the trace stands.
    """

    tries: int = TRIES
    suspect: bool = False
    asked: frozenset[tuple[str, int]] = frozenset()
    remembers: bool = False


def lookup(rules: Rules, search: Search = Search()) -> Steps:  # noqa: B008  (immutable)
    """``GraphStore.lookup``: read, and confirm that nothing moved meanwhile."""
    yield Begin()
    trace = yield from _read_trace(rules)
    if trace is None:
        return
    if trace != MANIFEST and rules.compares_manifest:
        yield END
        if not search.suspect:
            yield Again(lookup, (rules, search._replace(suspect=True)))
        return
    found = yield from _read_guards(rules, trace)
    yield END
    if found is None:
        yield _once_more(rules, search)
        return
    missing = {(fact.resource, fact.version) for fact, missing in found if missing}
    if missing - search.asked:
        for r, _ in sorted(missing):
            yield from _compute(rules, r)
        yield Again(lookup, (rules, search._replace(asked=search.asked | missing)))
    facts = yield from _confirmed(rules, tuple(fact for fact, _ in found))
    if facts is None:
        yield _once_more(rules, search)
        return
    yield Answer(Accepted(facts, trace))
    stands = all(it.believed and (it.resource, it.holds) in MANIFEST for it in facts)
    if stands and search.remembers:
        yield Again(still, (rules, facts))


def _once_more(rules: Rules, search: Search) -> Again:
    if search.tries > 1:
        return Again(lookup, (rules, search._replace(tries=search.tries - 1)))
    return Again(nothing, ())


def nothing() -> Steps:
    """No more."""
    yield END


def _read_trace(rules: Rules) -> Generator[Op, Any, tuple[Any, ...] | None]:
    """The steps and guards of the execution, if it is published."""
    if (yield Read("lookup", "e.state")) != "published":
        yield END
        return None
    manifest = yield Read("lookup", "e.manifest")
    read = []
    for position in range(len(MANIFEST)):
        step = yield Read("lookup", f"e.step.{position}")
        guard = yield Read("lookup", f"e.guard.{position}")
        if step is not None:
            read.append(guard)
    if manifest is None and rules.compares_manifest:
        return ()
    return tuple(read)


def _read_guards(
    rules: Rules, trace: tuple[Any, ...]
) -> Generator[Op, Any, list[tuple[Fact, bool]] | None]:
    """The facts by which the guards are judged; None: one is not visible yet."""
    now = yield Read("lookup", "now")
    found = []
    for r in sorted({guard[0] for guard in trace if guard is not None}):
        found.append((yield from _read_guard(rules, r, now, trace)))  # noqa: PERF401
    whole = [it for it in found if it is not None]
    return whole if len(whole) == len(found) else None


def _read_guard(
    rules: Rules, r: str, now: int, trace: tuple[Any, ...]
) -> Generator[Op, Any, tuple[Fact, bool] | None]:
    """The fact by which the guards on ``r`` are judged."""
    if not rules.decides_by_facts:
        mark = yield Read("lookup", "e.mark")
        return Fact(r, 1, None if mark else dict(trace)[r], True, True), False
    if not rules.current_version_only:
        current = yield Read("lookup", f"{r}.current")
        for n in range(1, current + 1):
            if (held := (yield Read("lookup", f"{r}.{n}.holds"))) == dict(trace)[r]:
                return Fact(r, current, held, True, True), False
    return (yield from _read_fact(rules, "lookup", r, now))


def _confirmed(rules: Rules, read: tuple[Fact, ...]) -> Generator[Op, Any, tuple[Fact, ...] | None]:
    """The facts as they are now, if what was read of them has been so since; else None."""
    if not rules.reads_twice or not rules.decides_by_facts:
        return read
    now = yield Read("confirm", "now")
    after = []
    for fact in read:
        current = yield Read("confirm", f"{fact.resource}.current")
        until = yield Read("confirm", f"{fact.resource}.until")
        held = yield from _held_since(rules, fact, current)
        if not held or (fact.present and now < until) != fact.believed:
            yield END
            return None
        after.append(fact._replace(version=current))
    published = (yield Read("confirm", "e.state")) == "published"
    yield END
    return tuple(after) if published else None


def _held_since(rules: Rules, fact: Fact, current: int) -> Generator[Op, Any, bool]:
    """Whether each version since then, up to the current one, holds the same."""
    since = range(fact.version + 1, current + 1)
    for n in since if rules.confirms_every_version else since[-1:]:
        held = yield Read("confirm", f"{fact.resource}.{n}.holds")
        if held is None or held != fact.holds:
            return False
    return True


def still(rules: Rules, accepted: tuple[Fact, ...]) -> Steps:
    """``GraphStore.still``: whether what was accepted by a lookup is so now."""
    yield Passed("remembers the trace")
    yield Begin()
    if rules.asks_still:
        now = yield Read("still", "now")
        for fact in accepted:
            current = yield Read("still", f"{fact.resource}.current")
            until = yield Read("still", f"{fact.resource}.until")
            if current != fact.version or now >= until:
                yield END
                return
        published = (yield Read("still", "e.state")) == "published"
        yield END
        if not published:
            return
    else:
        yield Passed("asks nobody")
    yield Answer(Accepted(accepted, None))


# Effects -----------------------------------------------------------------------------------


def intend(rules: Rules, resources: tuple[str, ...]) -> Steps:
    """Notes, and then ``GraphStore.intend``: the check and the intent are one statement."""
    noted = []
    now = yield Read("read_facts", "now")
    for r in resources:
        found = yield from _read_fact(rules, "read_facts", r, now)
        if found is None or found[1] or not found[0].believed:
            yield END
            return
        noted.append(found[0])
    yield END
    yield Passed("the model thinks")
    yield Begin()
    now = yield Read("intend", "now")
    for fact in noted:
        current = yield Read("intend", f"{fact.resource}.current")
        held = fact.holds
        if current != fact.version and rules.intends_by_facts:
            held = yield Read("intend", f"{fact.resource}.{current}.holds")
        until = yield Read("intend", f"{fact.resource}.until")
        if held != fact.holds or now >= until:
            yield END
            return
    yield Commit("intend", (("effect", True),))
    yield Answer(Intended(tuple(noted)))


# Recording ---------------------------------------------------------------------------------


def record(rules: Rules, r: str = "r") -> Steps:
    """A run of one step that rests on ``r``: noted, done, written, and published if not torn."""
    if not rules.notes_before:
        yield from _step()
    now = yield Read("read_facts", "now")
    found = yield from _read_fact(rules, "read_facts", r, now)
    yield END
    if found is None:
        yield Again(record, (rules, r))
    assert found is not None
    fact, missing = found
    if missing:
        yield from _compute(rules, r)
        yield Again(record, (rules, r))
    if not fact.believed:
        return
    if rules.notes_before:
        yield from _step()
    current = yield Read("write", f"{r}.current")
    yield Commit("write", (("e.step.0", True), ("e.guard.0", (r, fact.holds))))
    if (yield from _is_torn(rules, fact, current)):
        return
    yield from _publish(rules)
    yield Answer(Published(fact))


def _step() -> Steps:
    yield Begin()
    yield Passed("the step begins")
    yield Passed("the step is done", last=True)


def _is_torn(rules: Rules, fact: Fact, current: int) -> Generator[Op, Any, bool]:
    """``GraphStore.unbroken``: whether some version since then does not hold what was noted."""
    since = range(fact.version + 1, current + 1)
    for n in since if rules.compares_every_version else since[-1:]:
        if (yield Read("unbroken", f"{fact.resource}.{n}.holds")) != fact.holds:
            yield END
            return True
    yield END
    return False


def _publish(rules: Rules) -> Steps:
    """``GraphStore.publish``: decided once, under the task's lock."""
    yield Lock("publish", "task")
    yield Lock("publish", "e")
    decided = yield Read("publish", "e.decided")
    state = yield Read("publish", "e.state")
    answer = yield Read("publish", "x.state")
    fresh = state is not None and (decided is None or not rules.decides_once)
    parts = (("e.state", "published"), ("e.manifest", MANIFEST), ("e.decided", True))
    if answer == "rejected":
        parts = (("e.state", "rejected"), ("e.manifest", MANIFEST), ("e.decided", True))
    yield Commit("publish", parts if fresh else ())


def write_trace(rules: Rules) -> Steps:
    """``GraphStore.write`` and ``publish`` of a whole trace."""
    parts: list[tuple[str, Any]] = []
    for position, guard in enumerate(MANIFEST):
        parts += [(f"e.step.{position}", True), (f"e.guard.{position}", guard)]
    if not rules.publishes_apart:
        parts += [("e.state", "published"), ("e.manifest", MANIFEST), ("e.decided", True)]
        yield Commit("write", tuple(parts))
        return
    yield Commit("write", (*parts, ("e.state", "unpublished")))
    yield from _publish(rules)


def retry_publish(rules: Rules) -> Steps:
    """``publish`` once more, by somebody who got no answer."""
    yield from _publish(rules)


# Verdicts ----------------------------------------------------------------------------------


def approve(rules: Rules) -> Steps:
    """``GraphStore.approve``: ``publish`` of what waits for it."""
    yield Lock("publish", "task")
    yield Lock("publish", "e")
    waits = (yield Read("publish", "e.state")) == "unapproved"
    parts = (("e.state", "published"), ("e.manifest", MANIFEST), ("e.decided", True))
    yield Commit("publish", parts if waits else ())


def reject(rules: Rules, execution: str) -> Steps:
    """``GraphStore.reject`` of ``e``, or of ``x``, which has the same answer."""
    if rules.rejects_under_lock:
        yield Lock("reject", "task")
    state = yield Read("reject", "e.state")
    parts: list[tuple[str, Any]] = [(f"{execution}.state", "rejected")]
    if execution == "e":
        parts += [("e.decided", True)]
    elif state in ("published", "unapproved"):
        parts += [("e.state", "rejected"), ("e.decided", True)]
    if not rules.rejects_under_lock:
        yield END
    yield Lock("reject", "e")
    yield Commit("reject", tuple(parts))


# Retention ---------------------------------------------------------------------------------


def unpublish(rules: Rules) -> Steps:
    """``GraphStore.unpublish``: no lookup that begins later accepts the trace."""
    if rules.unpublishes_under_lock:
        yield Lock("unpublish", "e")
    state = yield Read("unpublish", "e.state")
    if not rules.unpublishes_under_lock:
        yield END
    gone = (("e.state", "unpublished"), ("e.decided", True))
    yield Commit("unpublish", gone if state in ("published", "unapproved") else ())


def collect(rules: Rules) -> Steps:
    """``GraphStore.collect``: unpublish; and in a later transaction, delete."""
    if rules.unpublishes_first:
        yield Lock("expel", "e")
        state = yield Read("expel", "e.state")
        expelled = (("e.state", "unpublished"),) if state == "published" else ()
        yield Commit("expel", expelled)
    yield Lock("delete_executions", "e")
    state = yield Read("delete_executions", "e.state")
    parts: list[tuple[str, Any]] = [("e.state", None), ("e.manifest", None)]
    for position in range(len(MANIFEST)):
        parts += [(f"e.step.{position}", None), (f"e.guard.{position}", None)]
    deletes = state == "unpublished" or not rules.unpublishes_first
    yield Commit("delete_executions", tuple(parts) if deletes else ())


def walk(rules: Rules, r: str) -> Steps:
    """``GraphStore.walk``: some time after a change, the step is marked."""
    current = yield Read("walk", f"{r}.current")
    held = yield Read("walk", f"{r}.{current}.holds")
    yield Commit("walk", (("e.mark", held != dict(MANIFEST)[r]),))
