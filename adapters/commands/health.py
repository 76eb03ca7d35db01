"""GET /health of a service, beside what it does."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import typer

from ..extras import require_server

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["Address", "address", "serving"]

Address = tuple[str, int]
_LOOPBACK = "127.0.0.1"
_STOP_SECONDS = 1


def address(text: str) -> Address:
    """``8080``, ``0.0.0.0:8080`` or ``[::]:8080``; without a host, only this machine may ask."""
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535 or (":" in text and not host):
        raise typer.BadParameter(
            f"{text!r} is no port and no host:port, as 8080 or 0.0.0.0:8080", param_hint="--health"
        )
    return host.strip("[]") or _LOOPBACK, int(port)


@asynccontextmanager
async def serving(
    at: Address, health: Callable[[], Awaitable[tuple[bool, Mapping[str, Any]]]]
) -> AsyncIterator[str]:
    """Answer GET /health with 200 or 503 while this is entered. The URL, with the real port.

    Raises OSError if nothing can be served there, and ConfigurationError without the extra
    ``server``.
    """
    require_server("--health")
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield  # signals are for the service, of which this is a small part

    async def answer(_: Request) -> Response:
        well, document = await health()
        return JSONResponse(dict(document), 200 if well else 503)

    host, port = at
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        config = uvicorn.Config(
            Starlette(routes=[Route("/health", answer)]),
            lifespan="off",
            ws="none",
            log_config=None,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=_STOP_SECONDS,
        )
        server = Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        shown = f"[{host}]" if ":" in host else host
        try:
            yield f"http://{shown}:{listener.getsockname()[1]}/health"
        finally:
            server.should_exit = True
            await task
