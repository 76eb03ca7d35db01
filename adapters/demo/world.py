"""The small company the demo works for: a registry, access rules, a target, and a machine.

All of it is real and in one folder: the registry is an SQLite database, rules and targets are
JSON files, services are processes that answer over HTTP. ``document(uri)`` reads what a resource
is now; the methods after it are what the agent's tools do.
"""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pydantic import BaseModel

from .machine import Machine

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Access", "Deployment", "Effects", "Health", "Release", "Service", "World"]

SERVICE = "checkout"
_PRINCIPAL = "release-bot"
_RESOURCES: dict[str, dict[str, Any]] = {
    "acl:prod/deploy": {
        "action": "deploy",
        "environment": "prod",
        "allow": [_PRINCIPAL, "on-call"],
    },
    "acl:staging/deploy": {"action": "deploy", "environment": "staging", "allow": ["on-call"]},
    "target:eu-west-1": {"region": "eu-west-1", "state": "open", "replicas": 1},
}


class Service(BaseModel):
    """What the registry knows of a service."""

    name: str
    owner: str
    runtime: str


class Access(BaseModel):
    """What an access rule says."""

    allowed: bool
    reason: str


class Release(BaseModel):
    """A built release, and the digest of its files."""

    version: str
    digest: str


class Deployment(BaseModel):
    """What runs where."""

    version: str
    target: str
    state: str


class Health(BaseModel):
    """What a service says of itself over HTTP."""

    service: str
    version: str
    status: str


class Effects(NamedTuple):
    """What happened to the outside: releases built, service processes started."""

    builds: int
    starts: int

    @property
    def total(self) -> int:
        """Both together."""
        return self.builds + self.starts

    def since(self, earlier: Effects) -> Effects:
        """What happened after `earlier`."""
        return Effects(self.builds - earlier.builds, self.starts - earlier.starts)


class World:
    """As a context manager: makes its folder, and leaves neither it nor a process behind."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="execgraph-demo-"))
        self._registry = self.root / "registry.db"
        self._machine = Machine(self.root / "machine")
        self._busy = 0
        self._busy_since = 0.0
        self._worked = 0.0
        self._lock = threading.Lock()
        with self._rows() as registry:
            registry.execute(
                "CREATE TABLE services (name TEXT PRIMARY KEY, owner TEXT, runtime TEXT, port INT)"
            )
            registry.execute(
                "INSERT INTO services VALUES (?, ?, ?, ?)",
                (SERVICE, "payments", "python3", _free_port()),
            )
        for uri, document in _RESOURCES.items():
            self._write(uri, document)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._machine.close()
        shutil.rmtree(self.root, ignore_errors=True)

    @property
    def effects(self) -> Effects:
        """What happened so far, counted where it happened."""
        return Effects(self._machine.builds, self._machine.starts)

    @property
    def worked_ms(self) -> float:
        """For how long, so far, at least one tool was at work."""
        with self._lock:
            return self._worked * 1000

    # What is watched, and how it changes

    @property
    def resources(self) -> tuple[str, ...]:
        """The URIs of all that somebody may rest on."""
        return ("schema:services", *_RESOURCES)

    def document(self, uri: str) -> dict[str, Any]:
        """What a resource is now: a file's content, or the registry's columns."""
        if uri in _RESOURCES:
            document: dict[str, Any] = json.loads(self._path(uri).read_text())
            return document
        with self._rows() as registry:
            columns = registry.execute("PRAGMA table_info(services)").fetchall()
        return {
            "table": "services",
            "columns": {it["name"]: {"type": it["type"]} for it in columns},
        }

    def tighten(self) -> None:
        """From now on only people on call deploy to production."""
        self._write("acl:prod/deploy", _RESOURCES["acl:prod/deploy"] | {"allow": ["on-call"]})

    def revert(self) -> None:
        """Everyone may again what they could."""
        self._write("acl:prod/deploy", _RESOURCES["acl:prod/deploy"])

    def change_something_else(self) -> None:
        """The registry gets a column, and more people may deploy to staging."""
        with self._rows() as registry:
            registry.execute("ALTER TABLE services ADD COLUMN pager TEXT")
        wider = {"allow": ["on-call", _PRINCIPAL]}
        self._write("acl:staging/deploy", _RESOURCES["acl:staging/deploy"] | wider)

    # What the tools do

    def lookup(self, service: str) -> Service:
        """Raises ValueError for a service that is not in the registry."""
        with self._at_work():
            row = self._row(service)
            return Service(name=row["name"], owner=row["owner"], runtime=row["runtime"])

    def access(self, rule: str) -> Access:
        """Whether the rule on disk lets this agent act. Who asks is not the model's to say."""
        with self._at_work():
            if f"acl:{rule}" not in _RESOURCES:
                raise ValueError(f"there is no access rule {rule!r}")
            allow = self.document(f"acl:{rule}")["allow"]
            allowed = _PRINCIPAL in allow
            reason = f"{_PRINCIPAL} is {'' if allowed else 'not '}among {', '.join(allow)}"
            return Access(allowed=allowed, reason=reason)

    def build(self, service: str, version: str, key: str) -> Release:
        """Write the release's files."""
        with self._at_work():
            digest = self._machine.build(service, version, self._row(service)["runtime"], key)
            return Release(version=version, digest=digest)

    def deploy(self, service: str, version: str, target: str, key: str) -> Deployment:
        """Switch the service to the release and restart it. Raises ValueError if that cannot be."""
        with self._at_work():
            if f"target:{target}" not in _RESOURCES:
                raise ValueError(f"there is no target {target!r}")
            self._machine.deploy(service, version, self._row(service)["port"], key)
            return Deployment(version=version, target=target, state="running")

    def health(self, service: str) -> Health:
        """Ask the running service. Raises OSError if none answers."""
        with self._at_work():
            return Health.model_validate(self._machine.health(self._row(service)["port"]))

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        with self._lock:
            self._busy += 1
            if self._busy == 1:
                self._busy_since = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1
                if self._busy == 0:
                    self._worked += time.perf_counter() - self._busy_since

    def _row(self, service: str) -> sqlite3.Row:
        with self._rows() as registry:
            found = registry.execute("SELECT * FROM services WHERE name = ?", (service,))
            row: sqlite3.Row | None = found.fetchone()
        if row is None:
            raise ValueError(f"there is no service {service!r} in the registry")
        return row

    @contextmanager
    def _rows(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._registry)) as connection, connection:
            connection.row_factory = sqlite3.Row
            yield connection

    def _path(self, uri: str) -> Path:
        kind, _, name = uri.partition(":")
        return self.root / "config" / kind / f"{name}.json"

    def _write(self, uri: str, document: dict[str, Any]) -> None:
        path = self._path(uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=2))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
