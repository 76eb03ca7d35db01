"""Histories of both stores at once: who is asked, what is done, what is marked, and never stale.

``scripts/soak`` does the same in bulk. Here hypothesis chooses, and makes what fails short.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import uuid
from collections import Counter
from collections.abc import Coroutine
from contextlib import ExitStack
from typing import Any, ClassVar

import pytest
from anthropic import AsyncAnthropic
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from execgraph.adapters.messages_api import MessagesServer

from .history import KINDS, PUSHED, History, Operation, operations
from .script import AGENTS, PROGRAM
from .world import WATCHED, World, brain

process = st.integers(0, 1)
pushed = st.sampled_from(PUSHED)
parts = st.sampled_from(["on", "limit", "eu", "us", "a", "b", "rows", "note"])
values = st.integers(0, 2)
tasks = st.sampled_from(
    [(name, n) for name, it in AGENTS.items() for n in range(len(it.tasks))] + [(PROGRAM.name, 0)]
)
edits = st.lists(st.tuples(pushed, parts | st.just("gone"), values), min_size=1, max_size=3)


class Histories(RuleBasedStateMachine):
    """The operations of ``history``, each on every store of ``urls``."""

    neo4j: ClassVar[str | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        server = self.stack.enter_context(MessagesServer(brain))
        self.client = AsyncAnthropic(base_url=server.url, api_key="test-key")
        urls = [f"sqlite:///{folder}/graph.db", *([self.neo4j] if self.neo4j else [])]
        namespace = f"test-{uuid.uuid4().hex[:12]}"
        self.loop = asyncio.new_event_loop()
        self.history = History([World(url, namespace, self.client) for url in urls])
        self.wait(self.history.__aenter__())

    def wait(self, work: Coroutine[Any, Any, Any]) -> None:
        self.loop.run_until_complete(work)

    def do(self, *operation: Any) -> None:
        self.wait(self.history.do(operation))

    def teardown(self) -> None:
        try:
            self.do("settle")
        finally:
            self.wait(self.history.__aexit__())
            self.wait(self.client.close())
            self.loop.close()
            self.stack.close()

    @rule(process=process, task=tasks, replay=st.sampled_from([1, 1, 1, 0]))
    def execute(self, process: int, task: tuple[str, int], replay: int) -> None:
        self.do("execute", process, *task, replay)

    @rule(process=process, task=tasks)
    def together(self, process: int, task: tuple[str, int]) -> None:
        self.do("together", process, *task)

    @rule(other=process)
    def again(self, other: int) -> None:
        self.do("again", other)

    @rule(process=process, uri=pushed, part=parts, value=values)
    def change(self, process: int, uri: str, part: str, value: int) -> None:
        self.do("change", process, uri, part, value)

    @rule(process=process, uri=pushed)
    def same(self, process: int, uri: str) -> None:
        self.do("same", process, uri)

    @rule(process=process, uri=pushed, back=st.integers(0, 5))
    def revert(self, process: int, uri: str, back: int) -> None:
        self.do("revert", process, uri, back)

    @rule(process=process, uri=pushed)
    def withdraw(self, process: int, uri: str) -> None:
        self.do("withdraw", process, uri)

    @rule(process=process, uri=pushed, how=st.integers(0, 2))
    def expire(self, process: int, uri: str, how: int) -> None:
        self.do("expire", process, uri, how)

    @rule(process=process, uri=pushed, how=st.integers(0, 1))
    def renew(self, process: int, uri: str, how: int) -> None:
        self.do("renew", process, uri, how)

    @rule(name=st.sampled_from(["eu", "us", "stock"]), value=values)
    def sense(self, name: str, value: int) -> None:
        self.do("sense", name, value)

    @rule(
        uri=st.sampled_from(WATCHED),
        part=parts | st.sampled_from(["gone", "broken"]),
        value=values,
    )
    def source(self, uri: str, part: str, value: int) -> None:
        self.do("source", uri, part, value)

    @rule(uris=st.lists(st.sampled_from(WATCHED), min_size=1, max_size=4))
    def hint(self, uris: list[str]) -> None:
        self.do("hint", uris)

    @rule()
    def scan(self) -> None:
        self.do("scan")

    @rule(process=process)
    def restart(self, process: int) -> None:
        self.do("restart", process)

    @rule(
        process=process,
        name=st.sampled_from(["probe", "price", "deploy", "agents"]),
        version=st.sampled_from(["1", "2"]),
    )
    def code(self, process: int, name: str, version: str) -> None:
        self.do("code", process, name, version)

    @rule(process=process, traces=st.integers(1, 8), versions=st.integers(0, 2))
    def collect(self, process: int, traces: int, versions: int) -> None:
        self.do("collect", process, traces, versions)

    @rule()
    def settle(self) -> None:
        self.do("settle")

    @rule(process=process, task=st.integers(0, 1), left=st.integers(0, 1), right=st.integers(0, 1))
    def meanwhile_it_is_looked_up(self, process: int, task: int, left: int, right: int) -> None:
        edits = (("acl:left", "on", left), ("acl:right", "on", right))
        self.do("meanwhile", process, "lookup", ("reader", task), edits)

    @rule(process=process, task=tasks.filter(lambda it: it[0] in AGENTS), edits=edits)
    def meanwhile_the_model_thinks(
        self, process: int, task: tuple[str, int], edits: list[tuple[str, str, int]]
    ) -> None:
        self.do("meanwhile", process, "ask", task, edits)

    @rule(process=process, task=st.integers(0, 2), edits=edits)
    def meanwhile_an_effect_begins(
        self, process: int, task: int, edits: list[tuple[str, str, int]]
    ) -> None:
        self.do("meanwhile", process, "effect", ("deployer", task), edits)


def _choose(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


class OnSqlite(Histories):
    pass


class OnBothAtOnce(Histories):
    neo4j = os.environ.get("NEO4J_URI")


TestOnSqlite = OnSqlite.TestCase
TestOnSqlite.settings = _choose(12, 30)

TestOnBothAtOnce = pytest.mark.neo4j(
    pytest.mark.skipif(OnBothAtOnce.neo4j is None, reason="NEO4J_URI is not set")(
        OnBothAtOnce.TestCase
    )
)
TestOnBothAtOnce.settings = _choose(5, 25)


def test_a_seed_is_a_history() -> None:
    def made(seed: int) -> list[Operation]:
        return operations(random.Random(seed), 500)

    assert made(3) == made(3)
    assert made(3) != made(4)
    named = Counter(operation[0] for operation in made(3))
    assert named.keys() == KINDS.keys() - {"program"}
    assert all(callable(getattr(History, f"_{name}")) for name in named)
