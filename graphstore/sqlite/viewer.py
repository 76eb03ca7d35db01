"""The process that keeps a view and runs Cypher on it.

It is one of its own because a query may take all memory or a processor for minutes: it can be
stopped, and its end is not that of the program which asked. It reads requests from standard input
and answers on standard output, both as JSON documents, each after its length in 8 bytes.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from ..errors import CypherRefused
from .dialect import Rewritten, names_of, plain, renamed, rewritten
from .view import TooLarge, View

__all__ = ["main"]

_BETWEEN_TWO_REPORTS = 0.1  # seconds
_HEADROOM = 2 << 30  # bytes that a query may take beyond the view


class Viewer:
    """Answers one request after the other."""

    def __init__(self, path: str, answers: IO[bytes]) -> None:
        self._path = path
        self._answers = answers
        self._connection: sqlite3.Connection | None = None
        self._view: View | None = None
        self._reported = 0.0

    def answer(self, request: Mapping[str, Any]) -> None:
        """Answer with a table or an error; before it, with how loading goes on."""
        try:
            view = self._fresh(request["most"])
            query = rewritten(request["query"], view.relationships)
            self._send({"running": True})
            answer = self._run(view, query, request)
        except CypherRefused as refused:
            answer = {"error": "refused", "message": str(refused)}
        except TooLarge as large:
            answer = {"error": "large", "message": str(large.steps)}
        except sqlite3.Error as error:
            answer = {"error": "store", "message": str(error)}
        self._send(answer)

    def _fresh(self, most: int) -> View:
        if self._connection is None:
            self._connection = sqlite3.connect(
                f"{Path(self._path).as_uri()}?mode=rw", uri=True, isolation_level=None
            )
            self._connection.execute("PRAGMA query_only = ON")
        if self._view is None or not self._view.fresh():
            self._view = None  # two of them at once would take twice the memory
            _limit_memory(None)
            self._view = View(self._connection, most, self._report)
            _limit_memory(_HEADROOM)
        return self._view

    def _report(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._reported > _BETWEEN_TWO_REPORTS or done == total:
            self._reported = now
            self._send({"done": done, "total": total})

    def _run(self, view: View, query: Rewritten, request: Mapping[str, Any]) -> dict[str, Any]:
        import kglite

        limit = request["limit"]
        try:
            found = view.graph.cypher(
                query.text,
                params=renamed(request["parameters"]),
                timeout_ms=max(1, int(request["timeout"] * 1000)),
                row_limit=limit + 1,
            )
        except kglite.KgError as error:
            return _error(error, query)
        if not found.columns:
            raise CypherRefused("the query asks for nothing; end it with RETURN")
        columns = list(query.columns or ())
        if len(columns) != len(found.columns):
            columns = list(names_of(found.columns))
        rows = [[plain(row[name]) for name in found.columns] for row in found]
        return {"columns": columns, "rows": rows[:limit], "truncated": len(rows) > limit}

    def _send(self, answer: Mapping[str, Any]) -> None:
        data = json.dumps(answer, ensure_ascii=False).encode(errors="surrogatepass")
        self._answers.write(len(data).to_bytes(8, "big") + data)
        self._answers.flush()


def _error(error: Exception, query: Rewritten) -> dict[str, Any]:
    import kglite

    message = query.readable(str(error).split("\n", 1)[0])
    if isinstance(error, kglite.CypherTimeoutError):
        return {"error": "timeout", "message": message}
    if isinstance(error, kglite.ReadOnlyError):
        return {"error": "refused", "message": "the query would write, and Cypher only reads here"}
    place = None
    if isinstance(error, kglite.CypherSyntaxError):
        line, column = error.line, error.col
        place = query.place(line, column) if line and column else None
        message = message.partition(": ")[2] or message
    failed = isinstance(error, kglite.CypherExecutionError) and not any(
        sign in message for sign in ("Unknown function", "Missing parameter")
    )
    message = message.removeprefix("Cypher execution error: ").removeprefix("Schema error: ")
    return {"error": "failed" if failed else "refused", "message": message, "place": place}


def _limit_memory(headroom: int | None) -> None:
    """Let the process take this much more memory than it has now, where the system can tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = most
    if headroom is not None:
        (taken,) = [line for line in status.read_text().splitlines() if line.startswith("VmData")]
        limit = int(taken.split()[1]) * 1024 + headroom
        if most != resource.RLIM_INFINITY:
            limit = min(limit, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


def main(path: str) -> None:
    """Answer until standard input ends."""
    import kglite

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asked
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    kglite.set_query_warning_policy("silent")
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    viewer = Viewer(path, answers)
    while len(size := requests.read(8)) == 8:
        viewer.answer(json.loads(requests.read(int.from_bytes(size, "big"))))
