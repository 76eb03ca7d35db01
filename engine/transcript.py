"""The messages of a run's requests, each digested once.

Requests of one conversation begin alike, so what was digested for the last request is kept as
long as the messages' exact bytes are the same; writing them is much cheaper than bringing them
into canonical form, and a message changed in place is noticed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..graphstore.canonical import Json, canonical, encode, fingerprint, hash_of
from ..graphstore.model import Step, StepKind, Value
from .client import Dialect, Names

__all__ = ["Asked", "Transcript", "decision_code_key", "decision_key", "request_messages"]


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

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._values: list[Value] = []
        self._digests: list[str] = []
        self._names = Names()
        self._head = Value.of(b"")
        self._code_key = ""

    def read(self, request: Mapping[str, Json], declared: Sequence[Json]) -> Asked:
        """Digest a request. Raises NotJson."""
        head, messages = self._dialect.split(request)
        payloads = [encode(message) for message in messages]
        self._keep_prefix(payloads)
        for payload, message in list(zip(payloads, messages, strict=True))[len(self._values) :]:
            canonical = self._dialect.canonical_message(message, self._names)
            self._digests.append(fingerprint(canonical))
            self._values.append(Value.of(payload))
        self._read_head(head, declared)
        model = self._dialect.model(request)
        return Asked(
            key=decision_key(model, self._code_key, self._digests),
            code_key=self._code_key,
            model=model,
            head=self._head,
            messages=tuple(self._values),
            names=Names(self._names),
        )

    def _read_head(self, head: Json, declared: Sequence[Json]) -> None:
        """What is declared is that of one run, and never changes."""
        if (payload := encode(head)) != self._head.data:
            self._head = Value.of(payload)
            self._code_key = decision_code_key(self._dialect, head, declared)

    def _keep_prefix(self, payloads: Sequence[bytes]) -> None:
        known = [value.data for value in self._values]
        if known != list(payloads[: len(known)]):
            # Another conversation: ids are named by their order in it, so it is read afresh.
            self._values.clear()
            self._digests.clear()
            self._names = Names()


def request_messages(steps: Sequence[Step], position: int) -> tuple[str, ...]:
    """The digests of all messages of the decision at ``position``."""
    chain = [steps[position]]
    while chain[-1].extends is not None:
        chain.append(steps[chain[-1].extends])
    messages: tuple[str, ...] = ()
    for step in reversed(chain):
        messages = messages[: step.shared] + step.messages
    return messages
