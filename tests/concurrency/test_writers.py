"""Several processes that change the same resources, or publish traces of the same task, at once."""

from __future__ import annotations

from typing import Any

from execgraph.graphstore.document import Document
from execgraph.graphstore.retention import TRACES_PER_TASK
from execgraph.tests.conformance.samples import newest

from .conftest import SECONDS, Place

PROCESSES, TASKS, TIMES = 3, 3, max(5, round(2 * SECONDS))


def together(told: list[dict[str, list[Any]]], name: str) -> list[Any]:
    return [item for it in told for item in it.get(name, [])]


async def test_no_update_is_lost(place: Place) -> None:
    selectors = frozenset({None, "$"})
    async with place.store() as store:
        for uri, first in (("custom:counter", 0), ("custom:pushed", "first")):
            await store.change(uri, Document.of(first))
            await store.facts({uri: selectors})
        told = await place.at_once("count", PROCESSES, tasks=TASKS, times=TIMES)
        assert together(told, "errors") == together(told, "warnings") == []
        many = PROCESSES * TASKS * TIMES
        counted = await store.document("custom:counter")
        assert counted is not None
        assert (counted[0], counted[1].content) == (many + 1, many)
        for uri, name in (("custom:counter", "increments"), ("custom:pushed", "pushes")):
            versions = sorted(together(told, name))
            assert versions == list(range(2, many + 2))
            events = await store.changes(resource=uri, limit=None)
            assert [it.to_version for it in events[::-1]] == [1, *versions]
            assert all(
                {change.selector for change in it.changed} == selectors for it in events[:-1]
            )
            facts = await store.read_facts({uri: selectors})
            assert facts.missing({uri: selectors}) == []


async def test_publishers_of_one_task_leave_whole_traces_and_no_two_alike(place: Place) -> None:
    async with place.store() as store:
        told = await place.at_once("publish", PROCESSES, tasks=TASKS, times=TIMES)
        assert together(told, "errors") == together(told, "warnings") == []
        found = await store.lookup("deploy", newest)
        assert found.damaged == ()
        assert len(found.traces) == TRACES_PER_TASK
        signatures = {trace.execution.signature for trace in found.traces}
        assert len(signatures) == TRACES_PER_TASK
        kept = [trace.id for trace in found.traces]
        executions = await store.executions(limit=10_000)
        assert len(executions) == PROCESSES * TASKS * TIMES
        assert [it.id for it in executions if it.state == "published"] == kept
        ended = [*together(told, "published"), *together(told, "equal")]
        assert sorted(it.id for it in executions) == sorted(ended)
        many = len(together(told, "published"))
        assert many >= TASKS * TIMES, "of equal ones at least one was published"


async def test_a_trace_removed_by_one_process_is_not_served_from_the_memory_of_another(
    place: Place,
) -> None:
    asked: list[Any] = []

    async def model(request: Any) -> Any:
        asked.append(request)
        return {"n": len(asked)}

    async def run() -> Any:
        async with engine.run("p", "go") as run:
            run.output = (await run.decide({}, call=model)).value["n"]
        return run.result

    async with place.engine() as engine:
        first = await run()
        for _ in range(3):
            assert (await run()).output == 1
        worker = place.start("unpublish", execution=first.execution_id)
        assert await worker.heard() == "ready"
        assert (await run()).replayed, "it is remembered here"
        worker.say("go")
        await worker.told()
        assert ((await run()).output, len(asked)) == (2, 2)
