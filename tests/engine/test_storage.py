"""What is kept of a run: enough to read every request again, and no more than once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.transcript import request_messages
from execgraph.graphstore.model import StepKind

from .conftest import World, turn


async def conversation(world: World, turns: int) -> tuple[Any, list[dict[str, Any]], Any]:
    """A recorded conversation of so many turns: its trace, the bodies sent, and the store."""

    def brain(body: dict[str, Any]) -> Answer:
        n = turn(body)
        if n < turns:
            return Answer([text(f"Thinking about {n}. "), call("look", {"n": n})])
        return Answer([text("done")])

    world.think(brain)
    engine = world.engine()

    @engine.tool(effect="read")
    def look(n: int) -> dict[str, Any]:
        """Look."""
        return {"n": n, "all": ", ".join(map(str, range(100)))}

    agent = world.agent(engine, [look], max_turns=turns + 1)
    world.server.bodies.clear()
    async with engine:
        result = await agent.execute({"turns": turns})
        store = engine.session().store
        trace = await store.execution(result.execution_id)
        assert trace is not None
        digests = {digest for step in trace.steps for digest in step.payloads}
        values = await store.values(digests)
    return trace, list(world.server.bodies), values


async def test_every_request_can_be_read_from_the_graph_as_it_was_sent(world: World) -> None:
    trace, bodies, values = await conversation(world, 5)
    decisions = [step for step in trace.steps if step.kind is StepKind.DECISION]
    assert len(decisions) == len(bodies) == 6
    for step, body in zip(decisions, bodies, strict=True):
        messages = [
            _told(json.loads(values[digest]), values)
            for digest in request_messages(trace.steps, step.position)
        ]
        head = json.loads(values[step.head])
        assert head.pop("base_url") == world.server.url  # who was asked
        sent = {name: it for name, it in body.items() if name != "stream"}  # how it travels
        assert {**head, "messages": messages} == sent


def _told(item: Any, values: Mapping[str, bytes]) -> Any:
    """A stored message with the outputs that it names put back."""
    match item:
        case {"$value": digest}:
            output = json.loads(values[digest])
            return output if isinstance(output, str) else values[digest].decode()
        case dict():
            return {key: _told(part, values) for key, part in item.items()}
        case list():
            return [_told(part, values) for part in item]
    return item


async def test_a_conversation_of_n_turns_takes_space_for_n_messages(world: World) -> None:
    sizes = {}
    for turns in (5, 20):
        trace, _, values = await conversation(world, turns)
        named = sum(len(step.messages) for step in trace.steps)
        assert named == 2 * turns + 1, "the opening, then two messages a turn"
        sizes[turns] = sum(map(len, values.values()))
    assert sizes[20] < 4.5 * sizes[5]


async def test_edges_lead_from_what_came_before(world: World) -> None:
    trace, _, _ = await conversation(world, 3)
    assert [step.feeds for step in trace.steps] == [(), *((n,) for n in range(6))]
    assert all(source < step.position for step in trace.steps for source in step.feeds)
