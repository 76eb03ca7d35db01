"""Cypher on the server: read-only, by its own planner's word, and bounded in time and rows."""

from __future__ import annotations

import asyncio
import base64
import re
from typing import TYPE_CHECKING, Any

from ..cypher import (
    WOULD_WRITE,
    Table,
    bound,
    check_first_word,
    node,
    path,
    relationship,
    timed_out,
)
from ..errors import CypherFailed, CypherRefused, ExecgraphError
from .trouble import raised

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import timedelta

    from neo4j import AsyncResult

    from .client import Client

__all__ = ["Cypher"]

_READS = "r"
#: Reading procedures may still reach files, addresses and other databases; these do not.
_PACKAGES = ("db.", "apoc.algo.", "apoc.meta.", "apoc.neighbors.", "apoc.path.")
_GRACE = 2.0  # seconds after which a query that the server did not stop is given up
_EXPLAIN = "EXPLAIN\n"  # so that only lines of messages are moved, and no columns
_PLACE = re.compile(r"\s*\(line (\d+), column (\d+) \(offset: \d+\)\).*", re.DOTALL)
_OUT_OF_MEMORY = "OutOfMemory"
_TIMED_OUT = ("TransactionTimedOut", "TransactionTimedOutClientConfiguration")
#: Operators of a plan that does not read the graph, or more than it.
_NO_READING = ("AdministrationCommand", "LoadCSV", "Show", "Terminate")
_MODES = "SHOW PROCEDURES YIELD name, mode"
_OF_A_QUERY = ("Neo.ClientError.Statement.", "Neo.ClientError.Procedure.")
_BEFORE_IT_RUNS = (
    "Neo.ClientError.Statement.SyntaxError",
    "Neo.ClientError.Statement.SemanticError",
    "Neo.ClientError.Statement.ParameterMissing",
    "Neo.ClientError.Statement.AccessMode",
    "Neo.ClientError.Statement.UnsupportedAdministrationCommand",
    "Neo.ClientError.Statement.NotSystemDatabaseError",
    "Neo.ClientError.Procedure.ProcedureNotFound",
)


class Cypher:
    """Answers queries by ``client``. ``url`` holds no credentials."""

    def __init__(self, client: Client, url: str) -> None:
        self._client = client
        self._url = url
        self._modes: Mapping[str, str] = {}

    async def ask(
        self,
        query: str,
        parameters: Mapping[str, Any],
        *,
        time_limit: timedelta,
        limit: int,
    ) -> Table:
        """As ``GraphStore.cypher``."""
        values = bound(self._client.namespace, parameters)
        check_first_word(query)
        seconds = time_limit.total_seconds()
        try:
            await self._check(query, values, seconds)
            async with asyncio.timeout(seconds + _GRACE):
                return await self._client.read(query, values, seconds, _taking(limit))
        except ExecgraphError:
            raise
        except TimeoutError:
            raise timed_out(seconds) from None
        except Exception as error:
            raise self._raised(error, seconds) from error

    async def _check(self, query: str, parameters: Mapping[str, Any], seconds: float) -> None:
        async def plan(result: AsyncResult) -> tuple[str | None, Any]:
            summary = await result.consume()
            return summary.query_type, summary.plan

        kind, planned = await self._client.read(_EXPLAIN + query, parameters, seconds, plan)
        for operator in _operators(planned or {}):
            await self._check_operator(operator, seconds)
        if kind != _READS:
            raise CypherRefused(WOULD_WRITE)

    async def _check_operator(self, operator: Mapping[str, Any], seconds: float) -> None:
        kind = operator["operatorType"].partition("@")[0]
        if kind.startswith(_NO_READING):
            raise CypherRefused(f"{kind} does not ask the graph for anything")
        if kind != "ProcedureCall":
            return
        name = str(operator["args"].get("Details", "")).partition("(")[0].strip()
        if name not in self._modes:
            self._modes = await self._client.read(_MODES, {}, seconds, _pairs)
        if self._modes.get(name) != "READ" or not name.startswith(_PACKAGES):
            raise CypherRefused(
                f"the procedure {name} may do more than read this graph; to be called are those"
                f" which read, of {', '.join(package + '*' for package in _PACKAGES)}"
            )

    def _raised(self, error: Exception, seconds: float) -> Exception:
        from neo4j.exceptions import ClientError, Neo4jError

        code = (error.code or "") if isinstance(error, Neo4jError) else ""
        if code.endswith(_TIMED_OUT):
            return timed_out(seconds)
        if _OUT_OF_MEMORY in code:
            return CypherFailed(f"the query takes more memory than the server gives it ({code})")
        if not isinstance(error, ClientError) or not code.startswith(_OF_A_QUERY):
            return raised(error, self._url)
        message = _message(error.message or code)
        if code.startswith(_BEFORE_IT_RUNS):
            return CypherRefused(message)
        return CypherFailed(f"the query failed: {message}")


def _message(message: str) -> str:
    """The server's message in one line, led by where in the query it points."""
    place = _PLACE.search(message)
    if place is None:
        return " ".join(message.split())
    problem = " ".join(message[: place.start()].split())
    line = int(place[1]) - _EXPLAIN.count("\n")
    return problem if line < 1 else f"line {line}, column {place[2]}: {problem}"


def _operators(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if plan:
        yield plan
        for child in plan.get("children", ()):
            yield from _operators(child)


async def _pairs(result: AsyncResult) -> dict[str, str]:
    return {name: mode for name, mode in await result.values()}  # noqa: C416


def _taking(limit: int) -> Any:
    """Takes that many rows from a result, and one more to know whether there are more."""

    async def take(result: AsyncResult) -> Table:
        columns = tuple(result.keys())
        records = await result.fetch(limit + 1)
        rows = [tuple(_plain(value) for value in record.values()) for record in records[:limit]]
        return Table(columns, tuple(rows), len(records) > limit)

    return take


# Values -----------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """What the driver gives as a JSON value."""
    if value is None or isinstance(value, bool | int | float | str):
        return _number(value)
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return _map(value)
    return _list(value) if isinstance(value, list) else _entity(value)


def _entity(value: Any) -> Any:
    from neo4j.graph import Node, Path, Relationship

    match value:
        case Node():
            return node(sorted(value.labels), _map(value))
        case Relationship():
            return relationship(value.type, _map(value))
        case Path():
            return path(_list(value.nodes), _list(value.relationships))
    return _other(value)


def _number(value: Any) -> Any:
    """Numbers that JSON does not know are null."""
    return None if isinstance(value, float) and value - value != 0 else value


def _map(value: Any) -> dict[str, Any]:
    return {str(name): _plain(item) for name, item in value.items()}


def _list(value: Sequence[Any]) -> list[Any]:
    return [_plain(item) for item in value]


def _other(value: Any) -> Any:
    from neo4j.spatial import Point

    if isinstance(value, Point):
        return {"srid": value.srid, "coordinates": list(value)}
    if hasattr(value, "to_native") and getattr(value, "nanosecond", 1) % 1000 == 0:
        return value.to_native().isoformat()
    return value.iso_format() if hasattr(value, "iso_format") else str(value)
