"""An agent whose process dies, and the same agent in the next process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from anthropic import AsyncAnthropic

from execgraph import Acl, Engine, IdempotencyKey
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.agent import Agent
from execgraph.engine.steps.kept_steps import KeptStep, read_entry
from execgraph.engine.task import Task
from execgraph.graphstore.store import GraphStore

from .raw import Raw

__all__ = ["LIVES", "WRITES", "Declared", "asked", "brain", "declared", "journaled"]

#: What the agent does to the outside: after a read, two writes in one reply and then one more.
WRITES = ("ship", "tell", "end")
_DECISIONS = 4
_NAME = "shipper"
_REPLIES = ([("look", None)], [("ship", "a"), ("tell", "b")], [("end", "c")])


def brain(body: dict[str, Any]) -> Answer:
    """The model: a function of how far the conversation is."""
    turn = sum(message["role"] == "assistant" for message in body["messages"])
    if turn == len(_REPLIES):
        return Answer([text("done")])
    return Answer([call(name, {}) for name, _ in _REPLIES[turn]])


@dataclass(frozen=True)
class Declared:
    """An engine with the agent. What tools do is in the file ``log``: name and key."""

    engine: Engine
    agent: Agent


def declared(url: str, namespace: str, model: str, log: Path) -> Declared:
    """The engine and the agent as each process declares them."""
    engine = Engine(url, namespace=namespace)

    def look() -> str:
        """Look."""
        return "all is well"

    def write(name: str) -> Any:
        def act(key: Annotated[str, IdempotencyKey]) -> str:
            """Write."""
            with log.open("ab", buffering=0) as file:  # a line is written at once
                file.write(f"{name} {key}\n".encode())
            return f"{name} is done"

        return act

    tools = [engine.tool(look, effect="read")]
    for replies in _REPLIES[1:]:
        for name, resource in replies:
            requires = [Acl(resource or "")]
            tools.append(engine.tool(write(name), effect="write", requires=requires, name=name))
    client = AsyncAnthropic(base_url=model, api_key="test-key", max_retries=2)
    return Declared(engine, engine.agent(_NAME, client=client, model="m", tools=tools))


async def journaled(store: GraphStore, raw: Raw) -> set[int]:
    """The decisions of runs that have not come to their end, by their numbers, that are served:
    nothing that they rest on has moved since it was noted."""
    task = Task.of(store.namespace, "agent", _NAME, "go")
    stand: set[int] = set()
    for entry in (await store.unfinished(task.key)).entries:
        kept = read_entry(store.namespace, entry)
        assert isinstance(kept, KeptStep)
        if all(it.believed and raw.current(it.resource) == it.version for it in kept.notes):
            stand.add((kept.step.shared + 1) // 2)  # a turn adds two messages
    return stand


def asked(raw: Raw, journaled: Collection[int] = ()) -> int:
    """How often the next run must ask: once for each decision that stands in no trace, and was not
    ``journaled``."""
    traces = [
        [step for step in trace.steps[: trace.published] if step.kind == "decision"]
        for trace in raw.traces()
    ]
    return sum(
        turn not in journaled
        and not any(
            len(trace) > turn and all(raw.holds(guard) for guard in trace[turn].guards)
            for trace in traces
        )
        for turn in range(_DECISIONS)
    )


# What a process does until it dies --------------------------------------------------------


async def _present(it: Declared) -> None:
    for name in "abc":
        await it.engine.observe(f"acl:{name}", {"rule": 1})


async def _recorded(it: Declared) -> None:
    await _present(it)
    await it.agent.execute("go")


async def _partial(it: Declared) -> None:
    await it.engine.observe("acl:b", {"rule": 2})
    await it.agent.execute("go")


async def _replayed(it: Declared) -> None:
    await it.agent.execute("go")
    await it.agent.execute("go")
    await it.engine.settle()


async def _withdrawn(it: Declared) -> None:
    await it.engine.withdraw("acl:c")
    await it.agent.execute("go")
    await it.engine.settle()
    await it.engine.observe("acl:c", {"rule": 1})
    await it.agent.execute("go")
    await it.engine.settle()


_Life = Callable[[Declared], Awaitable[None]]


async def _nothing(_: Declared) -> None:
    pass


#: By name: what was done before, and what is being done.
LIVES: dict[str, tuple[_Life, _Life]] = {
    "first run": (_nothing, _recorded),
    "partial replay": (_recorded, _partial),
    "replay": (_recorded, _replayed),
    "withdrawal": (_recorded, _withdrawn),
}
