"""What could be marked is proposed where recordings speak for it, and nothing else is."""

from __future__ import annotations

import itertools
import json
import sqlite3
from typing import Annotated, Any
from uuid import uuid4

import pytest
from pydantic import BaseModel

from execgraph import Acl, ConfigurationError, Engine, ExecutionUnknown, Opaque
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.agent import Agent
from execgraph.engine.asking.generalise import Generalised
from execgraph.engine.generalising.proposals import ProposedMark
from execgraph.tests.models import MODEL

from .conftest import World, results, turn

Told = dict[str, Any]


def task_of(body: Told) -> Any:
    return json.loads(body["messages"][0]["content"][0]["text"])


def marks(found: Generalised) -> list[str]:
    """What is proposed, as ``owner: declaration``."""
    return [
        f"{mark.tool or proposal.agent}: {mark.declaration}"
        for proposal in found.proposals
        for mark in proposal.marks
    ]


def incidents(many: int, first: int = 4711) -> list[str]:
    return [f"INC-{first + number}" for number in range(many)]


def looking(body: Told) -> Answer:
    """Looks at an incident, and says that it did."""
    task = task_of(body)
    if turn(body) == 0:
        return Answer([call("look", {"incident": task["incident"]})])
    return Answer([text(f"{task['incident']} of {task['service']} is over: {results(body)[0]}")])


def looker(world: World, engine: Engine, **settings: Any) -> Agent:
    @engine.tool(effect="read")
    def look(incident: str) -> str:
        """Look at an incident."""
        return "all is well"

    return world.agent(engine, [look], **settings)


async def do(agent: Agent, tasks: list[Any]) -> list[Any]:
    return [await agent.execute(task) for task in tasks]


# What is proposed -------------------------------------------------------------------------


async def test_an_input_that_is_only_carried_is_proposed_and_then_serves(world: World) -> None:
    engine = world.engine()
    agent = looker(world, engine)
    world.think(looking)
    async with engine:
        tasks = [{"incident": it, "service": "web"} for it in incidents(4)]
        ran = await do(agent, tasks)
        found = await engine.generalise()
        [proposal] = found.proposals
        assert marks(found) == ['deployer: opaque=["$.incident"]']
        assert proposal.recordings == (ran[0].execution_id,)
        assert proposal.served == tuple(it.execution_id for it in ran[1:])
        assert proposal.partly == ()
        assert proposal.tokens == sum(it.tokens for it in ran[1:]) == proposal.marks[0].tokens
        assert proposal.cost == pytest.approx(sum(it.cost for it in ran[1:]))
        assert proposal.marks[0].values == 4
        marked = looker(world, other := world.engine(), opaque=["$.incident"])
        async with other:
            again = await do(marked, [{"incident": it, "service": "web"} for it in incidents(4, 9)])
        assert [it.replayed for it in again] == [False, True, True, True]


def test_a_declaration_can_be_taken_as_it_is() -> None:
    mark = ProposedMark(None, '$["request-id"]', "opaque", values=3, tokens=1)
    assert mark.declaration == r'opaque=["$[\"request-id\"]"]'


async def test_the_output_that_tells_the_input_again_is_to_be_marked_with_it(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="read")
    def look(incident: str) -> dict[str, Any]:
        """Look at an incident."""
        return {"rows": [{"id": incident, "state": "open"}, {"id": f"{incident}-b", "state": "?"}]}

    world.think(looking_at_rows)
    agent = world.agent(engine, [look])
    async with engine:
        await do(agent, [{"incident": it} for it in incidents(4)])
        found = await engine.generalise()
    assert marks(found) == ['deployer: opaque=["$.incident"]', 'look: opaque=["$.rows[*].id"]']
    assert len(found.proposals[0].served) == 3
    marked = world.engine(namespace=f"{world.namespace}-b")
    look_again = marked.tool(effect="read", opaque=["$.rows[*].id"])(look.function)
    other = world.agent(marked, [look_again], opaque=["$.incident"])
    async with marked:
        again = await do(other, [{"incident": it} for it in incidents(4)])
    assert [it.replayed for it in again] == [False, True, True, True]
    assert again[3].output == "INC-4714 and INC-4714-b"


def looking_at_rows(body: Told) -> Answer:
    if turn(body) == 0:
        return Answer([call("look", {"incident": task_of(body)["incident"]})])
    return Answer([text(" and ".join(row["id"] for row in results(body)[0]["rows"]))])


async def test_what_a_tool_makes_up_is_opaque_or_unseen(world: World) -> None:
    engine = world.engine()
    numbers = itertools.count(1)

    @engine.tool(effect="write", requires=[])
    def open_ticket() -> dict[str, Any]:
        """Open a ticket."""
        number = next(numbers)
        return {"id": f"T-{100 + number}", "took_ms": number / 7, "trace": str(uuid4()), "ok": True}

    def think(body: Told) -> Answer:
        if turn(body) == 0:
            return Answer([call("open_ticket", {})])
        return Answer([text(f"Opened {results(body)[0]['id']}.")])

    world.think(think)
    agent = world.agent(engine, [open_ticket])
    async with engine:
        ran = await do(agent, ["go"] * 4)
        assert [it.replayed for it in ran] == [False] * 4
        found = await engine.generalise()
        [proposal] = found.proposals
    assert marks(found) == [
        'open_ticket: opaque=["$.id"]',
        'open_ticket: unseen=["$.took_ms"]',
        'open_ticket: unseen=["$.trace"]',
    ]
    assert proposal.tokens == sum(it.tokens for it in ran[1:])


async def test_a_program_is_told_of_its_inputs_and_tools(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="read")
    def look(incident: str) -> dict[str, Any]:
        """Look at an incident."""
        return {"incident": incident, "state": "open"}

    world.think(lambda body: Answer([text(f"Close {body['messages'][0]['content'].split()[1]}.")]))

    async def triage(incident: str, **settings: Any) -> Any:
        inputs = {"incident": incident}
        async with engine.run("triage", inputs, client=world.client, **settings) as run:
            state = (await run.act(look, incident=incident)).value["state"]
            asked = {"role": "user", "content": f"Incident {incident} is {state}"}
            body = {"model": MODEL, "max_tokens": 99, "messages": [asked]}
            run.output = (await run.decide(body)).value["content"][0]["text"]
        return run.result

    async with engine:
        ran = [await triage(it) for it in incidents(4)]
        found = await engine.generalise()
        assert marks(found) == ['triage: opaque=["$.incident"]']
        assert found.proposals[0].kind == "program"
        assert found.proposals[0].tokens == sum(it.tokens for it in ran[1:])
        again = [await triage(it, opaque=["$.incident"]) for it in incidents(3, 50_000)]
        assert [it.replayed for it in again] == [False, True, True]
        assert again[-1].output == "Close INC-50002."
        assert marks(await engine.generalise()) == [], "it is marked by now"


# What is not --------------------------------------------------------------------------------


async def test_a_value_that_chose_another_path_is_not_proposed(world: World) -> None:
    engine = world.engine()

    def think(body: Told) -> Answer:
        if turn(body) == 0 and task_of(body)["incident"].endswith("4"):
            return Answer([text(f"{task_of(body)['incident']} is known.")])
        return looking(body)

    world.think(think)
    agent = looker(world, engine)
    async with engine:
        await do(agent, [{"incident": it, "service": "web"} for it in incidents(3)])
        assert marks(await engine.generalise()) == ['deployer: opaque=["$.incident"]']
        await do(agent, [{"incident": "INC-4714", "service": "web"}])
        assert marks(await engine.generalise()) == []


@pytest.mark.parametrize("where", ["task.env_id", "env_id"])
async def test_a_value_that_fills_a_requirement_is_not_proposed(world: World, where: str) -> None:
    engine = world.engine()

    @engine.tool(effect="write", requires=[Acl(f"deploy/{{{where}}}")])
    def deploy(env_id: str) -> str:
        """Deploy."""
        return "done"

    def think(body: Told) -> Answer:
        if turn(body) == 0:
            return Answer([call("deploy", {"env_id": task_of(body)["env_id"]})])
        return Answer([text("Done.")])

    world.think(think)
    agent = world.agent(engine, [deploy])
    async with engine:
        for number in range(5):
            await engine.observe(f"acl:deploy/env-{number}", {"who": "all"})
        await do(agent, [{"env_id": f"env-{number}"} for number in range(5)])
        assert marks(await engine.generalise()) == []


async def test_a_requirement_of_a_tool_that_was_never_called_counts(world: World) -> None:
    engine = world.engine()
    world.think(looking)
    agent = looker(world, engine)
    tasks = [{"incident": it, "service": "web"} for it in incidents(4)]
    async with engine:
        await do(agent, tasks)
        assert marks(await engine.generalise()) == ['deployer: opaque=["$.incident"]']

        @engine.tool(effect="write", requires=[Acl("incident/{task.incident}")])
        def close() -> str:
            """Close the incident."""
            return "closed"

        assert marks(await engine.generalise()) == []


async def test_a_value_that_stands_in_a_text_too_is_not_proposed(world: World) -> None:
    engine = world.engine()
    times = itertools.count(1)

    @engine.tool(effect="read")
    def look(incident: str) -> dict[str, Any]:
        """Look at an incident."""
        return {"log": f"12:00 {incident} was opened", "took_ms": next(times) / 7}

    def think(body: Told) -> Answer:
        if turn(body) == 0:
            return Answer([call("look", {"incident": task_of(body)["incident"]})])
        return Answer([text("Over.")])

    world.think(think)
    agent = world.agent(engine, [look])
    async with engine:
        await do(agent, [{"incident": it} for it in incidents(4)])
        assert marks(await engine.generalise()) == []
        await do(agent, [{"incident": "INC-1"}] * 4)
        assert marks(await engine.generalise()) == ['look: unseen=["$.took_ms"]']


@pytest.mark.parametrize(
    "values",
    [
        [True, False, None, True, False],
        [{"id": it} for it in range(5)],
        [1, 2, 3, 4, 5],
        ["1", "2", "3", "4", "5"],
        ["5GB", "10GB", "15GB", "20GB", "25GB"],
        [0.25, 0.5, 0.75, 1.25, 1.5],
        ["low", "middle", "high", "lowest", "highest"],
        ["the first one", "the 2nd one", "the 3rd one", "the 4th one", "the 5th one"],
    ],
    ids=repr,
)
async def test_what_names_nothing_is_not_proposed(world: World, values: list[Any]) -> None:
    engine = world.engine()
    world.think(lambda body: Answer([text(f"It is {task_of(body)['what']}.")]))
    agent = world.agent(engine, [])
    async with engine:
        await do(agent, [{"what": it, "number": n} for n, it in enumerate(values)])
        assert marks(await engine.generalise()) == []


async def test_what_repeats_was_chosen_from_a_few(world: World) -> None:
    engine = world.engine()
    world.think(looking)
    agent = looker(world, engine)
    async with engine:
        regions = ["eu-west-1", "us-east-1", "ap-east-1"]
        pairs = itertools.product(regions, ["web", "db", "queue"])
        await do(agent, [{"incident": region, "service": it} for region, it in pairs])
        assert marks(await engine.generalise()) == []


async def test_a_value_that_occurs_by_chance_is_not_taken_for_the_input(world: World) -> None:
    engine = world.engine()
    world.think(lambda body: Answer([text(f"{task_of(body)['id']}: error 1002 as ever.")]))
    agent = world.agent(engine, [])
    async with engine:
        await do(agent, [{"id": it} for it in ("1001", "1002", "1003", "1004")])
        assert marks(await engine.generalise()) == []


async def test_a_part_of_a_value_that_is_said_is_reasoned_about(world: World) -> None:
    engine = world.engine()
    world.think(lambda body: Answer([text(f"Number {task_of(body)['incident'][4:]} is over.")]))
    agent = world.agent(engine, [])
    async with engine:
        await do(agent, [{"incident": it} for it in incidents(5)])
        assert marks(await engine.generalise()) == []


async def test_a_measure_that_was_acted_on_once_stays_seen(world: World) -> None:
    engine = world.engine()
    depths = iter([17, 230, 41, 90_000, 12, 77])

    @engine.tool(effect="read")
    def look() -> dict[str, Any]:
        """Look at the queue."""
        return {"depth": next(depths)}

    def think(body: Told) -> Answer:
        if turn(body) == 0:
            return Answer([call("look", {})])
        return Answer([text("Page!" if results(body)[0]["depth"] > 1000 else "All is well.")])

    world.think(think)
    agent = world.agent(engine, [look])
    async with engine:
        await do(agent, ["go"] * 3)
        assert marks(await engine.generalise()) == ['look: unseen=["$.depth"]']
        await do(agent, ["go"] * 2)
        assert marks(await engine.generalise()) == []


async def test_another_agent_that_reasons_about_an_output_speaks_against_it(world: World) -> None:
    engine = world.engine()
    numbers = itertools.count(100)

    @engine.tool(effect="read")
    def look() -> dict[str, Any]:
        """Look at the last order."""
        return {"order": f"A-{next(numbers)}"}

    def think(body: Told) -> Answer:
        if turn(body) == 0:
            return Answer([call("look", {})])
        order = results(body)[0]["order"]
        thinks = body["system"] == "You think."
        return Answer([text(f"Ends with {order[-1]}." if thinks else f"It is {order}.")])

    world.think(think)
    agent = world.agent(engine, [look])
    other = world.agent(engine, [look], name="other", system="You think.")
    async with engine:
        await do(agent, ["go"] * 4)
        assert marks(await engine.generalise()) == ['look: opaque=["$.order"]']
        await do(other, ["go"] * 4)
        assert marks(await engine.generalise("deployer")) == []
        assert marks(await engine.generalise()) == []


class Incident(BaseModel):
    """A task with a mark."""

    incident: Annotated[str, Opaque]
    service: str = "web"


async def test_what_is_marked_already_is_not_proposed_again(world: World) -> None:
    engine = world.engine()
    numbers = itertools.count(100)

    @engine.tool(effect="write", requires=[], opaque=["$.id"])
    def look(incident: str) -> dict[str, Any]:
        """Look at an incident."""
        number = next(numbers)
        return {"id": f"T-{number}", "number": f"N-{number}"}

    def think(body: Told) -> Answer:
        if turn(body) == 0:
            return Answer([call("look", {"incident": task_of(body)["incident"]})])
        told = results(body)[0]
        return Answer([text(f"{told['id']} and {told['number']} of {task_of(body)['incident']}")])

    world.think(think)
    agent = world.agent(engine, [look])
    async with engine:
        await do(agent, [{"incident": it, "service": "web"} for it in incidents(3)])
        found = marks(await engine.generalise())
        assert found == ['deployer: opaque=["$.incident"]', 'look: opaque=["$.number"]']
        await do(agent, [Incident(incident=it) for it in incidents(4, 9000)])
        assert marks(await engine.generalise()) == ['look: opaque=["$.number"]']


# Bad input ----------------------------------------------------------------------------------


async def test_of_too_few_runs_nothing_is_said(world: World) -> None:
    engine = world.engine()
    world.think(looking)
    agent = looker(world, engine)
    async with engine:
        assert (await engine.generalise()).agents == ()
        for number, incident in enumerate(incidents(3)):
            assert marks(await engine.generalise()) == []
            await do(agent, [{"incident": incident, "service": "web"}])
            [looked_at] = (await engine.generalise()).agents
            assert looked_at.runs == number + 1
        assert marks(await engine.generalise()) == ['deployer: opaque=["$.incident"]']
        assert marks(await engine.generalise(runs=2)) == []


async def test_runs_that_failed_are_no_evidence(world: World) -> None:
    engine = world.engine()
    cut = Answer([text("It is")], stop_reason="max_tokens")
    world.think(lambda body: cut if turn(body) else looking(body))
    agent = looker(world, engine)
    async with engine:
        tasks = [{"incident": it, "service": "web"} for it in incidents(4)]
        assert [it.recorded for it in await do(agent, tasks)] == [False] * 4
        found = await engine.generalise()
    assert (marks(found), [it.runs for it in found.agents]) == ([], [0])


async def test_what_is_damaged_is_left_out_and_counted(world: World) -> None:
    if not world.url.startswith("sqlite"):
        pytest.skip("a payload is damaged by hand in the file")
    engine = world.engine()
    world.think(looking)
    agent = looker(world, engine)
    async with engine:
        ran = await do(agent, [{"incident": it, "service": "web"} for it in incidents(4)])
        trace = await engine.session().store.execution(ran[1].execution_id)
        assert trace is not None
        damaged = trace.steps[0].output
    with sqlite3.connect(world.url.removeprefix("sqlite:///")) as file:
        file.execute("UPDATE value SET data = x'00' WHERE digest = ?", (damaged,))
    async with world.engine() as other:
        found = await other.generalise()
    assert [(it.runs, it.unreadable) for it in found.agents] == [(3, 1)]
    assert ran[1].execution_id not in found.proposals[0].served
    assert len(found.proposals[0].served) == 2


async def test_an_agent_that_is_unknown_is_an_error_and_so_is_no_number(world: World) -> None:
    engine = world.engine()
    async with engine:
        with pytest.raises(ExecutionUnknown, match="there is no"):
            await engine.generalise("nobody")
        with pytest.raises(ConfigurationError, match="runs=0"):
            await engine.generalise(runs=0)


async def test_tasks_that_are_texts_are_told(world: World) -> None:
    engine = world.engine()
    world.think(lambda body: Answer([text("Over.")]))
    agent = world.agent(engine, [])
    async with engine:
        await do(agent, [f"Look at {it}." for it in incidents(3)])
        found = await engine.generalise()
    assert (marks(found), [it.texts for it in found.agents]) == ([], [True])
