"""What the engine needs to know of a model's provider, and how it finds out.

The engine knows no provider. A *dialect* reads requests and replies (pure functions), a *chat
client* asks. ``adapters`` registers one per SDK in the entry-point group ``execgraph.clients``
under the SDK's top-level module name; a third party may do the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple, cast

from typing_extensions import override

from ...graphstore.canonical import Json, encode
from ...graphstore.model import Usage
from ..errors import AgentError
from ..keys.standins import StandIns, may_hold_one

__all__ = [
    "Call",
    "CallResult",
    "ChatClient",
    "Dialect",
    "Names",
    "PlainDialect",
    "chat_client",
    "load_adapter",
]

_GROUP = "execgraph.clients"


class Names(dict[str, str]):
    """Names for ids that a service makes up on every call, by order of first appearance."""

    def __missing__(self, made_up: str) -> str:
        self[made_up] = name = f"id:{len(self)}"
        return name

    def rank(self, made_up: str) -> int:
        """Where an id first appeared; after all others if it has not yet."""
        return int(self[made_up].removeprefix("id:")) if made_up in self else len(self)


@dataclass(frozen=True)
class Call:
    """One tool call in a reply."""

    id: str
    tool: str
    arguments: Mapping[str, Json]

    @cached_property
    def text(self) -> bytes:
        """Its arguments as exact JSON text."""
        return encode(self.arguments)

    @cached_property
    def may_hold_standin(self) -> bool:
        """Whether something in its arguments may be a stand-in, or looks like one."""
        return may_hold_one(self.text)


class CallResult(NamedTuple):
    """What a call gave: exact JSON text, or the text of an error."""

    call: Call
    output: bytes
    error: bool


class Dialect(ABC):
    """How a provider's requests and replies are read. Stateless and pure.

    Requests are split into a head and messages, which are digested one by one. ``names`` carries
    on from message to message of one conversation.
    """

    name: str

    @abstractmethod
    def model(self, request: Mapping[str, Json]) -> str:
        """The name under which decisions are known: the model asked."""

    @abstractmethod
    def split(self, request: Mapping[str, Json]) -> tuple[Json, list[Json]]:
        """The head (all but the messages), and the messages."""

    @abstractmethod
    def canonical_head(self, head: Json) -> Json:
        """What of a head can change an answer."""

    @abstractmethod
    def canonical_message(self, message: Json, names: Names) -> Json:
        """A message with made-up ids named, and hints left out."""

    @abstractmethod
    def canonical_reply(self, reply: Json, names: Names) -> Json:
        """What of a reply the next request can depend on, with made-up ids named."""

    def reply_id(self, reply: Json) -> str | None:  # noqa: ARG002
        """The id by which the service continues from a reply that it holds; None if it holds
        none."""
        return None

    def continues(self, request: Mapping[str, Json]) -> str | None:  # noqa: ARG002
        """The id of the reply from which a request continues, whose conversation the service holds;
        None if all that was said is in the request."""
        return None

    def continuing(self, head: Json, name: str) -> Json:  # noqa: ARG002
        """Make a request's head continue from the reply that is called ``name``."""
        return head

    def hide(self, request: Mapping[str, Json], hide: Callable[[Json], Json]) -> Mapping[str, Json]:
        """Make of a program's request what is sent: ``hide`` puts stand-ins in the place of
        values."""
        return {key: hide(item) for key, item in request.items()}

    def parts(self, reply: Json) -> list[Json]:  # noqa: ARG002
        """What of a reply is known again when a program sends it back, part by part."""
        return []

    def said_again(
        self,
        request: Mapping[str, Json],
        said: Callable[[Json], Json],  # noqa: ARG002
    ) -> Mapping[str, Json]:
        """Make of a program's request one in which the model's own words are as it said them.
        ``said`` gives for a part of a reply, as the program got it, what it was; None if it was the
        same."""
        return request

    def with_standins(self, request: Mapping[str, Json], standins: StandIns) -> Mapping[str, Json]:
        """What is sent of a program's request."""
        return self.hide(self.said_again(request, standins.said), standins.hide)

    def read_back(self, reply: Json, real: Callable[[Json], Json]) -> Json:
        """Make of a reply what a program gets: ``real`` puts values in the place of stand-ins."""
        return real(reply)

    def said(self, reply: Json) -> Json:
        """A recorded reply as the provider gave it, without what is recorded beside it."""
        return reply

    @abstractmethod
    def calls(self, reply: Json) -> tuple[Call, ...]:
        """The tool calls of a reply that may be carried out, in its order: none of one that was
        cut."""

    @abstractmethod
    def offered(self, request: Mapping[str, Json]) -> tuple[str, ...] | None:
        """The names of the tools that a request offers; None if that cannot be told."""

    @abstractmethod
    def usage(self, reply: Json) -> Usage | None:
        """What a reply cost; None if it does not tell."""

    def terms(self, reply: Json) -> Mapping[str, str]:  # noqa: ARG002  (for those who override it)
        """On what the price of a reply depends beside its usage, in the words of genai-prices."""
        return {}

    @abstractmethod
    def complete(self, reply: Json) -> bool:
        """Whether the model ended by itself; a cut or refused reply is not replayed."""

    def stop_reason(self, reply: Json) -> str | None:  # noqa: ARG002
        """Why a reply ended, in the provider's word."""
        return None

    def paused(self, reply: Json) -> bool:  # noqa: ARG002
        """Whether the model goes on when its reply is sent back as it is."""
        return False

    def no_answer(self, reply: Json) -> str | None:  # noqa: ARG002
        """Why a reply without calls to be carried out is no answer, and what to do about it; None
        if it is one."""
        return None


class PlainDialect(Dialect):
    """Requests of ``run.decide(request, call=...)`` to ``who``: JSON, compared as it is.

    A list under ``messages`` is stored message by message.
    """

    def __init__(self, who: str = "") -> None:
        self.name = f"plain {who}" if who else "plain"

    @override
    def model(self, request: Mapping[str, Json]) -> str:
        return str(request.get("model", "call"))

    @override
    def split(self, request: Mapping[str, Json]) -> tuple[Json, list[Json]]:
        messages = request.get("messages")
        if not isinstance(messages, list):
            return dict(request), []
        return {key: value for key, value in request.items() if key != "messages"}, messages

    @override
    def canonical_head(self, head: Json) -> Json:
        return head

    @override
    def canonical_message(self, message: Json, names: Names) -> Json:
        return message

    @override
    def canonical_reply(self, reply: Json, names: Names) -> Json:
        return reply

    @override
    def calls(self, reply: Json) -> tuple[Call, ...]:
        return ()

    @override
    def offered(self, request: Mapping[str, Json]) -> tuple[str, ...] | None:
        return None

    @override
    def usage(self, reply: Json) -> Usage | None:
        usage = reply.get("usage") if isinstance(reply, Mapping) else None
        return _usage_of(usage) if isinstance(usage, Mapping) else None

    @override
    def complete(self, reply: Json) -> bool:
        return True


#: How providers name what most of them tell.
_TOKENS = {
    "input_tokens": ("input_tokens", "prompt_tokens"),
    "output_tokens": ("output_tokens", "completion_tokens"),
    "cache_creation_input_tokens": ("cache_creation_input_tokens",),
    "cache_read_input_tokens": ("cache_read_input_tokens",),
}


def _usage_of(fields: Mapping[str, Json]) -> Usage | None:
    """The tokens that an unknown provider tells of; None if it tells of none."""
    counts = {}
    for name, names in _TOKENS.items():
        numbers = (fields[it] for it in names if it in fields)
        number = next((it for it in numbers if isinstance(it, int) and it >= 0), None)
        if number is not None:
            counts[name] = number
    return Usage(**counts) if counts else None


class ChatClient(ABC):
    """One provider's client, as agents use it."""

    dialect: Dialect

    @abstractmethod
    async def ask(self, request: Mapping[str, Json]) -> bytes:
        """The model's reply to ``request``, which stays as it is: the exact body. The provider's
        errors pass through."""

    async def close(self) -> None:  # noqa: B027  (most have nothing to let go of)
        """Let go of the connections of this event loop; may be used again in another."""

    def as_sent(self, request: Mapping[str, Json]) -> dict[str, Json]:
        """``request`` with what the client adds to every one and can change an answer."""
        return dict(request)

    @abstractmethod
    def head(
        self,
        *,
        model: str,
        system: str | None,
        tools: Sequence[Any],
        max_tokens: int,
        params: Mapping[str, Json],
    ) -> dict[str, Json]:
        """The request of an agent without its messages. ``tools``: objects with ``name``,
        ``description`` and ``schema``."""

    @abstractmethod
    def opening(self, texts: Sequence[str]) -> Json:
        """The first message: what the user says."""

    @abstractmethod
    def turn(self, reply: Json, results: Sequence[CallResult]) -> list[Json]:
        """The messages that follow a reply: what the model said, and what its calls gave, if it
        made any."""

    @abstractmethod
    def text(self, reply: Json) -> str:
        """The text of a reply."""


def chat_client(client: object) -> ChatClient:
    """The adapter for ``client`` (None: Anthropic's, configured by its environment).

    Raises AgentError if there is none.
    """
    if client is None:
        return cast(ChatClient, load_adapter("anthropic")(None))
    if isinstance(client, ChatClient):
        return client
    for base in type(client).__mro__:
        sdk = base.__module__.partition(".")[0]
        if sdk in _adapters():
            return cast(ChatClient, load_adapter(sdk)(client))
    known = ", ".join(sorted(_adapters())) or "none"
    raise AgentError(
        f"{type(client).__module__}.{type(client).__qualname__} is no model client that execgraph"
        f" knows (installed: {known}); pass AsyncAnthropic(), or use"
        " run.decide(request, call=...) for any other provider"
    )


def load_adapter(sdk: str) -> Any:
    """The callable registered for ``sdk``: from a client to a ChatClient."""
    try:
        point = _adapters()[sdk]
    except KeyError:
        raise AgentError(
            f"no adapter for {sdk!r} is installed; reinstall execgraph (pip install execgraph)"
        ) from None
    return point.load()


@cache
def _adapters() -> Mapping[str, EntryPoint]:
    """What is installed, by SDK. Read once: that takes the longer the more is installed."""
    return {point.name: point for point in entry_points(group=_GROUP)}
