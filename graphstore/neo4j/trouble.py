"""From the driver's exceptions to ours, and when it is worth trying again."""

from __future__ import annotations

import asyncio
import random
from enum import Enum, auto
from typing import TYPE_CHECKING

from ..errors import StoreAccessDenied, StoreError, StoreReplaced, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "ChangedMeanwhile",
    "Transient",
    "is_lost",
    "is_of_duplicates",
    "is_race",
    "may_be_repeated",
    "pauses",
    "raised",
    "retryable",
]

_LONGEST_PAUSE = 1.0  # seconds
_HOW_TO_START = (
    "cannot be reached. Is the server running, and is this its Bolt port? `scripts/neo4j start`"
    " in a checkout of execgraph starts one, and so does"
    " `docker run -p 7687:7687 -e NEO4J_AUTH=none neo4j:5`"
)
_WHO = (
    "refuses this user or password; give them in the URL, 'neo4j://user:password@host', or as auth="
)
_WHAT = "does not let this user do that; it must read, write, and create indexes and constraints"
_WRITABLE = (
    "connect to a database, and as a user, that may be written: its setting"
    " server.databases.read_only, and whether the driver's sessions are for reading, say which"
)
_READ_ONLY = frozenset(
    {
        "Neo.ClientError.General.WriteOnReadOnlyAccessDatabase",
        "Neo.ClientError.Statement.AccessMode",
    }
)
#: What the server's codes say more closely than the driver's classes.
_SAYS = {
    "Neo.ClientError.Database.DatabaseNotFound": (
        "has no such database; create it, or name another as the path of the URL"
    ),
    "Neo.ClientError.Statement.SyntaxError": "is too old: execgraph needs Neo4j 5.23 or newer",
}


class Transient(Enum):
    """The failures of a statement that are transient, so that it is tried again."""

    #: Also those that do not tell whether the statement took effect.
    UNKNOWN_OUTCOME = auto()
    #: Only those of which the server said that it rolled back, such as a deadlock.
    ROLLED_BACK = auto()


def is_race(error: Exception) -> bool:
    """Whether another transaction made the same node or index at once: it will be found now."""
    from neo4j.exceptions import ConstraintError, Neo4jError

    code = (error.code or "") if isinstance(error, Neo4jError) else ""
    return isinstance(error, ConstraintError) or code.endswith("AlreadyExists")


def is_lost(error: Exception) -> bool:
    """Whether the connection ended, so that another server may answer from now on."""
    from neo4j import exceptions as its

    return isinstance(error, its.ServiceUnavailable | its.SessionExpired)


def is_of_duplicates(error: BaseException | None) -> bool:
    """Whether a constraint cannot be made because nodes are there that break it."""
    return str(getattr(error, "code", "")).endswith("ConstraintCreationFailed")


def _vanished(error: Exception) -> bool:
    """Whether a node was deleted between being found and being used: a collection did that."""
    return str(getattr(error, "code", "")).endswith(".EntityNotFound")


class ChangedMeanwhile(Exception):
    """Something was changed while it was read: look again."""


def retryable(error: Exception, transient: Transient) -> bool:
    """Whether the statement that failed so may be run again."""
    from neo4j import exceptions as its

    if isinstance(error, its.TransientError) or is_race(error) or _vanished(error):
        return True
    return transient is Transient.UNKNOWN_OUTCOME and is_lost(error)


def may_be_repeated(error: StoreError, transient: Transient) -> bool:
    """Whether to try again what was not begun because the store could not be recognised."""
    away = isinstance(error, StoreUnavailable) and not isinstance(error, StoreReplaced)
    return transient is Transient.UNKNOWN_OUTCOME and away


def pauses(seconds: float, longest: float = _LONGEST_PAUSE) -> Iterator[float]:
    """How long to wait before each further try, for about ``seconds`` in all."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    limit = 0.01
    while loop.time() < end:
        yield random.uniform(0, limit)  # noqa: S311  # spreads the tries, guards no secret
        limit = min(limit * 2, longest)


def raised(error: Exception, url: str) -> StoreError:
    """What to raise for a driver's exception. ``url`` holds no credentials.

    The server's own words are left out: they may quote the values of parameters.
    """
    code = getattr(error, "code", None) or type(error).__name__
    if code in _READ_ONLY:
        return StoreAccessDenied(f"{url} takes no writes; {_WRITABLE} ({code})")
    for kinds, ours, says in _verdicts():
        if isinstance(error, kinds):
            return ours(f"{url} {_SAYS.get(code, says)} ({code})")
    return StoreError(f"{url} cannot be used: the driver failed ({code})")


def _verdicts() -> list[tuple[tuple[type[Exception], ...], type[StoreError], str]]:
    """What stands for which exceptions; the first that fits counts."""
    from neo4j import exceptions as its

    unreachable = (its.ServiceUnavailable, its.SessionExpired, its.ConnectionPoolError, OSError)
    return [
        ((its.AuthError, its.AuthConfigurationError), StoreAccessDenied, _WHO),
        ((its.Forbidden,), StoreAccessDenied, _WHAT),
        ((its.TransientError,), StoreUnavailable, "does not accept work at present"),
        ((its.Neo4jError,), StoreError, "refused a statement"),
        (unreachable, StoreUnavailable, _HOW_TO_START),
        ((UnicodeError,), StoreError, "cannot store a name or key that holds a lone surrogate"),
    ]
