"""An output with marks is known again without being written only if it would be written alike."""

from __future__ import annotations

import random
from typing import Any

import pytest

from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.keys.standins import NoStandIn, StandIns
from execgraph.engine.tools.known_output import KnownOutput
from execgraph.engine.tools.marks import Marked, Marks
from execgraph.graphstore.canonical import encode

from .conftest import World, misses, outcomes, results, turn

MARKS = Marks("a tool", opaque=["$.id", "$.of.id", "$.note"], unseen=["$.took", "$.of.seen"])
MORE = Marks("a tool", opaque=["$.id", "$.of.id", "$.rows[*].id"], unseen=["$.rows[?@.n==1].seen"])
ODD = [True, None, 1.5, {"id": "x"}]
VALUES = ["INC-1", "INC-2", "2026-11-28T10:20:30Z", "", 1, 2, 10**20]
OTHERS = ["INC-2", "INC-7", "2027-11-28T10:20:30Z", "a", 2, 0, 10**19]


def some_output(dice: random.Random, values: list[Any]) -> Any:
    def some() -> Any:
        return dice.choice(ODD if dice.random() < 0.05 else values)

    of: Any = {"id": some(), "seen": some(), "n": dice.choice([1, 1, 1, True, 1.0])}
    output: Any = {
        "id": some(),
        "of": dice.choice([of, of, of, some()]),
        "took": some(),
        "note": some(),
    }
    output["rows"] = [{"id": some(), "seen": some(), "n": 1} for _ in range(dice.randint(0, 2))]
    for key in ("took", "note"):
        if dice.random() < 0.1:
            del output[key]
    return dice.choice([output] * 9 + [list(output), {**output, 1: 2}])


def shown(output: Any, standins: StandIns, marks: Marks = MARKS) -> bytes | None:
    """What a model is shown of an output; None: nothing can stand in for a value."""
    try:
        return encode(marks.on(Marked(output)).render(standins, "place"))
    except NoStandIn:
        return None


@pytest.mark.parametrize("marks", [MARKS, MORE], ids=["by name", "otherwise"])
def test_an_output_that_is_known_again_is_one_that_would_be_written_alike(marks: Marks) -> None:
    known_again = 0
    for seed in range(2_000):
        dice = random.Random(seed)
        first = some_output(random.Random(seed), VALUES)
        then = some_output(dice, OTHERS)  # often of the same kinds
        before = StandIns("task")
        if (written := shown(first, before, marks)) is None:
            continue
        known = KnownOutput(written)
        known.note_marked(first, marks.on(Marked(first)), "place", before)
        # The run that it is compared in may have shown values before.
        earlier = [dice.choice(OTHERS) for _ in range(dice.choice([0, 0, 1]))]
        quick, slow = StandIns("task"), StandIns("task")
        for value in earlier:
            assert quick.shown(value, "earlier") == slow.shown(value, "earlier")
        places = None if marks.are_names else marks.on(Marked(then))
        values = known.marked_values(then, places)
        if values is None or not known.shows(values, quick):
            continue
        known_again += 1
        assert shown(then, slow, marks) == written, (first, then)
        said = [written.decode(), [slow.shown(it, "later") for it in VALUES]]
        assert [quick.shown(it, "later") for it in VALUES] == said[1]
        assert quick.real(said) == slow.real(said), "the same values are put back"
    assert known_again > 100


def test_what_differs_where_nothing_is_marked_is_not_known_again() -> None:
    standins = StandIns("task")
    output: Any = {"id": "INC-1", "of": {"id": "a", "seen": 1, "n": 1}, "note": "b", "took": 2}
    written = shown(output, standins)
    assert written is not None
    known = KnownOutput(written)
    assert known.marked_values(output, None) is None, "nothing is noted yet"
    known.note_marked(output, MARKS.on(Marked(output)), "place", standins)
    fresh: Any = {**output, "id": "INC-2", "took": 3}
    assert known.marked_values(fresh, None) == ["INC-2", "a", "b", 3, 1]
    assert known.marked_values({**fresh, "more": 1}, None) is None
    assert known.marked_values({**fresh, "of": {"id": "a", "seen": 1, "n": 2}}, None) is None
    other = Marked(fresh, opaque=(("id",), ("took",)), unseen=(("note",),))
    assert known.marked_values(fresh, MARKS.on(Marked(fresh))) is not None
    assert known.marked_values(fresh, other) is None, "its marks are in other places"
    assert known.marked_values({"of": output["of"], "note": "b", "took": 2}, None) is None


async def test_hot_replays_tell_values_apart_that_were_equal_and_those_that_were_not(
    world: World,
) -> None:
    engine = world.engine()
    ids: list[str] = []
    closed: list[str] = []

    @engine.tool(effect="read", opaque=["$.id"])
    def look(page: int) -> dict[str, Any]:
        """A ticket."""
        return {"id": ids[page], "state": "open"}

    @engine.tool(effect="write", requires=[])
    def close(ticket: str) -> str:
        """Close a ticket."""
        closed.append(ticket)
        return "closed"

    def brain(body: dict[str, Any]) -> Answer:
        at = turn(body)
        if at < 2:
            return Answer([call("look", {"page": at})])
        if at == 2:
            return Answer([call("close", {"ticket": results(body)[1]["id"]})])
        return Answer([text("done")])

    world.think(brain)
    agent = world.agent(engine, [look, close])
    async with engine:
        ids[:] = ["a-1", "a-2"]
        assert (await agent.execute("go")).recorded
        for number in range(3):  # the second time the process knows the recorded texts
            ids[:] = [f"b-{number}", f"c-{number}"]
            result = await agent.execute("go")
            assert result.identical
            assert closed.pop() == f"c-{number}"
        ids[:] = ["same", "same"]
        result = await agent.execute("go")
        assert misses(result) == ["output diverged"]
        assert outcomes(result)[3] == ("look", "diverged")
        assert closed.pop() == "same"
