"""The Anthropic SDK: agents that ask through it, and middleware for frameworks on it."""

from __future__ import annotations

from typing import Any

from .client import AnthropicClient

__all__ = ["client_adapter"]


class _Adapter:
    """What the entry point ``anthropic`` of ``execgraph.clients`` names."""

    def __call__(self, client: Any) -> AnthropicClient:
        return AnthropicClient(client)

    def middleware(self, **settings: Any) -> Any:
        from .middleware import Middleware

        return Middleware(**settings)


client_adapter = _Adapter()
