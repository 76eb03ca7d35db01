"""Several processes with several threads and tasks each record, replay and change at once."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from execgraph.adapters.messages_api import Answer as Reply
from execgraph.adapters.messages_api import MessagesServer, text
from execgraph.graphstore.store import GraphStore
from execgraph.tests.conformance.marks import expected_marks

from .conftest import SECONDS, SEED, Place
from .history import Answer, Belief, Change, Timeline
from .worker import CYCLES, LASTS, LEASED, SERIAL

_log = logging.getLogger(__name__)

PROCESSES = 3


@contextmanager
def model(place: Place) -> Iterator[str]:
    """A model that says what the first rule is at that moment."""
    with place.engine().sync() as engine:

        async def rule() -> Any:
            store = engine.asynchronous.session().store
            found = await store.document(CYCLES[0])
            content: Any = {"value": None} if found is None else found[1].content
            return content["value"]

        def think(body: dict[str, Any]) -> Reply:
            return Reply([text(json.dumps(engine.wait(rule())))])

        with MessagesServer(think) as server:
            yield server.url


async def begin(place: Place) -> tuple[list[Change], list[Belief]]:
    made, believed = [], []
    async with place.engine() as engine:
        for uri in (*CYCLES, SERIAL, LEASED):
            before = time.monotonic()
            until = timedelta(seconds=LASTS) if uri == LEASED else None
            event = await engine.observe(uri, {"value": 0, "noise": 0}, until=until)
            assert event is not None
            made.append(Change(uri, event.to_version, 0, before, time.monotonic()))
            if uri == LEASED:
                believed.append(Belief(uri, 0, before, time.monotonic() + LASTS))
    return made, believed


async def told_of(
    place: Place, **settings: Any
) -> tuple[dict[str, list[Any]], Timeline, list[Answer]]:
    """What the processes told, the changes there were, and the answers."""
    changes, beliefs = await begin(place)
    with model(place) as url:
        told = await place.at_once(
            "history", PROCESSES, seed=SEED, pause=0.05, model_url=url, **settings
        )
    everything = {
        name: [item for it in told for item in it.get(name, [])]
        for name in {"gone", "effects", "believed", *(name for it in told for name in it)}
    }
    changes += [Change(*it) for it in everything["changes"]]
    beliefs += [Belief(*it) for it in everything["believed"]]
    answers = [Answer(*it) for it in everything["answers"]]
    _log.info("seed %d: %s", SEED, figures(everything, answers))
    return everything, Timeline(changes, beliefs), answers


async def test_no_answer_is_stale_and_nothing_is_lost(place: Place) -> None:
    everything, timeline, answers = await told_of(place, seconds=SECONDS)
    assert everything["errors"] == []
    assert everything["warnings"] == []
    assert timeline.lost() == []
    assert [wrong for it in answers if (wrong := timeline.stale(it))] == []
    effects = [
        Answer("effect", "", start, end, {SERIAL: value}, True)
        for start, end, value in everything["effects"]
    ]
    assert [wrong for it in effects if (wrong := timeline.stale(it))] == []
    async with place.store() as store:
        await check_events(place, store, timeline)
        await check_taken_away(place, store, everything["gone"], answers)
        await check_marks(place, store)


async def test_no_answer_is_stale_while_what_nobody_needs_is_collected(place: Place) -> None:
    everything, timeline, answers = await told_of(place, seconds=SECONDS, collecting=True)
    assert everything["errors"] == []
    assert everything["warnings"] == []
    assert sum(everything["collected"]) > 0
    assert timeline.lost() == []
    assert [wrong for it in answers if (wrong := timeline.stale(it))] == []
    async with place.store() as store:
        await check_marks(place, store)


async def test_an_engine_that_trusts_its_memory_is_found_out(tmp_path: Path) -> None:
    place = Place(f"sqlite:///{tmp_path}/graph.db", "team")
    everything, timeline, answers = await told_of(place, seconds=4, trusting=True)
    assert everything["errors"] == []
    assert [wrong for it in answers if (wrong := timeline.stale(it))] != []


def figures(everything: dict[str, list[Any]], answers: list[Answer]) -> dict[str, Any]:
    return {
        **{name: len(items) for name, items in everything.items()},
        "kinds": dict(Counter(f"{it.kind}{', replayed' * it.joint}" for it in answers)),
    }


async def check_events(place: Place, store: GraphStore, timeline: Timeline) -> None:
    """As many events as acknowledged changes, one for each version."""
    for uri, made in timeline.changes.items():
        events = await store.changes(resource=uri, limit=None)
        versions = [it.to_version for it in events if it.kind in ("changed", "withdrawn")]
        assert versions[::-1] == [it.version for it in made]


async def check_taken_away(
    place: Place, store: GraphStore, gone: list[Any], answers: list[Answer]
) -> None:
    """No call that began after a trace was taken away, by whatever process, came out as it."""
    taken = dict(gone)
    executions = await store.executions(limit=1_000_000)
    source = {it.id: it.replayed for it in executions}
    for it in answers:
        assert it.start <= taken.get(source[it.execution], it.start), it


async def check_marks(place: Place, store: GraphStore) -> None:
    """When all is settled, the marks of all traces are what their guards say."""
    async with place.engine() as engine:
        await engine.settle()
    executions = await store.executions(limit=1_000_000)
    for it in (it for it in executions if it.state == "published"):
        trace = await store.execution(it.id)
        assert trace is not None
        wanted = {
            uri: frozenset(g.selector for g in trace.preconditions.values() if g.resource == uri)
            for uri in trace.resources
        }
        facts = await store.facts(wanted)
        assert await store.marks(it.id) == expected_marks(trace, facts)
