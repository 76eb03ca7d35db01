"""Recorded trajectories through ``engine.run``: a customer-service agent in plain Python."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anthropic import AsyncAnthropic

from execgraph import BusinessRule, Engine, Result
from execgraph.adapters.messages_api import MessagesServer
from execgraph.engine.program import ProgramRun
from execgraph.engine.result import Outcome
from execgraph.graphstore.model import StepKind

from .brain import RecordedAgent
from .tools import Toolkit, is_write, sections, spoken
from .trajectories import DOMAINS, Output, Trajectory, Workload

__all__ = ["Driven", "Driver", "Pass", "changed", "decisions_resting_on", "steps_expected"]

#: The recorded agents greet before anybody has spoken; the API wants the customer first.
_OPENING = "(A customer has joined the chat.)"


@dataclass(frozen=True)
class Driven:
    """One trajectory, driven once. ``database``: the digest of all its records afterwards."""

    trajectory: Trajectory
    result: Result
    outputs: tuple[Output, ...]
    database: str

    @property
    def asked(self) -> list[int]:
        """Which of the agent's turns the model was asked for, counted from 0."""
        decisions = [step for step in self.result.steps if step.kind is StepKind.DECISION]
        return [turn for turn, step in enumerate(decisions) if step.outcome is Outcome.ASKED]

    @property
    def recorded_outputs(self) -> tuple[Output, ...]:
        return tuple(output for turn in self.trajectory.turns for output in turn.outputs)


@dataclass(frozen=True)
class Pass:
    """All trajectories, each driven once on a fresh database.

    ``model_calls`` is the server's own count.
    """

    driven: tuple[Driven, ...]
    model_calls: int
    seconds: float

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
        identical = sum(it.result.identical for it in self.driven)
        return (
            f"{self.model_calls:5} model calls, {identical} of {len(self.driven)} identical,"
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
        self._workload = workload
        self._trajectories = trajectories
        self._server = server
        self._client = client
        self._toolkits = {domain: Toolkit(engine, workload, domain) for domain in DOMAINS}

    @staticmethod
    def server(trajectories: Iterable[Trajectory]) -> MessagesServer:
        """A model that says what the recorded agents said."""
        return MessagesServer(RecordedAgent(trajectories))

    async def tell(self, policies: Mapping[str, Mapping[str, str]]) -> None:
        """Observe each policy, by its id: section -> digest of its text."""
        for policy, document in policies.items():
            await self._engine.observe(BusinessRule(policy).uri, dict(document))

    def policies(self) -> dict[str, dict[str, str]]:
        """The policies under which the trajectories were recorded."""
        used = sorted({trajectory.policy for trajectory in self._trajectories})
        return {policy: self._workload.policy(policy) for policy in used}

    async def drive(self) -> Pass:
        """Drive all trajectories, one after another."""
        desks = {domain: toolkit.desk() for domain, toolkit in self._toolkits.items()}
        before, driven, seconds = self._server.requests, [], 0.0
        for trajectory in self._trajectories:
            toolkit, desk = self._toolkits[trajectory.domain], desks[trajectory.domain]
            with desk.open():
                started = time.perf_counter()
                result, outputs = await self._serve(trajectory, toolkit)
                seconds += time.perf_counter() - started
            driven.append(Driven(trajectory, result, tuple(outputs), desk.close()))
        return Pass(tuple(driven), self._server.requests - before, seconds)

    async def _serve(self, trajectory: Trajectory, toolkit: Toolkit) -> tuple[Result, list[Output]]:
        inputs = {
            "tid": trajectory.tid,
            "policy": trajectory.policy,
            "customer": list(trajectory.customer),
        }
        head = {
            "model": trajectory.model,
            "max_tokens": 4096,
            "system": f"You serve the customers of a company in {trajectory.domain}, by its rules.",
            "tools": toolkit.offered(),
            "metadata": {"user_id": trajectory.tid},
        }
        name = f"{trajectory.domain}-service"
        async with self._engine.run(name, inputs, client=self._client) as run:
            outputs = await _converse(run, toolkit, head, trajectory.customer)
        return run.result, outputs


async def _converse(
    run: ProgramRun, toolkit: Toolkit, head: Mapping[str, Any], customer: Iterable[str]
) -> list[Output]:
    """The agent: it carries out what the model calls, else hears what the customer says next.
    What the calls gave, in their order."""
    sayings, outputs = iter(customer), list[Output]()
    messages: list[Any] = [{"role": "user", "content": _OPENING}]
    while True:
        reply = (await run.decide({**head, "messages": messages})).value
        messages.append({"role": "assistant", "content": reply["content"]})
        calls = [block for block in reply["content"] if block["type"] == "tool_use"]
        given = [await _call(run, toolkit, block) for block in calls]
        outputs += given
        if calls:
            results = [_told(block, output) for block, output in zip(calls, given, strict=True)]
            messages.append({"role": "user", "content": results})
        elif (said := next(sayings, None)) is not None:
            messages.append({"role": "user", "content": said})
        else:
            return outputs


async def _call(run: ProgramRun, toolkit: Toolkit, block: Mapping[str, Any]) -> Output:
    """What a call gives; whatever goes wrong is told to the model, in tau2's words."""
    try:
        done = await run.act(toolkit.tools[block["name"]], **block["input"])
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


# What has to come out, counted without the engine ---------------------------------------------


def steps_expected(trajectories: Iterable[Trajectory]) -> int:
    """How many steps the trajectories have: the agent's turns and its calls."""
    return sum(len(trajectory.turns) + trajectory.calls for trajectory in trajectories)


def decisions_resting_on(
    section: str, workload: Workload, trajectories: Iterable[Trajectory]
) -> dict[str, list[int]]:
    """By tid, the turns in which a write was chosen of which a section of the policy speaks."""
    writes = {
        (domain, tool)
        for domain in DOMAINS
        for tool, said in workload.preconditions(domain).items()
        if is_write(said) and section in sections(said)
    }
    turns = {
        it.tid: [
            number
            for number, turn in enumerate(it.turns)
            if any((it.domain, call.tool) in writes for call in turn.calls)
        ]
        for it in trajectories
    }
    return {tid: numbers for tid, numbers in turns.items() if numbers}


def changed(policies: Mapping[str, Mapping[str, str]], section: str) -> dict[str, dict[str, str]]:
    """The policies with an edit in one section, where they have it."""
    return {
        policy: {name: f"{sha} edited" if name == section else sha for name, sha in parts.items()}
        for policy, parts in policies.items()
    }
