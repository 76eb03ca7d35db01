"""A plan comes true, whatever facts did before, if the world and the model stay as they are."""

from __future__ import annotations

import random
from typing import Any

import pytest

from execgraph import BusinessRule
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.outcome.fate import fate_of

from .conftest import World, turn

RULES = ("a", "b", "c")
ROUNDS = 12


@pytest.mark.parametrize("seed", range(3))
async def test_a_plan_comes_true(world: World, seed: int) -> None:
    rng, engine = random.Random(seed), world.engine()

    def brain(body: dict[str, Any]) -> Answer:
        at = turn(body)
        return Answer([call(RULES[at], {})] if at < len(RULES) else [text("done")])

    def write(rule: str) -> Any:
        def act() -> str:
            """Act under a rule."""
            world.done.append(rule)
            return rule

        return engine.tool(effect="write", name=rule, requires=[BusinessRule(rule)])(act)

    world.think(brain)
    agent = world.agent(engine, [write(rule) for rule in RULES])
    async with engine:
        for rule in RULES:
            await engine.observe(f"rule:{rule}", 0)
        for _ in range(ROUNDS):
            plan, asked, done = await world.count(agent.plan("go"))
            assert (asked, done) == (0, [])
            result, asked, done = await world.count(agent.execute("go"))
            assert done == list(plan.writes or RULES)
            assert plan.mode == result.mode
            if plan.steps:
                assert (plan.tokens, plan.saved_tokens) == (result.tokens, result.saved_tokens)
                fates = [fate_of(step.kind, step.outcome) for step in result.steps]
                assert [step.fate for step in plan.steps] == fates
            for rule in rng.sample(RULES, rng.randrange(3)):
                if rng.random() < 0.2:
                    await engine.withdraw(f"rule:{rule}")
                else:
                    await engine.observe(f"rule:{rule}", rng.randrange(3))
