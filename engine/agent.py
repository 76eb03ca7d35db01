"""Agents: a model in a loop with tools, recorded once and replayed while that is sound."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, takewhile

from pydantic import BaseModel

from ..graphstore.canonical import Json
from ..invalidation.resources import Resource
from .ending.finish import finish, forsake, is_store_away, reason_of
from .ending.results import failure, returned_result
from .errors import AgentError
from .exits import is_ended, is_exit
from .host import Host
from .keys.standins import MangledStandIn, StandIns
from .lookup.definition import Definition
from .lookup.judging import Code
from .lookup.plan import Decision
from .model.client import CallResult, ChatClient, chat_client
from .options import AgentOptions, ExecuteOptions
from .outcome.result import Result
from .outcome.run_plan import RunPlan
from .parameters import takes
from .replay.calls import act_on
from .replay.decisions import at_once, decide, follow, go_back, start_over
from .replay.partial import GoLive
from .run.refusals import AskAgain
from .run.run import Run
from .run.spec import RunSpec
from .run.wish import Returned
from .sessions.single_flight import leading
from .steps.stopwatch import Stopwatch
from .task import Payload, Task, check_requirement
from .tools.declaring import checked_requirements
from .tools.marks import Marks
from .tools.tool import Tool
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
            single_flight: Whether to wait for an equal run that is asking the model, and for how
                long at most, as for ``Engine``; None: as the engine was told.
            run_id: What the run is known by, a text of your own. Called again with it, a run that
                has come to its end gives its result and runs nothing; one that failed or was killed
                goes on where it was, and repeats no effect.
            idempotency: What the idempotency keys of its effects are made of, where there is no
                run_id: equal texts, equal keys.
            resume: "off": what a run of this task has decided that failed or was killed is asked
                again.
            wait: How long another run of this id is waited for, in seconds.
            confirm: Who is asked before a tool with ``effect="confirm"`` is called; None: whom the
                agent, or else the engine, names.
            wait_for_approval: How long the run waits for an answer that comes later and from
                elsewhere; None: as the engine says.
            on_partial: What becomes of a run that would be served in part only, before its first
                effect: "continue", "live" (nothing is served), "stop" (it raises), or a function,
                sync or async, that is shown the RunPlan and gives one of these.

        Returns:
            What the run came to, and what it cost.

        Raises:
            RunFailed: The run ended without an answer; the error says which effects were begun.
            AwaitingApproval: It ended before an effect that a person is to approve first.
            NotReplayable: A replay is required and not possible, or the run would be partial and
                is to stop then; no tool was run.
            NotJson: The task or the context cannot be recorded.
            ConfigurationError: A requirement names an input that the task does not have.
            RunInProgress: A run of this id is at work, and was not over in time.
            RunIdReused: The run id belongs to another task.
            StoreError: The store is away when the run begins, and the engine is to raise then.
        """
        task = self._task(options.task, options.context)
        spec = options.spec(task, self._options.trust, confirm=self._options.confirm)
        stopwatch = Stopwatch()
        try:
            run = await self._host.start(self.definition, spec)
        except Returned as returned:
            return returned_result(returned.wish, stopwatch.elapsed_ms)
        return await self._run(run)

    async def plan(
        self, task: str | Mapping[str, Json] | BaseModel, *, context: Json | BaseModel = None
    ) -> RunPlan:
        """Foresee what ``execute`` would do now, without doing any of it: no tool is run, no model
        and no person is asked, and nothing is recorded. It goes by what is published: what a run
        that failed or was killed has decided, and would be served, is not foreseen.

        Args:
            task: What would be asked for.
            context: What else the model would be told.

        Returns:
            What would be served, run again and asked, and what that costs.

        Raises:
            NotJson: The task or the context cannot be recorded.
            ConfigurationError: A requirement names an input that the task does not have.
            StoreError: The store is away, and the engine is to raise then.
        """
        spec = RunSpec(self._task(task, context))
        return await self._host.foresee(self.definition, spec)

    def _task(self, task: str | Mapping[str, Json] | BaseModel, context: Json | BaseModel) -> Task:
        """Raises NotJson, ConfigurationError."""
        made = Task.of(self._host.namespace, "agent", self.name, task, context, marks=self._marks)
        self._check_inputs(made)
        return made

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
        code = Code(self.tools, self.requires, decision)
        return Definition(self.name, code, dialect, opening, dict(self.head), self._options.max_age)

    async def _run(self, run: Run) -> Result:
        task = asyncio.current_task()
        try:
            with leading(run.lead):
                output, stop_reason = await self._converse(run)
                payload = Payload.of(output, "the output")
                return await finish(run, payload, stop_reason=stop_reason)
        except BaseException as error:
            run.lead.end()
            run.wish.give_back()  # at once: the next equal run may begin before this is kept
            if isinstance(error, GeneratorExit) and is_ended(task, error):
                forsake(run)
                raise  # nothing can be awaited any more
            kept = self._host.keep_failure(run, error)
            if is_ended(task, error):
                raise
            if not is_store_away(error):  # else nobody would be helped by waiting once more
                await kept
            if is_exit(error):
                raise
            raise failure(run, reason_of(error), error) from error

    async def _converse(self, run: Run) -> tuple[str, str | None]:
        """Ask and act in turns until the model is done. Gives its last text, and why it ended.

        A reply that pauses is one with the next: it is sent back as it is, and the model goes on.
        """
        client = run.session.client(self._options.client)
        dialect, ask = client.dialect, at_once(client.ask)
        turns: list[_Turn] = []
        opening: list[Json] = []

        def request() -> Mapping[str, Json]:
            # Each message is made once: what is told already is the same object in each request.
            opening[:] = opening or [client.opening(run.texts)]
            told = chain.from_iterable(turn.messages(client) for turn in turns)
            return {**self.head, "messages": [*opening, *told]}

        tries: dict[int, int] = {}
        again: AskAgain | None = None
        while len(turns) < self.max_turns:
            try:
                decision = follow(run) or await decide(run, request, ask, dialect, again=again)
            except GoLive as live:
                start_over(run, live.cause)
                turns, tries, again = [], {}, None
                continue
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


@dataclass
class _Turn:
    """A reply, what its calls gave, and what the model is told of an answer that is none."""

    decision: Decision
    results: list[CallResult]
    objection: str = ""
    _messages: list[Json] | None = None

    def messages(self, client: ChatClient) -> list[Json]:
        """What is said with it, from now on the same."""
        if self._messages is None:
            objection = [client.opening([self.objection])] if self.objection else []
            self._messages = [*client.turn(self.decision.reply, self.results), *objection]
        return self._messages


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
