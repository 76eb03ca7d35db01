"""The process that keeps a view and runs Cypher on it.

It is one of its own because a query may take all memory or a processor for minutes: it can be
stopped, and its end is not that of the program which asked. It reads requests from standard input
and answers on standard output, each a line of JSON.
"""

from __future__ import annotations

import json
import re
import resource
import signal
import sqlite3
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..cypher import WOULD_WRITE, timed_out, where
from ..errors import CypherFailed, CypherRefused, ExecgraphError, StoreUnavailable
from .cypher_dialect import Rewritten, named, plain, renamed, rewritten
from .view import View

__all__ = ["main"]

_BETWEEN_TWO_REPORTS = 0.1  # seconds
_HEADROOM = 2 << 30  # bytes that a query may take beyond the view
_SIZES = Path("/proc/self/statm")  # in pages; the sixth is what data and stacks take
#: What the library says first: of which kind an error is, and where.
_KIND = re.compile(r"^(?:Cypher \w+ error[^:]*|Schema error): ")
#: What it finds out only when it runs a query, and is wrong with it all the same.
_NO_QUERY = ("Unknown function", "Missing parameter")


class Viewer:
    """Answers one request after the other, on the view of the store at ``path``."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._view: View | None = None
        self._reported = 0.0

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A table. Tells how loading goes on, and when the query begins. Raises what
        ``GraphStore.cypher`` raises."""
        try:
            view = self._fresh(request["most"])
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the store cannot be read for a view of it: {error}") from error
        query = rewritten(request["query"], view.relationships)
        _send({"running": True})
        return _run(view, query, request)

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
            _send({"done": done, "total": total})


def _run(view: View, query: Rewritten, request: Mapping[str, Any]) -> dict[str, Any]:
    import kglite

    limit, timeout = request["limit"], request["timeout"]
    try:
        found = view.graph.cypher(
            query.text,
            params={name: renamed(value) for name, value in request["parameters"].items()},
            timeout_ms=max(1, int(timeout * 1000)),
            row_limit=limit + 1,
        )
    except kglite.CypherTimeoutError:
        raise timed_out(timeout) from None
    except kglite.ReadOnlyError:
        raise CypherRefused(WOULD_WRITE) from None
    except kglite.KgError as error:
        raise _error(error, query, request["query"]) from error
    if not found.columns:
        raise CypherRefused("the query asks for nothing; end it with RETURN")
    columns = [query.column(name) for name in found.columns]
    rows = [[plain(row[name]) for name in found.columns] for row in found]
    return {"columns": columns, "rows": rows[:limit], "truncated": len(rows) > limit}


def _error(error: Exception, query: Rewritten, asked: str) -> ExecgraphError:
    import kglite

    message = _KIND.sub("", named(str(error).split("\n", 1)[0]))
    if isinstance(error, kglite.CypherSyntaxError) and error.line and error.col:
        return CypherRefused(f"{where(asked, query.place(error.line, error.col))}: {message}")
    if isinstance(error, kglite.CypherExecutionError) and not message.startswith(_NO_QUERY):
        return CypherFailed(f"the query failed: {message}")
    return CypherRefused(message)


def _limit_memory(headroom: int | None) -> None:
    """Let the process take this much more memory than it has now, where the system can tell."""
    if not _SIZES.exists():
        return
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    taken = int(_SIZES.read_text().split()[5]) * resource.getpagesize()
    limit = most if headroom is None else taken + headroom
    resource.setrlimit(resource.RLIMIT_DATA, (limit if most < 0 else min(limit, most), most))


def _send(message: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def main(path: str) -> None:
    """Answer until standard input ends."""
    import kglite

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asked
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    kglite.set_query_warning_policy("silent")
    viewer = Viewer(path)
    for line in sys.stdin:
        try:
            _send(viewer.answer(json.loads(line)))
        except ExecgraphError as error:
            _send({"error": type(error).__name__, "message": str(error)})


if __name__ == "__main__":
    main(sys.argv[1])
