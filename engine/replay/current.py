"""What a tool asks of facts while it runs: a document as it is now. Its step rests on that."""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Any, Self

from ...graphstore.facts import Fact, FactState
from ...graphstore.model import FacetRef
from ..errors import NotCurrent
from ..sessions.session import Session
from ..steps.noted_facts import Note, Notes, noted

__all__ = ["FactReads", "current"]

_TRIES = 5  # a document is read after its version, which may move in between


class FactReads:
    """The facts that a tool has read while this context was entered, as notes for its step."""

    __slots__ = ("_before", "notes")

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self._before: Token[FactReads | None] | None = None

    def __enter__(self) -> Self:
        """Note the facts that are read from here on."""
        self._before = _reads.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._before is not None
        _reads.reset(self._before)


_reads: ContextVar[FactReads | None] = ContextVar("execgraph_asking_facts", default=None)


async def current(session: Session, resource: str) -> Any:
    """See ``Engine.current``."""
    store = session.store
    facet = FacetRef(resource, None)
    notes = Notes(store, session.refresh)
    for _ in range(_TRIES):
        facts = await notes.read({resource: {None}})
        fact = facts.of(resource)
        document = await store.document(resource) if fact.believed(facts.now) else None
        if document is not None and document[0] != fact.version:
            continue
        if (reads := _reads.get()) is not None:
            reads.notes.append(noted(store.namespace, facet, facts))
        if document is None:
            raise NotCurrent(resource, _why_not(fact))
        return document[1].content
    raise NotCurrent(resource, "changes without pause")


def _why_not(fact: Fact) -> str:
    match fact.state:
        case FactState.ABSENT:
            return "was never observed"
        case FactState.WITHDRAWN:
            return "was withdrawn"
        case FactState.PRESENT:
            return "has expired"
