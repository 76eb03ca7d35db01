"""Recorded trajectories through ``engine.run``: a customer-service agent in plain Python."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from anthropic import AsyncAnthropic

from execgraph import BusinessRule, Engine, Result
from execgraph.adapters.messages_api import MessagesServer
from execgraph.engine.outcome.result import Outcome, StepReport
from execgraph.engine.program import ProgramRun
from execgraph.graphstore.model import StepKind

from .model import RecordedAgent
from .tools import Desk, Toolkit, rule, spoken, toolkit
from .trajectories import Output, Trajectory, Turn, Workload

__all__ = ["Driven", "Driver", "Pass", "Policies"]

#: What is in force, by domain: section -> text.
Policies = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Driven:
    """One trajectory, driven once. ``database``: the digest of what it changed in its records.

    ``raw_bytes``: its requests, each with all its messages, and their replies, as JSON.
    """

    trajectory: Trajectory
    result: Result
    outputs: tuple[Output, ...]
    database: str
    raw_bytes: int

    @cached_property
    def decisions(self) -> list[StepReport]:
        """What became of the agent's turns."""
        return [step for step in self.result.steps if step.kind is StepKind.DECISION]

    @property
    def asked(self) -> list[int]:
        """Which of the agent's turns the model was asked for, counted from 0."""
        turns = enumerate(self.decisions)
        return [turn for turn, step in turns if step.outcome is Outcome.ASKED]

    @property
    def recorded_outputs(self) -> tuple[Output, ...]:
        return tuple(output for turn in self.trajectory.turns for output in turn.outputs)


@dataclass(frozen=True)
class Pass:
    """All trajectories, each driven once on a fresh database.

    ``model_calls`` is the server's own count; ``seconds`` are the engine's, tools and model
    included, the preparation of databases not.
    """

    driven: tuple[Driven, ...]
    model_calls: int
    seconds: float

    @property
    def tokens(self) -> int:
        return sum(it.result.tokens for it in self.driven)

    @property
    def raw_bytes(self) -> int:
        return sum(it.raw_bytes for it in self.driven)

    @property
    def identical(self) -> int:
        return sum(it.result.identical for it in self.driven)

    @property
    def databases(self) -> dict[str, str]:
        return {it.trajectory.tid: it.database for it in self.driven}

    @property
    def asked(self) -> dict[str, list[int]]:
        """The turns that the model was asked for, of trajectories in which it was."""
        return {it.trajectory.tid: it.asked for it in self.driven if it.asked}

    @property
    def outputs(self) -> tuple[int, int]:
        """How many tool outputs are as they were recorded, and how many there are."""
        pairs = [
            pair for it in self.driven for pair in zip(it.outputs, it.recorded_outputs, strict=True)
        ]
        return sum(ours == theirs for ours, theirs in pairs), len(pairs)

    def figures(self) -> str:
        """This pass in a line."""
        steps = Counter(str(step.outcome) for it in self.driven for step in it.result.steps)
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(steps.items()))
        return (
            f"{self.model_calls:5} model calls, {self.identical} of {len(self.driven)} identical,"
            f" {self.seconds:.2f} s ({told})"
        )


class Driver:
    """An engine, its tools and a model, for passes over ``trajectories``."""

    def __init__(
        self,
        engine: Engine,
        workload: Workload,
        trajectories: Sequence[Trajectory],
        server: MessagesServer,
        client: AsyncAnthropic,
    ) -> None:
        self._engine = engine
        self._trajectories = trajectories
        self._server = server
        self._client = client
        domains = sorted({it.domain for it in trajectories})
        self._toolkits = {domain: toolkit(engine, workload, domain) for domain in domains}
        self._desks = {domain: it.desk() for domain, it in self._toolkits.items()}

    @staticmethod
    def server(trajectories: Iterable[Trajectory]) -> MessagesServer:
        """A model that says what the recorded agents said."""
        return MessagesServer(RecordedAgent(trajectories))

    async def tell(self, policies: Policies) -> None:
        """Observe what each domain's policy is now."""
        for domain, sections in policies.items():
            await self._engine.observe(BusinessRule(rule(domain)).uri, dict(sections))

    async def drive(self, advance: Callable[[int], None] = lambda _: None) -> Pass:
        """Drive all trajectories, one after another; ``advance`` is told how many are done."""
        before, driven, seconds = self._server.requests, list[Driven](), 0.0
        for done, trajectory in enumerate(self._trajectories, 1):
            toolkit, desk = self._toolkits[trajectory.domain], self._desks[trajectory.domain]
            conversation = _Conversation(trajectory, toolkit, desk)
            with desk.open():
                started = time.perf_counter()
                result = await self._serve(conversation)
                seconds += time.perf_counter() - started
            database = desk.close()
            outputs, raw = tuple(conversation.outputs), conversation.raw_bytes
            driven.append(Driven(trajectory, result, outputs, database, raw))
            advance(done)
        for desk in self._desks.values():
            desk.check()
        return Pass(tuple(driven), self._server.requests - before, seconds)

    async def _serve(self, conversation: _Conversation) -> Result:
        trajectory = conversation.trajectory
        inputs = {"tid": trajectory.tid, "customer": [trajectory.opening, *trajectory.customer]}
        name = f"{trajectory.domain}-service"
        async with self._engine.run(name, inputs, client=self._client) as run:
            await conversation.hold(run)
        return run.result


class _Conversation:
    """The agent: it carries out what the model calls, else hears what the customer says next."""

    def __init__(self, trajectory: Trajectory, toolkit: Toolkit, desk: Desk) -> None:
        self.trajectory = trajectory
        self._toolkit = toolkit
        self._desk = desk
        self._head = {
            "model": trajectory.model,
            "max_tokens": 4096,
            "system": f"You serve the customers of a company in {trajectory.domain}, by its rules.",
            "tools": toolkit.offered(),
            "metadata": {"user_id": trajectory.tid},
        }
        self.outputs: list[Output] = []  # what the calls gave, in their order
        self.raw_bytes = 0
        self._messages: list[dict[str, Any]] = []
        self._request_bytes = _json_bytes({**self._head, "messages": []})

    async def hold(self, run: ProgramRun) -> None:
        """From the opening to where the recording ends."""
        sayings = iter(self.trajectory.customer)
        self._say("user", self.trajectory.opening)
        for turn in self.trajectory.turns:
            reply = (await run.decide({**self._head, "messages": self._messages})).value
            self.raw_bytes += self._request_bytes + _json_bytes(reply)
            self._say("assistant", reply["content"])
            if turn.calls:
                self._say("user", await self._carry_out(run, reply["content"], turn))
            elif (said := next(sayings, None)) is not None:
                self._say("user", said)

    def _say(self, role: str, content: Any) -> None:
        message = {"role": role, "content": content}
        self._request_bytes += _json_bytes(message) + bool(self._messages)  # ... and a comma
        self._messages.append(message)

    async def _carry_out(
        self, run: ProgramRun, content: Sequence[Mapping[str, Any]], turn: Turn
    ) -> list[dict[str, Any]]:
        """The results of a reply's calls."""
        calls = [block for block in content if block["type"] == "tool_use"]
        results = []
        for block, recorded in zip(calls, turn.outputs, strict=True):
            self._desk.expect(recorded)
            output = await self._call(run, block)
            self.outputs.append(output)
            results.append(_told(block, output))
        return results

    async def _call(self, run: ProgramRun, block: Mapping[str, Any]) -> Output:
        """What a call gives; whatever goes wrong is told to the model, in tau2's words."""
        try:
            done = await run.act(self._toolkit.tools[block["name"]], **block["input"])
        except Exception as error:  # noqa: BLE001
            return Output(f"Error: {error}", error=True)
        return Output(spoken(done.value), error=False)


def _told(block: Mapping[str, Any], output: Output) -> dict[str, Any]:
    error = {"is_error": True} if output.error else {}
    return {
        "type": "tool_result",
        "tool_use_id": block["id"],
        "content": output.text,
        **error,
    }


def _json_bytes(value: object) -> int:
    """How long it is as JSON without spaces."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
