"""What is to happen once, where it is hardest to tell whether it has."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, SecretStr

from execgraph import (
    Acl,
    ConfigurationError,
    EffectInDoubt,
    Engine,
    IdempotencyKey,
    NotPerformed,
    RunFailed,
    StoreUnavailable,
    Unseen,
)
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.asking.examine import examine
from execgraph.engine.effects import once
from execgraph.graphstore.model import SideEffect

from .conftest import World, results, turn


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "PAUSES", (0.05,) * 40)


class Wish(BaseModel):
    """A task, by an order that no model reads."""

    order: Annotated[int, Unseen]


def calling(*arguments: dict[str, Any], again: int = 1) -> Any:
    """A model that calls the tool ``pay`` with each of these arguments in one reply, so many times,
    and then says what it was told."""

    def brain(body: dict[str, Any]) -> Answer:
        if turn(body) < again:
            return Answer([call("pay", it) for it in arguments])
        return Answer([text(f"told: {results(body)}")])

    return brain


async def doubts(engine: Engine) -> list[SideEffect]:
    """The effects that are under way, once there is one."""
    while not (begun := await engine.session().store.doubts()):  # noqa: ASYNC110  (seen from outside)
        await asyncio.sleep(0.01)
    return begun


async def test_secrets_tell_calls_apart(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="once", requires=[])
    def pay(pin: SecretStr, notes: list[SecretStr]) -> str:
        """Pay."""
        world.done.append(pin.get_secret_value())
        return f"paid {len(world.done)}"

    async with engine:
        given = []
        for pin, note in (("1234", "a"), ("4321", "a"), ("1234", "b"), ("1234", "a")):
            async with engine.run("pay", "go") as run:
                value = (await run.act(pay, pin=SecretStr(pin), notes=[SecretStr(note)])).value
                given.append(value)
        assert given == ["paid 1", "paid 2", "paid 3", "paid 1"]
        rows = await engine.cypher(
            "MATCH (f:SideEffect {namespace: $namespace}) RETURN f.target AS t"
        )
        assert "1234" not in str([dict(row) for row in rows])


async def test_a_default_is_what_is_left_out(world: World) -> None:
    for number in range(2):
        engine = world.engine()

        def pay(invoice: str) -> str:
            """Pay."""
            world.done.append(invoice)
            return "paid"

        def pay_in(invoice: str, currency: str = "EUR") -> str:
            """Pay."""
            return pay(invoice)

        tool = engine.tool(effect="once", requires=[], name="pay")(pay_in if number else pay)
        world.think(calling({"invoice": "i-1", **({"currency": "EUR"} if number else {})}))
        async with engine:
            await world.agent(engine, [tool]).execute("go")
    assert world.done == ["i-1"], "a parameter that is added makes no other call of it"


async def test_equal_calls_of_one_reply_are_two_effects(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="once", requires=[])
    async def pay(invoice: str) -> int:
        """Pay."""
        world.done.append(invoice)
        await asyncio.sleep(0.01)
        return len(world.done)

    world.think(calling({"invoice": "i"}, {"invoice": "i"}, {"invoice": "j"}))
    agent = world.agent(engine, [pay])
    async with engine:
        first, _, done = await world.count(agent.execute("go"))
        assert sorted(done) == ["i", "i", "j"]
        for replay in (True, False):
            again, _, done = await world.count(agent.execute("go", replay=replay))
            assert (again.output, done) == (first.output, [])
            assert [it.reused for it in again.effects] == [True] * 3
            assert {it.id for it in again.effects} == {it.id for it in first.effects}


async def test_equal_calls_of_one_reply_are_one_effect_if_they_are_to_be(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="once", requires=[], once_per="{invoice}")
    async def pay(invoice: str) -> str:
        """Pay."""
        world.done.append(invoice)
        await asyncio.sleep(0.02)
        return "paid"

    world.think(calling({"invoice": "i"}, {"invoice": "i"}))
    async with engine:
        result, _, done = await world.count(world.agent(engine, [pay]).execute("go"))
    assert (result.output, done) == ("told: ['paid', 'paid']", ["i"])


async def test_the_second_of_two_is_told_at_once_that_the_first_failed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(once, "PAUSES", (0.05,) * 10_000)
    engine = world.engine()

    @engine.tool(effect="once", requires=[], once_per="{invoice}")
    async def pay(invoice: str) -> str:
        """Pay."""
        world.done.append(invoice)
        await asyncio.sleep(0.1)
        raise TimeoutError("no answer")

    world.think(calling({"invoice": "i"}, {"invoice": "i"}))
    async with engine:
        result, _, done = await world.count(world.agent(engine, [pay]).execute("go"))
        assert done == ["i"]
        assert "no answer" in result.output
        assert "was not called again" in result.output
        found = [it async for it in examine(engine.session().store)]
        [doubt] = [it for it in found if it.about == "effects"]
        assert doubt.level == "warning", "at once: its run has ended"
        [effect] = result.effects
        assert effect.id in doubt.says


async def test_what_was_not_performed_and_then_was_happens_once(world: World) -> None:
    engine = world.engine()
    fails = [True]

    @engine.tool(effect="once", requires=[])
    def pay(invoice: str) -> str:
        """Pay."""
        if fails:
            fails.clear()
            raise NotPerformed("the till is closed")
        world.done.append(invoice)
        return "paid"

    def brain(body: dict[str, Any]) -> Answer:
        if "paid" not in results(body):
            return Answer([call("pay", {"invoice": "i"})])
        return Answer([text("done")])

    world.think(brain)
    agent = world.agent(engine, [pay])
    async with engine:
        await agent.execute("go")
        for replay in (True, False):
            await agent.execute("go", replay=replay)
    assert world.done == ["i"]


async def test_a_write_may_say_that_it_did_nothing(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="write", requires=[])
    def pay(invoice: str) -> str:
        """Pay."""
        raise NotPerformed("the till is closed")

    world.think(calling({"invoice": "i"}))
    agent = world.agent(engine, [pay])
    async with engine:
        for _ in range(2):
            result = await agent.execute("go")
            assert [it.state for it in result.effects] == ["not performed"]
            await engine.settle()
            assert await engine.session().store.doubts() == [], "also in a replay"


async def test_what_cannot_be_kept_is_not_done_again(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="once", requires=[])
    def pay(invoice: str) -> Any:
        """Pay."""
        world.done.append(invoice)
        return object()

    world.think(calling({"invoice": "i"}))
    agent = world.agent(engine, [pay])
    async with engine:
        told = [(await agent.execute("go")).output for _ in range(3)]
        assert world.done == ["i"]
        assert all("pay is done; do not repeat it." in it for it in told)
        assert told[1] == told[2]
        async with engine.run("pay", "go") as run:
            assert (await run.act(pay, invoice="j")).value is not None
        async with engine.run("pay", "go", replay=False) as run:
            assert (await run.act(pay, invoice="j")).value is None
    assert world.done == ["i", "j"]


@pytest.mark.parametrize("given", ["x" * 5_000_000, "\ud800 alone", "\x00", float("inf"), None, {}])
async def test_what_it_gave_is_given_again(world: World, given: Any) -> None:
    engine = world.engine()

    @engine.tool(effect="once", requires=[])
    def pay(invoice: str) -> Any:
        """Pay."""
        world.done.append(invoice)
        return given

    async with engine:
        for replay in (True, True, False):
            async with engine.run("pay", "go", replay=replay) as run:
                assert (await run.act(pay, invoice="\ud800")).value == given
    assert world.done == ["\ud800"]


async def test_what_is_unseen_in_its_output_stays_so(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="once", requires=[], unseen=["$.took"])
    def pay(invoice: str) -> dict[str, Any]:
        """Pay."""
        world.done.append(invoice)
        return {"paid": invoice, "took": 12345}

    world.think(calling({"invoice": "i"}))
    agent = world.agent(engine, [pay])
    async with engine:
        for replay in (True, True, False):
            result = await agent.execute("go", replay=replay)
            assert "12345" not in result.output
        async with engine.run("pay", "go", replay=False) as run:
            assert (await run.act(pay, invoice="i")).value["took"] == 12345
    assert world.done == ["i", "i"]


async def test_unseen_inputs_tell_tasks_apart(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="once", requires=[])
    def pay(invoice: str) -> str:
        """Pay."""
        world.done.append(invoice)
        return "paid"

    world.think(calling({"invoice": "i"}))
    agent = world.agent(engine, [pay])
    async with engine:
        for order, asked, done in ((1, 2, ["i"]), (2, 0, ["i"]), (1, 0, []), (2, 0, [])):
            _, *found = await world.count(agent.execute(Wish(order=order)))
            assert found == [asked, done]


async def test_programs_at_once_and_inside_one_another(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="once", requires=[], once_per="{invoice}")
    async def pay(invoice: str, key: Annotated[str, IdempotencyKey]) -> str:
        """Pay."""
        world.done.append(invoice)
        await asyncio.sleep(0.02)
        return f"paid {invoice}"

    async def pays(*invoices: str) -> list[str]:
        async with engine.run("pay", {"invoices": list(invoices)}) as run:
            steps = await asyncio.gather(*(run.act(pay, invoice=it) for it in invoices))
            async with engine.run("inner", "go") as inner:
                steps += [await inner.act(pay, invoice=it) for it in invoices]
            return [it.value for it in steps]

    async with engine:
        for _ in range(2):
            assert await pays("a", "b", "a") == ["paid a", "paid b", "paid a"] * 2
    assert sorted(world.done) == ["a", "b"]


async def test_once_per_may_name_an_input_of_the_task(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="once", requires=[], once_per="{task.order}")
    def pay() -> str:
        """Pay."""
        world.done.append("pay")
        return "paid"

    world.think(calling({}))
    agent = world.agent(engine, [pay])
    async with engine:
        for task, times in (({"order": 1}, 1), ({"order": 1, "n": 2}, 1), ({"order": 2}, 2)):
            await agent.execute(task)
            assert len(world.done) == times
        result = await agent.execute({"other": 1})
        assert len(world.done) == 2
        assert "once_per='{task.order}' needs the task's input" in result.output, (
            "the model is told what is missing"
        )


async def test_with_execgraph_off_it_does_not_begin(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EXECGRAPH_MODE", "off")
    engine = Engine(f"sqlite:///{tmp_path}/x.db")

    @engine.tool(effect="once", requires=[])
    def pay(invoice: str) -> str:
        """Pay."""
        world.done.append(invoice)
        return "paid"

    world.think(calling({"invoice": "i"}))
    async with engine:
        with pytest.raises(RunFailed, match="EXECGRAPH_MODE=off"):
            await world.agent(engine, [pay]).execute("go")
    assert world.done == []


async def test_a_process_that_was_only_slow_tells_what_it_did(world: World) -> None:
    """A person has said meanwhile that it did not happen."""
    engine = world.engine()
    go_on = asyncio.Event()

    @engine.tool(effect="once", requires=[])
    async def pay(invoice: str) -> str:
        """Pay."""
        await go_on.wait()
        world.done.append(invoice)
        return "paid"

    async def pays() -> Any:
        async with engine.run("pay", "go") as run:
            return (await run.act(pay, invoice="i")).value

    async with engine:
        slow = asyncio.ensure_future(pays())
        begun = await doubts(engine)
        await engine.resolve(begun[0].id, done=False)
        go_on.set()
        assert await slow == "paid"
        assert await pays() == "paid"
        assert world.done == ["i"]


async def test_who_waits_too_long_is_told_what_to_do(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(once, "PAUSES", (0.01, 0.01))
    engine, go_on = world.engine(), asyncio.Event()

    @engine.tool(effect="once", requires=[], once_per="{invoice}")
    async def pay(invoice: str) -> str:
        """Pay."""
        await go_on.wait()
        return "paid"

    async def pays(number: int) -> Any:
        async with engine.run("pay", {"n": number}) as run:
            return (await run.act(pay, invoice="i")).value

    async with engine:
        first = asyncio.ensure_future(pays(1))
        await doubts(engine)
        with pytest.raises(EffectInDoubt, match="execgraph resolve"):
            await pays(2)
        go_on.set()
        assert await first == await pays(3) == "paid"


async def test_a_program_that_repeats_what_was_cut_short_is_told_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(once, "PAUSES", (3600.0,))
    engine = world.engine()

    @engine.tool(effect="once", requires=[], once_per="{invoice}")
    async def pay(invoice: str) -> str:
        """Pay."""
        world.done.append(invoice)
        await asyncio.Event().wait()
        return "paid"

    async with engine, engine.run("pay", "go") as run:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run.act(pay, invoice="i"), 0.1)
        with pytest.raises(EffectInDoubt, match="execgraph resolve"):
            await run.act(pay, invoice="i")
    assert world.done == ["i"]


async def test_the_second_of_two_in_a_run_waits_as_long_as_the_first_takes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(once, "PAUSES", (0.01,))
    engine = world.engine()

    @engine.tool(effect="once", requires=[], once_per="{invoice}")
    async def pay(invoice: str) -> str:
        """Pay."""
        world.done.append(invoice)
        await asyncio.sleep(0.3)
        return "paid"

    world.think(calling({"invoice": "i"}, {"invoice": "i"}))
    async with engine:
        result, _, done = await world.count(world.agent(engine, [pay]).execute("go"))
    assert (result.output, done) == ("told: ['paid', 'paid']", ["i"])


async def test_a_person_who_comes_too_late_is_told(world: World) -> None:
    engine, go_on = world.engine(), asyncio.Event()

    @engine.tool(effect="once", requires=[])
    async def pay(invoice: str) -> str:
        """Pay."""
        await go_on.wait()
        return "paid"

    async def pays() -> Any:
        async with engine.run("pay", "go") as run:
            return (await run.act(pay, invoice="i")).value

    async with engine:
        paying = asyncio.ensure_future(pays())
        [effect] = await doubts(engine)
        store = engine.session().store
        ask = store.effect

        async def meanwhile(id_: str) -> SideEffect | None:
            found = await ask(id_)
            go_on.set()
            await paying
            return found

        vars(store)["effect"] = meanwhile
        with pytest.raises(ConfigurationError, match="is no longer in doubt: it is done"):
            await engine.resolve(effect.id, done=False)
        kept = await ask(effect.id)
        assert kept is not None
        assert (kept.state, kept.output_text, kept.once) == ("done", '"paid"', effect.once)


async def test_a_write_that_was_not_performed_ends_well_while_the_store_is_away(
    world: World,
) -> None:
    engine = world.engine(on_store_error="live")

    @engine.tool(effect="write", requires=[])
    def pay(invoice: str) -> str:
        """Pay."""
        raise NotPerformed("the till is closed")

    async def gone(*_: Any) -> Any:
        raise StoreUnavailable("gone")

    world.think(calling({"invoice": "i"}))
    async with engine:
        vars(engine.session().store)["end_effect"] = gone
        result = await world.agent(engine, [pay]).execute("go")
    assert result.output == "told: ['NotPerformed: the till is closed']"
    assert [it.state for it in result.effects] == ["not performed"]


async def test_who_tries_again_after_a_doubt_is_about_the_same_effect(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, go_on = world.engine(single_flight=False), asyncio.Event()

    @engine.tool(effect="once", requires=[])
    async def pay(invoice: str) -> str:
        """Pay."""
        world.done.append(invoice)
        await go_on.wait()
        return "paid"

    async def pays() -> Any:
        async with engine.run("pay", "go") as run:
            return (await run.act(pay, invoice="i")).value

    async with engine:
        first = asyncio.ensure_future(pays())
        await doubts(engine)
        async with engine.run("pay", "go") as run:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(run.act(pay, invoice="i"), 0.1)
            monkeypatch.setattr(once, "PAUSES", (0.01,))
            for _ in range(2):
                with pytest.raises(EffectInDoubt):
                    await run.act(pay, invoice="i")
            go_on.set()
            assert await first == "paid"
            assert (await run.act(pay, invoice="i")).value == "paid"
    assert world.done == ["i"]


async def test_a_decision_that_is_made_again_is_about_the_same_effect(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="once", requires=[])
    def pay(invoice: str) -> str:
        """Pay."""
        world.done.append("pay")
        return "paid"

    @engine.tool(effect="write", requires=[Acl("tell")])
    def tell() -> str:
        """Tell."""
        world.done.append("tell")
        return "told"

    def brain(body: dict[str, Any]) -> Answer:
        if turn(body):
            return Answer([text("done")])
        return Answer([call("pay", {"invoice": "i"}), call("tell", {})])

    world.think(brain)
    agent = world.agent(engine, [pay, tell])
    async with engine:
        await engine.observe("acl:tell", 1)
        await agent.execute("go")
        store = engine.session().store
        intend, changes = store.intend, iter([2, 3])

        async def meanwhile(effect: SideEffect, expected: Any, **wish: Any) -> Any:
            if effect.tool == "tell":
                for number in changes:
                    await engine.observe("acl:tell", number)
                    break
            return await intend(effect, expected, **wish)

        vars(store)["intend"] = meanwhile
        result, asked, done = await world.count(agent.execute("go", replay=False))
        assert asked > 2, "it was asked again"
        assert done == ["tell"]
        assert [it.reused for it in result.effects if it.tool == "pay"][-1:] == [True]
