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

from .. import errors
from ..cypher import Progress, Table, bound, timed_out
from .cypher_dialect import rewritten

__all__ = ["Cypher"]

#: Beyond this many steps a store is no longer asked by a view in memory.
_MOST_STEPS = 2_000_000
_VARIABLE = "EXECGRAPH_VIEW_STEPS"
_GRACE = 2.0  # seconds after which a query that did not stop by itself is stopped


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
            raise getattr(errors, answer["error"])(answer["message"])
        rows = tuple(tuple(row) for row in answer["rows"])
        return Table(tuple(answer["columns"]), rows, answer["truncated"])

    async def close(self) -> None:
        """Let go of the view."""
        async with self._asking:
            await self._stop()

    async def _answer(self, request: Mapping[str, Any], progress: Progress | None) -> Any:
        process = await self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        lines = process.stdout
        seconds = request["timeout"]
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            await process.stdin.drain()
            while "done" in (answer := json.loads(await lines.readuntil())):
                if progress is not None:
                    progress(answer["done"], answer["total"])
            if "running" in answer:
                async with asyncio.timeout(seconds + _GRACE):
                    answer = json.loads(await lines.readuntil())
        except TimeoutError:
            raise timed_out(seconds) from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise errors.CypherFailed(
                "the process that ran the query ended; such a query takes more memory than it may"
            ) from None
        return answer

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            if not sys.executable:
                raise errors.StoreError(
                    "Cypher on SQLite runs in a Python process of its own, and no"
                    " Python is known here (sys.executable is empty)"
                )
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # what lies in the working folder is data, and no module
                "-m",
                f"{__package__}.viewer",
                self._path,
                env={**os.environ, "PYTHONPATH": _module_folders()},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                limit=sys.maxsize,  # bytes of a line: an answer is one
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


def _module_folders() -> str:
    """Where this process finds modules, apart from whatever is the working folder."""
    return os.pathsep.join(it for it in sys.path if os.path.isabs(it))  # noqa: PTH117


def _most_steps() -> int:
    value = os.environ.get(_VARIABLE, "")
    if value and not value.isdecimal():
        raise errors.ConfigurationError(f"{_VARIABLE}={value!r} is no number of steps")
    return int(value or _MOST_STEPS)
