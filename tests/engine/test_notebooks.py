"""What notebooks show of results and runs: plain tables, of which no text becomes markup."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from typing_extensions import override

from execgraph import Acl
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.outcome.html import Html, page, shortened, table
from execgraph.tests.engine.conftest import World, turn

HOSTILE = "</td><script>alert(1)</script><img src=x onerror='alert(2)'>\"&amp;"
TAGS = {"div", "p", "strong", "table", "tr", "th", "td"}


class Reader(HTMLParser):
    """What tags and attributes there are, and the text between them."""

    def __init__(self, shown: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(shown)
        self.close()

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        self.attributes |= {name for name, _ in attrs}

    @override
    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    @override
    def handle_data(self, data: str) -> None:
        self.text += data


def read(shown: str) -> Reader:
    """Read it, as a browser would; nothing in it is loaded, runs, or has a colour of its own."""
    reader = Reader(shown)
    assert reader.open == []
    assert set(reader.tags) <= TAGS
    assert reader.attributes <= {"style"}
    assert "color" not in shown
    assert "url(" not in shown
    return reader


async def test_hostile_text_stays_text(world: World) -> None:
    def brain(body: dict[str, Any]) -> Answer:
        if turn(body) == 0:
            return Answer([call("look", {"at": HOSTILE})])
        return Answer([text(HOSTILE)])

    world.think(brain)
    engine = world.engine()

    @engine.tool(effect="write", requires=[Acl(HOSTILE)])
    def look(at: str) -> str:
        """Look."""
        return at

    agent = world.agent(engine, [look], name=HOSTILE)
    async with engine:
        results = []
        for rule in range(2):
            await engine.observe(f"acl:{HOSTILE}", {"rule": rule})
            results.append(await agent.execute({"n": HOSTILE}, labels={HOSTILE: HOSTILE}))
        runs = await engine.runs()
        for result in results:
            reader = read(result._repr_html_())
            assert HOSTILE in reader.text
            assert result.execution_id in reader.text
            assert f"{result.tokens:,} tokens" in reader.text
        assert "precondition changed" in read(results[1]._repr_html_()).text
        assert HOSTILE in read(runs._repr_html_()).text
        ids = [it.execution_id for it in results]
        run = read((await engine.execution(ids[0]))._repr_html_())
        assert run.text.count(HOSTILE) >= 3
        assert "action look" in run.text
        read((await engine.diff(*ids))._repr_html_())
        await engine.observe(f"acl:{HOSTILE}", {"rule": 2})
        plan = read((await agent.plan({"n": HOSTILE}))._repr_html_())
        assert plan.text.count(HOSTILE) >= 2
        assert "asked" in plan.text
        hint = (await engine.runs(agent="<b>"))._repr_html_()
        assert "no run of" in read(hint).text


async def test_a_result_tells_what_is_of_no_step(world: World) -> None:
    world.think(
        lambda body: Answer([call("pay", {"n": 1}) if turn(body) == 0 else text("Paid.")]),
    )
    engine = world.engine()

    @engine.tool(effect="once", requires=[])
    def pay(n: int) -> str:
        """Pay."""
        return "paid"

    agent = world.agent(engine, [pay], publish="manual")
    async with engine:
        first = read((await agent.execute("go"))._repr_html_()).text
        assert f"not approved: {(await engine.runs()).executions[0].id}" in first
        assert "done, reused" not in first
        assert first.count("new task") == 2, "what is of a step stands there alone"
        assert "done, reused" in read((await agent.execute("go"))._repr_html_()).text


async def test_a_long_payload_is_shortened() -> None:
    assert shortened("abc", 3) == "abc"
    assert shortened("abcd" * 1000, 3) == "abc... (3,997 more characters)"
    assert len(page("x", "long" * 10_000_000)) < 1_000


def test_only_what_is_markup_already_stays_markup() -> None:
    shown = page("<t>", table(("<a>", "n"), [("<b>", 1)], numbers=1), "<c>", None)
    assert isinstance(shown, Html)
    assert read(shown).text == "<t><a>n<b>1<c>"


async def test_results_and_plans_are_printed_in_a_few_lines(world: World) -> None:
    world.think(lambda body: Answer([call("ship", {})] if turn(body) == 0 else [text("x" * 500)]))
    engine = world.engine()

    @engine.tool(effect="write", requires=[Acl("ship")])
    def ship() -> dict[str, str]:
        """Ship."""
        return {}

    agent = world.agent(engine, [ship])
    async with engine:
        await engine.observe("acl:ship", 1)
        first = await agent.execute("go")
        plan = str(await agent.plan("go"))
        again = await agent.execute("go")
        await engine.observe("acl:ship", 2)
        partial = await agent.plan("go")
    told = str(first).splitlines()
    assert len(told) == 4
    assert told[0].startswith(f"live {first.execution_id}: {first.tokens:,} tokens, 0 saved, ")
    assert told[1].startswith("output: xxx")
    assert told[1].endswith("more characters)")
    assert told[2:] == [f"miss: {first.miss[0]}", "effect: ship {} (done)"]
    told = str(again).splitlines()
    assert told[0].startswith(f"replay {again.execution_id}: 0 tokens, {first.tokens:,} saved, ")
    assert told[2:] == ["effect: ship {} (done)"]
    assert plan.splitlines() == [
        f"plan of deployer: replay, 0 tokens to be paid, {first.tokens:,} saved",
        "writes: ship",
    ]
    told = str(partial).splitlines()
    paid, saved = partial.tokens, partial.saved_tokens
    assert told[0] == f"plan of deployer: partial, {paid:,} tokens to be paid, {saved:,} saved"
    assert told[1].startswith("miss: precondition changed: acl:ship")


async def test_secrets_are_not_printed(world: World) -> None:
    engine = world.engine()
    async with engine, engine.run("program", {"n": 1}) as run:
        run.output = {"password": "hunter2", "n": 1}
    told = str(run.result)
    assert "hunter2" not in told
    assert "'n': 1" in told
