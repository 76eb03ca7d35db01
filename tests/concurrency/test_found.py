"""What concurrent histories have found, each as the smallest case that shows it."""

from __future__ import annotations

from typing import Any

import pytest

from execgraph import Acl, Engine, Handle, Result

from .conftest import SECONDS, Place


class Deciding:
    """A program of two decisions that rest on ``acl:rule``, in an engine that has a write which
    rests on ``acl:other`` and is never chosen. ``during``: what changes while the model thinks
    about one of them."""

    def __init__(self, place: Place, at: int, during: dict[str, list[Any]]) -> None:
        self.engine: Engine = place.engine()
        self.at = at
        self.during = during
        self.asked = 0

        @self.engine.tool(effect="write", requires=[Acl("other")])
        def never() -> None:
            """Never."""

    async def model(self, request: Any) -> Any:
        self.asked += 1
        if request["n"] == self.at:
            for uri, documents in self.during.items():
                for document in documents:
                    await self.engine.observe(uri, document)
            self.during = {}
        return {"n": request["n"]}

    async def run(self) -> Result:
        async with self.engine.run("p", "go", requires=[Acl("rule", "$.v")]) as run:
            for n in range(2):
                reply: Handle = await run.decide({"n": n}, call=self.model)
                run.output = reply.value
        return run.result


@pytest.mark.parametrize("at", [0, 1])
async def test_a_decision_is_torn_though_something_was_noted_that_came_not_to_guard_it(
    place: Place, at: int
) -> None:
    """The last read of versions is of what guards a step. One whose notes were more was left
    unconfirmed, and published with a guard that did not hold while the model thought."""
    desk = Deciding(place, at, {"acl:rule": [{"v": 2}, {"v": 1}]})
    async with desk.engine:
        await desk.engine.observe("acl:rule", {"v": 1})
        await desk.engine.observe("acl:other", 1)
        assert [str(it.kind) for it in (await desk.run()).miss] == ["new task", "torn"]
        assert not (await desk.run()).replayed


@pytest.mark.parametrize("at", [0, 1])
async def test_what_came_not_to_guard_a_decision_does_not_tear_it(place: Place, at: int) -> None:
    """Else a program would never be recorded while a write that it does not choose rests on
    what changes all the time."""
    desk = Deciding(place, at, {"acl:other": [2], "acl:rule": [{"v": 1, "more": 1}]})
    async with desk.engine:
        await desk.engine.observe("acl:rule", {"v": 1})
        await desk.engine.observe("acl:other", 1)
        assert (await desk.run()).recorded
        assert (await desk.run()).replayed
        assert desk.asked == 2


async def test_a_document_is_there_at_each_moment_while_it_changes(place: Place) -> None:
    """The parts of a change become visible one by one on Neo4j: for a moment ``current`` named a
    version that could not be seen yet, and the resource was taken for absent."""
    async with place.store() as store, place.beside("hot", resource="acl:a", rate=0, calm={}):
        for _ in range(round(300 * SECONDS)):
            found = await store.document("acl:a")
            assert found is not None
            assert isinstance(found[1].content, dict)
