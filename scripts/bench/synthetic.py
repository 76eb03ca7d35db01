"""What is measured: an agent that makes ten tool calls, one in each turn.

Every call has a precondition of its own, on a resource of its own: five schemas and five access
rules. With ``writes``, so many of the calls switch a deployment target instead. A recorded run has
21 steps: eleven decisions (the last one answers) and ten actions.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from execgraph.adapters.messages_api import Answer, Brain, call, text
from execgraph.adapters.messages_wire import message
from execgraph.engine.engine import Engine
from execgraph.engine.model.client import CallResult, ChatClient, chat_client
from execgraph.graphstore.canonical import Json, encode
from execgraph.invalidation.resources import Acl, DeploymentTarget, Schema

if TYPE_CHECKING:
    from neo4j import AsyncDriver

    from execgraph.engine.agent import Agent

__all__ = [
    "CALLS",
    "DOCUMENTS",
    "Bench",
    "ScriptedClient",
    "ask_rule",
    "brain",
    "clock",
    "columns",
    "rule_of",
    "task",
]

_TABLES = ("orders", "customers", "invoices", "parts", "suppliers")
_PLACES = ("eu", "us", "asia", "africa", "oceania")

#: What the watched resources are; the tools read it, and so do muscle-mem's checks.
DOCUMENTS: dict[str, dict[str, Any]] = {
    **{
        f"schema:{table}": {
            "columns": {
                name: {"type": "text", "null": False} for name in ("id", "name", "state", "at")
            },
            "comment": f"the {table}",
        }
        for table in _TABLES
    },
    **{f"acl:deploy/{place}": {"rule": "allow", "groups": ["ops", "release"]} for place in _PLACES},
    **{f"target:{place}": {"host": f"{place}.example", "replicas": 3} for place in _PLACES},
}
_SYSTEM = "You prepare releases: look at each table and each rule before you act."
_MODEL = "claude-sonnet-5"


class _Clock:
    """Time spent in the model and in the tools, in seconds."""

    def __init__(self) -> None:
        self.spent = 0.0


clock = _Clock()


# The tools' bodies, which the peers call too ----------------------------------------------


def columns(table: str) -> dict[str, Any]:
    """The columns of a table."""
    started = time.perf_counter()
    found = DOCUMENTS[f"schema:{table}"]["columns"]
    answer = {"table": table, "columns": sorted(found)}
    clock.spent += time.perf_counter() - started
    return answer


def rule_of(place: str) -> dict[str, Any]:
    """Who may deploy at a place."""
    started = time.perf_counter()
    found = DOCUMENTS[f"acl:deploy/{place}"]
    answer = {"place": place, "rule": found["rule"], "groups": list(found["groups"])}
    clock.spent += time.perf_counter() - started
    return answer


async def look_at(table: str) -> dict[str, Any]:
    """The columns of a table."""
    return columns(table)


async def ask_rule(place: str) -> dict[str, Any]:
    """Who may deploy at a place."""
    return rule_of(place)


async def switch(place: str, release: str) -> dict[str, Any]:
    """Switch a place to a release."""
    return {"place": place, "release": release}


#: The ten calls of the run without writes.
CALLS: tuple[tuple[str, dict[str, str]], ...] = tuple(
    turn
    for table, place in zip(_TABLES, _PLACES, strict=True)
    for turn in (("look_at", {"table": table}), ("ask_rule", {"place": place}))
)


def _calls(writes: int) -> list[tuple[str, dict[str, str]]]:
    """The last ``writes`` rules are not asked for; what they are about is switched instead."""
    calls = list(CALLS)
    for number in range(writes):
        at = len(calls) - 1 - 2 * number
        calls[at] = ("switch", {"place": calls[at][1]["place"], "release": "r7"})
    return calls


def task(number: int = 0, *, writes: int = 0, calls: int = len(CALLS)) -> dict[str, Json]:
    """A task of so many calls; another ``number`` makes another one."""
    return {"release": "r7", "number": number, "writes": writes, "calls": calls}


def brain(body: Mapping[str, Any]) -> Answer:
    """The model: a function of the conversation."""
    messages = body["messages"]
    asked = json.loads(messages[0]["content"][0]["text"])
    calls = _calls(asked["writes"])[: asked["calls"]]
    turn = len(messages) // 2
    if turn == len(calls):
        return Answer([text("All were looked at; nothing stands against the release.")])
    tool, arguments = calls[turn]
    return Answer([text(f"Step {turn + 1}."), call(tool, arguments)])


class ScriptedClient(ChatClient):
    """The adapter of the real SDK, whose questions a function of this process answers."""

    def __init__(self, answers: Brain = brain) -> None:
        from anthropic import AsyncAnthropic

        self._brain = answers
        self._real = chat_client(AsyncAnthropic(api_key="local"))
        self.dialect = self._real.dialect

    @override
    async def ask(self, request: Mapping[str, Json]) -> bytes:
        started = time.perf_counter()
        answer = self._brain(dict(request))
        reply = encode(message(request, answer.content, answer.stop_reason))
        clock.spent += time.perf_counter() - started
        return reply

    @override
    def head(
        self,
        *,
        model: str,
        system: str | None,
        tools: Sequence[Any],
        max_tokens: int,
        params: Mapping[str, Json],
    ) -> dict[str, Json]:
        return self._real.head(
            model=model, system=system, tools=tools, max_tokens=max_tokens, params=params
        )

    @override
    def opening(self, texts: Sequence[str]) -> Json:
        return self._real.opening(texts)

    @override
    def turn(self, reply: Json, results: Sequence[CallResult]) -> list[Json]:
        return self._real.turn(reply, results)

    @override
    def text(self, reply: Json) -> str:
        return self._real.text(reply)


class Bench:
    """An engine with its agent, as a program would declare them."""

    def __init__(
        self,
        url: str,
        namespace: str,
        *,
        driver: AsyncDriver | None = None,
        client: object = None,
        fresh_for: timedelta | None = None,
    ) -> None:
        self.engine = Engine(url, namespace=namespace, driver=driver)
        self._client = client
        tool = self.engine.tool
        read = partial(tool, effect="read", fresh_for=fresh_for)
        self._tools = [
            read(requires=[Schema("{table}", "$.columns")])(look_at),
            read(requires=[Acl("deploy/{place}")])(ask_rule),
            tool(effect="write", requires=[DeploymentTarget("{place}")])(switch),
        ]

    @cached_property
    def agent(self) -> Agent:
        """The agent; the engine need not be open."""
        return self.engine.agent(
            "releaser",
            client=self._client or ScriptedClient(),
            model=_MODEL,
            system=_SYSTEM,
            tools=self._tools,
        )

    async def observe(self) -> None:
        """Tell the store what every resource is."""
        for uri, document in DOCUMENTS.items():
            await self.engine.observe(uri, document)
