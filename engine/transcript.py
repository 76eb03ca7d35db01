"""The messages of a run's requests, each digested once.

Requests of one conversation begin alike, so what was digested for the last request is kept as
long as the messages' exact bytes are the same; writing them is much cheaper than bringing them
into canonical form, and a message changed in place is noticed.

A message that tells what a tool gave is stored with the output's digest in place of a long text:
that is a Value of its own already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ..graphstore.canonical import Json, canonical, decode, digest, encode, fingerprint, hash_of
from ..graphstore.model import Step, StepKind, Value
from .model.client import Dialect, Names

__all__ = [
    "Asked",
    "Transcript",
    "Transcripts",
    "decision_code_key",
    "decision_key",
    "request_messages",
]

_LONG = 256  # a text that is shorter is no longer than what would stand for it


def decision_code_key(dialect: Dialect, head: Json, declared: Sequence[Json]) -> str:
    """The version of everything but the messages that makes a decision what it is."""
    rests_on = sorted(declared, key=canonical)
    return fingerprint(["decision", dialect.name, dialect.canonical_head(head), rests_on])


def decision_key(model: str, code_key: str, messages: Sequence[str]) -> str:
    """A decision's key from the canonical digests of its messages."""
    return hash_of("step", StepKind.DECISION, model, code_key, *messages)


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
    """What a run's last request was: its head, and message by message."""

    def __init__(self, dialect: Dialect, replies: Mapping[str, str] = MappingProxyType({})) -> None:
        self._dialect = dialect
        self._replies = replies  # what a run's replies are known by, by the ids that they came with
        self._exact: list[str] = []  # the digests of the messages' exact bytes
        self._values: list[Value] = []
        self._digests: list[str] = []
        self._texts: dict[str, str] = {}  # by an output's digest, how it is told
        self._names = Names()
        self._head = Value.of(b"")
        self._code_key = ""

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
        exact = [digest(encode(message)) for message in messages]
        self._keep_prefix(exact)
        digests = self._digests_of_texts(outputs)
        for message in messages[len(self._values) :]:
            canonical = self._dialect.canonical_message(message, self._names)
            self._digests.append(fingerprint(canonical))
            self._values.append(Value.of(encode(_by_reference(message, digests))))
        self._exact = exact
        self._read_head(head, declared, self._replies.get(previous or ""))
        model = self._dialect.model(request)
        return Asked(
            key=decision_key(model, self._code_key, self._digests),
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

    def _digests_of_texts(self, outputs: Mapping[str, bytes]) -> dict[str, str]:
        """The digests of long outputs by the text that tells them."""
        for key, output in outputs.items():
            if key not in self._texts and len(output) >= _LONG:
                value = decode(output)
                self._texts[key] = value if isinstance(value, str) else output.decode()
        return {self._texts[key]: key for key in outputs if key in self._texts}

    def _keep_prefix(self, exact: Sequence[str]) -> None:
        if self._exact != exact[: len(self._exact)]:
            # Another conversation: ids are named by their order in it, so it is read afresh.
            self._values.clear()
            self._digests.clear()
            self._names = Names()


class Transcripts:
    """What a run's last requests were, one for each dialect."""

    def __init__(self) -> None:
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
            transcript = self._known[dialect.name] = Transcript(dialect, self._replies)
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


def _by_reference(message: Json, digests: Mapping[str, str]) -> Json:
    """``message`` with ``{"$value": digest}`` for each text that is an output."""
    if not digests:
        return message
    match message:
        case str():
            known = digests.get(message) if len(message) >= _LONG else None
            return message if known is None else {"$value": known}
        case Mapping():
            return {key: _by_reference(item, digests) for key, item in message.items()}
        case list() | tuple():
            return [_by_reference(item, digests) for item in message]
    return message


def request_messages(steps: Sequence[Step], position: int) -> tuple[str, ...]:
    """The digests of all messages of the decision at ``position``."""
    chain = [steps[position]]
    while chain[-1].extends is not None:
        chain.append(steps[chain[-1].extends])
    messages: tuple[str, ...] = ()
    for step in reversed(chain):
        messages = messages[: step.shared] + step.messages
    return messages
