"""What one model said is not served as what another says."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from anthropic import AsyncAnthropic

from execgraph import AgentError, Engine
from execgraph.adapters.messages_api import Answer, MessagesServer, text
from execgraph.engine.keys.caller import caller_name
from execgraph.tests.models import MODEL

from .conftest import World


async def test_an_agent_at_another_address_is_asked_anew(world: World) -> None:
    world.think(lambda _: Answer([text("staging")]))
    engine = world.engine()
    with MessagesServer(lambda _: Answer([text("production")])) as other:
        async with engine, AsyncAnthropic(base_url=other.url, api_key="k") as client:
            said = [
                (await world.agent(engine, [], client=asked).execute("where?")).output
                for asked in (world.client, client, world.client, client)
            ]
        assert said == ["staging", "production"] * 2
        assert (world.server.requests, other.requests) == (1, 1)


async def test_a_framework_at_another_address_is_asked_anew(world: World) -> None:
    world.think(lambda _: Answer([text("staging")]))
    engine = world.engine()
    request: Any = {"model": MODEL, "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
    said = []
    with MessagesServer(lambda _: Answer([text("production")])) as other:
        one = world.client.with_options(middleware=[engine.middleware()])
        async with engine:
            for client in (one, one.with_options(base_url=other.url)) * 2:
                async with engine.run("framework", "where?"):
                    reply: Any = await client.messages.create(**request)
                    said.append(reply.content[0].text)
        assert said == ["staging", "production"] * 2
        assert (world.server.requests, other.requests) == (1, 1)


# decide(call=) ----------------------------------------------------------------------------


async def small(_: Any) -> str:
    return "small"


async def large(_: Any) -> str:
    return "large"


async def said_by(engine: Engine, call: Any, **how: Any) -> tuple[Any, bool]:
    async with engine.run("program", "x") as run:
        value = (await run.decide({"prompt": "x"}, call=call, **how)).value
    return value, run.result.replayed


async def test_another_function_is_asked_anew(world: World) -> None:
    engine = world.engine()
    async with engine:
        assert [await said_by(engine, call) for call in (small, large, small, large)] == [
            ("small", False),
            ("large", False),
            ("small", True),
            ("large", True),
        ]


async def test_two_functions_may_be_asked_in_one_run(world: World) -> None:
    engine = world.engine()
    async with engine:
        for replayed in (False, True):
            async with engine.run("program", "x") as run:
                said = [(await run.decide({"p": 1}, call=it)).value for it in (small, large, small)]
            assert said == ["small", "large", "small"]
            assert run.result.replayed is replayed


async def test_a_version_stands_for_who_is_asked(world: World) -> None:
    engine = world.engine()
    async with engine:
        assert await said_by(engine, small, version="1") == ("small", False)
        assert await said_by(engine, large, version="1") == ("small", True)
        assert await said_by(engine, large, version="2") == ("large", False)


async def test_a_version_of_nobody_is_refused(world: World) -> None:
    engine = world.engine()
    async with engine, engine.run("program", "x") as run:
        with pytest.raises(AgentError, match="version= says who call= asks"):
            await run.decide({"prompt": "x"}, version="1")


def asker(model: str, seen: list[Any]) -> Callable[[Any], Any]:
    calls = 0

    async def ask(request: Any) -> str:
        nonlocal calls
        calls += 1
        seen.append(request)
        return model

    return ask


@dataclass
class Asker:
    model: str
    api_key: str = "secret"
    calls: int = 0
    seen: list[Any] = field(default_factory=list)

    async def ask(self, request: Any) -> str:
        self.calls += 1
        self.seen.append(request)
        return self.model


@dataclass(slots=True)
class Lean:
    """It has no ``__dict__``."""

    max_tokens: int

    async def ask(self, _: Any) -> int:
        return self.max_tokens


def bound(function: Any, *args: Any, **more: Any) -> Any:
    return functools.partial(function, *args, **more)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (small, large),
        (asker("small", []), asker("large", [])),
        (Asker("small").ask, Asker("large").ask),
        (bound(small, model="x"), bound(small, model="y")),
        (bound(small, 1), bound(small, a=1)),
        (lambda r: (r, "small"), lambda r: (r, "large")),
        (lambda r, model="small": (r, model), lambda r, model="large": (r, model)),
        (functools.partial(Asker("a").ask), functools.partial(Asker("b").ask)),
        (lambda r: (r, lambda: "small"), lambda r: (r, lambda: "large")),
        (Lean(5).ask, Lean(6).ask),
        (bound(small, max_tokens=5), bound(small, max_tokens=6)),
        (bound(small, b"small"), bound(small, b"large")),
        (bound(small, Path("small")), bound(small, Path("large"))),
        (bound(small, Decimal("0.5")), bound(small, Decimal("0.7"))),
        (bound(small, frozenset({1})), bound(small, frozenset({2}))),
    ],
)
def test_what_tells_two_callers_apart_is_in_the_name(one: Any, other: Any) -> None:
    assert caller_name(one) != caller_name(other)


async def test_what_a_caller_does_to_itself_leaves_its_name_as_it_is() -> None:
    for call in (asker("small", []), Asker("small").ask, functools.partial(Asker("a").ask)):
        before = caller_name(call)
        await call({"prompt": "x"})
        assert caller_name(call) == before


def test_a_name_does_not_tell_credentials() -> None:
    assert caller_name(Asker("a", "one").ask) == caller_name(Asker("a", "two").ask)
    assert "secret" not in caller_name(Asker("a").ask)


def with_key(api_key: str) -> Callable[[Any], Any]:
    async def ask(request: Any, *, access_token: str = api_key) -> Any:
        return request, api_key, access_token

    return ask


def test_a_new_credential_is_nobody_else() -> None:
    assert caller_name(bound(small, api_key="a")) == caller_name(bound(small, api_key="b"))
    assert caller_name(with_key("a")) == caller_name(with_key("b"))
