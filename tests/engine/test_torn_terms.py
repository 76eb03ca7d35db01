"""A recording that is cut off inside a reply: what the rest of the reply was is not known."""

from __future__ import annotations

from typing import Any

from execgraph import Acl, BusinessRule, Engine, Schema
from execgraph.adapters.messages_api import Answer, call, text

from .conftest import World, turn


def brain(body: dict[str, Any]) -> Answer:
    return Answer([call("read", {}), call("ship", {})] if turn(body) == 0 else [text("done")])


def declare(world: World, engine: Engine, *, moves: bool, more: bool) -> Any:
    @engine.tool(effect="read", requires=[Schema("orders")], version="1")
    def read() -> str:
        """Read."""
        if moves:
            world.from_outside(lambda e: e.observe("schema:orders", {"v": 2}))
        return "read"

    @engine.tool(
        effect="write",
        requires=[Acl("prod"), *([BusinessRule("audit")] if more else [])],
        version="1",
    )
    def ship() -> str:
        """Ship."""
        world.done.append("ship")
        return "shipped"

    return world.agent(engine, [read, ship])


async def test_a_decision_is_not_served_whose_write_was_cut_off_and_requires_more_today(
    world: World,
) -> None:
    world.think(brain)
    async with world.engine() as engine:
        for uri in ("schema:orders", "acl:prod", "rule:audit"):
            await engine.observe(uri, {"v": 1})
        agent = declare(world, engine, moves=True, more=False)
        first, asked, _ = await world.count(agent.execute("go"))
        assert asked == 2
        assert "torn" in [str(cause.kind) for cause in first.miss], "the read, and so what follows"
    async with world.engine() as engine:
        agent = declare(world, engine, moves=False, more=True)
        _, asked, done = await world.count(agent.execute("go"))
        assert (asked, done) == (2, ["ship"]), "nobody chose to ship knowing of the audit"
