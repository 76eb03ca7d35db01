"""Where two outputs differ is told by place, with both values, and without secrets."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import Annotated, Any

import pytest
from anthropic import AsyncAnthropic
from pydantic import BaseModel

from execgraph import Acl, Cause, MissKind, NotReplayable, Opaque, Result, Unseen
from execgraph.adapters.messages_api import Answer, MessagesServer, call, text
from execgraph.engine.agent import Agent
from execgraph.engine.outcome.differences import differences
from execgraph.graphstore.errors import PayloadCorrupted
from execgraph.tests.models import MODEL

from .conftest import World, turn


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": 1, "b": [1, 2]}, {"a": 1, "b": [1, 3]}, ["$.b[1]: 2 -> 3"]),
        ({"a": 1}, {"a b": 1}, ["$.a: 1 -> nothing", '$["a b"]: nothing -> 1']),
        ([1], [1, {}], ["$: 1 item -> 2 items"]),
        ("a", "b", ['$: "a" -> "b"']),
        ({"a": {}}, {"a": []}, ["$.a: an object -> 0 items"]),
        ({"a": 1}, {"a": True}, ["$.a: 1 -> true"]),
        ({"a": 1, "b": 1}, {"a": 1.0, "b": 2}, ["$.b: 1 -> 2"]),
        ({"a": "x" * 99}, {"a": ""}, [f'$.a: "{"x" * 56}... -> ""']),
        ({"api_key": "a"}, {"api_key": "b"}, ["$.api_key: hidden -> hidden"]),
        ({"o": {"token": ["a"]}}, {"o": {}}, ["$.o.token: hidden -> nothing"]),
        ('{"pw": 1, "password": "a"}', '{"pw": 1, "password": "b"}', ["$: hidden -> hidden"]),
        (
            {"text": '{"password": "abc", "n": 1}'},
            {"text": '{"password": "xyz", "n": 2}'},
            [
                (
                    r'$.text: "{\"password\": \"hidden\", \"n\": 1}"'
                    r' -> "{\"password\": \"hidden\", \"n\": 2}"'
                )
            ],
        ),
        (
            {"log": "sent Bearer abc.def-1 to https://ann:pass@host/"},
            {"log": "sent Bearer xyz.def-1 to https://ann:word@host/ again"},
            [
                (
                    '$.log: "sent Bearer hidden to https://ann:hidden@host/"'
                    ' -> "sent Bearer hidden to https://ann:hidden@host/ again"'
                )
            ],
        ),
        (["Bearer abc.def-1"], ["Bearer xyz.def-1"], ["$[0]: hidden -> hidden"]),
        ({}, {"a": '{"token": "abc"}'}, [r'$.a: nothing -> "{\"token\": \"hidden\"}"']),
        ({"a": 1}, {"a": 1}, []),
    ],
)
def test_differences_are_told_by_place(before: Any, after: Any, expected: list[str]) -> None:
    assert [str(it) for it in differences(before, after)] == expected


def test_of_many_differences_the_first_are_told() -> None:
    assert len(differences(list(range(100)), list(range(1, 101)))) == 8


async def diverging(world: World, kind: str) -> list[Cause]:
    """The causes of a second run, in which a tool gave another ticket."""
    engine, numbers = world.engine(), itertools.count(1)

    @engine.tool(effect="read")
    def look() -> dict[str, Any]:
        """Look."""
        return {"ticket": {"id": f"INC-{next(numbers)}"}, "status": "open"}

    world.think(
        lambda body: (
            Answer([call("look", {})])
            if turn(body) == 0 and body.get("tools")
            else Answer([text("done")])
        )
    )
    agent = world.agent(engine, [look])

    async def once() -> Result:
        if kind == "agent":
            return await agent.execute("go")
        async with engine.run("p", "go") as run:
            run.output = (await run.act(look)).value["status"]
        return run.result

    async with engine:
        await once()
        result = await once()
        why = await engine.why(result.execution_id)
    told = [it for step in why.steps if step.why for it in step.why.cause.differences]
    assert [str(it) for it in told][:1] == ['$.ticket.id: "INC-1" -> "INC-2"']
    return [step.cause for step in result.steps if step.cause is not None]


@pytest.mark.parametrize("kind", ["agent", "program"])
async def test_a_diverged_output_names_the_field_and_the_mark(world: World, kind: str) -> None:
    cause = (await diverging(world, kind))[0]
    assert str(cause) == 'output diverged: look ($.ticket.id: "INC-1" -> "INC-2")'
    assert "opaque=['$.ticket.id']" in cause.remedy


async def test_of_a_name_that_differs_no_mark_is_advised(world: World) -> None:
    engine = world.engine()
    names = iter(["job-1", "job-2"])

    @engine.tool(effect="read")
    def jobs() -> dict[str, str]:
        """The jobs."""
        return {next(names): "runs", "kind": "all"}

    world.think(lambda body: Answer([text("done")] if turn(body) else [call("jobs", {})]))
    async with engine:
        await world.agent(engine, [jobs]).execute("go")
        [cause] = (await world.agent(engine, [jobs]).execute("go")).miss
    assert cause.kind is MissKind.OUTPUT_DIVERGED
    assert "is given as the value of a field" in cause.remedy
    assert "unseen" not in cause.remedy


async def test_a_changed_request_names_what_changed(world: World) -> None:
    engine = world.engine()
    world.think(lambda _: Answer([text("done")]))
    prompt = "You are careful. " * 9
    async with engine:
        run = engine.run("p", "go", client=world.client)
        for day in ("Monday", "Tuesday"):
            async with (run := engine.run("p", "go", client=world.client)):
                await run.decide(
                    {
                        "model": MODEL,
                        "max_tokens": 9,
                        "system": f"{prompt} Today is {day}.",
                        "messages": [{"role": "user", "content": "hi"}],
                    }
                )
    [cause] = run.result.miss
    assert str(cause.differences[0]) == (
        '$.system: "...ful.  Today is Monday." -> "...ful.  Today is Tuesday."'
    )
    assert "make '$.system' the same on every run" in cause.remedy


# A new task -------------------------------------------------------------------------------


async def told_of_new(world: World, agent: Agent, task: Any, **options: Any) -> Cause:
    [cause] = (await agent.execute(task, **options)).miss
    assert cause.kind is MissKind.NEW_TASK
    return cause


async def test_a_new_task_names_the_nearest_recorded_one_and_what_would_help(world: World) -> None:
    engine = world.engine()
    world.think(lambda _: Answer([text("done")]))
    agent = world.agent(engine, [])
    async with engine:
        first = await told_of_new(world, agent, {"incident": "INC-1", "service": "checkout"})
        assert (str(first), first.remedy) == (
            f"new task: {first.node}",
            "nothing: this run records it",
        )
        second = await told_of_new(world, agent, {"incident": "INC-2", "service": "billing"})
        assert second.remedy == (
            "nothing if another task is meant; else opaque=['$.incident', '$.service'] if a model"
            " only carries it; labels={...} for what belongs to the run"
        )
        cause = await told_of_new(world, agent, {"incident": "INC-3", "service": "checkout"})
        assert cause.before == first.node
        assert str(cause) == (
            f"new task: {cause.node} (nearest recorded task {first.node[:8]}:"
            ' $.incident: "INC-1" -> "INC-3"; another $.incident in each of the last 3 runs)'
        )
        assert 'declare opaque=["$.incident"] for the task' in cause.remedy
        again = {"incident": "INC-4", "service": "checkout"}
        with pytest.raises(NotReplayable, match=r"\$.incident: \"INC-3\" -> \"INC-4\""):
            await agent.execute(again, require="replay")


async def test_the_remedy_is_true(world: World) -> None:
    engine = world.engine()
    world.think(lambda _: Answer([text("done")]))
    agent = world.agent(engine, [], opaque=["$.incident"])
    async with engine:
        await agent.execute({"incident": "INC-1", "service": "checkout"})
        assert (await agent.execute({"incident": "INC-2", "service": "checkout"})).replayed


async def test_what_does_not_enter_the_key_is_not_named(world: World) -> None:
    class Incident(BaseModel):
        id: Annotated[str, Opaque]
        at: Annotated[float, Unseen]
        service: str

    engine = world.engine()
    world.think(lambda _: Answer([text("done")]))
    agent = world.agent(engine, [])
    async with engine:
        await agent.execute(Incident(id="INC-1", at=1.5, service="checkout"))
        cause = await told_of_new(world, agent, Incident(id="INC-2", at=2.5, service="billing"))
    assert [str(it) for it in cause.differences] == ['$.service: "checkout" -> "billing"']


async def test_of_an_opaque_value_another_kind_is_named_with_its_real_values(world: World) -> None:
    engine = world.engine()
    world.think(lambda _: Answer([text("done")]))
    agent = world.agent(engine, [], opaque=["$.incident"])
    async with engine:
        await agent.execute({"incident": "INC-1"})
        cause = await told_of_new(world, agent, {"incident": 17})
    assert str(cause.differences[0]).startswith('$.incident: "INC-1" -> 17 (opaque: ')
    assert "opaque=" not in cause.remedy


async def test_a_context_is_told_apart_from_the_inputs(world: World) -> None:
    engine = world.engine()
    world.think(lambda _: Answer([text("done")]))
    agent = world.agent(engine, [])
    async with engine:
        await agent.execute({"at": "10:15"}, context={"at": "10:15"})
        cause = await told_of_new(world, agent, {"at": "10:15"}, context={"at": "10:16"})
    assert [str(it) for it in cause.differences] == ['context $.at: "10:15" -> "10:16"']
    assert "opaque=" not in cause.remedy
    assert "give the context as a pydantic model, with Annotated[..., Opaque]" in cause.remedy
    assert "Annotated[..., Opaque]" in cause.remedy


async def test_secrets_of_a_task_and_what_names_a_requirement(world: World) -> None:
    engine = world.engine()
    world.think(lambda _: Answer([text("done")]))
    agent = world.agent(engine, [], requires=[Acl("deploy/{task.service}")])
    async with engine:
        await agent.execute({"service": "checkout", "api_token": "one"})
        cause = await told_of_new(world, agent, {"service": "billing", "api_token": "two"})
    service, token = cause.differences
    assert str(service).startswith('$.service: "checkout" -> "billing" (a requirement is named')
    assert str(token) == "$.api_token: hidden -> hidden"
    assert "opaque=['$.api_token']" in cause.remedy, "and what names a requirement never is"


async def test_a_text_in_which_a_word_differs_is_nearest(world: World) -> None:
    engine = world.engine()
    world.think(lambda _: Answer([text("done")]))
    agent = world.agent(engine, [])
    async with engine:
        about = "Look at incident {} of checkout, and write a summary of it that people can read."
        await agent.execute(about.format("INC-1"))
        await agent.execute("Write a poem")
        cause = await told_of_new(world, agent, about.format("INC-2"))
    assert "incident INC-1 of" in str(cause)
    assert "give the task as fields" in cause.remedy


async def test_other_marks_make_a_new_task_of_equal_inputs(world: World) -> None:
    engine = world.engine()
    world.think(lambda _: Answer([text("done")]))
    async with engine:
        await world.agent(engine, []).execute({"incident": "INC-1"})
        marked = world.agent(engine, [], opaque=["$.incident"])
        cause = await told_of_new(world, marked, {"incident": "INC-1"})
    assert "no input differs" in str(cause)
    assert "other marks" in cause.remedy


async def test_in_a_program_a_new_task_is_compared_with_those_of_its_name(world: World) -> None:
    engine = world.engine()
    world.think(lambda _: Answer([text("done")]))
    misses = []
    async with engine:
        for name, number in (("p", 1), ("q", 2), ("p", 3)):
            async with engine.run(name, {"number": number}, client=world.client) as run:
                await run.decide({"model": MODEL, "max_tokens": 9, **said("hi")})
            misses.append(run.result.miss)
    assert [str(it) for [cause] in misses for it in cause.differences] == ["$.number: 1 -> 3"]


async def test_what_cannot_be_read_leaves_the_cause_as_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = world.engine()
    world.think(lambda _: Answer([text("done")]))
    agent = world.agent(engine, [])
    async with engine:
        await agent.execute({"number": 1})
        store = engine.session().store
        real = store.values

        async def damaged(digests: Collection[str]) -> dict[str, bytes]:
            if len(digests) == 1:
                raise PayloadCorrupted(tuple(digests))
            return await real(digests)

        monkeypatch.setattr(store, "values", damaged)
        result = await agent.execute({"number": 2})
    assert [str(it) for it in result.miss] == [f"new task: {result.miss[0].node}"]
    assert result.recorded


async def test_a_hit_reads_no_task_and_a_miss_reads_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = world.engine()
    world.think(lambda _: Answer([text("done")]))
    agent = world.agent(engine, [])
    read: list[str] = []

    def counted(name: str, real: Any) -> Any:
        async def call(*given: Any, **named: Any) -> Any:
            read.append(name)
            return await real(*given, **named)

        return call

    async with engine:
        for number in range(12):
            await agent.execute({"number": number})
        store = engine.session().store
        for name in ("recent_tasks", "values", "task", "executions"):
            monkeypatch.setattr(store, name, counted(name, getattr(store, name)))
        assert (await agent.execute({"number": 1})).replayed
        assert read == []
        await agent.execute({"number": 99})
        assert read == ["recent_tasks", "values"]


# Other code -------------------------------------------------------------------------------


async def told_of_code(world: World, *versions: dict[str, Any]) -> list[str]:
    """What the run of an agent as it is declared last says of steps made by other code."""
    world.think(
        lambda body: (
            Answer([call("look", {})])
            if turn(body) == 0 and body.get("tools")
            else Answer([text("done")])
        )
    )
    causes: dict[Cause, None] = {}
    for version in versions:
        engine = world.engine()
        settings = dict(version)
        tool = {"effect": "read", "doc": "Look.", "gives": one, **settings.pop("tool", {})}
        function, doc = tool.pop("gives"), tool.pop("doc")
        function.__doc__ = doc
        look = engine.tool(name="look", **tool)(function)
        async with engine:
            result = await world.agent(engine, [look], **settings).execute("go")
        causes = dict.fromkeys(it.cause for it in result.steps if it.cause is not None)
    assert {str(it.kind) for it in causes} <= {"code changed", "output diverged"}
    return [str(it) for cause in causes for it in cause.differences]


def one() -> str:
    return "1"


def other() -> str:
    return str(1)


def wordy(*, aloud: bool = False) -> str:
    return "2" if aloud else "1"


_LONG = "You are careful, and ask before you act. " * 8


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (
            {"system": f"{_LONG}It is 10:42:11. {_LONG}"},
            {"system": f"{_LONG}It is 10:43:59. {_LONG}"},
            ['$.system: "...act. It is 10:42:11. You ar'],
        ),
        ({}, {"params": {"top_k": 3}}, ["$.top_k: nothing -> 3"]),
        ({}, {"max_tokens": 99}, ["$.max_tokens: 4096 -> 99"]),
        ({}, {"tool": {"doc": "Look well."}}, ['$.tools[look].description: "Look." -> "Look']),
        (
            {},
            {"tool": {"gives": wordy}},
            ["$.tools[look].input_schema.properties.aloud: nothing -> an object"],
        ),
        ({}, {"requires": [Acl("a", "$.b")]}, ["$.requires: nothing -> acl:a $.b"]),
        ({"requires": [Acl("a", "$.b")]}, {}, ["$.requires: acl:a $.b -> nothing"]),
        ({}, {"tool": {"gives": other}}, ["$.source: "]),
        ({}, {"tool": {"effect": "write", "requires": []}}, ['$.effect: "read" -> "write"']),
        (
            {"tool": {"effect": "write", "requires": [Acl("a")]}},
            {"tool": {"effect": "write", "requires": [Acl("b")]}},
            ["$.requires: nothing -> acl:b", "$.requires: acl:a -> nothing"],
        ),
    ],
)
async def test_changed_code_names_the_field(
    world: World, before: dict[str, Any], after: dict[str, Any], expected: list[str]
) -> None:
    told = await told_of_code(world, before, after)
    assert len(told) == len(expected), told
    assert all(it.startswith(start) for it, start in zip(told, expected, strict=True)), told


async def test_a_changed_address_is_named(world: World) -> None:
    with MessagesServer(lambda _: Answer([text("done")])) as elsewhere:
        async with AsyncAnthropic(base_url=elsewhere.url, api_key="k") as client:
            told = await told_of_code(world, {}, {"client": client})
    assert [it.partition(":")[0] for it in told] == ["$.base_url"]


# A changed request ------------------------------------------------------------------------


async def asked_after(world: World, first: list[Any], then: list[Any]) -> list[str]:
    """What a program's run says that asks ``then`` where ``first`` is recorded."""
    engine = world.engine()
    world.think(lambda _: Answer([text("done")]))
    told: list[str] = []
    async with engine:
        for requests in (first, then):
            async with engine.run("p", "go", client=world.client) as run:
                for request in requests:
                    await run.decide({"model": MODEL, "max_tokens": 9, **request})
            told = [str(it) for cause in run.result.miss for it in cause.differences]
    return told


def said(*texts: str, **more: Any) -> dict[str, Any]:
    roles = itertools.cycle(["user", "assistant"])
    return {"messages": [{"role": next(roles), "content": it} for it in texts], **more}


_LOOK = {"name": "look", "description": "Look.", "input_schema": {"type": "object"}}
_ACT = {**_LOOK, "name": "act"}


@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [
        ([said("a", tools=[_LOOK])], [said("a", tools=[])], ["$.tools[look]: offered -> nothing"]),
        (
            [said("a", tools=[_LOOK, _ACT])],
            [said("a", tools=[_ACT, _LOOK])],
            ['$.tools: "look, act" -> "act, look" (their order)'],
        ),
        (
            [said("a", tools=[{**_LOOK, "cache_control": {"type": "ephemeral"}}])],
            [said("b", tools=[_LOOK])],
            ['$.messages[0].content: "a" -> "b"'],
        ),
        (
            [said("hi", "hello", "order 66")],
            [said("hi", "hello", "order 67")],
            ['$.messages[2].content: "order 66" -> "order 67"'],
        ),
        (
            [said("hi", "hello", "order 66")],
            [said("hi", "hello", "order 66", "yes?", "of May")],
            ['$.messages[3]: nothing -> "assistant: yes?"', '$.messages[4]: nothing -> "user: of'],
        ),
        (
            [said("the weather in the north"), said("all open orders"), said("a summary")],
            [said("the weather in the north"), said("a short summary")],
            ['$.messages[0].content: "a summary" -> "a short summary"'],
        ),
    ],
)
async def test_a_changed_request_is_compared_with_the_nearest(
    world: World, first: list[Any], then: list[Any], expected: list[str]
) -> None:
    told = await asked_after(world, first, then)
    assert len(told) == len(expected), told
    assert all(it.startswith(start) for it, start in zip(told, expected, strict=True)), told


def test_documents_that_are_nested_too_deeply_are_not_told() -> None:
    one: Any = 1
    two: Any = 2
    for _ in range(2000):
        one, two = [one], [two]
    assert differences(one, two) == ()
