"""Values that differ on every run: a model carries them, and one recording serves all of them."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from ipaddress import IPv4Address
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from anthropic import Anthropic, AsyncAnthropic
from pydantic import (
    BaseModel,
    ConfigDict,
    PlainSerializer,
    TypeAdapter,
    WrapSerializer,
    field_serializer,
    model_serializer,
)

from execgraph import (
    Acl,
    AgentError,
    ArgumentsInvalid,
    ConfigurationError,
    Engine,
    Opaque,
    RunFailed,
    Unseen,
)
from execgraph.adapters.anthropic.dialect import MessagesDialect
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.keys.standins import StandIns
from execgraph.engine.tools.marks import takes_marks_off
from execgraph.engine.tools.tool import Tool
from execgraph.graphstore.canonical import fingerprint
from execgraph.tests.models import MODEL

from .conftest import World, misses, outcomes, results, turn

count = itertools.count(1)


class Ticket(BaseModel):
    """What opening a ticket gives."""

    id: Annotated[str, Opaque]
    trace: Annotated[UUID, Opaque]
    number: Annotated[int, Opaque]
    status: str = "open"
    took_ms: Annotated[float, Unseen] = 0.0


class Incident(BaseModel):
    """A task."""

    incident: Annotated[str, Opaque]
    service: str


def ticket() -> Ticket:
    number = next(count)
    return Ticket(id=f'INC-"{number}"', trace=uuid4(), number=number, took_ms=number / 7)


def brain(body: dict[str, Any]) -> Answer:
    """Opens a ticket, closes it by what it was told, and says so."""
    told = results(body)
    if turn(body) == 0:
        return Answer([call("open_ticket", {})])
    if turn(body) == 1:
        arguments = {"ticket": told[0]["id"], "note": f"{told[0]['id']} of {told[0]['number']}"}
        return Answer([text("So."), call("close_ticket", arguments)])
    task = body["messages"][0]["content"][0]["text"]
    said = json.dumps({"closed": told[0]["id"]})
    return Answer([text(f"Closed {told[0]['id']} for {task}:\n```json\n{said}\n```")])


class Desk:
    """Tools that count what they were really called with."""

    def __init__(self, world: World, engine: Engine) -> None:
        self.opened: list[Ticket] = []
        self.closed: list[tuple[str, str]] = []

        @engine.tool(effect="write", requires=[])
        def open_ticket() -> Ticket:
            """Open a ticket."""
            self.opened.append(ticket())
            return self.opened[-1]

        @engine.tool(effect="write", requires=[])
        def close_ticket(ticket: str, note: str) -> str:
            """Close a ticket."""
            self.closed.append((ticket, note))
            return "closed"

        world.think(brain)
        self.agent = world.agent(engine, [open_ticket, close_ticket])


async def test_the_ticket_agent_replays_with_every_new_ticket(world: World) -> None:
    engine = world.engine()
    desk = Desk(world, engine)
    async with engine:
        for number in range(4):
            result = await desk.agent.execute("go")
            opened, closed = desk.opened[-1], desk.closed[-1]
            assert closed == (opened.id, f"{opened.id} of {opened.number}")
            inside = json.dumps({"closed": opened.id})
            assert result.output == f"Closed {opened.id} for go:\n```json\n{inside}\n```"
            assert result.identical == bool(number)
        assert world.server.requests == 3
    sent = json.dumps(world.server.bodies)
    for one in desk.opened:
        assert json.dumps(one.id)[1:-1] not in sent
        assert str(one.trace) not in sent
        assert str(one.took_ms) not in sent
    assert "took_ms" not in sent


async def test_one_recording_serves_every_incident(world: World) -> None:
    engine = world.engine()
    seen = []

    @engine.tool(effect="read")
    def look(incident: str) -> str:
        """Look at an incident."""
        seen.append(incident)
        return "all is well"

    def think(body: dict[str, Any]) -> Answer:
        task = json.loads(body["messages"][0]["content"][0]["text"])
        if turn(body) == 0:
            return Answer([call("look", {"incident": task["incident"]})])
        return Answer([text(f"{task['incident']} of {task['service']} is over")])

    world.think(think)
    agent = world.agent(engine, [look])
    by_selector = world.agent(engine, [look], name="other", opaque=["$.incident"])
    async with engine:
        for number, incident in enumerate(("INC-1", "INC-77", "a b")):
            result = await agent.execute(Incident(incident=incident, service="web"))
            assert result.output == f"{incident} of web is over"
            assert result.identical == bool(number)
            task = {"incident": incident, "service": "web"}
            assert (await by_selector.execute(task)).identical == bool(number)
        assert world.server.requests == 4
        await agent.execute(Incident(incident="INC-1", service="db"))
        assert world.server.requests == 6, "another service is another task"
    assert seen[:6] == ["INC-1", "INC-1", "INC-77", "INC-77", "a b", "a b"]


async def test_a_run_is_shown_with_its_own_values_and_not_with_those_of_its_recording(
    world: World,
) -> None:
    engine = world.engine()

    @engine.tool(effect="read", requires=[])
    def look(ticket: str) -> str:
        """Look."""
        return "seen"

    @engine.tool(effect="write", requires=[])
    def close(ticket: str) -> str:
        """Close."""
        return "closed"

    @engine.tool(effect="read", requires=[])
    def weather() -> str:
        """Differs, so that a run is served in part."""
        return skies[-1]

    def brain(body: dict[str, Any]) -> Answer:
        incident = json.loads(body["messages"][0]["content"][0]["text"])["incident"]
        calls = [call("look", {"ticket": incident}), call("close", {"ticket": incident})]
        calls.append(call("weather", {}))
        said = turn(body)
        return Answer([calls[said] if said < 3 else text(f"Closed {incident}.")])

    skies = ["fair"]
    world.think(brain)
    agent = world.agent(engine, [look, close, weather], opaque=["$.incident"])
    async with engine:
        done = [
            await agent.execute({"incident": f"INC-{number}", "in": 1}) for number in (1000, 2000)
        ]
        skies.append("foul")
        done.append(await agent.execute({"incident": "INC-3000", "in": 1}, run_id="third"))
        assert [str(it.mode) for it in done] == ["live", "replay", "partial"]
    async with world.engine() as other:
        for number, result in zip((1000, 2000, 3000), done, strict=True):
            incident = f"INC-{number}"
            run = await other.execution(result.execution_id)
            assert run.inputs == {"incident": incident, "in": 1}
            assert run.output == result.output == f"Closed {incident}."
            assert [it.arguments for it in run.steps if it.arguments] == [{"ticket": incident}] * 2
            assert run.hint is None
            told = [
                (await other.payload(result.execution_id, step=1, part="arguments"))[0],
                (await other.payload(result.execution_id, part="inputs"))[0],
                (await other.payload(result.execution_id))[0],
            ]
            assert all(incident.encode() in it for it in told)
        diff = await other.diff(done[0].execution_id, done[1].execution_id)
        assert diff.step is None
        assert diff.task is not None
        assert [it.place for it in diff.task.differences] == ["$.inputs.incident"]
        assert (await other.why(done[1].execution_id)).hint is None


async def test_a_replay_with_another_output_is_shown_with_its_own(world: World) -> None:
    async def ask(request: Any) -> Any:
        return "fine"

    async def run_of(engine: Engine, number: int) -> str:
        async with engine.run("p", {"n": 1}) as run:
            run.output = f"{(await run.decide({'n': 1}, call=ask)).value} {number}"
        assert run.result.replayed == (number > 0)
        return run.execution_id

    async with world.engine() as engine:
        ids = [await run_of(engine, number) for number in range(2)]
    async with world.engine() as engine:
        assert [(await engine.execution(it)).output for it in ids] == ["fine 0", "fine 1"]
        assert await engine.payload(ids[1]) == (b'"fine 1"', False)


async def test_what_a_model_mangled_is_told_to_it_and_no_tool_is_called(world: World) -> None:
    engine = world.engine()
    desk = Desk(world, engine)

    def think(body: dict[str, Any]) -> Answer:
        told = results(body)
        if turn(body) == 0:
            return Answer([call("open_ticket", {})])
        if turn(body) == 1:
            return Answer([call("close_ticket", {"ticket": told[0]["id"][:-3], "note": ""})])
        if turn(body) == 2:
            return Answer([text(f"Closed {told[0]['id'].upper()}")])
        objection = body["messages"][-1]["content"][0]["text"]
        return Answer([text(f"{'was not called' in told[1]}, {objection[:17]}")])

    world.think(think)
    async with engine:
        for again in (False, True):
            result = await desk.agent.execute("go")
            assert result.output == "True, That is no answer"
            assert result.identical == again
    assert desk.closed == []
    assert world.server.requests == 4


async def test_the_order_in_which_parallel_calls_end_says_nothing(world: World) -> None:
    engine = world.engine()
    pauses = iter([0.05, 0.0, 0.0, 0.05])

    @engine.tool(effect="read", opaque=["$.id"])
    async def open_it(name: str) -> dict[str, Any]:
        """Open it."""
        await asyncio.sleep(next(pauses))
        return {"id": "the same", "name": name}

    def think(body: dict[str, Any]) -> Answer:
        if turn(body) == 0:
            return Answer([call("open_it", {"name": "a"}), call("open_it", {"name": "b"})])
        return Answer([text(str(results(body)[0]["id"] == results(body)[1]["id"]))])

    world.think(think)
    agent = world.agent(engine, [open_it])
    async with engine:
        assert (await agent.execute("go")).output == "True"
        assert (await agent.execute("go")).identical
    assert world.server.requests == 2


async def test_a_pure_output_is_not_used_again_for_other_values(world: World) -> None:
    engine = world.engine()
    made = []

    @engine.tool(effect="pure")
    def reverse(word: str) -> str:
        """Reverse a word."""
        made.append(word)
        return word[::-1]

    def think(body: dict[str, Any]) -> Answer:
        task = json.loads(body["messages"][0]["content"][0]["text"])
        if turn(body) == 0:
            return Answer([call("reverse", {"word": task["incident"]})])
        return Answer([text(f"it is {results(body)[0]}")])

    world.think(think)
    agent = world.agent(engine, [reverse])
    async with engine:
        for incident in ("abc", "xyz", "abc"):
            result = await agent.execute(Incident(incident=incident, service="web"))
            assert result.output == f"it is {incident[::-1]}"
    assert made == ["abc", "xyz", "abc"]


class Plain(BaseModel):
    """A ticket without marks, which is written as the others are."""

    id: str
    ms: int = 4


class WithOpaque(Plain):
    """A ticket whose id is carried."""

    model_config = ConfigDict(title="Plain")
    id: Annotated[str, Opaque]


class WithUnseen(Plain):
    """A ticket that was looked up in a time that says nothing."""

    model_config = ConfigDict(title="Plain")
    ms: Annotated[int, Unseen] = 4


def find_plain(title: str) -> Plain:
    """Find a ticket."""
    return Plain(id="INC-4711")


def find_opaque(title: str) -> WithOpaque:
    """Find a ticket."""
    return WithOpaque(id="INC-4711")


def find_unseen(title: str) -> WithUnseen:
    """Find a ticket."""
    return WithUnseen(id="INC-4711")


REUSED: dict[str, dict[str, Any]] = {
    "pure": {"effect": "pure"},
    "fresh": {"effect": "read", "fresh_for": timedelta(hours=1)},
}
MARKED: dict[str, tuple[Any, dict[str, Any]]] = {
    "an opaque selector": (find_plain, {"opaque": ["$.id"]}),
    "an unseen selector": (find_plain, {"unseen": ["$.ms"]}),
    "an opaque type": (find_opaque, {}),
    "an unseen type": (find_unseen, {}),
}


@pytest.mark.parametrize("reused", REUSED)
@pytest.mark.parametrize("marks", MARKED)
async def test_what_is_recorded_with_marks_is_not_used_again_without_them(
    world: World, reused: str, marks: str
) -> None:
    closed: list[Any] = []

    def close(it: str) -> str:
        """Close a ticket."""
        closed.append(json.loads(it))
        return "closed"

    def think(body: dict[str, Any]) -> Answer:
        if turn(body) == 0:
            return Answer([call("find", {"title": "web"})])
        if turn(body) == 1:
            return Answer([call("close", {"it": json.dumps(results(body)[0])})])
        return Answer([text("done")])

    async def run(function: Any, selectors: dict[str, Any]) -> list[tuple[str, str]]:
        engine = world.engine()
        declared = {**REUSED[reused], **selectors, "name": "find", "version": "1"}
        tools = [engine.tool(function, **declared), engine.tool(close, effect="write", requires=[])]
        async with engine:
            return outcomes(await world.agent(engine, tools).execute("go"))

    world.think(think)
    await run(*MARKED[marks])
    await run(find_plain, {})
    whole = {"id": "INC-4711", "ms": 4}
    assert closed == [{"id": "INC-4711"} if "unseen" in marks else whole, whole]
    assert ("find", "reused") in await run(find_plain, {}), "this one was recorded without marks"
    assert await run(*MARKED[marks])
    assert closed[2:] == [whole, closed[0]]


@pytest.mark.parametrize("marks", MARKED)
def test_marks_are_in_the_key_of_a_tool_whose_outputs_are_used_again(marks: str) -> None:
    marked, selectors = MARKED[marks]
    known: dict[str, Any] = {"name": "find", "version": "1"}
    for declared in REUSED.values():
        plain = Tool(find_plain, **declared, **known)
        assert plain.code_key != Tool(marked, **declared, **known, **selectors).code_key
    read = Tool(find_plain, effect="read", **known)
    assert read.code_key == Tool(marked, effect="read", **known, **selectors).code_key


def test_a_tool_without_marks_has_the_key_that_it_always_had() -> None:
    for declared in REUSED.values():
        tool = Tool(find_plain, **declared, name="find", version="1")
        made = [Plain.model_json_schema(mode="serialization")] if tool.effect == "pure" else []
        assert tool.source_key() == fingerprint(["tool", "find", tool.schema, *made, "1"])


async def test_an_error_hides_the_values_that_it_quotes(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="read")
    def look(incident: str) -> str:
        """Look at an incident."""
        raise LookupError(f"no incident {incident} here")

    def think(body: dict[str, Any]) -> Answer:
        task = json.loads(body["messages"][0]["content"][0]["text"])
        if turn(body) == 0:
            return Answer([call("look", {"incident": task["incident"]})])
        return Answer([text(results(body)[0])])

    world.think(think)
    agent = world.agent(engine, [look])
    async with engine:
        for number, incident in enumerate(("INC-1000", "INC-2000")):
            result = await agent.execute(Incident(incident=incident, service="web"))
            assert result.output == f"LookupError: no incident {incident} here"
            assert result.replayed == bool(number)
    assert "INC-" not in json.dumps(world.server.bodies)


async def test_a_value_that_fills_a_requirement_is_never_opaque(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="read", opaque=["$.name"])
    def pick() -> dict[str, str]:
        """Pick a target."""
        return {"name": "prod"}

    @engine.tool(effect="write", requires=[Acl("{target}")])
    def deploy(target: str) -> str:
        """Deploy."""
        world.done.append(target)
        return "done"

    def think(body: dict[str, Any]) -> Answer:
        if turn(body) == 0:
            return Answer([call("pick", {})])
        return Answer([call("deploy", {"target": results(body)[0]["name"]})])

    world.think(think)
    agent = world.agent(engine, [pick, deploy])
    by_task = world.agent(
        engine, [], name="by task", requires=[Acl("{task.incident}")], opaque=["$.incident"]
    )
    async with engine:
        with pytest.raises(RunFailed, match="never opaque"):
            await agent.execute("go")
        with pytest.raises(ConfigurationError, match="never opaque"):
            await by_task.execute({"incident": "INC-1"})
    assert world.done == []


def test_marks_that_cannot_be_are_refused_when_they_are_declared(world: World) -> None:
    engine = world.engine()

    def tool() -> dict[str, str]:
        """A tool."""
        return {}

    wrong: list[tuple[dict[str, Any], str]] = [
        ({"opaque": ["$"]}, "marks the whole document"),
        ({"opaque": "$.id"}, "give a list"),
        ({"opaque": ["id"]}, "no RFC 9535|not RFC 9535"),
        ({"opaque": ["$.id"], "unseen": ["$.id"]}, "as opaque and as unseen"),
    ]
    for marks, why in wrong:
        with pytest.raises(ConfigurationError, match=why):
            engine.tool(effect="read", **marks)(tool)
    with pytest.raises((ConfigurationError, AgentError), match="marks the whole document"):
        world.agent(engine, [], opaque=["$"])


async def test_an_output_whose_mark_is_on_an_object_is_told_as_done_and_not_shown(
    world: World,
) -> None:
    engine = world.engine()

    @engine.tool(effect="write", requires=[], opaque=["$.who"])
    def deploy() -> dict[str, Any]:
        """Deploy."""
        return {"who": {"id": 1}}

    world.think(
        lambda body: (
            Answer([call("deploy", {})]) if turn(body) == 0 else Answer([text(results(body)[0])])
        )
    )
    async with engine:
        result = await world.agent(engine, [deploy]).execute("go")
    assert "deploy is done; do not repeat it" in result.output
    assert "mark the values in it" in result.output


MADE: dict[str, Callable[[int], Any]] = {
    "moment": lambda number: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number),
    "day": lambda number: date(2026, 1, 1) + timedelta(days=number),
    "bytes": lambda number: b"made-%d" % number,
    "uuid": lambda number: uuid4(),
    "address": lambda number: IPv4Address("10.0.0.0") + number,
    "decimal": lambda number: Decimal(number) + Decimal("7000.0625"),
}


@pytest.mark.parametrize("kind", MADE)
async def test_a_selector_marks_what_json_has_as_a_text(world: World, kind: str) -> None:
    engine = world.engine()
    given: list[Any] = []

    @engine.tool(effect="write", requires=[], opaque=["$.it"], unseen=["$.seen"])
    def make() -> dict[str, Any]:
        """Make something."""
        given.append(MADE[kind](next(count)))
        return {"it": given[-1], "seen": MADE[kind](next(count)), "state": "open"}

    def think(body: dict[str, Any]) -> Answer:
        if turn(body) == 0:
            return Answer([call("make", {})])
        return Answer([text(str(results(body)[0]["it"]))])

    world.think(think)
    agent = world.agent(engine, [make])
    async with engine:
        for number in range(4):  # from the second on, this process knows the recorded text
            result = await agent.execute("go")
            assert result.output == TypeAdapter(Any).dump_python(given[-1], mode="json")
            assert result.identical == bool(number)
    assert world.server.requests == 2
    assert all(str(it) not in json.dumps(world.server.bodies) for it in given)


class Doubted(BaseModel):
    """What a tool gives whose selector says something else of a value than its type."""

    id: Annotated[str, Opaque]


@pytest.mark.parametrize("marks", [{"unseen": ["$.id"]}, {"unseen": ["$[*]"], "opaque": ["$.id"]}])
async def test_marks_that_meet_in_one_place_and_contradict_show_nothing(
    world: World, marks: dict[str, Any]
) -> None:
    engine = world.engine()

    @engine.tool(effect="read", **marks)
    def look() -> Doubted:
        """Look."""
        return Doubted(id="INC-1")

    world.think(
        lambda body: (
            Answer([call("look", {})]) if turn(body) == 0 else Answer([text(results(body)[0])])
        )
    )
    async with engine:
        result = await world.agent(engine, [look]).execute("go")
        assert "is marked as opaque and as unseen" in result.output
        assert "INC-1" not in json.dumps(world.server.bodies)
        assert (await world.agent(engine, [look]).execute("go")).output == result.output


async def test_a_selector_that_finds_nothing_marks_nothing_and_the_miss_names_the_place(
    world: World,
) -> None:
    engine = world.engine()

    @engine.tool(effect="read", opaque=["$.identifier"])
    def look() -> dict[str, Any]:
        """Look."""
        return {"id": f"INC-{next(count)}"}

    world.think(
        lambda body: Answer([call("look", {})]) if turn(body) == 0 else Answer([text("Seen.")])
    )
    agent = world.agent(engine, [look])
    async with engine:
        await agent.execute("go")
        again = await agent.execute("go")
    (cause,) = again.miss
    assert [it.path for it in cause.differences] == ["$.id"]
    assert "opaque=['$.id']" in cause.remedy


async def test_what_is_unseen_is_in_no_comparison(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="read", unseen=["$.as_of", "$.rows[*].took"])
    def look() -> dict[str, Any]:
        """Look."""
        number = next(count)
        return {"as_of": number, "rows": [{"took": number, "n": 1}, {"n": 2}]}

    world.think(
        lambda body: (
            Answer([call("look", {})])
            if turn(body) == 0
            else Answer([text(json.dumps(results(body)[0]))])
        )
    )
    agent = world.agent(engine, [look])
    async with engine:
        first, again = await agent.execute("go"), await agent.execute("go")
    assert json.loads(first.output) == {"rows": [{"n": 1}, {"n": 2}]}
    assert again.identical
    assert outcomes(again) == [("?", "replayed"), ("look", "replayed"), ("?", "replayed")]
    assert misses(again) == []


# Programs ---------------------------------------------------------------------------------


class Program:
    """Opens a ticket and has a model close it, asked in one of several ways."""

    def __init__(self, world: World, engine: Engine, way: str) -> None:
        self.engine, self.way, self.world = engine, way, world
        self.opened: list[Ticket] = []
        self.closed: list[Any] = []

        @engine.tool(effect="write", requires=[])
        def open_ticket(incident: str) -> Ticket:
            """Open a ticket."""
            self.opened.append(ticket())
            return self.opened[-1]

        @engine.tool(effect="write", requires=[])
        def close_ticket(ticket: str, number: int) -> str:
            """Close a ticket."""
            self.closed.append((ticket, number))
            return "closed"

        self.tools = open_ticket, close_ticket
        world.think(self.brain)
        known: dict[str, Any] = {
            "base_url": world.server.url,
            "api_key": "x",
            "middleware": [engine.middleware()],
        }
        self.client, self.sync = AsyncAnthropic(**known), Anthropic(**known)

    @staticmethod
    def brain(body: dict[str, Any]) -> Answer:
        told = json.loads(body["messages"][-1]["content"])
        note = {"ticket": told["id"], "number": told["number"]}
        return Answer([text(f"I close {told['id']}."), call("close_ticket", note)])

    async def ask(self, asked: dict[str, Any], run: Any) -> Any:
        if self.way == "decide":
            return (await run.decide(asked)).value["content"]
        if self.way == "stream":
            async with self.client.messages.stream(**asked) as stream:
                reply = await stream.get_final_message()
        elif self.way == "create":
            reply = await self.client.messages.create(**asked)
        else:
            create: Any = self.sync.messages.create
            reply = await asyncio.to_thread(create, **asked)
        return [block.model_dump() for block in reply.content]

    async def run(self, incident: str) -> Any:
        open_ticket, close_ticket = self.tools
        inputs = {"incident": incident}
        async with self.engine.run(
            "p", inputs, opaque=["$.incident"], client=self.world.client
        ) as run:
            opened = (await run.act(open_ticket, incident=incident)).value
            asked: dict[str, Any] = {
                "model": MODEL,
                "max_tokens": 50,
                "tools": [{"name": "close_ticket", "input_schema": {"type": "object"}}],
                "messages": [{"role": "user", "content": opened.model_dump_json()}],
            }
            said, called = await self.ask(asked, run)
            await run.act(close_ticket, **called["input"])
            run.output = said["text"]
        return run.result


@pytest.mark.parametrize("way", ["decide", "create", "stream", "sync"])
async def test_a_program_tells_a_marked_output_as_a_whole(world: World, way: str) -> None:
    engine = world.engine()
    program = Program(world, engine, way)
    async with engine:
        for number, incident in enumerate(("INC-2001", "INC-2002", "INC-2003")):
            result = await program.run(incident)
            opened = program.opened[-1]
            assert program.closed[-1] == (opened.id, opened.number)
            assert result.output == f"I close {opened.id}."
            assert result.identical == bool(number), result.miss
    assert world.server.requests == 1
    sent = json.dumps(world.server.bodies)
    assert "took_ms" not in sent
    assert all(json.dumps(it.id)[1:-1] not in sent for it in program.opened)
    await program.client.close()
    program.sync.close()


@pytest.mark.parametrize("reused", REUSED)
async def test_a_marked_output_that_could_be_used_again_is_recorded_with_stand_ins(
    world: World, reused: str
) -> None:
    engine = world.engine()
    made: list[str] = []

    @engine.tool(**REUSED[reused], version="1", opaque=["$.id"], unseen=["$.ms"])
    def look() -> dict[str, Any]:
        """Look at a ticket."""
        made.append(f"INC-{4711 + len(made)}")
        return {"id": made[-1], "ms": len(made)}

    async with engine:
        for number in range(3):
            async with engine.run("p", {}) as run:
                assert (await run.act(look)).value == {"id": made[-1], "ms": len(made)}
            assert outcomes(run.result) == [("look", "replayed" if number else "executed")]
            assert run.result.recorded == (not number)
            if run.result.execution_id is not None:
                stored = await engine.execution(run.result.execution_id)
                assert "INC-" not in str(stored.steps[0].output)
                assert "ms" not in str(stored.steps[0].output)
    assert len(made) == 3


async def test_long_values_are_hidden_in_what_a_program_tells(world: World) -> None:
    engine = world.engine()
    world.think(lambda body: Answer([text(body["messages"][0]["content"])]))
    async with engine:
        for number, incident in enumerate(("INC-3001", "INC-3002")):
            async with engine.run(
                "p", {"incident": incident}, opaque=["$.incident"], client=world.client
            ) as run:
                asked = {
                    "model": MODEL,
                    "max_tokens": 50,
                    "messages": [{"role": "user", "content": f"Look at {incident}, please."}],
                }
                reply = (await run.decide(asked)).value
                run.output = reply["content"][0]["text"]
            assert run.output == f"Look at {incident}, please."
            assert run.result.identical == bool(number)
    assert "INC-300" not in json.dumps(world.server.bodies)


def closing(body: dict[str, Any]) -> Answer:
    """Closes the ticket that it is told of, and says so."""
    told = json.loads(body["messages"][0]["content"])["id"]
    if turn(body) < 2:
        return Answer([text(f"I close {told}."), call("close_ticket", {"id": told, "n": 4710})])
    return Answer([text(f"{told} is closed")])


def as_it_came(block: dict[str, Any]) -> dict[str, Any]:
    """A block of a reply as it is."""
    return block


def rebuilt(block: dict[str, Any]) -> dict[str, Any]:
    """A block of a reply as a framework makes it anew, with a hint."""
    known = ("type", "id", "name", "text", "input")
    kept: dict[str, Any] = {key: block[key] for key in known if key in block}
    return {**kept, "cache_control": {"type": "ephemeral"}}


@pytest.mark.parametrize("sent_back", [as_it_came, rebuilt])
@pytest.mark.parametrize("way", ["decide", "create", "stream", "sync"])
async def test_what_a_model_said_of_a_short_value_is_sent_back_as_it_said_it(
    world: World, way: str, sent_back: Any
) -> None:
    engine, numbers = world.engine(), itertools.count(4711)
    program = Program(world, engine, way)
    world.think(closing)

    @engine.tool(effect="read", opaque=["$.id"])
    def look() -> dict[str, int]:
        """Look at a ticket."""
        return {"id": next(numbers)}

    async with engine:
        for _ in range(3):
            async with engine.run("p", "go", client=world.client) as run:
                found = (await run.act(look)).value
                said: list[dict[str, Any]] = [{"role": "user", "content": json.dumps(found)}]
                asked: dict[str, Any] = {
                    "model": MODEL,
                    "max_tokens": 50,
                    "tools": [{"name": "close_ticket", "input_schema": {"type": "object"}}],
                }
                for _ in range(2):
                    reply = await program.ask({**asked, "messages": said}, run)
                    assert reply[0]["text"] == f"I close {found['id']}."
                    assert reply[1]["input"] == {"id": found["id"], "n": 4710}
                    result = {"tool_use_id": reply[1]["id"], "content": "closed"}
                    said += [
                        {"role": "assistant", "content": [sent_back(it) for it in reply]},
                        {"role": "user", "content": [{"type": "tool_result", **result}]},
                    ]
                (last,) = await program.ask({**asked, "messages": said}, run)
                said.append({"role": "assistant", "content": last["text"]})
                said.append({"role": "user", "content": "Thanks."})
                await program.ask({**asked, "messages": said}, run)
            assert run.result.identical == (found["id"] != 4711), run.result.miss
    assert world.server.requests == 4
    assert not re.search(r"\b471[1-9]\b", json.dumps(world.server.bodies))
    await program.client.close()
    program.sync.close()


async def test_a_miss_tells_of_a_marked_value_that_is_too_short(world: World) -> None:
    engine, numbers = world.engine(), itertools.count(10)
    world.think(lambda _: Answer([text("ok")]))

    @engine.tool(effect="read", opaque=["$.id"])
    def look() -> dict[str, str]:
        """Look at a ticket."""
        return {"id": f"T{next(numbers)}", "state": "open"}

    misses = []
    async with engine:
        for _ in range(2):
            async with engine.run("p", "go", client=world.client) as run:
                said = f"Look at {(await run.act(look)).value['id']}, please."
                asked = {"model": MODEL, "max_tokens": 50}
                await run.decide({**asked, "messages": [{"role": "user", "content": said}]})
            misses.append(run.result.miss[0])
    assert [str(it) for it in misses[1].differences] == [
        (
            '$.messages[0].content: "Look at T10, please." -> "Look at T11, please."'
            " (a marked value stands in it that is too short to be told apart)"
        )
    ]


async def test_whether_values_of_a_task_are_equal_is_part_of_what_it_is_known_by(
    world: World,
) -> None:
    engine = world.engine()
    closed = []

    @engine.tool(effect="write", requires=[])
    def close(incident: str) -> str:
        """Close an incident."""
        closed.append(incident)
        return "closed"

    def think(body: dict[str, Any]) -> Answer:
        told = body["messages"][0]["content"][1]["text"].removeprefix("Context:\n")
        if turn(body) == 0:
            return Answer([call("close", {"incident": json.loads(told)["incident"]})])
        return Answer([text("done")])

    world.think(think)
    agent = world.agent(engine, [close])
    pairs = [("INC-1", "INC-1"), ("INC-2", "INC-3"), ("INC-4", "INC-4"), ("INC-5", "INC-6")]
    async with engine:
        for mine, other in pairs:
            task, context = (Incident(incident=it, service="web") for it in (mine, other))
            await agent.execute(task, context=context)
    assert closed == [other for _, other in pairs]
    assert world.server.requests == 4, "two tasks, each recorded once"


async def test_an_opaque_input_names_no_requirement_of_a_tool(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="write", requires=[Acl("{task.incident}")])
    def close() -> str:
        """Close an incident."""
        world.done.append("closed")
        return "closed"

    @engine.tool(effect="write", requires=[Acl("{task.incident}/{who}")])
    def hand_over(who: str) -> str:
        """Hand an incident over."""
        world.done.append(who)
        return "done"

    incident = Incident(incident="INC-1", service="web")
    async with engine:
        async with engine.run("program", incident) as run:
            with pytest.raises(ConfigurationError, match="never opaque"):
                await run.act(close)
            with pytest.raises(ConfigurationError, match="never opaque"):
                await run.act(hand_over, who="me")
        with pytest.raises(ConfigurationError, match="never opaque"):
            await world.agent(engine, [hand_over]).execute(incident)
    assert world.done == []


class Labelled(BaseModel):
    """Its own serializer reads what is marked."""

    id: Annotated[str, Opaque]

    @model_serializer(mode="wrap")
    def write(self, handler: Any) -> dict[str, Any]:
        """Write it."""
        written = handler(self)
        return {**written, "label": f"ticket {written['id']}"}


async def test_marks_that_a_declared_type_does_not_tell_of_are_an_error_and_no_leak(
    world: World,
) -> None:
    engine = world.engine()

    @engine.tool(effect="write", requires=[])
    def within() -> dict[str, Any]:
        """Open a ticket."""
        return {"ticket": ticket()}

    @engine.tool(effect="read")
    def labelled() -> Labelled:
        """Look at a ticket."""
        return Labelled(id="INC-4711")

    def think(body: dict[str, Any]) -> Answer:
        if turn(body) == 0:
            return Answer([call("within", {}), call("labelled", {})])
        return Answer([text(" ".join(results(body)))])

    world.think(think)
    agent = world.agent(engine, [within, labelled])
    async with engine:
        result = await agent.execute("go")
        assert "within is done; do not repeat it" in result.output
        assert "declare the class that has the marks" in result.output
        assert "puts a marked value into a text" in result.output
        assert "INC-" not in json.dumps(world.server.bodies)
        assert (await agent.execute("go")).identical


class ByField(BaseModel):
    """A serializer of its own takes the place of the mark's."""

    id: Annotated[str, Opaque]

    @field_serializer("id")
    def write(self, value: str) -> str:
        """Write it."""
        return value.lower()


class WithDefault(BaseModel):
    """A serializer of its own stands around the mark's."""

    id: Annotated[str, Opaque] = "INC-0"

    @field_serializer("id")
    def write(self, value: str) -> str:
        """Write it."""
        return value.lower()


class ByType(BaseModel):
    """A serializer of its own comes after the mark."""

    id: Annotated[str, Opaque, PlainSerializer(str.lower)]


class Around(BaseModel):
    """It asks how a text is written, which says nothing of the mark."""

    id: Annotated[str, Unseen, WrapSerializer(lambda value, write: write(value))]


class AsWhole(BaseModel):
    """It is written without a look at how its fields are."""

    id: Annotated[str, Opaque]

    @model_serializer
    def write(self) -> dict[str, Any]:
        """Write it."""
        return {"id": self.id}


class Both(BaseModel):
    """It names twice what has the marks, so that its schema refers to that."""

    ticket: WithOpaque
    other: WithOpaque

    @field_serializer("ticket", "other")
    def write(self, value: WithOpaque) -> str:
        """Write it."""
        return value.id


class Remarked(BaseModel):
    """What its serializers return is marked."""

    id: Annotated[str, Opaque]
    other: Annotated[str, Opaque]

    @field_serializer("id")
    def write_id(self, value: str) -> Annotated[str, Opaque]:
        """Write it."""
        return value.lower()

    @field_serializer("other", mode="plain", return_type=Annotated[str, Opaque])
    def write_other(self, value: str) -> Any:
        """Write it."""
        return value.lower()


class Named(BaseModel):
    """Its fields are named as parts of a schema are."""

    ref: Annotated[str, Opaque]
    default: Annotated[str, Opaque]
    metadata: Annotated[str, Opaque]
    serialization: str

    @field_serializer("serialization")
    def write(self, value: str) -> str:
        """Write it."""
        return value.lower()


class NamedToo(Named):
    """A mark is taken off where a field is named so."""

    serialization: Annotated[str, Opaque]


def takes_off(kind: Any) -> bool:
    return takes_marks_off(dict(TypeAdapter(kind).core_schema))


def test_a_serializer_that_takes_a_mark_off_is_known_by_its_type() -> None:
    lost = (ByField, WithDefault, ByType, Around, AsWhole, Both, NamedToo)
    kept = (Ticket, Labelled, Remarked, Named, Plain, WithOpaque, list[Ticket], dict[str, Any])
    assert [takes_off(it) for it in lost] == [True] * len(lost)
    assert [takes_off(it) for it in kept] == [False] * len(kept)
    assert takes_off(list[ByType | None])
    assert takes_off(Annotated[str, Opaque, PlainSerializer(str.lower)])


TAKEN_OFF: dict[str, tuple[Any, Callable[[], Any]]] = {
    **{
        kind.__name__: (kind, partial(kind, id="INC-4711"))
        for kind in (ByField, WithDefault, ByType, Around, AsWhole)
    },
    "Both": (Both, lambda: Both(ticket=find_opaque(""), other=find_opaque(""))),
    "in a text": (
        Annotated[str, Opaque, PlainSerializer(str.lower)],
        lambda: "INC-4711",
    ),
    "not declared": (dict[str, Any], lambda: {"ticket": ByField(id="INC-4711")}),
    "a subclass": (BaseModel, lambda: AsWhole(id="INC-4711")),
}


@pytest.mark.parametrize("case", TAKEN_OFF)
async def test_an_output_whose_serializer_takes_a_mark_off_is_not_shown(
    world: World, case: str
) -> None:
    engine = world.engine()
    hint, make = TAKEN_OFF[case]

    def look() -> Any:
        """Look at a ticket."""
        return make()

    look.__annotations__["return"] = hint

    def think(body: dict[str, Any]) -> Answer:
        return Answer([text(results(body)[0]) if turn(body) else call("look", {})])

    world.think(think)
    agent = world.agent(engine, [engine.tool(look, effect="write", requires=[])])
    async with engine:
        result = await agent.execute("go")
        assert "look is done; do not repeat it" in result.output
        assert "takes the mark off" in result.output
        assert "4711" not in json.dumps(world.server.bodies)
        assert (await agent.execute("go")).identical


async def test_what_a_serializer_returns_may_be_marked_again(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="read")
    def look() -> Remarked:
        """Look at a ticket."""
        return Remarked(id=f"INC-{(number := next(count))}", other=f"OTHER-{number}")

    def think(body: dict[str, Any]) -> Answer:
        if turn(body) == 0:
            return Answer([call("look", {})])
        return Answer([text("{id} {other}".format(**results(body)[0]))])

    world.think(think)
    agent = world.agent(engine, [look])
    async with engine:
        for number in range(3):
            result = await agent.execute("go")
            assert re.fullmatch(r"inc-(\d+) other-\1", result.output)
            assert result.identical == bool(number)
    assert "inc-" not in json.dumps(world.server.bodies)


async def test_a_type_that_takes_a_mark_off_is_for_no_task_and_for_any_output(
    world: World,
) -> None:
    engine = world.engine()
    async with engine:
        with pytest.raises(ConfigurationError, match="takes the mark off"):
            await world.agent(engine, []).execute(ByField(id="INC-1"))
        async with engine.run("program", "go") as run:
            run.output = ByField(id="INC-1")
        assert run.result.output == {"id": "inc-1"}
        async with engine.run("program", "go on") as run:
            run.output = Labelled(id="INC-1")
        assert run.result.output == {"id": "INC-1", "label": "ticket INC-1"}


async def test_a_mark_on_an_object_of_a_task_is_an_error_of_the_caller(world: World) -> None:
    engine = world.engine()
    agent = world.agent(engine, [], opaque=["$.incident"])
    async with engine:
        with pytest.raises(ConfigurationError, match="mark the values in it"):
            await agent.execute({"incident": {"id": "INC-1"}})


class Anything(BaseModel):
    """Its type names no marks."""

    it: Any


async def test_marks_that_a_type_does_not_tell_of_are_for_no_task_and_for_any_output(
    world: World,
) -> None:
    engine = world.engine()
    hidden = Anything(it=Incident(incident="INC-1", service="web"))
    async with engine:
        with pytest.raises(ConfigurationError, match="declare the class that has the marks"):
            await world.agent(engine, []).execute(hidden)
        async with engine.run("program", "go") as run:
            run.output = hidden
    assert run.result.output == {"it": {"incident": "INC-1", "service": "web"}}


async def test_unseen_inputs_are_no_part_of_a_task(world: World) -> None:
    class Request(BaseModel):
        """A task with the time at which it came."""

        service: str
        came_at: Annotated[float, Unseen]

    engine = world.engine()
    world.think(lambda body: Answer([text(body["messages"][0]["content"][0]["text"])]))
    agent = world.agent(engine, [])
    async with engine:
        first = await agent.execute(Request(service="web", came_at=1.5))
        again = await agent.execute(Request(service="web", came_at=2.5))
        assert first.output == again.output == '{"service":"web"}'
        assert again.identical
        await agent.execute(Request(service="db", came_at=2.5))
    assert world.server.requests == 2


async def test_a_value_may_be_called_as_a_role_or_a_tool_is(world: World) -> None:
    engine = world.engine()
    world.think(lambda body: Answer([text(body["messages"][0]["content"])]))
    async with engine:
        for incident in ("assistant", "close_ticket", "messages"):
            async with engine.run(
                "p", {"incident": incident}, opaque=["$.incident"], client=world.client
            ) as run:
                asked: dict[str, Any] = {
                    "model": MODEL,
                    "max_tokens": 50,
                    "tools": [{"name": "close_ticket", "input_schema": {"type": "object"}}],
                    "messages": [
                        {"role": "user", "content": f"Look at {incident}."},
                        {"role": "assistant", "content": "I look."},
                        {"role": "user", "content": "And?"},
                    ],
                }
                reply = (await run.decide(asked)).value
                run.output = reply["content"][0]["text"]
            assert run.output == f"Look at {incident}."
    assert world.server.requests == 1


def close_of(incident: str) -> dict[str, Any]:
    """A tool whose every field tells of an incident, and is called as it may be."""
    said = {"description": f"Not {incident}", "enum": [incident], "pattern": f"^{incident}$"}
    schema = {"type": "object", "properties": {"closing": said}, "required": ["closing"]}
    given = {"description": f"Closes {incident}.", "input_examples": [{"closing": incident}]}
    return {"name": "closing", "input_schema": schema, **given}


def told(incident: str) -> dict[str, dict[str, Any]]:
    """Fields beside the messages in which a program may tell of an incident."""
    schema = {"type": "object", "properties": {"id": {"const": incident}}}
    answer = {"type": "json_schema", "schema": schema}
    return {
        "tools": {"tools": [close_of(incident)]},
        "stop_sequences": {"stop_sequences": [f"{incident} is over"]},
        "metadata": {"metadata": {"user_id": incident}},
        "output_config": {"output_config": {"effort": "high", "format": answer}},
        "output_format": {"output_format": answer},
        "context_management": {"context_management": {"edits": [{"instructions": incident}]}},
    }


@pytest.mark.parametrize("where", told(""))
async def test_values_are_hidden_in_whatever_else_a_request_says(world: World, where: str) -> None:
    engine = world.engine()
    world.think(lambda _: Answer([text("ok")]))
    incidents = ("INC-5001", "INC-5002", "closing", "object", "required", "json_schema")
    async with engine:
        for incident in incidents:
            async with engine.run(
                "p", {"incident": incident}, opaque=["$.incident"], client=world.client
            ) as run:
                said = [{"role": "user", "content": "go"}]
                asked = {"model": MODEL, "max_tokens": 50, "messages": said}
                await run.decide({**asked, **told(incident)[where]})
            assert run.result.replayed == (incident != "INC-5001"), run.result.miss
    (sent,) = world.server.bodies
    assert "INC-500" not in json.dumps(sent)
    assert "opq_" in json.dumps(sent[where])
    if where == "tools":
        (tool,) = sent["tools"]
        standin = tool["input_examples"][0]["closing"]
        assert standin.startswith("opq_")
        assert tool == close_of(standin)


def test_the_stop_sequence_that_ended_a_reply_is_read_back() -> None:
    standins = StandIns("task")
    standin = standins.shown("INC-5001", "input")
    reply = {"content": [], "stop_reason": "stop_sequence", "stop_sequence": f"of {standin}"}
    assert MessagesDialect().read_back(reply, standins.real)["stop_sequence"] == "of INC-5001"


async def test_what_the_api_calls_blocks_by_and_what_was_thought_are_sent_as_they_are(
    world: World,
) -> None:
    engine = world.engine()
    thought = "An image and a tool_result of look_at."
    world.think(
        lambda body: Answer(
            [{"type": "thinking", "thinking": thought}, call("look_at", {"what": "it"})]
            if turn(body) == 0
            else [text("done")]
        )
    )
    asked: dict[str, Any] = {
        "model": MODEL,
        "max_tokens": 50,
        "tools": [{"name": "look_at", "input_schema": {"type": "object"}}],
    }
    picture = {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}
    async with engine:
        for incident in ("tool_result", "tool_use", "base64", "image/png", "thinking", "look_at"):
            async with engine.run(
                "p", {"incident": incident}, opaque=["$.incident"], client=world.client
            ) as run:
                told = [{"type": "text", "text": incident}, {"type": "image", "source": picture}]
                said = [{"role": "user", "content": told}]
                reply = (await run.decide({**asked, "messages": said})).value["content"]
                answer = {"tool_use_id": reply[1]["id"], "content": f"It is {incident}."}
                said += [
                    {"role": "assistant", "content": reply},
                    {"role": "user", "content": [{"type": "tool_result", **answer}]},
                ]
                await run.decide({**asked, "messages": said})
            assert run.result.replayed == (incident != "tool_result"), run.result.miss
    assert world.server.requests == 2
    opening, reply, answer = (it["content"] for it in world.server.bodies[1]["messages"])
    standin = opening[0]["text"]
    assert standin.startswith("opq_")
    assert opening[1]["source"] == picture
    assert [block["type"] for block in reply] == ["thinking", "tool_use"]
    assert reply[0]["thinking"] == thought
    assert reply[1]["name"] == "look_at"
    assert answer[0]["type"] == "tool_result"
    assert answer[0]["content"] == f"It is {standin}."


async def test_a_stand_in_that_was_not_read_back_reaches_no_tool(world: World) -> None:
    """Beside what a model mangled nothing is read back; a program may not see that."""
    engine, closed = world.engine(), []

    @engine.tool(effect="write", requires=[])
    def close_ticket(ticket: str) -> str:
        """Close a ticket."""
        closed.append(ticket)
        return "closed"

    def think(body: dict[str, Any]) -> Answer:
        standin = body["messages"][0]["content"].split()[-1]
        return Answer([call("close_ticket", {"ticket": standin, "note": standin[:-2]})])

    world.think(think)
    async with (
        engine,
        engine.run(
            "p", {"incident": "INC-4001"}, opaque=["$.incident"], client=world.client
        ) as run,
    ):
        asked: dict[str, Any] = {
            "model": MODEL,
            "max_tokens": 50,
            "tools": [{"name": "close_ticket", "input_schema": {"type": "object"}}],
            "messages": [{"role": "user", "content": "Close INC-4001"}],
        }
        called = (await run.decide(asked)).value["content"][0]["input"]
        with pytest.raises(ArgumentsInvalid, match="instead of its value"):
            await run.act(close_ticket, ticket=called["ticket"])
        await run.act(close_ticket, ticket="INC-4001")
    assert closed == ["INC-4001"]
