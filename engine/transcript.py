"""The messages of a run's requests, each digested once.

Requests of one conversation begin alike, so what was digested for the last request is kept as
long as its messages are still what they were. An agent's loop never changes a message, so there
the same object is the same message, and only what is new is read. A program may change one in
place, so there the exact bytes decide; writing them is much cheaper than bringing them into
canonical form.

A message that tells what a tool gave is stored with the output's digest in place of a long text:
that is a Value of its own already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from types import MappingProxyType
from typing import Any

from ..graphstore.canonical import HashOf, Json, canonical, decode, encode, fingerprint
from ..graphstore.model import Step, StepKind, Value
from .model.client import Dialect, Names

__all__ = [
    "Asked",
    "DecisionKey",
    "Transcript",
    "Transcripts",
    "decision_code_key",
    "references",
    "request_messages",
    "text_of",
    "with_values",
]

_LONG = 256  # a text that is shorter is no longer than what would stand for it


def decision_code_key(dialect: Dialect, head: Json, declared: Sequence[Json]) -> str:
    """The version of everything but the messages that makes a decision what it is."""
    rests_on = sorted(declared, key=canonical)
    return fingerprint(["decision", dialect.name, dialect.canonical_head(head), rests_on])


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it was read: its key, its parts, and the names for the reply's ids."""

    key: str
    code_key: str
    model: str
    head: Value
    messages: tuple[Value, ...]
    names: Names


class Transcript:
    """What a run's last request was: its head, and message by message.

    ``replies``: what a run's replies are known by, by the ids that they came with. ``kept``: no
    message is changed once it has been read, and each stays behind the one that it was read behind.
    """

    def __init__(
        self,
        dialect: Dialect,
        replies: Mapping[str, str] = MappingProxyType({}),
        *,
        kept: bool = False,
    ) -> None:
        self._dialect = dialect
        self._replies = replies
        self._kept = kept
        self._read: tuple[Any, ...] = ()  # the messages, or else their exact bytes
        self._values: list[Value] = []
        self._digests: list[str] = []
        self._outputs = _Outputs()
        self._names = Names()
        self._head = Value.of(b"")
        self._code_key = ""
        self._key = DecisionKey("", "")

    def read(
        self,
        request: Mapping[str, Json],
        declared: Sequence[Json],
        outputs: Mapping[str, bytes] = MappingProxyType({}),
    ) -> Asked:
        """Digest a request. ``outputs``: those of the run's actions so far, by digest. Raises
        NotJson."""
        head, messages = self._dialect.split(request)
        previous = self._dialect.continues(request)
        self._keep_prefix(messages)
        self._outputs.learn(outputs)
        for message in messages[len(self._values) :]:
            value = Value.of(encode(self._outputs.named_in(message)))
            canonical = self._dialect.canonical_message(message, self._names)
            self._digests.append(fingerprint(canonical))
            self._values.append(value)
        self._read_head(head, declared, self._replies.get(previous or ""))
        model = self._dialect.model(request)
        return Asked(
            key=self._key_of(model),
            code_key=self._code_key,
            model=model,
            head=self._head,
            messages=tuple(self._values),
            names=Names(self._names),
        )

    def _read_head(self, head: Json, declared: Sequence[Json], after: str | None) -> None:
        """What is declared is that of one run, and never changes."""
        if (payload := encode(head)) != self._head.data:
            self._head = Value.of(payload)
            known = head if after is None else self._dialect.continuing(head, after)
            self._code_key = decision_code_key(self._dialect, known, declared)

    def _key_of(self, model: str) -> str:
        if not self._key.is_of(model, self._code_key):
            self._key = DecisionKey(model, self._code_key)
        return self._key.after(self._digests)

    def _keep_prefix(self, messages: Sequence[Json]) -> None:
        """Keep what is known of messages that are as they were in the last request."""
        now: Sequence[Any] = messages if self._kept else [encode(it) for it in messages]
        many = len(self._read)
        if self._kept:  # the last one tells of those before it, however many these are
            goes_on = not many or (len(now) >= many and now[many - 1] is self._read[-1])
        else:
            goes_on = self._read == tuple(now[:many])
        if not goes_on:
            # Another conversation: ids are named by their order in it, so it is read afresh.
            self._values.clear()
            self._digests.clear()
            self._names = Names()
            self._key = DecisionKey("", "")
        self._read = tuple(now)


class _Outputs:
    """The outputs of a run's actions, by the long texts that tell them."""

    def __init__(self) -> None:
        self._now: Mapping[str, bytes] = {}
        self._many = 0
        self._learned: set[str] = set()
        self._by_text: dict[str, str] = {}

    def learn(self, outputs: Mapping[str, bytes]) -> None:
        """Take ``outputs`` for those of the run's actions from now on."""
        known = self._many if outputs is self._now else 0  # the same ones only become more
        self._now, self._many = outputs, len(outputs)
        for key in islice(outputs, known, None):
            if key not in self._learned:
                self._learned.add(key)
                if len(output := outputs[key]) >= _LONG:
                    self._by_text[text_of(output)] = key

    def named_in(self, message: Json) -> Json:
        """``message`` with ``{"$value": digest}`` for each long text that is an output."""
        if not self._by_text:
            return message
        match message:
            case str():
                known = self._by_text.get(message) if len(message) >= _LONG else None
                return {"$value": known} if known in self._now else message
            case Mapping():
                return {key: self.named_in(item) for key, item in message.items()}
            case list() | tuple():
                return [self.named_in(item) for item in message]
        return message


class DecisionKey:
    """The key of a decision from the canonical digests of its messages, which only become more."""

    def __init__(self, model: str, code_key: str) -> None:
        self._of = (model, code_key)
        self._hash = HashOf("step", StepKind.DECISION, model, code_key)
        self._messages = 0

    def is_of(self, model: str, code_key: str) -> bool:
        """Whether it is the key of a decision of this model and code."""
        return self._of == (model, code_key)

    def after(self, digests: Sequence[str]) -> str:
        """The key after these messages, which begin with those of the last call."""
        self._hash.add(*digests[self._messages :])
        self._messages = len(digests)
        return self._hash.key


class Transcripts:
    """What a run's last requests were, one for each dialect. ``kept``: see ``Transcript``."""

    def __init__(self, *, kept: bool) -> None:
        self._kept = kept
        self._known: dict[str, Transcript] = {}
        self._replies: dict[str, str] = {}
        self._served: set[str] = set()

    def read(
        self,
        request: Mapping[str, Json],
        dialect: Dialect,
        declared: Sequence[Json],
        outputs: Mapping[str, bytes],
    ) -> Asked:
        """See ``Transcript.read``."""
        if (transcript := self._known.get(dialect.name)) is None:
            transcript = Transcript(dialect, self._replies, kept=self._kept)
            self._known[dialect.name] = transcript
        return transcript.read(request, declared, outputs)

    def add_reply(self, step: Step, id_: str | None, *, served: bool) -> None:
        """A reply has come, to which a later request may refer by its id."""
        if id_ is not None:
            self._replies[id_] = f"{step.key} {step.output_key}"
            if served:
                self._served.add(id_)

    def continues_served(self, request: Mapping[str, Json], dialect: Dialect) -> bool:
        """Whether the service is to go on after a reply that it gave to another run: by now it
        holds that no more, or has gone on from there."""
        return dialect.continues(request) in self._served


def references(message: Json) -> Iterator[str]:
    """The digests of the outputs that stand in a stored message by reference."""
    match message:
        case {"$value": str() as digest, **more} if not more:
            yield digest
        case Mapping():
            for item in message.values():
                yield from references(item)
        case list():
            for item in message:
                yield from references(item)


def with_values(message: Json, texts: Mapping[str, str]) -> Json:
    """A stored message as it was, as far as ``texts`` has the outputs in it, by digest."""
    match message:
        case {"$value": str() as digest, **more} if not more and digest in texts:
            return texts[digest]
        case Mapping():
            return {key: with_values(item, texts) for key, item in message.items()}
        case list():
            return [with_values(item, texts) for item in message]
    return message


def text_of(output: bytes) -> str:
    """What a tool gave, as a message tells it."""
    value = decode(output)
    return value if isinstance(value, str) else output.decode()


def request_messages(steps: Sequence[Step], position: int) -> tuple[str, ...]:
    """The digests of all messages of the decision at ``position``."""
    parts = []
    step, many = steps[position], None
    while True:
        parts.append(step.messages if many is None else step.messages[: max(0, many - step.shared)])
        many = step.shared if many is None else min(many, step.shared)
        if step.extends is None:
            return tuple(chain.from_iterable(reversed(parts)))
        step = steps[step.extends]
