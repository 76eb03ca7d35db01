"""The systems that are explored: who runs on the store at the same time, and from where."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from . import properties
from .checker import Process, System
from .protocol import (
    ALWAYS,
    LAST_VERSION,
    MANIFEST,
    WITHDRAWN,
    Rules,
    Search,
    approve,
    changes,
    clock,
    collect,
    facts,
    intend,
    lookup,
    record,
    reject,
    renew,
    retry_publish,
    unpublish,
    walk,
    write_trace,
)

_EXECUTION = ("e.state", "e.manifest", "e.decided")
_DECIDING = frozenset({"task", "e"})  # locks
_STEPS = tuple(f"e.{what}.{it}" for it in range(len(MANIFEST)) for what in ("step", "guard"))
_WRITTEN = frozenset([*_EXECUTION, *_STEPS])
_VERDICT = frozenset({"e.state", "e.decided"})


def store(
    *,
    published: bool = True,
    facet: bool = True,
    until: int = ALWAYS,
    of: str = "r",
    document: str = "A",
    versions: int = 3,
) -> dict[str, Hashable]:
    """Both resources at version 1, which is A; and a trace that rests on both being so.

    ``document``: what r is instead. ``of``: the resource that is believed ``until`` then.
    """
    found: dict[str, Hashable] = {"now": 0, "effect": None, "e.mark": None, "gone": None}
    found["x.state"] = None
    found["versions"] = versions
    for r in ("r", "s"):
        found |= {f"{r}.current": 1, f"{r}.until": ALWAYS, f"{r}.facet": True, f"{r}.renews": None}
        for n in range(1, versions + 1):
            found |= {f"{r}.{n}": None, f"{r}.{n}.holds": None, f"{r}.{n}.owes": None}
            found |= {f"{r}.{n}.until": None, f"{r}.{n}.is": None}
        found |= {f"{r}.1": "A", f"{r}.1.holds": "A", f"{r}.1.until": ALWAYS, f"{r}.1.is": "A"}
    found |= {f"{of}.until": until, f"{of}.1.until": until}
    found |= {"r.1": document, "r.1.is": document, "r.1.holds": document}
    if not facet:
        found |= {"r.facet": None, "r.1.holds": None}
    found |= dict.fromkeys(sorted(_WRITTEN))
    if published:
        found |= {"e.state": "published", "e.manifest": MANIFEST, "e.decided": True}
        for position, guard in enumerate(MANIFEST):
            found |= {f"e.step.{position}": True, f"e.guard.{position}": guard}
    return found


def _system(initial: dict[str, Hashable], *processes: Process, **more: Any) -> System:
    return System(
        store=initial,
        processes=processes,
        moment=properties.moment,
        allowed=more.pop("allowed", properties.allowed),
        immutable=properties.immutable(),
        written=properties.written,
        ended=properties.ended,
        committed=properties.committed,
        ghost=properties.ghost,
        **more,
    )


def _changer(
    rules: Rules, r: str, *documents: str, until: int | None = None, **more: Any
) -> Process:
    versions = [f"{r}.{n}" for n in range(1, LAST_VERSION + 1)]
    writes = {f"{r}.current", f"{r}.facet", *versions, *(f"{it}.holds" for it in versions)}
    if until is not None:
        writes.add(f"{r}.until")
    return Process(
        more.pop("name", f"changer of {r}"),
        changes,
        (rules, r, documents, until),
        writes=frozenset(writes),
        locks=frozenset([r]),
        **more,
    )


def _reader(name: str, program: Any, *arguments: Any, late: bool = False, **more: Any) -> Process:
    """``late``: it may have to add the facet of r."""
    holds = {f"r.{n}.holds" for n in range(1, LAST_VERSION + 1)}
    writes = frozenset({"r.facet", *holds} if late else ())
    locks = frozenset(["r"] if late else ())
    more = {"writes": writes | more.pop("writes", frozenset()), **more}
    return Process(name, program, arguments, locks=locks | more.pop("locks", frozenset()), **more)


# Systems -----------------------------------------------------------------------------------


def looking_up(rules: Rules, **more: Any) -> System:
    """A lookup while both resources change there and back."""
    return _system(
        store(),
        _reader("lookup", lookup, rules),
        _changer(rules, "r", "B", "A"),
        _changer(rules, "s", "B", "A"),
        **more,
    )


def changing_other_facets(rules: Rules, **more: Any) -> System:
    """A lookup while what changes is not what the trace rests on; or is so only in between."""
    return _system(
        store(),
        _reader("lookup", lookup, rules),
        _changer(rules, "r", "A other", "A"),
        _changer(rules, "s", "B", "A"),
        **more,
    )


def flapping(rules: Rules, **more: Any) -> System:
    """A single try to look up while two resources go there and back, one against the other."""
    return _system(
        store(document="B", versions=LAST_VERSION),
        _reader("lookup", lookup, rules, Search(tries=1)),
        _changer(rules, "r", "A", "B", "A"),
        _changer(rules, "s", "B", "A", "B"),
        **more,
    )


def withdrawing(rules: Rules, **more: Any) -> System:
    """A lookup while a resource is withdrawn and comes back, and the other one changes."""
    return _system(
        store(),
        _reader("lookup", lookup, rules),
        _changer(rules, "r", WITHDRAWN, "A"),
        _changer(rules, "s", "B"),
        **more,
    )


def remembering(rules: Rules, **more: Any) -> System:
    """A trace is looked up and remembered, and served again later."""
    return _system(
        store(),
        _reader("reader", lookup, rules, Search(tries=1, remembers=True)),
        _changer(rules, "r", "B", "A"),
        _changer(rules, "s", WITHDRAWN),
        Process("owner", unpublish, (rules,), frozenset({"e.state", "e.decided"}), frozenset("e")),
        **more,
    )


def publishing(rules: Rules, **more: Any) -> System:
    """A trace is written and published while a guard of it changes."""
    return _system(
        store(published=False),
        Process("recorder", write_trace, (rules,), _WRITTEN, _DECIDING, crashes=True),
        _reader("lookup", lookup, rules),
        _changer(rules, "r", "B"),
        **more,
    )


def collecting(rules: Rules, **more: Any) -> System:
    """A published trace is looked up while it is collected, and begins to stand only then."""
    return _system(
        store(document="B"),
        Process("collector", collect, (rules,), _WRITTEN, frozenset("e")),
        _reader("lookup", lookup, rules),
        _changer(rules, "r", "A"),
        **more,
    )


def publishing_twice(rules: Rules, **more: Any) -> System:
    """A publication that is repeated, while its trace is collected."""
    return _system(
        store(published=False),
        Process("recorder", write_trace, (rules,), _WRITTEN, _DECIDING),
        Process("retry", retry_publish, (rules,), _WRITTEN, _DECIDING),
        Process("owner", unpublish, (rules,), _WRITTEN, frozenset("e"), crashes=True),
        **more,
    )


def rejecting(rules: Rules, **more: Any) -> System:
    """A trace is published whose answer is rejected at the same time, with another run of it."""
    return _system(
        {**store(published=False), "x.state": "published"},
        Process("recorder", write_trace, (rules,), _WRITTEN, _DECIDING, crashes=True),
        Process("person", reject, (rules, "x"), _VERDICT | {"x.state"}, _DECIDING),
        _reader("lookup", lookup, rules),
        **more,
    )


def approving(rules: Rules, **more: Any) -> System:
    """What waits is approved by one, rejected by another, and taken back by a third."""
    return _system(
        {**store(), "e.state": "unapproved"},
        Process("first", approve, (rules,), _WRITTEN, _DECIDING, crashes=True),
        Process("second", reject, (rules, "e"), _VERDICT, _DECIDING),
        Process("owner", unpublish, (rules,), _VERDICT, frozenset("e")),
        _reader("lookup", lookup, rules),
        **more,
    )


def adding_late(rules: Rules, **more: Any) -> System:
    """A facet is required for the first time by two processes, while its resource changes."""
    return _system(
        store(facet=False),
        _reader("reader", facts, rules, "r", late=True, crashes=True),
        _reader("lookup", lookup, rules, late=True),
        _changer(rules, "r", "B", crashes=True),
        **more,
    )


def changing_at_once(rules: Rules, **more: Any) -> System:
    """Two processes change the same resource."""
    return _system(
        store(),
        _changer(rules, "r", "B", name="first", crashes=True),
        _changer(rules, "r", "C", name="second", crashes=True),
        _reader("reader", facts, rules, "r"),
        **more,
    )


def recording(rules: Rules, **more: Any) -> System:
    """A step is recorded while what it rests on changes there and back."""
    return _system(
        store(published=False),
        _reader("run", record, rules, writes=_WRITTEN, locks=_DECIDING, crashes=True),
        _changer(rules, "r", "B", "A", crashes=True),
        **more,
    )


def recording_late(rules: Rules, **more: Any) -> System:
    """A step is recorded that rests on a facet which nobody required before."""
    return _system(
        store(published=False, facet=False),
        _reader("run", record, rules, late=True, writes=_WRITTEN, locks=_DECIDING),
        _changer(rules, "r", "B", "A"),
        **more,
    )


def beginning(rules: Rules, **more: Any) -> System:
    """An effect is begun that rests on both resources, while they change."""
    return _system(
        store(),
        _reader("run", intend, rules, ("r", "s"), writes=frozenset({"effect"}), crashes=True),
        _changer(rules, "r", "B", "A"),
        _changer(rules, "s", WITHDRAWN, "A"),
        **more,
    )


def beginning_with_other_facets(rules: Rules, **more: Any) -> System:
    """An effect is begun while what changes is not what it rests on."""
    return _system(
        store(),
        _reader("run", intend, rules, ("r", "s"), writes=frozenset({"effect"})),
        _changer(rules, "r", "A other", "B"),
        _changer(rules, "s", "B", "A"),
        **more,
    )


def expiring(rules: Rules, reader: Any, *arguments: Any, **more: Any) -> System:
    """A resource is believed until 1, and time comes to that; the other one changes."""
    return _system(
        store(until=1),
        _reader("reader", reader, rules, *arguments, writes=frozenset({"effect"})),
        Process("time", clock, (rules,), frozenset({"now"})),
        _changer(rules, "s", "B"),
        **more,
    )


def replacing_expired(rules: Rules, reader: Any, *arguments: Any, **more: Any) -> System:
    """A resource expires, and then changes to what may be believed for ever."""
    return _system(
        store(until=1),
        _reader("reader", reader, rules, *arguments, writes=frozenset({"effect"})),
        Process("time", clock, (rules,), frozenset({"now"})),
        _changer(rules, "r", "B", until=ALWAYS),
        **more,
    )


def renewing(rules: Rules, r: str, reader: Any, *arguments: Any, **more: Any) -> System:
    """A resource expires and is believed again, while the other one changes."""
    other = "s" if r == "r" else "r"
    return _system(
        store(until=1, of=r),
        _reader("reader", reader, rules, *arguments, writes=frozenset({"effect"})),
        Process("time", clock, (rules,), frozenset({"now"})),
        Process("watcher", renew, (rules, r, 1, ALWAYS), frozenset({f"{r}.until"}), frozenset(r)),
        _changer(rules, other, "B"),
        **more,
    )


def marking(rules: Rules, **more: Any) -> System:
    """A resource changes, and a walker marks what rests on it some time later."""
    return _system(
        store(),
        _reader("lookup", lookup, rules),
        _changer(rules, "r", "B"),
        Process("walker", walk, (rules, "r"), frozenset({"e.mark"})),
        **more,
    )
