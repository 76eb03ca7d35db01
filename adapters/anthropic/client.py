"""Agents on the Anthropic SDK: how a request is made, sent and continued."""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from typing_extensions import override

from ...engine.errors import AgentError
from ...engine.model.client import CallResult, ChatClient
from ...graphstore.canonical import as_text, decode, encode
from .dialect import MessagesDialect
from .sending import as_sent, body_of, default_base_url

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

__all__ = ["AnthropicClient", "asking", "being_asked"]

_asking: contextvars.ContextVar[bool] = contextvars.ContextVar("execgraph_asking", default=False)


@contextmanager
def asking() -> Iterator[None]:
    """Mark calls as made by a run itself: the middleware on the same client lets them pass."""
    token = _asking.set(True)
    try:
        yield
    finally:
        _asking.reset(token)


def being_asked() -> bool:
    """Whether a run itself makes the current call."""
    return _asking.get()


class AnthropicClient(ChatClient):
    """``AsyncAnthropic`` (None: one configured by the environment, made at first use)."""

    dialect = MessagesDialect()

    def __init__(self, client: AsyncAnthropic | None) -> None:
        self._given = client
        self._asked: AsyncAnthropic | None = None
        self._is_own = False
        if client is not None:
            _check(client)

    def _client(self) -> AsyncAnthropic:
        if self._asked is None:
            from .streaming import telling

            client, self._is_own = _of_this_loop(self._given)
            self._asked = client.with_middleware(telling)
        return self._asked

    @override
    async def close(self) -> None:
        asked, self._asked = self._asked, None
        if asked is not None and self._is_own:
            await asked.close()

    @override
    async def ask(self, request: Mapping[str, Any]) -> bytes:
        if request.get("stream"):
            raise AgentError("a reply is recorded as a whole; leave 'stream' out of the request")
        from .streaming import whole

        messages = self._client().messages
        # What the SDK does not know by name is sent as it is: the request is the API's body.
        known = inspect.signature(messages.create).parameters
        body = _sendable(body_of(request))
        named = {key: value for key, value in body.items() if key in known}
        rest = {key: value for key, value in body.items() if key not in known}
        with asking():
            # As a stream, since the SDK refuses to wait for a reply that may be long.
            return await whole(
                request,
                lambda: messages.with_raw_response.create(
                    **named, stream=True, extra_body=rest or None
                ),
                retries=self._client().max_retries,
            )

    @override
    def head(
        self,
        *,
        model: str,
        system: str | None,
        tools: Sequence[Any],
        max_tokens: int,
        params: Mapping[str, Any],
    ) -> dict[str, Any]:
        offered = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.schema}
            for tool in tools
        ]
        return self.as_sent(
            {
                "model": model,
                "max_tokens": max_tokens,
                **({"system": system} if system else {}),
                **({"tools": offered} if offered else {}),
                **params,
            }
        )

    @override
    def as_sent(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if self._given is None and (default := default_base_url()) is not None:
            return as_sent(request, headers={}, query={}, base_url=default)
        client = self._given or self._client()
        return as_sent(
            request,
            headers=client.default_headers,
            query=client.default_query,
            base_url=client.base_url,
        )

    @override
    def opening(self, texts: Sequence[str]) -> Any:
        return {"role": "user", "content": [{"type": "text", "text": text} for text in texts]}

    @override
    def turn(self, reply: Any, results: Sequence[CallResult]) -> list[Any]:
        messages = [{"role": "assistant", "content": reply["content"]}]
        if results:
            messages.append({"role": "user", "content": [_result(result) for result in results]})
        return messages

    @override
    def text(self, reply: Any) -> str:
        return "".join(block["text"] for block in reply["content"] if block["type"] == "text")


def _of_this_loop(client: AsyncAnthropic | None) -> tuple[AsyncAnthropic, bool]:
    """``client`` with connections of its own, because the SDK's are of one event loop; and whether
    they are its own.

    A client declared in a module would otherwise fail in every second ``asyncio.run``. An HTTP
    client that the program brought is used as it is.
    """
    from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient

    if client is None:
        return AsyncAnthropic(), True
    if type(getattr(client, "_client", None)).__name__ != "AsyncHttpxClientWrapper":
        return client, False
    http_client = DefaultAsyncHttpxClient(base_url=client.base_url, timeout=client.timeout)
    return client.with_options(http_client=http_client), True


def _check(client: object) -> None:
    from anthropic.resources import AsyncMessages

    if not isinstance(getattr(client, "messages", None), AsyncMessages):
        raise AgentError(
            "agents ask through AsyncAnthropic, or the asynchronous client of a platform, not"
            f" {type(client).__qualname__}; the sync face (engine.sync()) takes AsyncAnthropic too"
        )


def _sendable(body: dict[str, Any]) -> dict[str, Any]:
    """HTTP sends UTF-8, which has no half of a surrogate pair: it is spelled out."""
    if b"\\ud" not in encode(body):
        return body
    return cast(dict[str, Any], _spelled_out(body))


def _spelled_out(value: Any) -> Any:
    match value:
        case str():
            return as_text(value)
        case Mapping():
            return {_spelled_out(key): _spelled_out(item) for key, item in value.items()}
        case list() | tuple():
            return [_spelled_out(item) for item in value]
    return value


def _result(result: CallResult) -> Any:
    """A tool_result block: text as it is, everything else as JSON."""
    output = decode(result.output)
    return {
        "type": "tool_result",
        "tool_use_id": result.call.id,
        "content": output if isinstance(output, str) else result.output.decode(),
        **({"is_error": True} if result.error else {}),
    }
