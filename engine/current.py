"""What a tool asks of facts while it runs: a document as it is now. Its step rests on that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ..graphstore.canonical import Json
from ..graphstore.facts import Fact, FactState
from ..graphstore.model import FacetRef
from .errors import NotCurrent
from .notes import Note, Notes, noted
from .session import Session

__all__ = ["Asking", "asking_facts", "current"]

_TRIES = 5  # a document is read after its version, which may move in between


class Asking:
    """The facts that one action has asked for, as they were noted then."""

    def __init__(self) -> None:
        self.notes: list[Note] = []


_asking: ContextVar[Asking | None] = ContextVar("execgraph_asking_facts", default=None)


@contextmanager
def asking_facts() -> Iterator[Asking]:
    """While a tool runs, what it asks of facts is noted for its step."""
    token = _asking.set(asking := Asking())
    try:
        yield asking
    finally:
        _asking.reset(token)


async def current(session: Session, resource: str) -> Json:
    """See ``Engine.current``."""
    store, namespace = session.store, session.namespace
    facet = FacetRef(resource, None)
    notes = Notes(store, namespace, session.refresh)
    for _ in range(_TRIES):
        facts = await notes.read({resource: {None}})
        fact = facts.of(resource)
        found = await store.document(namespace, resource) if fact.believed(facts.now) else None
        if found is not None and found[0] != fact.version:
            continue
        if (asking := _asking.get()) is not None:
            asking.notes.append(noted(namespace, facet, facts))
        if found is None:
            raise NotCurrent(resource, _why_not(fact))
        return found[1].content
    raise NotCurrent(resource, "changes without pause")


def _why_not(fact: Fact) -> str:
    match fact.state:
        case FactState.ABSENT:
            return "was never observed"
        case FactState.WITHDRAWN:
            return "was withdrawn"
        case FactState.PRESENT:
            return "has expired"
