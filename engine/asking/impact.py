"""What changes would cost: the facts and traces that matter, read from the store."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from ...graphstore.document import Document
from ...graphstore.facts import Facts, FactState
from ...graphstore.model import Outline
from ...graphstore.store import GraphStore
from ...invalidation.impact import Impact, assessed, changed, touched
from .elsewhere import elsewhere

__all__ = ["any_known", "foresee"]

_AT_ONCE = 16  # resources asked about at the same time


async def foresee(store: GraphStore, documents: Mapping[str, Document | None]) -> Impact:
    """What it would cost if these resources became these documents (None: withdrawn), all of
    them together. Nothing is changed. What has expired is judged as if it were renewed first."""
    uris = tuple(documents)
    selectors = await _selectors(store, uris)
    known = {uri: some for uri, some in selectors.items() if some}
    hints = [
        f"no recorded step rests on any part of {uri}: check the name if one should"
        for uri in uris
        if uri not in known
    ]
    if not known:
        nothing = await elsewhere(store)
        hints = hints if nothing is None else [nothing]
        return Impact(uris, hints=tuple(hints))
    read = await store.facts(known)
    now = read.renewed()
    _, facets, unreadable = changed(now, {uri: documents[uri] for uri in known}, known)
    hints += unreadable
    hints += _expired(read)
    outlines = await store.dependants(touched(store.namespace, facets)) if facets else []
    impact = Impact(uris, facets, hints=tuple(hints))
    if not outlines:
        return impact
    others = await _others(store, outlines, known)
    hints += _expired(others)
    by_resource = {**others.renewed().by_resource, **now.by_resource}
    now = Facts(max(now.now, others.now), by_resource)
    then, _, _ = changed(now, {uri: documents[uri] for uri in known}, known)
    return assessed(replace(impact, hints=tuple(hints)), outlines, now, then)


async def any_known(store: GraphStore, uris: Sequence[str]) -> bool:
    """Whether one of these resources was ever observed, or is required by a recorded step."""
    for start in range(0, len(uris), _AT_ONCE):
        some = uris[start : start + _AT_ONCE]
        if any((await _selectors(store, some)).values()):
            return True
        facts = await store.read_facts(dict.fromkeys(some, frozenset()))
        if any(facts.of(uri).state is not FactState.ABSENT for uri in some):
            return True
    return False


def _expired(facts: Facts) -> list[str]:
    return [
        f"{uri} has expired, so nothing that rests on it is served now; it is judged by its last"
        " document, which the next scan of its source would renew"
        for uri in sorted(facts.expired())
    ]


async def _selectors(store: GraphStore, uris: Sequence[str]) -> dict[str, frozenset[str | None]]:
    """The facets of each resource, asked for a few resources at a time."""
    selectors: dict[str, frozenset[str | None]] = {}
    for start in range(0, len(uris), _AT_ONCE):
        some = uris[start : start + _AT_ONCE]
        answers = await asyncio.gather(*(store.facets(uri) for uri in some))
        selectors.update(zip(some, answers, strict=True))
    return selectors


async def _others(store: GraphStore, outlines: Iterable[Outline], known: Collection[str]) -> Facts:
    """The facts of all else that the traces rest on."""
    wanted: dict[str, set[str | None]] = {}
    seen: set[int] = set()
    for outline in outlines:
        if id(outline.preconditions) in seen:  # traces may share what they are told by
            continue
        seen.add(id(outline.preconditions))
        for guard in outline.preconditions.values():
            if guard.resource not in known:
                wanted.setdefault(guard.resource, set()).add(guard.selector)
    if not wanted:
        return Facts(0, {})
    return await store.facts({uri: frozenset(it) for uri, it in wanted.items()})
