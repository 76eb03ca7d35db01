"""Agents: a model in a loop with tools, recorded once and replayed while that is sound."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import takewhile
from typing import NamedTuple

from ..graphstore.canonical import Json
from ..invalidation.resources import Resource
from .ending.finish import finish, is_store_away, reason_of, write_failure
from .ending.results import failure
from .errors import AgentError
from .exits import is_ended, is_exit
from .host import Host
from .keys.standins import MangledStandIn, StandIns
from .model.client import CallResult, ChatClient, chat_client
from .options import AgentOptions, ExecuteOptions
from .outcome.result import Result
from .parameters import takes
from .replay.actions import act_on
from .replay.decisions import at_once, decide, follow, go_back
from .replay.definition import Definition
from .replay.judging import Code
from .replay.plan import Decision
from .replay.refusals import AskAgain
from .replay.run import Run
from .task import Payload, Task, check_requirement
from .tools.marks import Marks
from .tools.tool import Tool, checked_requirements
from .transcript import decision_code_key

__all__ = ["Agent"]

#: How an agent tells its model a task is part of what its decisions are: shown by this one.
_EXAMPLE = Task.of("", "agent", "", {"task": ""}, "context")
_ASK_AGAIN = 2  # how often a decision is asked again because facts moved before its effect


class Agent:
    """A model with a system prompt and tools. ``engine.agent`` makes it, and does no I/O for it.

    Attributes:
        name: By which its recordings are found again.
        tools: What it may call, by name.
        requires: What each of its decisions and writes rests on.
        max_turns: How many replies a run may take at most.
    """

    def __init__(self, host: Host, options: AgentOptions) -> None:
        self._host = host
        self._options = options
        self.name = options.name
        self.max_turns = options.max_turns
        self.tools = _checked_tools(options.tools, self.name)
        self.requires = checked_requirements(options.requires, f"the agent {self.name}")
        for requirement in self.requires:
            requirement.check((), f"the agent {self.name}")
        self._marks = Marks(f"the agent {self.name}", options.opaque)

    def __repr__(self) -> str:
        return f"<Agent {self.name} ({self._options.model}, {len(self.tools)} tools)>"

    @takes(ExecuteOptions)
    async def execute(self, options: ExecuteOptions) -> Result:
        """Do a task: by replaying what is recorded of it and still stands, else by asking the
        model.

        Args:
            task: What is asked for. An equal task is served from what is recorded of this one.
            context: What else the model is told; it belongs to the task.
            labels: Texts by name, kept with the run for queries; no part of the task.
            replay: False: nothing is served, and the run is recorded beside the others.
            require: "replay": ask no model, and raise where one would have to be asked.

        Returns:
            What the run came to, and what it cost.

        Raises:
            RunFailed: The run ended without an answer; the error says which effects were begun.
            NotReplayable: A replay is required and not possible; no tool was run.
            NotJson: The task or the context cannot be recorded.
            ConfigurationError: A requirement names an input that the task does not have.
            StoreError: The store is away when the run begins, and the engine is to raise then.
        """
        task = Task.of(
            self._host.namespace,
            "agent",
            self.name,
            options.task,
            options.context,
            marks=self._marks,
        )
        self._check_inputs(task)
        return await self._run(await self._host.start(self.definition, options.spec(task)))

    @cached_property
    def client(self) -> ChatClient:
        """The model's client; by default Anthropic's, configured by the environment."""
        return chat_client(self._options.client)

    @cached_property
    def head(self) -> Mapping[str, Json]:
        """A request without its messages."""
        options = self._options
        return self.client.head(
            model=options.model,
            system=options.system,
            tools=tuple(self.tools.values()),
            max_tokens=options.max_tokens,
            params=dict(options.params or {}),
        )

    @cached_property
    def definition(self) -> Definition:
        dialect, opening = self.client.dialect, self.client.opening(_EXAMPLE.render(StandIns("")))
        declared = Definition(self.name, Code(self.tools, self.requires), dialect, opening).declared
        decision = decision_code_key(dialect, self.head, declared)
        return Definition(self.name, Code(self.tools, self.requires, decision), dialect, opening)

    async def _run(self, run: Run) -> Result:
        task = asyncio.current_task()
        try:
            output, stop_reason = await self._converse(run)
            payload = Payload.of(output, "the output")
            return await finish(run, payload, stop_reason=stop_reason)
        except BaseException as error:
            if isinstance(error, GeneratorExit) and is_ended(task, error):
                raise  # nothing can be awaited any more
            kept = self._host.in_background(write_failure(run, reason_of(error)))
            if is_ended(task, error):
                raise
            if not is_store_away(error):  # else nobody would be helped by waiting once more
                await kept
            if is_exit(error):
                raise
            raise failure(run, reason_of(error)) from error

    async def _converse(self, run: Run) -> tuple[str, str | None]:
        """Ask and act in turns until the model is done. Gives its last text, and why it ended.

        A reply that pauses is one with the next: it is sent back as it is, and the model goes on.
        """
        client = run.session.client(self._options.client)
        dialect, ask = client.dialect, at_once(client.ask)
        turns: list[_Turn] = []

        def request() -> Mapping[str, Json]:
            messages = [client.opening(run.texts)]
            for decision, results, objection in turns:
                messages += client.turn(decision.reply, results)
                if objection:
                    messages.append(client.opening([objection]))
            return {**self.head, "messages": messages}

        tries: dict[int, int] = {}
        again: AskAgain | None = None
        while len(turns) < self.max_turns:
            decision = follow(run) or await decide(run, request, ask, dialect, again=again)
            again = None
            try:
                final = tries.get(decision.position, 0) == _ASK_AGAIN
                results = await act_on(run, decision, final=final)
            except AskAgain as moved:
                tries[decision.position] = tries.get(decision.position, 0) + 1
                again, back = moved, go_back(run, decision, moved)
                turns = [turn for turn in turns if turn.decision.position < back]
                continue
            turns.append(_Turn(decision, results))
            if decision.calls or dialect.paused(decision.reply):
                continue
            if (why := dialect.no_answer(decision.reply)) is not None:
                raise AgentError(why)
            try:
                text = str(run.standins.real(_last_text(client, turns)))
            except MangledStandIn as mangled:
                turns[-1] = _Turn(decision, results, f"That is no answer: {mangled}.")
                continue
            return text, dialect.stop_reason(decision.reply)
        raise AgentError(
            f"no answer after {self.max_turns} turns; raise max_turns if the task needs more"
        )

    def _check_inputs(self, task: Task) -> None:
        """Raises ConfigurationError now, and not in the middle, if an input is missing."""
        for requirement in self._static:
            check_requirement(requirement, task)

    @cached_property
    def _static(self) -> list[Resource]:
        every = [*self.requires, *(item for tool in self.tools.values() for item in tool.requires)]
        return [it for it in every if it.placeholders > it.arguments]


class _Turn(NamedTuple):
    """A reply, what its calls gave, and what the model is told of an answer that is none."""

    decision: Decision
    results: list[CallResult]
    objection: str = ""


def _last_text(client: ChatClient, turns: Sequence[_Turn]) -> str:
    """What the model said since its last calls: a reply that paused is one with the next."""
    since = takewhile(lambda turn: turn is turns[-1] or not turn.objection, reversed(turns))
    last = list(takewhile(lambda it: not it.calls, (turn.decision for turn in since)))
    return "".join(client.text(decision.reply) for decision in reversed(last))


def _checked_tools(tools: Sequence[Tool], agent: str) -> dict[str, Tool]:
    known: dict[str, Tool] = {}
    if isinstance(tools, Tool):
        raise AgentError(f"tools={tools!r} is no list; write tools=[{tools.name}]")
    for tool in tools:
        if not isinstance(tool, Tool):
            raise AgentError(f"{tool!r} is no tool; declare it with @engine.tool(...)")
        if tool.name in known:
            raise AgentError(f"the agent {agent} has two tools named {tool.name}; rename one")
        known[tool.name] = tool
    return known
