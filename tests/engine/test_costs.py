"""What replies cost: each by itself, in all the ways in which they are billed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from execgraph.adapters.anthropic.dialect import MessagesDialect
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.model.prices import price
from execgraph.tests.models import MODEL, TIERED_MODEL

from .conftest import World, results

DIALECT = MessagesDialect()
MILLION = 1_000_000


def cost(model: str, **billed: Any) -> float | None:
    """The price of a reply with this ``usage``."""
    reply = {"usage": {"input_tokens": 0, "output_tokens": 0, **billed}}
    return price(model, DIALECT.usage(reply), DIALECT.terms(reply))


def test_a_reply_of_each_kind_of_tokens() -> None:
    assert cost(MODEL, input_tokens=MILLION // 10) == pytest.approx(0.2)
    assert cost(MODEL, output_tokens=MILLION) == pytest.approx(10)
    assert cost(MODEL, cache_read_input_tokens=MILLION // 10) == pytest.approx(0.02)
    assert cost(MODEL, cache_creation_input_tokens=MILLION // 10) == pytest.approx(0.25)


def test_a_cache_entry_that_is_kept_for_an_hour_costs_more() -> None:
    kept = {"ephemeral_5m_input_tokens": 60_000, "ephemeral_1h_input_tokens": 40_000}
    found = cost(MODEL, cache_creation_input_tokens=100_000, cache_creation=kept)
    assert found == pytest.approx(0.06 * 2.5 + 0.04 * 4)


def test_searches_of_the_service_are_billed_too() -> None:
    searched = {"web_search_requests": 3}
    assert cost(MODEL, server_tool_use=searched) == pytest.approx(0.03)


def test_a_batch_costs_less_and_a_faster_mode_more() -> None:
    plain = cost(TIERED_MODEL, output_tokens=MILLION)
    batch = cost(TIERED_MODEL, output_tokens=MILLION, service_tier="batch")
    assert plain == pytest.approx(15)
    assert batch == pytest.approx(7.5)


@pytest.mark.parametrize(
    "terms", [{"service_tier": "priority"}, {"speed": "lightning"}, {"inference_geo": "us"}]
)
def test_terms_that_the_table_does_not_know_have_no_known_price(terms: Mapping[str, str]) -> None:
    assert cost(MODEL, output_tokens=5, **terms) is None


@pytest.mark.parametrize(
    "terms", [{"service_tier": "standard"}, {"speed": None}, {"inference_geo": "global"}]
)
def test_usual_terms_change_no_price(terms: Mapping[str, str]) -> None:
    assert cost(MODEL, output_tokens=5, **terms) == cost(MODEL, output_tokens=5)


def test_an_unknown_model_and_an_untold_usage_have_no_known_price() -> None:
    assert cost("nobody-knows-it", output_tokens=1) is None
    assert price(MODEL, None) is None
    assert cost("nobody-knows-it") == 0.0, "nothing was paid"


async def test_a_run_is_priced_reply_by_reply_and_not_by_its_sum(world: World) -> None:
    """Above 200,000 tokens a request has another price; a conversation that comes to as many in
    all has not."""
    engine = world.engine()

    @engine.tool(effect="read", requires=[])
    def look(part: int) -> str:
        """Look."""
        return str(part)

    def think(body: dict[str, Any]) -> Answer:
        told = results(body)
        content = [text("done")] if len(told) == 3 else [call("look", {"part": len(told)})]
        return Answer(content, usage=(90_000, 1000))

    world.think(think)
    async with engine:
        agent = world.agent(engine, [look], name="reader")
        tiered = world.agent(engine, [look], model=TIERED_MODEL, name="tiered")
        result, again = await tiered.execute("all"), await tiered.execute("all")
        assert result.tokens == 4 * 91_000
        assert result.cost == pytest.approx(4 * (0.27 + 0.015))
        assert again.cost == 0.0
        assert again.saved_cost == pytest.approx(result.cost)
        other = await agent.execute("all")
        assert other.cost == pytest.approx(4 * (0.18 + 0.01)), "a model without tiers"
        stats = await engine.stats()
        assert stats.cost == pytest.approx((result.cost or 0) + (other.cost or 0))
        assert stats.saved_cost == pytest.approx(result.cost)
        assert (stats.calls_asked, stats.calls_served) == (8, 4)
        assert set(stats.agents) == {"reader", "tiered"}
        assert stats.agents["tiered"].calls_served == 4
        assert stats.agents["reader"].saved_cost == 0.0


async def test_a_sum_with_an_unknown_part_is_not_known_and_says_so(world: World) -> None:
    engine = world.engine()
    world.think(lambda body: Answer([text("done")]))
    async with engine:
        known = await world.agent(engine, [], name="known").execute("go")
        unknown = world.agent(engine, [], name="unknown", model="nobody-knows-it")
        first, again = await unknown.execute("go"), await unknown.execute("go")
        assert known.cost is not None
        assert (first.cost, again.cost, again.saved_cost) == (None, 0.0, None)
        stats = await engine.stats()
        assert (stats.cost, stats.unpriced) == (None, 1)
        assert stats.cost_at_least == pytest.approx(known.cost)
        assert (stats.saved_cost, stats.saved_unpriced) == (None, 1)
        assert stats.as_json()["cost"] is None
        assert stats.agents["known"].cost == pytest.approx(known.cost)


async def test_what_another_provider_tells_of_tokens_counts_and_its_silence_is_no_zero(
    world: World,
) -> None:
    engine = world.engine()

    async def silent(_: Any) -> Any:
        return {"says": "yes"}

    async def telling(_: Any) -> Any:
        return {"says": "yes", "usage": {"prompt_tokens": 20, "completion_tokens": 3}}

    async with engine:
        for name, ask, tokens in (("silent", silent, 0), ("telling", telling, 23)):
            async with engine.run(name, "go") as run:
                await run.decide({"q": 1}, call=ask)
            assert (run.result.tokens, run.result.cost) == (tokens, None), name
            assert [str(it.kind) for it in run.result.miss] == ["new task"]
        assert (await engine.stats()).unpriced == 2


async def test_partial_means_that_something_was_served(world: World) -> None:
    engine, said = world.engine(), iter(range(100))

    @engine.tool(effect="read", requires=[])
    def look() -> str:
        """Look."""
        return str(next(said))

    async with engine:
        modes = []
        for question in ("a", "b"):
            async with engine.run("p", "go") as run:
                await run.act(look)
                await run.decide({"q": question}, call=_yes)
            modes.append(str(run.result.mode))
        assert modes == ["live", "live"], "an output that diverged was of no use"
        async with engine.run("p", "go") as run:
            await run.act(look)
            await run.decide({"q": "b"}, call=_yes)
        assert (str(run.result.mode), run.result.miss) == ("replay", ())
        async with engine.run("p", "go") as run:
            await run.decide({"q": "b"}, call=_yes)
            await run.decide({"q": "c"}, call=_yes)
        assert str(run.result.mode) == "partial"


async def test_what_was_carried_out_again_was_not_served(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="read", requires=[])
    def look() -> str:
        """Look."""
        return "the same"

    async with engine:
        for question in ("a", "b"):
            async with engine.run("p", "go") as run:
                await run.act(look)
                await run.decide({"q": question}, call=_yes)
            assert str(run.result.mode) == "live"
        stats = await engine.stats()
        assert (stats.live, stats.partial, stats.calls_served) == (2, 0, 0)


async def _yes(_: Any) -> Any:
    await asyncio.sleep(0)
    return {"says": "yes"}
