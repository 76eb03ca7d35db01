"""A run that is recorded, whose requests can be derived again: as they were, or under marks.

Under marks a request is what the model would have been shown, and a reply what it would have said
if it had said the same of stand-ins as it said of values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from ...graphstore.canonical import Json, canonical, decode, encode, fingerprint, hash_of
from ...graphstore.model import Execution, FacetRef, Step, StepKind
from ..keys.standins import MangledStandIn, NoStandIn, StandIns
from ..model.client import CallResult, ChatClient, Dialect, Names, PlainDialect
from ..task import Task, TaskKind
from ..tools.marks import Marked, Marks
from ..transcript import DecisionKey, request_messages, text_of, with_values

__all__ = ["Marking", "PastRun", "Request", "StillShown"]


@dataclass(frozen=True)
class Marking:
    """Marks that somebody could set: on the inputs of an agent or program, and on outputs of tools
    by name."""

    inputs: Marks = field(default_factory=lambda: Marks("the task"))
    outputs: Mapping[str, Marks] = field(default_factory=dict)


class StillShown(Exception):
    """A model would have been shown a stand-in, and elsewhere its value: it could not tell that
    these are one."""

    def __init__(self, values: set[Any]) -> None:
        self.values = values
        super().__init__(f"{len(values)} values")


class Request(NamedTuple):
    """What a decision would have been. ``reply``: the key of what was said. ``is_read_back``: each
    value comes back out of what stands in its place, so that a run served with this reply does what
    this one did."""

    step: Step
    key: str
    reply: str
    is_read_back: bool


@dataclass(frozen=True)
class PastRun:
    """One recorded run.

    ``inputs`` and ``context``: as a model was shown them; ``task``: the key by which the run is
    recorded. ``is_marked``: the inputs have marks that nobody can tell any more. ``asked``: the
    positions of the decisions that it paid for. ``facets``: what its steps rest on, by the ids of
    their guards.
    """

    execution: Execution
    namespace: str
    task: str
    kind: TaskKind
    inputs: Json
    context: Json
    is_marked: bool
    steps: Sequence[Step]
    values: Mapping[str, bytes]
    asked: frozenset[int]
    facets: Mapping[str, FacetRef]
    client: ChatClient

    @cached_property
    def decisions(self) -> Sequence[Step]:
        """Its decisions."""
        return [it for it in self.steps if it.kind is StepKind.DECISION]

    @cached_property
    def actions(self) -> Sequence[Step]:
        """Its actions."""
        return [it for it in self.steps if it.kind is StepKind.ACTION]

    @cached_property
    def is_sound(self) -> bool:
        """Whether its requests and replies, derived again, are those that were recorded."""
        try:
            return all(
                (it.key, it.reply) == (it.step.key, it.step.output_key)
                for it in self.requests(Marking())
            )
        except Exception:  # noqa: BLE001  (a reply of another provider than this client's)
            return False

    @cached_property
    def said(self) -> Sequence[str]:
        """What models said in it, as texts."""
        return [
            canonical(self._dialect(it).canonical_reply(self.json(it.output), Names())).decode()
            for it in self.decisions
        ]

    def json(self, digest: str) -> Any:
        """A payload of it."""
        return decode(self.values[digest])

    def task_under(self, marking: Marking) -> Task:
        """The task as it would be known. Raises ConfigurationError for marks on what nothing can
        stand in for."""
        name = self.execution.agent
        return Task.of(
            self.namespace, self.kind, name, self.inputs, self.context, marks=marking.inputs
        )

    def requests(self, marking: Marking) -> Iterator[Request]:
        """Its decisions in their order, as they would have been. Raises NoStandIn; StillShown after
        the last one."""
        key = self.task if self.is_marked else self.task_under(marking).key
        standins = StandIns(f"past {key}")  # other ones than may have been shown then
        if self.kind == "agent":
            return self._of_agent(marking, standins)
        return self._of_program(marking, standins)

    def _of_agent(self, marking: Marking, standins: StandIns) -> Iterator[Request]:
        client, conversation = self.client, _Conversation(self.client.dialect)
        shown = [*self.task_under(marking).render(standins)]
        messages: list[Json] = [client.opening(shown)]
        actions = {(it.decision, it.call): it for it in self.actions}
        for step in self.decisions:
            said = _said(standins, reply := self.json(step.output))
            key = conversation.key(step.name, step.code_key, messages)
            yield Request(
                step, key, conversation.reply_key(said), _is_read_back(standins, said, reply)
            )
            results = [
                CallResult(call, self._shown(action, marking, standins), action.error)
                for number, call in enumerate(client.dialect.calls(said))
                if (action := actions.get((step.position, number))) is not None
            ]
            messages += client.turn(said, results)
            shown += (it.output.decode() for it in results)
        _check(standins, shown)

    def _of_program(self, marking: Marking, standins: StandIns) -> Iterator[Request]:
        if not self.is_marked:
            self.task_under(marking).bind(standins)
        conversations: dict[str, _Conversation] = {}
        for step in self.steps:
            if step.kind is StepKind.ACTION:
                self._shown(step, marking, standins)
                continue
            dialect = self._dialect(step)
            conversation = conversations.setdefault(dialect.name, _Conversation(dialect))
            request = self._request(step)
            hidden = dialect.hide(request, standins.hide) if standins else request
            head, messages = dialect.split(hidden)
            changed = head != dialect.split(request)[0]
            code_key = (
                hash_of("head", fingerprint(dialect.canonical_head(head)))
                if changed
                else step.code_key
            )
            key = conversation.key(step.name, code_key, messages)
            said = _said(standins, reply := self.json(step.output))
            yield Request(
                step, key, conversation.reply_key(said), _is_read_back(standins, said, reply)
            )
            if standins:
                _check(standins, [encode([head, messages]).decode()])

    def _shown(self, action: Step, marking: Marking, standins: StandIns) -> bytes:
        """The text of an output that the model would have been shown."""
        data = self.values[action.output]
        marks = marking.outputs.get(action.name)
        if action.error:
            said = decode(data)
            return encode(standins.hidden(said)) if isinstance(said, str) else data
        if not marks:
            return data
        document = decode(data)
        shown = marks.on(Marked(document)).render(standins, self._place(action, standins))
        standins.remember(document, shown)
        return encode(shown)

    def _place(self, action: Step, standins: StandIns) -> str:
        """Where an output stands, which is the same in every run."""
        if self.kind == "agent":
            return f"{action.name} {action.decision} {action.call}"
        given = "" if action.arguments is None else self.json(action.arguments)
        written = fingerprint(standins.hide(given, shortest=0))
        return f"{action.name} {written} {action.occurrence}"

    # What a program asked -------------------------------------------------------------------

    def _request(self, step: Step) -> Mapping[str, Any]:
        head = {} if step.head is None else self.json(step.head)
        messages = [
            with_values(self.json(it), self._texts)
            for it in request_messages(self.steps, step.position)
        ]
        return {**head, "messages": messages} if messages else head

    @cached_property
    def _texts(self) -> Mapping[str, str]:
        """The texts of outputs by digest, as messages tell them."""
        return {it.output: text_of(self.values[it.output]) for it in self.actions}

    def _dialect(self, step: Step) -> Dialect:
        """The dialect of a request: the one by which it has its key."""
        return self._dialects.get(step.position, self.client.dialect)

    @cached_property
    def _dialects(self) -> Mapping[int, Dialect]:
        plain, found = PlainDialect(), {}
        for step in self.decisions if self.kind == "program" else ():
            messages = plain.split(self._request(step))[1]
            if _Conversation(plain).key(step.name, step.code_key, messages) == step.key:
                found[step.position] = plain
        return found


class _Conversation:
    """The keys of requests of which each mostly goes on from the one before."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._messages: list[Json] = []
        self._digests: list[str] = []
        self._names = Names()

    def key(self, model: str, code_key: str, messages: Sequence[Json]) -> str:
        """The key of the decision that is asked so."""
        if list(messages[: len(self._messages)]) != self._messages:
            self._messages, self._digests, self._names = [], [], Names()
        for message in messages[len(self._messages) :]:
            known_by = self._dialect.canonical_message(message, self._names)
            self._digests.append(fingerprint(known_by))
        self._messages = list(messages)
        return DecisionKey(model, code_key).after(self._digests)

    def reply_key(self, reply: Json) -> str:
        """The key of what was said to the last request."""
        return fingerprint(self._dialect.canonical_reply(reply, Names(self._names)))


def _said(standins: StandIns, reply: Json) -> Any:
    """What the model would have said of stand-ins, if it said this of values."""
    return standins.hide(reply, shortest=0, shortest_word=0)


def _check(standins: StandIns, shown: Sequence[str]) -> None:
    if values := standins.still_in(shown):
        raise StillShown(values)


def _is_read_back(standins: StandIns, said: Json, reply: Json) -> bool:
    try:
        return encode(standins.real(said)) == encode(reply)
    except (MangledStandIn, NoStandIn):
        return False
