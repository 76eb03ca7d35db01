"""A reply that was cut is not carried out, and one that paused goes on."""

from __future__ import annotations

from typing import Any

import pytest

from execgraph import Engine, RunFailed
from execgraph.adapters.messages_api import Answer, call, text

from .conftest import World, outcomes, results, turn

SEARCH = {"type": "server_tool_use", "name": "web_search", "input": {"query": "Oslo"}}
FOUND = {"type": "web_search_tool_result", "content": []}
CUTS = ["max_tokens", "refusal", "model_context_window_exceeded", "pause_turn", "stop_sequence"]


def deleting(engine: Engine, done: list[str]) -> Any:
    @engine.tool(effect="write", requires=[])
    def delete(path: str = "/") -> str:
        """Delete a folder."""
        done.append(path)
        return "deleted"

    return delete


@pytest.mark.parametrize("reason", [*CUTS, "an_unheard_of_reason"])
async def test_a_call_in_a_cut_reply_is_not_carried_out(world: World, reason: str) -> None:
    world.think(lambda _: Answer([text("So."), call("delete", {})], stop_reason=reason))
    engine = world.engine()
    agent = world.agent(engine, [deleting(engine, world.done)])
    async with engine:
        with pytest.raises(RunFailed, match=f"ended by '{reason}'.*none was carried out") as failed:
            await agent.execute("tidy up")
    assert world.done == []
    assert world.server.requests == 1
    assert failed.value.effects == ()


async def test_the_error_of_a_cut_call_names_the_call_and_the_remedy(world: World) -> None:
    world.think(lambda _: Answer([call("delete", {})], stop_reason="max_tokens"))
    engine = world.engine()
    async with engine:
        with pytest.raises(RunFailed, match=r"\(delete\); raise max_tokens"):
            await world.agent(engine, [deleting(engine, [])]).execute("tidy up")


async def test_effects_before_a_cut_reply_are_told(world: World) -> None:
    def brain(body: dict[str, Any]) -> Answer:
        reason = "max_tokens" if turn(body) else None
        return Answer([call("delete", {"path": "/tmp"})], stop_reason=reason)

    world.think(brain)
    engine = world.engine()
    async with engine:
        with pytest.raises(RunFailed) as failed:
            await world.agent(engine, [deleting(engine, world.done)]).execute("tidy up")
    assert world.done == ["/tmp"]
    assert [effect.tool for effect in failed.value.effects] == ["delete"]


async def test_a_refusal_is_no_answer(world: World) -> None:
    world.think(lambda _: Answer([text("I")], stop_reason="refusal"))
    engine = world.engine()
    async with engine:
        with pytest.raises(RunFailed, match="the model refused"):
            await world.agent(engine, []).execute("do evil")


@pytest.mark.parametrize("content", [[], [text("")]])
async def test_a_cut_reply_that_says_nothing_is_no_answer(world: World, content: Any) -> None:
    world.think(lambda _: Answer(content, stop_reason="max_tokens"))
    engine = world.engine()
    async with engine:
        with pytest.raises(RunFailed, match="says nothing; raise max_tokens"):
            await world.agent(engine, []).execute("speak")


async def test_a_cut_text_is_given_with_its_stop_reason_and_never_replayed(world: World) -> None:
    world.think(lambda _: Answer([text("Once upon")], stop_reason="max_tokens"))
    engine = world.engine()
    agent = world.agent(engine, [])
    async with engine:
        for _ in range(2):
            result, asked, _done = await world.count(agent.execute("tell"))
            assert (result.output, result.stop_reason, asked) == ("Once upon", "max_tokens", 1)
            assert not result.recorded


async def test_a_replay_has_the_stop_reason_of_the_recording(world: World) -> None:
    world.think(lambda _: Answer([text("Done.")]))
    engine = world.engine()
    agent = world.agent(engine, [])
    async with engine:
        reasons = [(await agent.execute("go")).stop_reason for _ in range(3)]
    assert reasons == ["end_turn"] * 3
    assert world.server.requests == 1


def paused_once(body: dict[str, Any]) -> Answer:
    if turn(body) == 0:
        return Answer([text("Let me look. "), SEARCH], stop_reason="pause_turn")
    return Answer([FOUND, text("It rains.")])


async def test_a_paused_turn_goes_on_and_is_replayed(world: World) -> None:
    world.think(paused_once)
    engine = world.engine()
    agent = world.agent(engine, [], params={"tools": [{"type": "web_search_20250305"}]})
    async with engine:
        first, asked, _ = await world.count(agent.execute("weather?"))
        assert (first.output, asked) == ("Let me look. It rains.", 2)
        sent_back = world.server.bodies[-1]["messages"][1:]
        assert [message["role"] for message in sent_back] == ["assistant"]
        assert [block["type"] for block in sent_back[0]["content"]] == ["text", "server_tool_use"]
        again, asked, _ = await world.count(agent.execute("weather?"))
    assert (again.output, asked, again.stop_reason) == (first.output, 0, "end_turn")
    assert outcomes(again) == [("?", "replayed")] * 2


async def test_calls_after_a_pause_are_carried_out_and_replayed(world: World) -> None:
    def brain(body: dict[str, Any]) -> Answer:
        if turn(body) == 0:
            return Answer([SEARCH], stop_reason="pause_turn")
        if turn(body) == 1:
            return Answer([FOUND, call("delete", {"path": "/old"})])
        return Answer([text(f"{results(body)}")])

    world.think(brain)
    engine = world.engine()
    agent = world.agent(engine, [deleting(engine, world.done)])
    async with engine:
        result, asked, done = await world.count(agent.execute("tidy up"))
        assert (result.output, asked, done) == ("['deleted']", 3, ["/old"])
        result, asked, done = await world.count(agent.execute("tidy up"))
        assert (result.output, asked, done) == ("['deleted']", 0, ["/old"])


async def test_pauses_end_with_the_last_turn(world: World) -> None:
    world.think(lambda _: Answer([SEARCH], stop_reason="pause_turn"))
    engine = world.engine()
    async with engine:
        with pytest.raises(RunFailed, match="no answer after 3 turns"):
            await world.agent(engine, [], max_turns=3).execute("search on")
    assert world.server.requests == 3


async def test_a_program_sees_a_cut_reply_as_it_is_and_is_not_replayed(world: World) -> None:
    world.think(lambda _: Answer([call("delete", {})], stop_reason="max_tokens"))
    engine = world.engine()
    request = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "go"}]}
    async with engine:
        for _ in range(2):
            async with engine.run("program", "go", client=world.client) as run:
                reply = (await run.decide(request)).value
            assert reply["stop_reason"] == "max_tokens"
            assert not run.result.recorded
            assert run.result.stop_reason is None
