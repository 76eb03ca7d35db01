"""Examining a graph: what is wrong with it, and what to do.

A lookup checks what it reads, and does not replay what is damaged. This looks at all of it: each
trace against its manifest, each payload against its digest, each fact against the document that
it was computed from.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import NamedTuple

from ...graphstore.document import Document
from ...graphstore.errors import PayloadCorrupted, StoreError
from ...graphstore.facts import Fact, Facts, FactState
from ...graphstore.finding import Finding, Level
from ...graphstore.model import ExecutionState, SideEffect, Trace
from ...graphstore.store import GraphStore
from ...graphstore.urls import options_for
from ..model.client import chat_client
from ..outcome.hiding import shown_target
from ..sessions.process import is_dead
from .generalise import Look, generalise

__all__ = ["Look", "examine"]

_PAGE = 500
_LISTED = 100  # by a store, of open walks and of effects in doubt
_NAMED = 5  # of those that are damaged
_RUNS = 200  # of each agent, that are compared
_CLOCK_MS = 60_000
_ANEW = (
    "nothing has to be done: it is never replayed, and the next run records it anew. Check the"
    " disk, and who else writes to the store"
)


async def examine(
    store: GraphStore, look: Look = lambda _what, _done: None
) -> AsyncIterator[Finding]:
    """Examine an open store, and the graph of one namespace in it. Changes nothing but what a
    lookup does."""
    for finding in await store.examine():
        yield finding
    for about, part in _PARTS.items():
        try:
            yield await part(store, look)
        except StoreError as error:
            yield Finding(Level.ERROR, about, f"they cannot be examined: {error}", "see above")


# What is recorded -------------------------------------------------------------------------


async def _traces(store: GraphStore, look: Look) -> Finding:
    damaged: list[str] = []
    whole = 0
    async for key in _pages(store.task_keys):
        lookup = await store.lookup(key, _none)
        broken = [trace.id for trace in lookup.traces if not await _readable(store, trace)]
        damaged += [*lookup.damaged, *broken]
        whole += len(lookup.traces) - len(broken)
        look("traces", whole + len(damaged))
    if not damaged:
        return Finding(Level.GOOD, "traces", f"{whole:,} are as they were published")
    says = f"{len(damaged):,} of {whole + len(damaged):,} are damaged: {_some(damaged)}"
    return Finding(Level.ERROR, "traces", says, _ANEW)


def _none(_traces: Sequence[Trace], _facts: Facts) -> None:
    return None


async def _readable(store: GraphStore, trace: Trace) -> bool:
    try:
        await store.values(trace.payloads)
    except PayloadCorrupted:
        return False
    return True


async def _facts(store: GraphStore, look: Look) -> Finding:
    wrong: list[str] = []
    seen = 0
    async for uri in _pages(store.uris):
        seen += 1
        look("resources", seen)
        if not await _sound(store, uri):
            wrong.append(uri)
    if not wrong:
        return Finding(Level.GOOD, "facts", f"{seen:,} examined: each is what its document says")
    return Finding(
        Level.ERROR,
        "facts",
        f"what {len(wrong):,} of {seen:,} resources hold is not what their documents say:"
        f" {_some(wrong)}",
        "withdraw and observe them again, so that nothing rests on what is damaged; then check"
        " the disk, and who else writes to the store",
    )


class _Seen(NamedTuple):
    """One resource, as it was while nobody changed it."""

    fact: Fact
    newest: int  # the version of the newest event
    document: Document | None


async def _sound(store: GraphStore, uri: str) -> bool:
    """Whether the current version is that of the newest event, and holds what its document
    gives."""
    fact, newest, document = await _seen(store, uri)
    if fact.version != newest:
        return False
    if fact.state is not FactState.PRESENT:
        return True
    return document is not None and all(
        document.gives(selector, at) for selector, at in fact.fingerprints.items()
    )


async def _seen(store: GraphStore, uri: str) -> _Seen:
    wanted = {uri: await store.facets(uri)}
    fact = (await store.read_facts(wanted)).of(uri)
    while True:
        events = await store.changes(resource=uri)
        newest = max((event.to_version for event in events), default=0)
        document = await _document(store, uri)
        before, fact = fact, (await store.read_facts(wanted)).of(uri)
        if before.version == fact.version:
            return _Seen(fact, newest, document)


async def _document(store: GraphStore, uri: str) -> Document | None:
    try:
        document = await store.document(uri)
    except PayloadCorrupted:
        return None
    return None if document is None else document[1]


async def _clock(store: GraphStore, look: Look) -> Finding:
    del look
    now = await store.now()
    newest = await store.changes(limit=1)
    if newest and newest[0].at > now + _CLOCK_MS:
        return Finding(
            Level.WARNING,
            "time",
            f"the newest change was made {(newest[0].at - now) / 1000:,.0f} s from now: the"
            " store's clock was set back since",
            "have the clock set by a time service. Until it has caught up, facts that were to be"
            " believed for a time are not believed before they are observed again",
        )
    return Finding(Level.GOOD, "time", "no change lies in the future")


# What is left to do -----------------------------------------------------------------------


async def _walks(store: GraphStore, look: Look) -> Finding:
    del look
    open_walks = await store.walks()
    if not open_walks:
        return Finding(Level.GOOD, "marks", "they are exact: no walk is open")
    return Finding(
        Level.WARNING,
        "marks",
        f"open walks: {_counted(open_walks)}, so marks may be behind; no replay depends on them",
        f"run `execgraph walk{options_for(store)}`, or wait for the engine that is at it",
    )


async def _doubts(store: GraphStore, look: Look) -> Finding:
    begun = await store.doubts()
    effects = []
    for number, effect in enumerate(begun):
        look("effects", number)
        if not await _may_be_at_work(store, effect):
            effects.append(effect)
    if not effects:
        return Finding(Level.GOOD, "effects", "none is in doubt")
    named = [f"{it.id} {it.tool} {shown_target(it.target)} ({_whose(it)})" for it in effects]
    again = ""
    if any(it.is_within_a_wish for it in effects):
        again = ". A run that has an id, called again under it, settles its own"
    return Finding(
        Level.WARNING,
        "effects",
        f"{_counted(effects)} in doubt, begun and not known to have ended: {_some(named)}",
        "look at the target whether it happened: the run was killed, or could not write it, or the"
        f" tool raised. Then say so: `execgraph resolve ID --done{options_for(store)}`, or with"
        f" --not-done in place of --done{again}",
    )


def _whose(effect: SideEffect) -> str:
    execution = f"execution {effect.execution}{', which has a run id' * effect.is_within_a_wish}"
    used = f", which has used {effect.approval} up" if effect.approval else ""
    return f"{execution}{used}"


async def _may_be_at_work(store: GraphStore, effect: SideEffect) -> bool:
    """Whether the process that began it may be about to tell how it ended."""
    if is_dead(effect.process) or time.time_ns() // 1_000_000 - effect.begun_at > _CLOCK_MS:
        return False
    found = await store.execution(effect.execution)
    return found is None or found.execution.state is ExecutionState.RUNNING


async def _pages(page: Callable[..., Awaitable[list[str]]]) -> AsyncIterator[str]:
    after = ""
    while keys := await page(after=after, limit=_PAGE):
        for key in keys:
            yield key
        after = keys[-1]


def _counted(found: Sequence[object]) -> str:
    """How many; of more than a store lists at once, at least so many."""
    return f"at least {len(found)}" if len(found) == _LISTED else str(len(found))


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


async def _proposals(store: GraphStore, look: Look) -> Finding:
    found = await generalise(store, chat_client(None), runs=_RUNS, look=look)
    if not found.proposals:
        return Finding(Level.GOOD, "values", "no field is known to differ that could be marked")
    named = [f"{it.agent}: {it.advice}" for it in found.proposals]
    return Finding(
        Level.WARNING,
        "values",
        f"fields differ on every run, and models only carry them or never mention them:"
        f" {_some(named)}",
        f"run `execgraph generalise{options_for(store)}` to see the evidence; mark what no model"
        " has to reason about",
    )


_PARTS = {
    "traces": _traces,
    "facts": _facts,
    "clock": _clock,
    "walks": _walks,
    "doubts": _doubts,
    "values": _proposals,
}
