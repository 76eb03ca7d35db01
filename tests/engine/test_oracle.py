"""Random histories against a small independent oracle: who is asked, how often, and never stale.

The oracle knows nothing of steps and stores. The model below is a function of its request and the
tools always give the same, so decision k is the same question in every run; it may be served iff
some kept trace holds it under the rule as it is now.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from typing import Any

from anthropic import AsyncAnthropic
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from execgraph import Acl, Engine
from execgraph.adapters.messages_api import Answer, MessagesServer, call, text
from execgraph.graphstore.store import TRACES_PER_TASK

from .conftest import MODEL, turn

WRITES = ("one", "two", "three")
GONE = None

change = st.tuples(st.sampled_from(WRITES), st.integers(0, 3))
withdraw = st.tuples(st.sampled_from(WRITES), st.just(GONE))
histories = st.lists(st.one_of(change, withdraw, st.just("run"), st.just("reopen")), max_size=40)


@dataclass
class Oracle:
    """What each rule is, and under which rules each kept trace was recorded."""

    rules: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(WRITES, GONE))
    traces: list[tuple[Any, ...]] = field(default_factory=list)

    def run(self) -> int:
        """How many decisions must be asked; keeps the trace that the run becomes."""
        now = tuple(self.rules[name] for name in WRITES)
        asked = sum(
            rule is GONE or all(trace[k] != rule for trace in self.traces)
            for k, rule in enumerate(now)
        )
        asked += not self.traces  # the answer rests on nothing but the conversation
        if now not in self.traces:
            self.traces = [*self.traces, now][-TRACES_PER_TASK:]
        return asked


def brain(body: dict[str, Any]) -> Answer:
    k = turn(body)
    return Answer([call(WRITES[k], {})] if k < len(WRITES) else [text("done")])


def declare(folder: str, client: AsyncAnthropic, done: list[str]) -> tuple[Engine, Any]:
    engine = Engine(f"sqlite:///{folder}/graph.db")

    def write(name: str) -> Any:
        def act() -> str:
            """Write."""
            done.append(name)
            return f"wrote {name}"

        return engine.tool(act, effect="write", requires=[Acl(name)], name=name)

    tools = [write(name) for name in WRITES]
    return engine, engine.agent("writer", client=client, model=MODEL, tools=tools)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(history=histories)
def test_a_history_asks_exactly_what_the_oracle_says(history: list[Any]) -> None:
    oracle, done = Oracle(), list[str]()
    with tempfile.TemporaryDirectory() as folder, MessagesServer(brain) as server:
        client = AsyncAnthropic(base_url=server.url, api_key="test-key")
        engine, agent = declare(folder, client, done)
        opened = engine.sync()
        e = opened.__enter__()
        try:
            for operation in [*history, "run"]:
                if operation == "run":
                    done.clear()
                    before = server.requests
                    result = e.agent(agent).execute("go")
                    assert server.requests - before == oracle.run()
                    assert (done, result.output) == (list(WRITES), "done")
                elif operation == "reopen":  # another process would start like this
                    opened.__exit__(None, None, None)
                    engine, agent = declare(folder, client, done)
                    opened = engine.sync()
                    e = opened.__enter__()
                else:
                    name, rule = operation
                    if rule is GONE:
                        e.withdraw(f"acl:{name}")
                    else:
                        e.observe(f"acl:{name}", {"rule": rule})
                    oracle.rules[name] = rule
        finally:
            opened.__exit__(None, None, None)
