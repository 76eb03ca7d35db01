"""Cypher on the embedded store: asked of a process that keeps a view of the graph."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

from ..cypher import bound, where
from ..errors import (
    ConfigurationError,
    CypherFailed,
    CypherRefused,
    CypherTimeout,
    StoreError,
    StoreUnavailable,
)
from ..store import Progress, Table
from .dialect import rewritten

__all__ = ["Cypher"]

#: Beyond this many steps a store is no longer asked by a view in memory.
_MOST_STEPS = 2_000_000
_VARIABLE = "EXECGRAPH_VIEW_STEPS"
_GRACE = 2.0  # seconds after which a query that did not stop by itself is stopped
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    " from execgraph.graphstore.sqlite.viewer import main; main(sys.argv[2])"
)


class Cypher:
    """Answers queries on the store at ``path``, one after the other. Nothing is loaded before
    the first."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._process: asyncio.subprocess.Process | None = None
        self._asking = asyncio.Lock()
        self._of = ""  # the incarnation that the view is of

    async def ask(
        self,
        namespace: str,
        query: str,
        parameters: Mapping[str, Any],
        *,
        of: str,
        time_limit: timedelta,
        limit: int,
        progress: Progress | None,
    ) -> Table:
        """As ``GraphStore.cypher``; ``of``: the incarnation of the store that is asked."""
        request = {
            "query": query,
            "parameters": bound(namespace, parameters),
            "timeout": time_limit.total_seconds(),
            "limit": limit,
            "most": _most_steps(),
        }
        rewritten(query, 1)  # what is refused anyway must not wait for a view
        async with self._asking:
            try:
                if of != self._of:
                    await self._stop()
                    self._of = of
                answer = await self._answer(request, progress)
            except BaseException:
                await self._stop()  # what it would say now answers nobody
                raise
        if "error" in answer:
            raise _error(answer, query, time_limit)
        rows = tuple(tuple(row) for row in answer["rows"])
        return Table(tuple(answer["columns"]), rows, answer["truncated"])

    async def close(self) -> None:
        """Let go of the view."""
        async with self._asking:
            await self._stop()

    async def _answer(self, request: Mapping[str, Any], progress: Progress | None) -> Any:
        process = await self._started()
        assert process.stdin is not None
        try:
            data = json.dumps(request).encode()
            process.stdin.write(len(data).to_bytes(8, "big") + data)
            await process.stdin.drain()
            while "done" in (answer := await self._read(process)):
                if progress is not None:
                    progress(answer["done"], answer["total"])
            if "running" not in answer:
                return answer
            return await asyncio.wait_for(self._read(process), request["timeout"] + _GRACE)
        except TimeoutError:
            await self._stop()
            return {"error": "timeout"}
        except (asyncio.IncompleteReadError, ConnectionError):
            await self._stop()
            return {"error": "ended"}

    @staticmethod
    async def _read(process: asyncio.subprocess.Process) -> Any:
        assert process.stdout is not None
        size = int.from_bytes(await process.stdout.readexactly(8), "big")
        return json.loads((await process.stdout.readexactly(size)).decode(errors="surrogatepass"))

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            if not sys.executable:
                raise StoreError(
                    "Cypher on SQLite runs in a Python process of its own, and no"
                    " Python is known here (sys.executable is empty)"
                )
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # what lies in the working folder is data, and no module
                "-c",
                _START,
                json.dumps(_module_folders()),
                self._path,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        return self._process

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            # Popen.kill would look whether it has ended, and so take that from the event loop.
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        await process.wait()
        # Only this lets go of its pipes at once, and before the event loop ends.
        process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001


def _module_folders() -> list[str]:
    """Where this process finds modules, apart from whatever is the working folder: a file there
    that is called as a module must not be run."""
    return [folder for folder in sys.path if os.path.isabs(folder)]  # noqa: PTH117


def _most_steps() -> int:
    given = os.environ.get(_VARIABLE, "")
    if given and not given.isdecimal():
        raise ConfigurationError(f"{_VARIABLE}={given!r} is no number of steps")
    return int(given or _MOST_STEPS)


def _error(answer: Mapping[str, Any], query: str, time_limit: timedelta) -> Exception:
    message = answer.get("message", "")
    match answer["error"]:
        case "refused":
            at = answer.get("place")
            return CypherRefused(message if at is None else f"{where(query, at)}: {message}")
        case "timeout":
            return CypherTimeout(
                f"the query was stopped after {time_limit.total_seconds():g} seconds; begin it at"
                " fewer nodes, bound its paths, or allow it more time"
            )
        case "failed":
            return CypherFailed(f"the query failed: {message}")
        case "large":
            return CypherRefused(
                f"the store has {message} steps, and Cypher on SQLite is answered from memory up"
                f" to {_most_steps()}; keep the graph in Neo4j, or raise {_VARIABLE} if there is"
                " memory for it (about 2 KB for each step)"
            )
        case "store":
            return StoreUnavailable(f"the store cannot be read for a view of it: {message}")
    return CypherFailed(
        "the process that ran the query ended; such a query takes more memory than it may"
    )
