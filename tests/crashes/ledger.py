"""An external ledger: a small HTTP service over SQLite that does what it is told, and counts.

``POST /do`` does a thing for a wish. With a ``key`` it does it once per key, as services do that
take idempotency keys; without one it does it each time. ``GET /did`` says whether it was done.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

__all__ = ["Ledger", "ledger"]


class Ledger:
    """What was done. ``url``: where the service is."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute("CREATE TABLE done (wish TEXT, what TEXT, key TEXT)")
        self._db.execute("CREATE UNIQUE INDEX by_key ON done (key) WHERE key IS NOT NULL")
        self._db.execute("CREATE TABLE call (wish TEXT, what TEXT, key TEXT)")
        self._lock = threading.Lock()
        self.url = ""

    def do(self, wish: str, what: str, key: str | None) -> int:
        """Do it, and give its number; of what was done under this key, the number of that."""
        with self._lock:
            self._db.execute("INSERT INTO call VALUES (?, ?, ?)", (wish, what, key))
            self._db.execute("INSERT OR IGNORE INTO done VALUES (?, ?, ?)", (wish, what, key))
            found = self._db.execute(
                "SELECT max(rowid) FROM done WHERE what = ? AND wish = ? AND key IS ?",
                (what, wish, key),
            )
            return int(found.fetchone()[0])

    def did(self, wish: str, what: str) -> int | None:
        """The number of what was done; None if it was not."""
        with self._lock:
            found = self._db.execute(
                "SELECT max(rowid) FROM done WHERE wish = ? AND what = ?", (wish, what)
            )
            number = found.fetchone()[0]
            return None if number is None else int(number)

    def times(self, wish: str) -> dict[str, int]:
        """How often each thing was done for a wish."""
        with self._lock:
            found = self._db.execute(
                "SELECT what, count(*) FROM done WHERE wish = ? GROUP BY what", (wish,)
            )
            return dict(found.fetchall())

    def calls(self, wish: str) -> int:
        """How often the service was called for a wish."""
        with self._lock:
            found = self._db.execute("SELECT count(*) FROM call WHERE wish = ?", (wish,))
            return int(found.fetchone()[0])


@contextmanager
def ledger(folder: Path) -> Iterator[Ledger]:
    """A ledger whose service is up."""
    kept = Ledger(folder / "ledger.db")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self._answer(kept.do(told["wish"], told["what"], told["key"]))

        def do_GET(self) -> None:
            asked = {key: it[0] for key, it in parse_qs(urlsplit(self.path).query).items()}
            self._answer(kept.did(asked["wish"], asked["what"]))

        def _answer(self, it: Any) -> None:
            body = json.dumps(it).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Who asked was killed."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    kept.url = f"http://127.0.0.1:{server.server_port}"
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()
        serving.join()
