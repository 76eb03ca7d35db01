"""The small company the demo works for: a registry, its configuration, and a machine.

All of it is real and in one folder: the registry is an SQLite database, services are processes
that answer over HTTP, and what may change are JSON files below ``config``, which are watched:
access rules, a target, a business rule, and the registry's schema, as its last migration left it.
"""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pydantic import BaseModel

from .machine import Machine

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Access", "Call", "Deployment", "Effects", "Health", "Release", "Service", "World"]

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
    "rule:change-freeze": {"frozen": False, "from": "12-24", "until": "01-02"},
}
_COLUMNS = {"name": "TEXT", "owner": "TEXT", "runtime": "TEXT", "port": "INT"}


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


class Call(NamedTuple):
    """What a tool was called for."""

    tool: str
    arguments: Mapping[str, str]


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
        self._calls: list[Call] = []
        with self._rows() as registry:
            registry.execute(_table("services", _COLUMNS))
            registry.execute(
                "INSERT INTO services VALUES (?, ?, ?, ?)",
                (SERVICE, "payments", "python3", _free_port()),
            )
        self._export_schema()
        for uri, document in _RESOURCES.items():
            self.write(uri, document)

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

    @property
    def calls(self) -> Sequence[Call]:
        """What the tools were called for so far."""
        return tuple(self._calls)

    # What is watched, and how it changes

    @property
    def config(self) -> Path:
        """The folder that is watched: a folder for each kind of resource."""
        return self.root / "config"

    def document(self, uri: str) -> dict[str, Any]:
        """What a resource's file says now."""
        document: dict[str, Any] = json.loads(self._path(uri).read_text())
        return document

    def edited(self, uri: str, **members: Any) -> dict[str, Any]:
        """What a resource would be with these members changed. Writes nothing."""
        return self.document(uri) | members

    def write(self, uri: str, document: dict[str, Any]) -> None:
        """Replace a resource's file at once, as a deployment of configuration does."""
        path = self._path(uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(json.dumps(document, indent=2))
        fresh.replace(path)

    def migrate(self, **columns: str) -> None:
        """Give the registry's columns these types; those it does not have are added."""
        with self._rows() as registry:
            old = _columns(registry)
            registry.execute("ALTER TABLE services RENAME TO services_before")
            registry.execute(_table("services", old | columns))
            names = ", ".join(old)
            registry.execute(
                f"INSERT INTO services ({names}) SELECT {names} FROM services_before"  # noqa: S608
            )
            registry.execute("DROP TABLE services_before")
        self._export_schema()

    def _export_schema(self) -> None:
        with self._rows() as registry:
            columns = _columns(registry)
        document = {
            "table": "services",
            "columns": {name: {"type": kind} for name, kind in columns.items()},
        }
        self.write("schema:services", document)

    # What the tools do

    def lookup(self, service: str) -> Service:
        """Raises ValueError for a service that is not in the registry."""
        with self._at_work("lookup", service=service):
            row = self._row(service)
            return Service(name=row["name"], owner=row["owner"], runtime=row["runtime"])

    def access(self, rule: str) -> Access:
        """Whether the rule on disk lets this agent act. Who asks is not the model's to say."""
        with self._at_work("access", rule=rule):
            if f"acl:{rule}" not in _RESOURCES:
                raise ValueError(f"there is no access rule {rule!r}")
            allow = self.document(f"acl:{rule}")["allow"]
            allowed = _PRINCIPAL in allow
            reason = f"{_PRINCIPAL} is {'' if allowed else 'not '}among {', '.join(allow)}"
            return Access(allowed=allowed, reason=reason)

    def build(self, service: str, version: str, key: str) -> Release:
        """Write the release's files."""
        with self._at_work("build", service=service, version=version):
            digest = self._machine.build(service, version, self._row(service)["runtime"], key)
            return Release(version=version, digest=digest)

    def deploy(self, service: str, version: str, target: str, key: str) -> Deployment:
        """Switch the service to the release and restart it. Raises ValueError if that cannot be."""
        with self._at_work("deploy", service=service, version=version, target=target):
            if f"target:{target}" not in _RESOURCES:
                raise ValueError(f"there is no target {target!r}")
            self._machine.deploy(service, version, self._row(service)["port"], key)
            return Deployment(version=version, target=target, state="running")

    def health(self, service: str) -> Health:
        """Ask the running service. Raises OSError if none answers."""
        with self._at_work("health", service=service):
            return Health.model_validate(self._machine.health(self._row(service)["port"]))

    @contextmanager
    def _at_work(self, tool: str, **arguments: str) -> Iterator[None]:
        with self._lock:
            self._calls.append(Call(tool, arguments))
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
            rows = registry.execute("SELECT * FROM services WHERE name = ?", (service,))
            row: sqlite3.Row | None = rows.fetchone()
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
        return self.config / kind / f"{name}.json"


def _table(name: str, columns: Mapping[str, str]) -> str:
    listed = ", ".join(f"{column} {kind}" for column, kind in columns.items())
    return f"CREATE TABLE {name} ({listed})"


def _columns(registry: sqlite3.Connection) -> dict[str, str]:
    return {it["name"]: it["type"] for it in registry.execute("PRAGMA table_info(services)")}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
