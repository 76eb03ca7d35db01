"""An effect that is to be confirmed begins with an approval of its own, or not at all."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from pydantic import SecretStr

from execgraph import (
    Acl,
    Agent,
    ApprovalClosed,
    ApprovalUnknown,
    Approved,
    AwaitingApproval,
    ConfigurationError,
    ConfirmationRequest,
    Denied,
    Engine,
    ExecgraphError,
    NotConfirmed,
    RunFailed,
    Schema,
    Tool,
)
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.tests.models import MODEL

from .conftest import World, misses, outcomes, results, turn

_LONG = timedelta(seconds=30)


class Person:
    """Who is asked, and answers one thing after another; the last one from then on."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[ConfirmationRequest] = []

    async def __call__(self, request: ConfirmationRequest) -> Any:
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


def shipper(
    world: World, *calls: dict[str, Any], engine: Engine | None = None, **settings: Any
) -> tuple[Engine, Agent]:
    """An agent that ships what it is told, in one reply."""
    engine = engine or world.engine(**settings)

    @engine.tool(effect="confirm", requires=[Acl("ship"), Schema("{service}", "$.owner")])
    def ship(service: str, copies: int = 1) -> str:
        """Ship a service."""
        world.done.append(f"ship {service} {copies}")
        return f"shipped {service}"

    asked = calls or ({"service": "shop"},)

    def brain(body: dict[str, Any]) -> Answer:
        if turn(body) == 0:
            return Answer([call("ship", it) for it in asked])
        return Answer([text(f"said: {json.dumps(results(body))}")])

    world.think(brain)
    return engine, world.agent(engine, [ship])


async def observe(engine: Engine, rule: Any = 1) -> None:
    """Have the facts be known that shipping rests on."""
    await engine.observe("acl:ship", {"rule": rule, "api_key": "xyzzy"})
    await engine.observe("schema:shop", {"owner": "ann", "size": 3})


async def kept(engine: Engine) -> list[Any]:
    """State, by whom and whether it has an effect, of all approvals."""
    found = await engine.cypher(
        "MATCH (a:Approval {namespace: $namespace}) OPTIONAL MATCH (a)-[:ALLOWED]->(f:SideEffect)"
        " RETURN a.state, a.by, f.approved_by, f.approval = a.id ORDER BY a.requested_at, a.id"
    )
    return [list(row) for row in found.rows]


async def test_a_person_is_asked_with_all_that_is_to_be_known(world: World) -> None:
    person = Person(Approved(by="ann"))
    engine, agent = shipper(world, confirm=person)
    async with engine:
        await observe(engine)
        first, _, done = await world.count(agent.execute("go"))
        assert done == ["ship shop 1"]
        [request] = person.asked
        assert (request.agent, request.tool, request.task) == ("deployer", "ship", "go")
        assert request.arguments == {"service": "shop"}
        assert {str(it): (it.version, it.says) for it in request.facts} == {
            "acl:ship": (1, {"rule": 1, "api_key": "hidden"}),
            "schema:shop $.owner": (1, {"owner": "ann"}),
        }
        assert all(it.fingerprint for it in request.facts)
        assert request.execution_id == first.execution_id
        assert "the model decided it just now" in request.why
        assert await kept(engine) == [["used", "ann", "ann", True]]
        [effect] = first.effects
        assert effect.approved_by == "ann"
        with pytest.raises(AttributeError):
            request.tool = "other"  # type: ignore[misc]


async def test_names_and_reasons_are_kept_whatever_they_are(world: World) -> None:
    number: Any = 7
    person = Person(Approved(by=number), Denied(by="\ud800", reason="\ud800"))
    engine, agent = shipper(world, confirm=person)
    async with engine:
        await observe(engine)
        for _ in range(2):
            await agent.execute("go")
        assert [by for _, by, *_ in await kept(engine)] == ["7", "\\ud800"]


async def test_a_replay_is_confirmed_again(world: World) -> None:
    person = Person(True)
    engine, agent = shipper(world, confirm=person)
    async with engine:
        await observe(engine)
        first, *_ = await world.count(agent.execute("go"))
        again, asked, done = await world.count(agent.execute("go"))
        assert (asked, done) == (0, ["ship shop 1"])
        assert outcomes(again) == [("?", "replayed"), ("ship", "replayed"), ("?", "replayed")]
        one, two = person.asked
        assert one.id != two.id
        assert one.digest == two.digest
        assert f"served from the recording {first.execution_id}, and all" in two.why
        await engine.settle()
        assert await kept(engine) == [["used", None, None, True]] * 2


async def test_a_denial_is_told_to_the_model(world: World) -> None:
    person = Person(Denied(by="bob", reason="not on a Friday"), False)
    engine, agent = shipper(world, confirm=person)
    async with engine:
        await observe(engine)
        result, _, done = await world.count(agent.execute("go"))
        assert done == []
        assert "ship was not called: bob denied it: not on a Friday" in result.output
        assert result.effects == ()
        assert await kept(engine) == [["denied", "bob", None, None]]
        later, _, done = await world.count(agent.execute("go"))
        assert done == []
        assert len(person.asked) == 2, "a later run is asked about anew"
        assert "the confirm callback denied it" in later.output
        [diverged] = later.miss
        assert "bob denied it" in str(diverged), "and not only the digests of two outputs"
        assert "the confirm callback denied it" in str(diverged)
        person.answers = [True]
        at_last, _, done = await world.count(agent.execute("go"))
        assert done == ["ship shop 1"]
        assert "shipped shop" in at_last.output


async def test_a_denial_is_final_for_the_run(world: World) -> None:
    person = Person(False, True)
    engine, agent = shipper(world, confirm=person)
    world.think(
        lambda body: (
            Answer([call("ship", {"service": "shop"})])
            if turn(body) < 3
            else Answer([text("done")])
        )
    )
    async with engine:
        await observe(engine)
        result, _, done = await world.count(agent.execute("go"))
        assert done == []
        assert len(person.asked) == 1, "a model that repeats the call does not ask again"
        assert [it.error for it in result.steps if it.name == "ship"] == [True] * 3


class Odd(Exception):
    """One that has no text."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


@pytest.mark.parametrize("answer", [ValueError("boom"), "yes", 1, Odd(), asyncio.CancelledError()])
async def test_no_answer_is_no_effect(world: World, answer: Any) -> None:
    engine, agent = shipper(world, confirm=Person(answer))
    async with engine:
        await observe(engine)
        result, _, done = await world.count(agent.execute("go"))
        assert done == []
        assert "ship was not called: nobody confirmed it: the confirm callback" in result.output
        [[state, *_]] = await kept(engine)
        assert state == "denied", "so that nobody approves what nobody waits for"


async def test_a_callback_that_never_answers_has_a_deadline(world: World) -> None:
    async def never(_: ConfirmationRequest) -> bool:
        await asyncio.Event().wait()
        return True

    free = threading.Event()

    def blocking(_: ConfirmationRequest) -> bool:
        return free.wait(30)

    for callback in (never, blocking):
        soon = timedelta(milliseconds=50)
        engine, agent = shipper(world, confirm=callback, confirm_timeout=soon)
        async with engine:
            await observe(engine)
            result, _, done = await world.count(agent.execute("go", replay=False))
        assert done == []
        assert "did not answer within 0.05 s" in result.output
    free.set()


async def test_a_sync_callback_is_asked_in_a_thread(world: World) -> None:
    threads = []

    def ask(request: ConfirmationRequest) -> Approved:
        threads.append(threading.current_thread())
        return Approved(by=request.agent)

    engine, agent = shipper(world)
    async with engine:
        await observe(engine)
        result = await agent.execute("go", confirm=ask)
        assert [it.approved_by for it in result.effects] == ["deployer"]
        assert threads[0] is not threading.main_thread()


async def test_the_run_names_who_is_asked_else_the_agent_else_the_engine(world: World) -> None:
    of_engine, of_agent, of_run = Person(True), Person(True), Person(True)
    engine, agent = shipper(world, confirm=of_engine)
    named = world.agent(engine, list(agent.tools.values()), name="named", confirm=of_agent)
    async with engine:
        await observe(engine)
        await agent.execute("go")
        await named.execute("go")
        await named.execute("go", confirm=of_run)
    assert [len(it.asked) for it in (of_engine, of_agent, of_run)] == [1, 1, 1]


@pytest.mark.parametrize("confirm", [None, Person(None)])
async def test_it_is_approved_later_and_from_elsewhere(world: World, confirm: Any) -> None:
    engine, agent = shipper(world, confirm=confirm)
    async with engine:
        await observe(engine)
        with pytest.raises(AwaitingApproval, match="awaiting approval: ship with") as raised:
            await agent.execute("go")
        error = raised.value
        assert world.done == []
        assert error.safe_to_retry
        assert f"`execgraph approve {error.approval_id} --store " in str(error)
        found = await engine.cypher(
            "MATCH (e:Execution {namespace: $namespace}) RETURN e.state, e.reason"
        )
        [[state, reason]] = found.rows
        assert state == "failed"
        assert reason.startswith("awaiting approval")
        async with world.engine() as elsewhere:
            [request] = await elsewhere.approvals()
            assert (request.id, request.digest) == (error.approval_id, error.digest)
            assert (request.task, request.arguments) == ("go", {"service": "shop"})
            assert [it.says for it in request.facts][1] == {"owner": "ann"}
            approval = await elsewhere.approve(request.id, by="ann")
            assert approval is not None
            assert (approval.state, approval.by) == ("approved", "ann")
            assert await elsewhere.approve(request.id, by="bob") == approval, "the first stays"
            assert await elsewhere.approvals() == []
        result, _, done = await world.count(agent.execute("go"))
        assert done == ["ship shop 1"]
        assert [it.approved_by for it in result.effects] == ["ann"]
        assert await kept(engine) == [["used", "ann", "ann", True]]
        late = await engine.approve(error.approval_id)
        assert late is not None
        assert late.state == "used", "repeated, too late"
        with pytest.raises(AwaitingApproval) as again:
            await agent.execute("go")
        assert again.value.approval_id != error.approval_id, "it was good for one effect"
        assert again.value.digest == error.digest
    assert world.done == ["ship shop 1"]


async def test_it_is_denied_from_elsewhere(world: World) -> None:
    engine, agent = shipper(world)
    async with engine:
        await observe(engine)
        with pytest.raises(AwaitingApproval) as raised:
            await agent.execute("go")
        id_ = raised.value.approval_id
        denied = await engine.deny(id_, by="bob", reason="no")
        assert denied.state == "denied"
        with pytest.raises(ApprovalClosed, match=r"was denied by bob at .* \(no\)"):
            await engine.approve(id_, by="ann")
        result, _, done = await world.count(agent.execute("go"))
        assert done == []
        assert "ship was not called: bob denied it: no" in result.output
        with pytest.raises(AwaitingApproval):
            await agent.execute("go", replay=False)
        with pytest.raises(ApprovalUnknown, match="there is no approval 'approval-x'"):
            await engine.approve("approval-x")


async def test_the_other_who_answers_is_told_who_has(world: World) -> None:
    engine, agent = shipper(world)
    async with engine:
        await observe(engine)
        with pytest.raises(AwaitingApproval) as raised:
            await agent.execute("go")
        id_ = raised.value.approval_id

        async def say(work: Any) -> Any:
            try:
                return await work
            except ApprovalClosed as closed:
                return closed

        async with world.engine() as other:
            yes, no = await asyncio.gather(
                say(engine.approve(id_, by="ann")), say(other.deny(id_, by="bob"))
            )
        told, who = (yes, "bob") if isinstance(yes, ApprovalClosed) else (no, "ann")
        assert isinstance(told, ApprovalClosed)
        assert f"by {who} at" in str(told)
        assert told.approval.by == who


async def test_a_run_waits_for_an_approval(world: World) -> None:
    engine, agent = shipper(world, wait_for_approval=_LONG)
    async with engine:
        await observe(engine)
        running = asyncio.ensure_future(agent.execute("go"))
        request = await pending(engine)
        assert request.task is None, "no run of the task has ended"
        await engine.approve(request.id, by="ann")
        result = await running
        assert [it.approved_by for it in result.effects] == ["ann"]
        running = asyncio.ensure_future(agent.execute("go"))
        await engine.deny((await pending(engine)).id)
        assert "it was denied" in (await running).output
        with pytest.raises(AwaitingApproval):
            await agent.execute("go", wait_for_approval=timedelta(milliseconds=10))


async def pending(engine: Engine) -> ConfirmationRequest:
    """The first that waits, as soon as one does."""
    async with asyncio.timeout(20):
        while True:
            if found := await engine.approvals():
                return found[0]
            await asyncio.sleep(0.01)


async def test_another_fact_needs_another_approval(world: World) -> None:
    engine, agent = shipper(world)
    async with engine:
        await observe(engine)
        with pytest.raises(AwaitingApproval) as first:
            await agent.execute("go")
        await engine.approve(first.value.approval_id)
        await engine.observe("schema:shop", {"owner": "ann", "size": 4})
        await engine.observe("acl:ship", 2)
        with pytest.raises(AwaitingApproval) as second:
            await agent.execute("go")
        assert world.done == []
        told = f"{first.value.approval_id} does not count: acl:ship has changed since it was asked"
        assert told in str(second.value)
        assert first.value.digest != second.value.digest
        await observe(engine)
        _, _, done = await world.count(agent.execute("go"))
        assert done == ["ship shop 1"], "the approval counts under what it was given for"


async def test_other_arguments_need_another_approval(world: World) -> None:
    engine, agent = shipper(world)
    async with engine:
        await observe(engine)
        with pytest.raises(AwaitingApproval) as first:
            await agent.execute("go")
        await engine.approve(first.value.approval_id)
        world.think(lambda _: Answer([call("ship", {"service": "shop", "copies": 2})]))
        with pytest.raises(AwaitingApproval, match="does not count: the arguments are others"):
            await agent.execute("go", resume="off")
    assert world.done == []


async def test_other_code_needs_another_approval(world: World) -> None:
    engine, agent = shipper(world)
    async with engine:
        await observe(engine)
        with pytest.raises(AwaitingApproval) as first:
            await agent.execute("go")
        await engine.approve(first.value.approval_id)
    engine = world.engine()

    @engine.tool(effect="confirm", requires=[Acl("ship"), Schema("{service}", "$.owner")])
    def ship(service: str, copies: int = 1) -> str:
        """Ship a service."""
        world.done.append(f"ship {service} {copies} by another way")
        return f"shipped {service}"

    agent = world.agent(engine, [ship])
    async with engine:
        with pytest.raises(AwaitingApproval, match="does not count: the tool is another one"):
            await agent.execute("go")
    assert world.done == []


async def test_who_answered_first_decides_also_against_the_callback(world: World) -> None:
    engine, agent = shipper(world)

    async def say_no_too_late(request: ConfirmationRequest) -> bool:
        await engine.approve(request.id, by="ann")
        return False

    async def say_yes_too_late(request: ConfirmationRequest) -> bool:
        await engine.deny(request.id, by="bob")
        return True

    async with engine:
        await observe(engine)
        result, _, done = await world.count(agent.execute("go", confirm=say_no_too_late))
        assert (done, [it.approved_by for it in result.effects]) == (["ship shop 1"], ["ann"])
        result, _, done = await world.count(agent.execute("go", confirm=say_yes_too_late))
        assert done == []
        assert "ship was not called: bob denied it" in result.output


async def test_what_the_callback_asks_a_model_is_no_decision_of_the_run(world: World) -> None:
    engine, pay = acting(world)
    async with AsyncAnthropic(
        base_url=world.server.url, api_key="k", middleware=[engine.middleware()]
    ) as client:

        async def judge(request: ConfirmationRequest) -> bool:
            said = await client.messages.create(
                model=MODEL,
                max_tokens=10,
                messages=[{"role": "user", "content": f"{request.arguments}?"}],
            )
            return "yes" in str(said.content)

        world.think(lambda _: Answer([text("yes")]))
        async with engine:
            for _ in range(2):
                before = world.server.requests
                async with engine.run("payer", {"n": 1}, confirm=judge) as run:
                    await run.act(pay, cents=1, token="x")
                assert [step.name for step in run.result.steps] == ["pay"]
                assert world.server.requests == before + 1, "it is asked each time"
    assert len(world.done) == 2


async def test_an_approval_expires(world: World) -> None:
    engine, agent = shipper(world, approval_expiry=timedelta(milliseconds=300))
    async with engine:
        await observe(engine)
        with pytest.raises(AwaitingApproval) as first:
            await agent.execute("go")
        await engine.approve(first.value.approval_id)
        await asyncio.sleep(0.4)
        with pytest.raises(AwaitingApproval, match=f"{first.value.approval_id} has expired"):
            await agent.execute("go")
        await asyncio.sleep(0.4)
        with pytest.raises(
            ApprovalClosed, match=r"was approved by somebody at .* has expired since"
        ):
            await engine.deny(first.value.approval_id)
    assert world.done == []


async def test_facts_that_move_while_a_person_thinks_stop_the_effect(world: World) -> None:
    person = Person(True)
    engine, agent = shipper(world, confirm=person)

    async def think(request: ConfirmationRequest) -> bool:
        if not person.asked:
            await engine.observe("acl:ship", 2)
        return bool(await person(request))

    async with engine:
        await observe(engine)
        result, asked, done = await world.count(agent.execute("go", confirm=think))
        assert done == ["ship shop 1"]
        assert asked == 3, "the decision was asked again, under what is now"
        one, two = person.asked
        assert (one.facts[0].version, two.facts[0].version) == (1, 2)
        assert result.recorded
        assert [it[0] for it in await kept(engine)] == ["pending", "used"]


async def test_all_of_a_reply_is_confirmed_before_anything_of_it_begins(world: World) -> None:
    person = Person(True, None)
    engine, agent = shipper(
        world, {"service": "shop"}, {"service": "shop", "copies": 2}, confirm=person
    )
    async with engine:
        await observe(engine)
        with pytest.raises(AwaitingApproval) as raised:
            await agent.execute("go")
        assert world.done == []
        assert raised.value.safe_to_retry
        [approval] = raised.value.approvals
        person.answers = [None]
        with pytest.raises(AwaitingApproval) as both:
            await agent.execute("go")
        assert len(both.value.approvals) == 2
        assert approval.id in {it.id for it in both.value.approvals}
        for each in both.value.approvals:
            await engine.approve(each.id, by=each.arguments)
        result, _, done = await world.count(agent.execute("go"))
        assert sorted(done) == ["ship shop 1", "ship shop 2"]
        for effect in result.effects:
            assert json.loads(effect.approved_by or "") == json.loads(effect.target)


async def test_equal_calls_have_an_approval_each(world: World) -> None:
    person = Person(Approved("ann"), None)
    engine, agent = shipper(world, {"service": "shop"}, {"service": "shop"}, confirm=person)
    async with engine:
        await observe(engine)
        with pytest.raises(AwaitingApproval) as raised:
            await agent.execute("go")
        person.answers = [True]
        result, _, done = await world.count(agent.execute("go"))
        assert done == ["ship shop 1"] * 2
        one, two, three, four = person.asked
        assert one.digest != two.digest
        assert {three.id, four.id} == {one.id, two.id}
        assert raised.value.approval_id in (one.id, two.id)
        assert len(result.effects) == 2
        assert len({it.id for it in result.effects}) == 2


async def test_two_runs_at_once_do_not_use_one_approval(world: World) -> None:
    engine, agent = shipper(world)
    async with engine:
        await observe(engine)
        with pytest.raises(AwaitingApproval) as raised:
            await agent.execute("go")
        await engine.approve(raised.value.approval_id, by="ann")

        async def run(other: Engine) -> Any:
            async with other:
                mine = shipper(world, engine=other)[1]
                return await mine.execute("go")

        ended = await asyncio.gather(
            *(run(world.engine()) for _ in range(4)), return_exceptions=True
        )
    assert world.done == ["ship shop 1"]
    assert [isinstance(it, AwaitingApproval) for it in ended].count(True) == 3


async def test_a_cancelled_run_leaves_a_request_that_can_be_answered(world: World) -> None:
    engine, agent = shipper(world, wait_for_approval=_LONG)
    async with engine:
        await observe(engine)
        running = asyncio.ensure_future(agent.execute("go"))
        request = await pending(engine)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert world.done == []
        await engine.approve(request.id, by="ann")
        result = await agent.execute("go")
        assert [it.approved_by for it in result.effects] == ["ann"]


async def test_rerun_asks_the_person_again_and_not_the_model(world: World) -> None:
    engine = world.engine()
    seen: list[Any] = []

    @engine.tool(effect="confirm", requires=[Acl("ship")], on_change="rerun")
    def ship(service: str) -> str:
        """Ship a service."""
        world.done.append(service)
        return "shipped"

    async def think(request: ConfirmationRequest) -> bool:
        seen.append(request.facts[0].says)
        if len(seen) == 1:
            await engine.observe("acl:ship", 2)
        return True

    world.think(
        lambda body: (
            Answer([call("ship", {"service": "shop"})])
            if turn(body) == 0
            else Answer([text("done")])
        )
    )
    agent = world.agent(engine, [ship], confirm=think)
    async with engine:
        await engine.observe("acl:ship", 1)
        _, asked, done = await world.count(agent.execute("go"))
        assert (asked, done, seen) == (2, ["shop"], [1, 2])


def acting(world: World, **settings: Any) -> tuple[Engine, Tool]:
    engine = world.engine(**settings)

    @engine.tool(effect="confirm", requires=[])
    def pay(cents: int, token: SecretStr, password: str = "") -> str:
        """Pay."""
        world.done.append(f"pay {cents} {token.get_secret_value()}")
        return "paid"

    return engine, pay


async def test_a_program_is_told_by_an_exception(world: World) -> None:
    person = Person(Denied(by="bob"), None, True)
    engine, pay = acting(world, confirm=person)
    async with engine:
        async with engine.run("payer", {"n": 1}) as run:
            with pytest.raises(NotConfirmed, match="pay was not called: bob denied it") as denied:
                await run.act(pay, cents=1, token="swordfish")
        assert denied.value.approval is not None
        with pytest.raises(AwaitingApproval) as waiting:
            async with engine.run("payer", {"n": 1}) as run:
                await run.act(pay, cents=1, token="swordfish")
        assert waiting.value.execution_id == run.execution_id
        async with engine.run("payer", {"n": 1}) as run:
            gave = await run.act(pay, cents=1, token="swordfish")
            assert gave.value == "paid"
    assert world.done == ["pay 1 swordfish"]
    assert all("the program payer does it by itself" in it.why for it in person.asked)


async def test_a_program_that_goes_on_without_an_approval_is_not_published(world: World) -> None:
    engine, pay = acting(world)
    world.think(lambda _: Answer([text("pay")]))
    request = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "pay?"}]}
    async with engine:
        async with engine.run("payer", {"n": 1}, client=world.client) as run:
            assert (await run.decide(request)).value
            with pytest.raises(AwaitingApproval):
                await run.act(pay, cents=1, token="swordfish")
        assert not run.result.recorded, "else the decision would serve without what it chose"
        assert "awaiting approval" in misses(run.result)


async def test_secrets_are_neither_shown_nor_kept_and_tell_calls_apart(world: World) -> None:
    person = Person(None)
    engine, pay = acting(world, confirm=person)
    async with engine:
        for token in ("swordfish", "swordfish", "mackerel"):
            with pytest.raises(AwaitingApproval):
                async with engine.run("payer", {"n": 1}) as run:
                    await run.act(pay, cents=1, token=token, password="tuna")
        first, same, other = person.asked
        assert first.id == same.id
        assert first.digest != other.digest
        assert first.arguments == {"cents": 1, "token": "hidden", "password": "hidden"}
        found = await engine.cypher("MATCH (a:Approval {namespace: $namespace}) RETURN a")
        for secret in ("swordfish", "mackerel", "tuna"):
            assert secret not in str(found.rows)


async def test_an_approval_is_shown_with_the_task_of_the_run_that_asks(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="confirm", requires=[])
    def refund(customer: str) -> str:
        """Refund."""
        return "refunded"

    def brain(body: dict[str, Any]) -> Answer:
        task = json.loads(body["messages"][0]["content"][0]["text"])
        return Answer([text("Done.") if turn(body) else call("refund", task)])

    world.think(brain)
    agent = world.agent(engine, [refund], opaque=["$.customer"])
    async with engine:
        await agent.execute({"customer": "ann@example.org"}, confirm=lambda _: True)
        with pytest.raises(AwaitingApproval):
            await agent.execute({"customer": "bob@example.org"})
        [asked] = await engine.approvals()
        assert asked.task == asked.arguments == {"customer": "bob@example.org"}
        await engine.deny(asked.id)
        soon = timedelta(minutes=1)
        waiting = asyncio.ensure_future(
            agent.execute({"customer": "eve@example.org"}, wait_for_approval=soon)
        )
        while not (found := await engine.approvals()):  # noqa: ASYNC110  (seen from outside)
            await asyncio.sleep(0.01)
        [asked] = found
        assert asked.arguments == {"customer": "eve@example.org"}
        assert asked.task is None, "that of another run would be a wrong one"
        await engine.approve(asked.id)
        await waiting


async def test_the_sync_face_has_it_too(world: World) -> None:
    engine, pay = acting(world)

    def work() -> Sequence[Any]:
        with engine.sync() as e:
            with pytest.raises(AwaitingApproval), e.run("payer", {"n": 1}) as run:
                run.act(pay, cents=1, token="swordfish")
            [one] = e.approvals()
            e.approve(one.id, by="ann")
            with e.run("payer", {"n": 1}) as run:
                run.act(pay, cents=1, token="swordfish")
            with pytest.raises(
                ApprovalClosed, match=r"was approved by ann at .*, and has been used"
            ):
                e.deny(one.id)
            return run.result.effects

    [effect] = await asyncio.to_thread(work)
    assert effect.approved_by == "ann"


async def test_an_equal_effect_in_doubt_is_told(world: World) -> None:
    person = Person(True)
    engine = world.engine(confirm=person)

    @engine.tool(effect="confirm", requires=[])
    def pay(cents: int) -> str:
        """Pay."""
        world.done.append(f"pay {cents}")
        raise TimeoutError("no answer")

    async with engine:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with engine.run("payer", {"n": 1}) as run:
                    await run.act(pay, cents=1)
        person.answers = [None]
        with pytest.raises(AwaitingApproval, match="look whether it happened") as raised:
            async with engine.run("payer", {"n": 1}) as run:
                await run.act(pay, cents=1)
        first, second, third = person.asked
        assert (first.in_doubt, len(second.in_doubt), len(third.in_doubt)) == ((), 1, 2)
        assert second.in_doubt[0] in str(raised.value)


async def test_without_a_store_the_callback_still_decides(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXECGRAPH_MODE", "off")
    for answer, done, told in (
        (Approved("ann"), ["pay 1 x"], None),
        (False, [], NotConfirmed),
        (None, [], RunFailed),
    ):
        world.done.clear()
        engine, pay = acting(world, confirm=Person(answer))
        async with engine:
            trouble = None
            try:
                async with engine.run("payer", {"n": 1}) as run:
                    await run.act(pay, cents=1, token="x")
            except ExecgraphError as error:
                trouble = error
        assert world.done == done
        assert trouble is None if told is None else isinstance(trouble, told)
        assert told is not RunFailed or "none can come: it is not kept" in str(trouble)


@pytest.mark.parametrize(
    "setting",
    [
        {"confirm": "yes"},
        {"confirm_timeout": 5},
        {"confirm_timeout": timedelta(0)},
        {"wait_for_approval": timedelta(seconds=-1)},
        {"approval_expiry": timedelta(0)},
    ],
)
async def test_settings_that_cannot_work_are_refused(world: World, setting: dict[str, Any]) -> None:
    [name] = setting
    with pytest.raises(ConfigurationError, match=f"{name}="):
        world.engine(**setting)
    if name in ("confirm", "wait_for_approval"):
        with pytest.raises(ConfigurationError, match=f"{name}="):
            world.engine().run("payer", {"n": 1}, **setting)
